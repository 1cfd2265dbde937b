//! Talks to another service as fast as it can. At `guest.NAME.flood` and `guest.NAME.ask`
//! the payload is `COUNT BYTES TOPIC`: publishes so many messages of so many bytes, or asks
//! so often and answers with how long each answer took, in nanoseconds. For benches.

use std::time::{Duration, Instant};

use ron_guest::{Error, Message, Reply, Service, bus};

struct Asker;

impl Service for Asker {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["flood", "ask"])?;
        Ok(Asker)
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let words: Vec<&str> = message.text()?.split(' ').collect();
        let &[count, bytes, topic] = &words[..] else {
            return Err(Error::reject("expected COUNT BYTES TOPIC"));
        };
        let (count, payload): (u64, Vec<u8>) = (count.parse()?, vec![7; bytes.parse()?]);
        if test_guests::verb(&message) == "flood" {
            for _ in 0..count {
                bus::publish(topic, &payload)?;
            }
            return Ok(Reply::none());
        }
        let mut took = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            bus::request(topic, &payload, Duration::from_secs(5))?;
            took.extend_from_slice(&(began.elapsed().as_nanos() as u64).to_le_bytes());
        }
        Ok(took.into())
    }
}

ron_guest::service!(Asker);
