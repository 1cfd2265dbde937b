//! Takes batches. Counts and echoes what comes at `guest.NAME.echo`; tells at
//! `guest.NAME.count` how many came, and in how many calls: `MESSAGES CALLS`.
//! Panics at the payload `die`, and fails at `retry` and `reject`.
//! Takes `guest.NAME.sink` and does nothing.

use ron_guest::{Batch, Bulk, Error, Message, Outcomes, Reply, Service};

struct BulkEcho {
    messages: u64,
    calls: u64,
}

impl BulkEcho {
    fn handle(&mut self, topic: &str, payload: &[u8]) -> Result<Reply, Error> {
        if topic.ends_with(".count") {
            return Ok(format!("{} {}", self.messages, self.calls).into());
        }
        if topic.ends_with(".sink") {
            return Ok(Reply::none());
        }
        self.messages += 1;
        match payload {
            b"die" => panic!("told to die at {}", self.messages),
            b"retry" => Err(Error::retry("told to retry")),
            b"reject" => Err(Error::reject("told to reject")),
            _ => Ok(payload.into()),
        }
    }
}

impl Service for BulkEcho {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["echo", "sink", "count"])?;
        Ok(BulkEcho { messages: 0, calls: 0 })
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        self.calls += 1;
        self.handle(&message.topic, &message.payload)
    }
}

impl Bulk for BulkEcho {
    fn batch(&mut self, batch: &Batch) -> Outcomes {
        self.calls += 1;
        batch.each(|message| self.handle(message.topic, message.payload))
    }
}

ron_guest::service!(BulkEcho: bulk);
