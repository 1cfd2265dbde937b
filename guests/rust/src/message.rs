//! A message and the answer to it.

use std::str::{self, Utf8Error};

use crate::bindings::service::ron::kernel::types;

/// One message taken from this service's mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Unique in this host for as long as it runs; the same on redelivery.
    pub id: u64,
    /// The topic it was published to.
    pub topic: String,
    /// What was published.
    pub payload: Vec<u8>,
    /// The service that published it, or the host's own name for a bridge.
    pub source: String,
    /// 1 on first delivery, then 2, 3, ...
    pub attempt: u32,
    /// Whether the publisher waits for an answer.
    pub wants_reply: bool,
}

impl Message {
    /// The payload as text.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(&self.payload)
    }

    /// The name of the [timer](crate::timer) that fired, if one brought this.
    pub fn timer(&self) -> Option<&str> {
        self.topic.strip_prefix("ron.timer.")
    }
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        Message {
            id: message.id,
            topic: message.topic,
            payload: message.payload,
            source: message.source,
            attempt: message.attempt,
            wants_reply: message.wants_reply,
        }
    }
}

/// What a handled message is answered with. Text and bytes convert into it.
///
/// The first answer goes to a publisher that waits for one, and is dropped
/// otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply(pub(crate) Option<Vec<u8>>);

impl Reply {
    /// No answer: handled, and this service does not answer such messages.
    ///
    /// A publisher that waits gets [`NoResponder`](crate::bus::Error::NoResponder)
    /// when nobody answers; an empty answer is `Reply::from("")`.
    pub fn none() -> Self {
        Reply(None)
    }
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Reply(Some(bytes))
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Reply(Some(text.into_bytes()))
    }
}

impl From<&[u8]> for Reply {
    fn from(bytes: &[u8]) -> Self {
        Reply(Some(bytes.to_vec()))
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Reply(Some(text.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_known_by_its_topic() {
        let on = |topic: &str| Message { topic: topic.into(), ..Message::default() };
        assert_eq!(on("ron.timer.report").timer(), Some("report"));
        assert_eq!(on("orders.report").timer(), None);
    }

    #[test]
    fn an_empty_answer_is_an_answer() {
        assert_ne!(Reply::from(""), Reply::none());
    }
}
