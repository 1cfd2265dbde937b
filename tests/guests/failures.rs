//! Answers `guest.NAME.reject` with a rejection and `guest.NAME.retry` with a
//! retry, the payload for their text; echoes `guest.NAME.echo`.

use ron_guest::{Error, Message, Reply, Service};

struct Failures;

impl Service for Failures {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["echo", "reject", "retry"])?;
        Ok(Failures)
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        match test_guests::verb(&message) {
            "reject" => Err(Error::reject(message.text()?)),
            "retry" => Err(Error::retry(message.text()?)),
            _ => Ok(message.payload.into()),
        }
    }
}

ron_guest::service!(Failures);
