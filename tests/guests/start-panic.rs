//! Panics in `start`.

use ron_guest::{Error, Service};

struct StartPanic;

impl Service for StartPanic {
    fn start() -> Result<Self, Error> {
        panic!("told to panic in start")
    }
}

ron_guest::service!(StartPanic);
