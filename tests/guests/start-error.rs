//! Returns an error from `start`.

use ron_guest::{Error, Service};

struct StartError;

impl Service for StartError {
    fn start() -> Result<Self, Error> {
        Err(Error::reject("told to fail in start"))
    }
}

ron_guest::service!(StartError);
