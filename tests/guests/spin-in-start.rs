//! Never returns from `start`.

use ron_guest::{Error, Service};

struct SpinInStart;

impl Service for SpinInStart {
    fn start() -> Result<Self, Error> {
        loop {
            std::hint::spin_loop();
        }
    }
}

ron_guest::service!(SpinInStart);
