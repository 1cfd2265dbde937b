//! Messages by the batch, and what became of each.

use crate::bindings::bulk::exports::ron::kernel::bulk;
use crate::{Error, Message, Reply};

/// Several messages, in the order of the mailbox.
pub struct Batch {
    batch: bulk::Batch,
}

impl Batch {
    /// The messages.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        let bulk::Batch { names, entries, payloads } = &self.batch;
        entries.iter().enumerate().map(|(index, entry)| Entry {
            index: index as u32, // WIT's own lists have no more
            id: entry.id,
            topic: &names[entry.topic as usize],
            payload: &payloads[entry.offset as usize..][..entry.length as usize],
            source: &names[entry.source as usize],
            attempt: entry.attempt,
            wants_reply: entry.wants_reply,
        })
    }

    /// How many messages there are; never 0.
    #[allow(clippy::len_without_is_empty, reason = "the host sends no empty batch")]
    pub fn len(&self) -> usize {
        self.batch.entries.len()
    }

    /// Handles each message as [`Service::message`](crate::Service::message)
    /// handles one. An error settles its own message alone; the rest go on.
    ///
    /// ```
    /// # use ron_guest::*;
    /// # struct Hits { seen: u64 }
    /// # impl Service for Hits { fn start() -> Result<Self, Error> { Ok(Hits { seen: 0 }) } }
    /// impl Bulk for Hits {
    ///     fn batch(&mut self, batch: &Batch) -> Outcomes {
    ///         batch.each(|hit| {
    ///             self.seen += 1;
    ///             Ok(hit.payload.into())
    ///         })
    ///     }
    /// }
    /// ```
    pub fn each(&self, mut handle: impl FnMut(Entry<'_>) -> Result<Reply, Error>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for entry in self.iter() {
            outcomes.set(entry, handle(entry));
        }
        outcomes
    }
}

impl From<bulk::Batch> for Batch {
    fn from(batch: bulk::Batch) -> Self {
        Batch { batch }
    }
}

/// One message of a [`Batch`]: a [`Message`] that is borrowed from it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    index: u32,
    /// Unique in this host for as long as it runs; the same on redelivery.
    pub id: u64,
    /// The topic it was published to.
    pub topic: &'a str,
    /// What was published.
    pub payload: &'a [u8],
    /// The service that published it, or the host's own name for a bridge.
    pub source: &'a str,
    /// 1 on first delivery, then 2, 3, ...
    pub attempt: u32,
    /// Whether the publisher waits for an answer.
    pub wants_reply: bool,
}

impl From<Entry<'_>> for Message {
    fn from(entry: Entry<'_>) -> Self {
        Message {
            id: entry.id,
            topic: entry.topic.to_owned(),
            payload: entry.payload.to_vec(),
            source: entry.source.to_owned(),
            attempt: entry.attempt,
            wants_reply: entry.wants_reply,
        }
    }
}

/// What became of the messages of a [`Batch`].
///
/// A message that is not mentioned was handled and is not answered.
#[derive(Debug, Default)]
pub struct Outcomes(pub(crate) Vec<(u32, bulk::Outcome)>);

impl Outcomes {
    /// Says what became of one message of the batch. Say it once.
    pub fn set(&mut self, entry: Entry<'_>, outcome: Result<Reply, Error>) {
        let outcome = match outcome {
            Ok(Reply(None)) => return,
            Ok(Reply(Some(bytes))) => bulk::Outcome::Reply(bytes),
            Err(error) => bulk::Outcome::Failed(error.into()),
        };
        self.0.push((entry.index, outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(topic: u32, offset: u32, length: u32) -> bulk::Entry {
        bulk::Entry { id: 7, topic, source: 0, offset, length, attempt: 1, wants_reply: true }
    }

    #[test]
    fn entries_resolve_names_and_slices_and_only_news_is_returned() {
        let batch = Batch::from(bulk::Batch {
            names: vec!["shop".into(), "a.b".into(), "a.c".into()],
            entries: vec![entry(1, 0, 2), entry(2, 2, 0), entry(1, 2, 3)],
            payloads: b"onetw".to_vec(),
        });
        let seen: Vec<_> = batch.iter().map(|e| (e.topic, e.payload, e.source)).collect();
        let expected: [(&str, &[u8], &str); 3] =
            [("a.b", b"on", "shop"), ("a.c", b"", "shop"), ("a.b", b"etw", "shop")];
        assert_eq!(seen, expected);

        let Outcomes(outcomes) = batch.each(|entry| match entry.payload {
            b"on" => Ok("yes".into()),
            b"" => Ok(Reply::none()),
            _ => Err(Error::retry("later")),
        });
        assert_eq!(
            format!("{outcomes:?}"),
            r#"[(0, Outcome::Reply([121, 101, 115])), (2, Outcome::Failed(Failure::Retry("later")))]"#,
        );
    }
}
