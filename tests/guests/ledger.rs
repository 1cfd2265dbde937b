//! Tells `ledger.NAME` of every message that comes at `guest.NAME.do`, as
//! `ATTEMPT ID SOURCE PAYLOAD`, and then does what the payload's first word says:
//! `retry`, `reject` and `die` do so at each attempt, `retry-until N` and
//! `die-until N` at those before the Nth. Anything else is echoed.

use ron_guest::{Error, Message, Reply, Service, bus, identity};

struct Ledger {
    topic: String,
}

impl Service for Ledger {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["do"])?;
        Ok(Ledger { topic: format!("ledger.{}", identity::get().service) })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let text = message.text()?;
        let entry = format!("{} {} {} {text}", message.attempt, message.id, message.source);
        bus::publish(&self.topic, entry)?;
        let mut words = text.split(' ');
        let word = words.next().unwrap_or_default();
        // Without a number, for ever.
        let until = words.next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
        let now = message.attempt < until;
        match word {
            "reject" => Err(Error::reject(text)),
            "retry" => Err(Error::retry(text)),
            "retry-until" if now => Err(Error::retry(text)),
            "die" => panic!("told to {text}"),
            "die-until" if now => panic!("told to {text}"),
            _ => Ok(text.into()),
        }
    }
}

ron_guest::service!(Ledger);
