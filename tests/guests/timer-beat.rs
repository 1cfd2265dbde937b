//! Publishes the number of its beat to `beat.NAME` every `period_ms` of config.

use std::time::Duration;

use ron_guest::{Error, Message, Reply, Service, bus, config, identity, timer};

struct TimerBeat {
    topic: String,
    beats: u64,
}

impl Service for TimerBeat {
    fn start() -> Result<Self, Error> {
        let period = config::parse("period_ms")?.unwrap_or(100);
        timer::every("beat", Duration::from_millis(period))?;
        Ok(TimerBeat { topic: format!("beat.{}", identity::get().service), beats: 0 })
    }

    fn message(&mut self, _tick: Message) -> Result<Reply, Error> {
        self.beats += 1;
        bus::publish(&self.topic, self.beats.to_string())?;
        Ok(Reply::none())
    }
}

ron_guest::service!(TimerBeat);
