//! Notes how old each message at `guest.NAME.ping` is, whose payload is the wall
//! clock in nanoseconds; answers `guest.NAME.dump` with all ages. For benches.

use std::time::{SystemTime, UNIX_EPOCH};

use ron_guest::{Error, Message, Reply, Service};

struct Latency {
    ages: Vec<u8>,
}

impl Service for Latency {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["ping", "dump"])?;
        Ok(Latency { ages: Vec::new() })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        if test_guests::verb(&message) == "dump" {
            return Ok(std::mem::take(&mut self.ages).into());
        }
        let sent = u64::from_le_bytes(message.payload[..8].try_into()?);
        self.ages.extend_from_slice(&now.saturating_sub(sent).to_le_bytes());
        Ok(Reply::none())
    }
}

ron_guest::service!(Latency);
