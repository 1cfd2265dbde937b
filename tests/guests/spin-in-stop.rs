//! Says that it is asked to stop, and then never returns from it.

use ron_guest::{Error, Service, log};

struct SpinInStop;

impl Service for SpinInStop {
    fn start() -> Result<Self, Error> {
        Ok(SpinInStop)
    }

    fn stop(&mut self) {
        log::info!("stopping, for ever");
        loop {
            std::hint::spin_loop();
        }
    }
}

ron_guest::service!(SpinInStop);
