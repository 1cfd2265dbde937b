//! Looking on at what is published, for an operator.
//!
//! Not a subscription: a tap has no mailbox, counts as nobody's receiver, holds
//! no answer open, and sees the host's answer to the publisher too. It hangs on
//! the routes that publishers remember, so where nobody taps a publish pays for
//! one look at an empty list. It never slows a publisher down: what does not fit
//! in its queue is missed, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::router::Router;
use super::{Address, BusError, Message};

/// Messages that wait for whoever looks on.
const QUEUE: usize = 1024;
/// Bytes of payload that they may hold together.
const QUEUE_BYTES: usize = 16 << 20;

/// A message that was published.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// When.
    pub at: SystemTime,
    /// The message's id.
    pub id: u64,
    /// Whose it is, and to which topic.
    pub address: Arc<Address>,
    /// What it says.
    pub payload: Bytes,
    /// Whether an answer is awaited.
    pub wants_reply: bool,
    /// How many mailboxes took it in, or why it was refused.
    pub delivered: Result<u32, BusError>,
}

impl Tapped {
    pub(super) fn of(message: &Message) -> Self {
        Self {
            at: SystemTime::now(),
            id: message.id,
            address: Arc::clone(&message.address),
            payload: message.payload.clone(),
            wants_reply: message.wants_reply(),
            delivered: Ok(0),
        }
    }
}

/// The publishers' end.
#[derive(Debug)]
pub(crate) struct TapEnd {
    sender: mpsc::Sender<Tapped>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    missed: AtomicU64,
}

impl TapEnd {
    pub(super) fn offer(&self, seen: Tapped) {
        let bytes = seen.payload.len();
        let before = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > QUEUE_BYTES || self.sender.try_send(seen).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sees what is published to a filter, for as long as it is held.
///
/// Up to 1,024 messages and 16 MiB of payload wait to be looked at; past that,
/// new ones are missed.
#[derive(Debug)]
pub struct Tap {
    router: Router,
    end: Arc<TapEnd>,
    receiver: mpsc::Receiver<Tapped>,
}

impl Tap {
    pub(super) fn new(router: Router) -> (Arc<TapEnd>, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let end = Arc::new(TapEnd { sender, shared: Arc::default() });
        (Arc::clone(&end), Self { router, end, receiver })
    }

    /// Waits for the next message. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Tapped {
        match self.receiver.recv().await {
            Some(seen) => {
                let bytes = seen.payload.len();
                self.end.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                seen
            }
            // The other end is held here.
            None => std::future::pending().await,
        }
    }

    /// How many messages were missed since this was asked last.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.end.shared.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.router.untap(&self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Inbox, MailboxBounds, Overflow, TopicGrants};
    use crate::service::ServiceId;
    use crate::topic::TopicFilter;
    use futures_util::FutureExt;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).expect("a filter")
    }

    fn seen(tap: &mut Tap) -> Vec<String> {
        std::iter::from_fn(|| tap.next().now_or_never())
            .map(|seen| {
                let delivered = seen.delivered.map_or_else(|e| e.to_string(), |n| n.to_string());
                let payload = String::from_utf8_lossy(&seen.payload);
                format!("{} {} {payload} {delivered}", seen.address.topic, seen.address.source)
            })
            .collect()
    }

    #[test]
    fn a_tap_sees_what_a_publisher_sends_and_hears() {
        let router = Router::new();
        let service = ServiceId::parse("svc").expect("a name");
        let bounds =
            MailboxBounds { messages: 1, overflow: Overflow::Reject, ..MailboxBounds::default() };
        router.add(Inbox::new(service.clone(), bounds));
        router.subscribe(&service, filter("a.*"), &TopicGrants::default()).expect("subscribed");
        let mut publisher = router.publisher("src", Arc::default());
        assert_eq!(publisher.publish("b.early", "x".into()), Ok(0));
        let mut tap = router.tap(filter("*.>"));
        // A topic whose route the publisher remembers, and others.
        assert_eq!(publisher.publish("b.early", "1".into()), Ok(0));
        assert_eq!(publisher.publish("a.b", "2".into()), Ok(1));
        assert_eq!(publisher.publish("a.b", "3".into()), Err(BusError::Overloaded));
        assert_eq!(publisher.publish("alone", "4".into()), Ok(0));
        let overloaded = BusError::Overloaded;
        assert_eq!(
            seen(&mut tap),
            ["b.early src 1 0".to_owned(), "a.b src 2 1".into(), format!("a.b src 3 {overloaded}")]
        );
        drop(tap);
        assert_eq!(publisher.publish("b.early", "x".into()), Ok(0));
        assert!(router.tap(filter(">")).next().now_or_never().is_none());
    }

    #[test]
    fn a_tap_does_not_keep_a_request_waiting() {
        let router = Router::new();
        let _tap = router.tap(filter(">"));
        let mut publisher = router.publisher("src", Arc::default());
        let mut answer = publisher.request("a", "x".into()).expect("published");
        assert_eq!(answer.try_recv(), Ok(Err(BusError::NoResponder)));
    }

    #[test]
    fn what_does_not_fit_is_missed_and_counted() {
        fn check(count: usize, bytes: usize, kept: usize) {
            let router = Router::new();
            let mut tap = router.tap(filter("t"));
            let mut publisher = router.publisher("src", Arc::default());
            let payload = Bytes::from(vec![0; bytes]);
            for _ in 0..count {
                assert_eq!(publisher.publish("t", payload.clone()), Ok(0));
            }
            let mut got = 0;
            while tap.next().now_or_never().is_some() {
                got += 1;
            }
            assert_eq!((got, tap.missed(), tap.missed()), (kept, (count - kept) as u64, 0));
            // There is room again.
            assert_eq!(publisher.publish("t", payload.clone()), Ok(0));
            assert!(tap.next().now_or_never().is_some());
        }
        check(QUEUE + 3, 1, QUEUE);
        check(20, 1 << 20, 16);
    }
}
