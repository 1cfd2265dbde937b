//! Messages between services.
//!
//! A topic is dot-separated tokens of `A-Z a-z 0-9 _ -`: `orders.eu.created`. A
//! filter may put `*` for one token and `>` for all that follow:
//! `orders.*.created`, `orders.>`. Topics that begin with `ron.` are the host's.

use std::fmt;
use std::time::Duration;

use crate::bindings::service::ron::kernel::bus;
use crate::bindings::service::ron::kernel::types::BusError;

/// Publishes to every subscribed service. Returns how many mailboxes accepted
/// the message. Never blocks.
pub fn publish(topic: &str, payload: impl AsRef<[u8]>) -> Result<u32, Error> {
    Ok(bus::publish(topic, payload.as_ref())?)
}

/// Publishes, and waits at most `timeout` for the first answer.
///
/// The wait counts towards this service's own handler deadline.
pub fn request(
    topic: &str,
    payload: impl AsRef<[u8]>,
    timeout: Duration,
) -> Result<Vec<u8>, Error> {
    let timeout = u32::try_from(crate::timer::millis(timeout)).unwrap_or(u32::MAX);
    Ok(bus::request(topic, payload.as_ref(), timeout)?)
}

/// Has messages that match `filter` delivered to
/// [`Service::message`](crate::Service::message).
///
/// Repeating a filter changes nothing. Subscriptions belong to the service and
/// survive a restart; after a hot swap only those made again by `start` remain.
pub fn subscribe(filter: &str) -> Result<(), Error> {
    Ok(bus::subscribe(filter)?)
}

/// Ends a subscription. One that does not exist is no error.
pub fn unsubscribe(filter: &str) -> Result<(), Error> {
    Ok(bus::unsubscribe(filter)?)
}

/// Why the bus refused a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Configuration grants this service no such topic.
    Denied(String),
    /// Not a topic, or not a filter; the text says which rule it breaks.
    InvalidTopic(String),
    /// The payload is too large.
    PayloadTooLarge {
        /// What a payload may have, in bytes.
        limit: u64,
    },
    /// A mailbox that rejects on overflow was full, or this service publishes
    /// faster than its limit.
    Overloaded,
    /// No answer came in time.
    Timeout,
    /// Nobody subscribes to the topic of a request, or nobody who does answers.
    NoResponder,
    /// The service that was asked failed to handle the request.
    Failed(String),
    /// Something that this version of the SDK has no name for.
    Other(String),
}

impl Error {
    /// Whether the same call may succeed later: the bus was overloaded, no
    /// answer came in time, or nobody was there to answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Overloaded | Error::Timeout | Error::NoResponder)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(text) => write!(f, "denied: {text}"),
            Error::InvalidTopic(text) => write!(f, "invalid topic: {text}"),
            Error::PayloadTooLarge { limit } => {
                write!(f, "the payload is larger than {limit} bytes")
            }
            Error::Overloaded => {
                f.write_str("a mailbox is full, or this service publishes too fast")
            }
            Error::Timeout => f.write_str("no answer came in time"),
            Error::NoResponder => f.write_str("nobody answers this topic"),
            Error::Failed(text) => write!(f, "the service that was asked failed: {text}"),
            Error::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<BusError> for Error {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Denied(text) => Error::Denied(text),
            BusError::InvalidTopic(text) => Error::InvalidTopic(text),
            BusError::PayloadTooLarge(limit) => Error::PayloadTooLarge { limit },
            BusError::Overloaded => Error::Overloaded,
            BusError::Timeout => Error::Timeout,
            BusError::NoResponder => Error::NoResponder,
            BusError::Failed(text) => Error::Failed(text),
            BusError::Other(text) => Error::Other(text),
        }
    }
}
