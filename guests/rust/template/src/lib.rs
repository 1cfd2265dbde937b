//! Answers `{{name}}.greet` with a greeting.

use ron_guest::{Error, Message, Reply, Service, bus, config, log};

struct Greeter {
    greeted: u64,
}

impl Service for Greeter {
    fn start() -> Result<Self, Error> {
        bus::subscribe("{{name}}.greet")?;
        log::info!("ready to greet");
        Ok(Self { greeted: 0 })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let greeting = config::get("greeting").unwrap_or("Hello".into());
        // What is no text is rejected, and lies with the dead letters.
        let answer = greet(&greeting, message.text()?);
        self.greeted += 1;
        log::info!(greeted = self.greeted; "greeted");
        Ok(answer.into())
    }
}

ron_guest::service!(Greeter);

/// What calls nothing of the host is tested anywhere: `cargo test`.
fn greet(greeting: &str, name: &str) -> String {
    format!("{greeting}, {name}!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_the_name() {
        assert_eq!(greet("Hi", "Ada"), "Hi, Ada!");
    }
}
