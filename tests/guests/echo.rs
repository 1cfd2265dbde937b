//! Answers `guest.NAME.echo` with the payload; takes `guest.NAME.sink` and does
//! nothing. For benches, so its handler is as cheap as a handler can be.

use ron_guest::{Error, Message, Reply, Service};

struct Echo;

impl Service for Echo {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["echo", "sink"])?;
        Ok(Echo)
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if message.topic.ends_with(".sink") {
            Ok(Reply::none())
        } else {
            Ok(message.payload.into())
        }
    }
}

ron_guest::service!(Echo);
