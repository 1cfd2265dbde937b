//! Messages between services: what travels, the answer that may come back,
//! and why the bus refuses.
//!
//! This is the second of the host's two planes. The first, [`Bus`](crate::Bus),
//! is for announcements and lossy; this one routes every message into one
//! bounded [mailbox] a service, owned by the host and never by what
//! handles it, so that a crash loses nothing that was accepted.

mod burial;
mod inbox;
mod lanes;
pub mod mailbox;
mod reply;
mod router;
mod tap;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use thiserror::Error;

pub(crate) use inbox::{Answer as InboxAnswer, Ask, SeatId};
pub use inbox::{Inbox, Lease, MailboxBounds, Work};
pub use mailbox::{Overflow, PartitionBy, Stats};
pub use reply::{Answer, ReplyHandle};
pub(crate) use router::MAX_SUBSCRIPTIONS;
pub use router::{Publisher, Router, TopicGrants};
pub use tap::{Tap, Tapped};

use crate::topic::TopicError;

/// Largest payload of a message, in bytes: 1 MiB.
///
/// A limit on one message. Streams move in chunks of 64 KiB, which is another
/// limit for another purpose.
pub const MAX_FRAME: usize = 1 << 20;

/// From whom to where: shared by all messages of one publisher to one topic.
///
/// One counter for both texts: it is touched by the publisher's thread and by
/// the receiver's, and costs a small message more than its handling when there
/// are several of its kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// Where it was published.
    pub topic: Arc<str>,
    /// The service that published it.
    pub source: Arc<str>,
}

#[cfg(test)]
impl Address {
    /// One where it does not matter from whom to where.
    pub(crate) fn any() -> Arc<Self> {
        Arc::new(Self { topic: "t".into(), source: "s".into() })
    }
}

/// One message in a mailbox, or out of it.
///
/// Address and payload are shared by all mailboxes of a fan-out, so a clone
/// copies no text and no payload.
#[derive(Clone, Debug)]
pub struct Message {
    /// Unique in this host for as long as it runs; the same on redelivery.
    pub id: u64,
    /// Whose it is, and to which topic.
    pub address: Arc<Address>,
    /// At most [`MAX_FRAME`] bytes.
    pub payload: Bytes,
    /// 1 on first delivery, then 2, 3, ...
    pub attempt: u32,
    /// Which of the attempts do not count against the mailbox's
    /// `max_deliveries`.
    pub(crate) pardon: Pardon,
    /// Where an answer goes, when one is awaited.
    pub(crate) reply: Option<ReplyHandle>,
    /// Set by a timer's tick for as long as it waits in the mailbox.
    pub(crate) tick: Option<PendingTick>,
}

impl Message {
    /// A first delivery that nobody waits for an answer to.
    #[must_use]
    pub fn new(id: u64, address: Arc<Address>, payload: Bytes) -> Self {
        Self {
            id,
            address,
            payload,
            attempt: 1,
            pardon: Pardon::default(),
            reply: None,
            tick: None,
        }
    }

    /// As it is delivered again.
    pub(crate) fn again(mut self) -> Self {
        self.attempt += 1;
        self.pardon.pending += 1;
        self
    }

    /// How many deliveries count against the mailbox's limit.
    pub(crate) fn counted(&self) -> u32 {
        self.attempt - self.pardon.pardoned
    }

    /// It leaves whoever had it: do that one's attempts count?
    pub(crate) fn settle_attempts(&mut self, pardoned: bool) {
        let pending = std::mem::take(&mut self.pardon.pending);
        if pardoned {
            self.pardon.pardoned += pending;
        }
    }

    /// Where it was published.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.address.topic
    }

    /// The service that published it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.address.source
    }

    /// Whether the publisher waits for an answer.
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Gives the publisher its answer. The first answer wins; without one who
    /// waits, it is dropped.
    pub fn answer(&self, payload: Bytes) {
        if let Some(reply) = &self.reply {
            reply.answer(payload);
        }
    }
}

/// The attempts of versions that were put back: a message is no less deliverable
/// for what a bad version did with it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pardon {
    /// Attempts that do not count.
    pardoned: u32,
    /// Attempts of whoever has the message now, which do not count either if it
    /// is put back.
    pending: u32,
}

/// Marks that a timer's tick is queued, until it is taken or dropped.
///
/// The timer looks at the flag before its next tick, so a slow service is not
/// buried under ticks it has not come to.
#[derive(Debug)]
pub(crate) struct PendingTick(Arc<AtomicBool>);

impl PendingTick {
    /// Raises `flag`; `None` when it was up already.
    pub(crate) fn raise(flag: &Arc<AtomicBool>) -> Option<Self> {
        (!flag.swap(true, Ordering::AcqRel)).then(|| Self(Arc::clone(flag)))
    }
}

/// A copy of a message is no second tick in the mailbox.
impl Clone for PendingTick {
    fn clone(&self) -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for PendingTick {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What came of handling a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, with or without an answer.
    Handled,
    /// To be delivered again, up to the mailbox's `max_deliveries`.
    Retry(String),
    /// Not to be delivered again: to the dead letters.
    Reject(String),
}

impl Outcome {
    /// Why it was not handled.
    fn why(&self) -> &str {
        match self {
            Self::Handled => "",
            Self::Retry(why) | Self::Reject(why) => why,
        }
    }
}

/// Why the bus refused a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BusError {
    /// The service is not granted the topic, or it is the host's.
    #[error("{0}")]
    Denied(String),
    /// Not a topic, or not a filter.
    #[error("not a topic: {0}")]
    InvalidTopic(#[from] TopicError),
    /// The payload is over `limit` bytes.
    #[error("a payload is at most {limit} bytes")]
    PayloadTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// A mailbox that rejects on overflow was full, or the publisher is faster
    /// than its limit.
    #[error("overloaded: a mailbox is full, or the publishing limit is reached")]
    Overloaded,
    /// No answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// Nobody who was asked answers.
    #[error("nobody answers on this topic")]
    NoResponder,
    /// A service that was asked failed.
    #[error("the service that was asked failed: {0}")]
    Failed(String),
    /// A limit of the host's was reached; the text names it.
    #[error("{0}")]
    Limit(String),
}
