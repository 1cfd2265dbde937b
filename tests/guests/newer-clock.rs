//! A service that imports a clock of WASI 0.3, and tells its time at `guest.NAME.now`.

use ron_guest::{Error, Message, Reply, Service};

struct NewerClock;

impl Service for NewerClock {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["now"])?;
        Ok(NewerClock)
    }

    fn message(&mut self, _: Message) -> Result<Reply, Error> {
        Ok(wasip3::clocks::monotonic_clock::now().to_string().into())
    }
}

ron_guest::service!(NewerClock);
