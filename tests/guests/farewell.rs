//! Says so when it hears of the host's end and when it is stopped: a test sees
//! that it was drained and not killed.

use ron_guest::{Error, Event, Service, log};

struct Farewell;

impl Service for Farewell {
    fn start() -> Result<Self, Error> {
        log::info!("here");
        Ok(Farewell)
    }

    fn event(&mut self, event: Event) {
        if let Event::Shutdown = event {
            log::info!("so it ends");
        }
    }

    fn stop(&mut self) {
        log::info!("farewell");
    }
}

ron_guest::service!(Farewell);
