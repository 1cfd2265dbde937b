//! Calls any import that a test names at `guest.NAME.probe`, as in
//! `bus.request some.topic hello`, and answers with what came back.
//!
//! A refusal is answered as `error: ` and the error's debug form. `events`
//! answers the kernel's events so far, a line each. A timer that fires publishes
//! its name to `guest.NAME.fired`; any other message is echoed.

use ron_guest::{Error, Event, Message, Reply, Service, bus};

#[derive(Default)]
struct Probe {
    events: Vec<String>,
}

impl Service for Probe {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["probe", "echo"])?;
        Ok(Probe::default())
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if let Some(timer) = message.timer() {
            bus::publish(&test_guests::topic("fired"), timer)?;
            return Ok(Reply::none());
        }
        if test_guests::verb(&message) != "probe" {
            return Ok(message.payload.into());
        }
        let text = message.text()?;
        let (call, arguments) = text.split_once(' ').unwrap_or((text, ""));
        if call == "events" {
            return Ok(self.events.join("\n").into());
        }
        Ok(test_guests::calls::call(call, arguments)?.into())
    }

    fn event(&mut self, event: Event) {
        self.events.push(format!("{event:?}"));
    }
}

ron_guest::service!(Probe);
