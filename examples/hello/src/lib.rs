//! Answers `hello.greet`. With `crash_after = N` in its config it panics at
//! every Nth greeting, to show what the host does about it.

use ron_guest::{Error, Message, Reply, Service, bus, config, log, metrics};

struct Hello {
    greetings: u64,
}

impl Service for Hello {
    fn start() -> Result<Self, Error> {
        bus::subscribe("hello.greet")?;
        log::info!("ready to greet");
        Ok(Hello { greetings: 0 })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let name = message.text()?;
        self.greetings += 1;
        if config::parse("crash_after")? == Some(self.greetings) {
            panic!("told to crash at greeting {}", self.greetings);
        }
        metrics::add("greetings_total", &[], 1);
        Ok(format!("Hello, {name}!").into())
    }
}

ron_guest::service!(Hello);
