//! Publishes 1, 2, 3, ... to `counter.add`, two thousand times a second.

use std::time::Duration;

use ron_guest::{Error, Message, Reply, Service, bus, timer};

struct Load {
    sent: u64,
}

impl Service for Load {
    fn start() -> Result<Self, Error> {
        timer::every("tick", Duration::from_millis(5))?;
        Ok(Load { sent: 0 })
    }

    fn message(&mut self, _tick: Message) -> Result<Reply, Error> {
        for _ in 0..10 {
            self.sent += 1;
            bus::publish("counter.add", self.sent.to_string())?;
        }
        Ok(Reply::none())
    }
}

ron_guest::service!(Load);
