//! Takes batches. Counts and echoes what comes at `guest.NAME.echo`; tells at
//! `guest.NAME.count` how many came, and in how many calls: `MESSAGES CALLS`.

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
        self.messages += 1;
        Ok(payload.into())
    }
}

impl Service for BulkEcho {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["echo", "count"])?;
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
