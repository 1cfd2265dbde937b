//! Passes on what comes at the topic in config `listen` to the one in `next`.

use ron_guest::{Error, Message, Reply, Service, bus, config};

struct Hop {
    next: String,
}

impl Service for Hop {
    fn start() -> Result<Self, Error> {
        let required = |key| {
            config::get(key).ok_or_else(|| Error::reject(format!("config `{key}` is missing")))
        };
        bus::subscribe(&required("listen")?)?;
        Ok(Hop { next: required("next")? })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        bus::publish(&self.next, message.payload)?;
        Ok(Reply::none())
    }
}

ron_guest::service!(Hop);
