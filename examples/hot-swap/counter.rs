//! Counts what comes at `counter.add`, and tells `counter.counted` of each: what
//! came, the count, and the version that counted. The count is handed over when
//! the version changes.
//!
//! The versions differ by two constants: see `v1`, `v2` and `v3` beside this.

use ron_guest::{Error, Handover, Message, Reply, Service, bus};

use crate::{CRASHES, VERSION};

struct Counter {
    count: u64,
}

impl Service for Counter {
    fn start() -> Result<Self, Error> {
        bus::subscribe("counter.add")?;
        Ok(Counter { count: 0 })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if CRASHES {
            panic!("{VERSION} has a bug");
        }
        self.count += 1;
        bus::publish("counter.counted", format!("{} {} {VERSION}", message.text()?, self.count))?;
        Ok(Reply::none())
    }
}

impl Handover for Counter {
    const SCHEMA: u32 = 1;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.count.to_string().into_bytes())
    }

    fn restore(&mut self, _schema: u32, bytes: Vec<u8>) -> Result<(), Error> {
        self.count = String::from_utf8(bytes)?.parse()?;
        Ok(())
    }
}

ron_guest::service!(Counter: handover);
