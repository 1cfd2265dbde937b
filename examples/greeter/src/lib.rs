//! Asks `hello` for a greeting every second, and logs the answer.

use std::time::Duration;

use ron_guest::{Error, Message, Reply, Service, bus, config, log, timer};

struct Greeter;

impl Service for Greeter {
    fn start() -> Result<Self, Error> {
        timer::every("greet", Duration::from_secs(1))?;
        Ok(Greeter)
    }

    fn message(&mut self, _tick: Message) -> Result<Reply, Error> {
        let name = config::get("name").unwrap_or("world".into());
        match bus::request("hello.greet", name, Duration::from_secs(1)) {
            Ok(answer) => log::info!("{}", String::from_utf8_lossy(&answer)),
            Err(error) => log::warn!("no greeting: {error}"),
        }
        Ok(Reply::none())
    }
}

ron_guest::service!(Greeter);
