//! The next version of `counter`: answers `v2 COUNT`, saves schema 2, and
//! restores schema 1 as well.

use ron_guest::{Error, Handover, Message, Reply, Service};

struct Counter {
    count: u64,
}

impl Service for Counter {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["add", "count", "die"])?;
        Ok(Counter { count: 0 })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        match test_guests::verb(&message) {
            "add" => self.count += 1,
            "die" => panic!("told to die at {}", self.count),
            _ => {}
        }
        Ok(format!("v2 {}", self.count).into())
    }
}

impl Handover for Counter {
    const SCHEMA: u32 = 2;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.count.to_string().into_bytes())
    }

    fn restore(&mut self, schema: u32, bytes: Vec<u8>) -> Result<(), Error> {
        self.count = match schema {
            1 => u64::from_le_bytes(
                bytes.try_into().map_err(|_| Error::reject("a count has eight bytes"))?,
            ),
            2 => String::from_utf8(bytes)?.parse()?,
            _ => return Err(Error::reject(format!("schema {schema} is neither 1 nor 2"))),
        };
        Ok(())
    }
}

ron_guest::service!(Counter: handover);
