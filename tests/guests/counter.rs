//! Counts at `guest.NAME.add`, tells the count at `guest.NAME.count`, hands it
//! over in a hot swap as schema 1, and panics at `guest.NAME.die`. At `guest.NAME.until` it
//! asks at the topic in the payload until somebody answers.

use std::time::Duration;

use ron_guest::{Error, Handover, Message, Reply, Service, bus};

struct Counter {
    count: u64,
}

impl Service for Counter {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["add", "count", "die", "until"])?;
        Ok(Counter { count: 0 })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        match test_guests::verb(&message) {
            "add" => self.count += 1,
            "die" => panic!("told to die at {}", self.count),
            "until" => {
                let topic = String::from_utf8_lossy(&message.payload);
                while bus::request(&topic, "", Duration::from_millis(50)).is_err() {}
            }
            _ => {}
        }
        Ok(self.count.to_string().into())
    }
}

impl Handover for Counter {
    const SCHEMA: u32 = 1;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.count.to_le_bytes().to_vec())
    }

    fn restore(&mut self, schema: u32, bytes: Vec<u8>) -> Result<(), Error> {
        if schema != Self::SCHEMA {
            return Err(Error::reject(format!("schema {schema} is not {}", Self::SCHEMA)));
        }
        let bytes = bytes.try_into().map_err(|_| Error::reject("a count has eight bytes"))?;
        self.count = u64::from_le_bytes(bytes);
        Ok(())
    }
}

ron_guest::service!(Counter: handover);
