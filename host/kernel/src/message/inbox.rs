//! A service's end of the bus: its mailbox, the kernel's announcements and the
//! wish to stop, behind one lock and one waker.
//!
//! One waker, because a service waits for all three at once and a `select!`
//! over three channels would cost a message more than its delivery does. One
//! lock a service, held for a push or for a take of up to [`BATCH`] messages,
//! and never while anything else is locked or awaited.
//!
//! The inbox outlives every incarnation of its service. An incarnation reads it
//! through a [`Lease`]; what the lease had taken and not settled goes back to
//! the head of the queue when the incarnation ends, however it ends.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

use super::mailbox::{Bounds, DeadLetter, Mailbox, Pushed, Settled, Stats};
use super::{Message, Outcome};
use crate::event::KernelEvent;
use crate::service::ServiceId;

pub use super::mailbox::Bounds as MailboxBounds;

/// Most messages taken from the queue under one lock.
const BATCH: usize = 32;
/// Most announcements that wait for one service; the oldest goes first.
const EVENTS: usize = 64;

/// Where a service's messages wait. See this module's header.
#[derive(Debug)]
pub struct Inbox {
    service: ServiceId,
    state: Mutex<State>,
    /// Something other than messages waits. Read between two messages without
    /// the lock; the lock orders what it announces.
    urgent: AtomicBool,
}

#[derive(Debug)]
struct State {
    mailbox: Mailbox,
    events: VecDeque<Arc<KernelEvent>>,
    stop: bool,
    /// Why nobody will answer for a while: the service is stopped or
    /// quarantined. Requests fail at once with it; other messages wait.
    absent: Option<String>,
    waker: Option<Waker>,
}

/// A locked inbox that takes one message. Publishing to several rejecting
/// mailboxes holds all their locks, in the order of their addresses.
pub(crate) struct Locked<'i> {
    state: MutexGuard<'i, State>,
}

impl Locked<'_> {
    /// A request to an absent service takes no room, for it fails at once.
    pub(crate) fn would_refuse(&self, message: &Message) -> bool {
        let takes_room = self.state.absent.is_none() || message.reply.is_none();
        takes_room && self.state.mailbox.would_refuse(message.payload.len())
    }

    pub(crate) fn refuse(&mut self) {
        self.state.mailbox.refuse();
    }

    /// Pushes, unlocks, and only then wakes: a woken service must not find the
    /// lock still held.
    pub(crate) fn push(mut self, message: Message) -> bool {
        if let (Some(why), Some(reply)) = (&self.state.absent, &message.reply) {
            reply.fail(why);
            return false;
        }
        let accepted = self.state.mailbox.push(message) == Pushed::Accepted;
        let waker = if accepted { self.state.waker.take() } else { None };
        drop(self.state);
        if let Some(waker) = waker {
            waker.wake();
        }
        accepted
    }
}

impl Inbox {
    /// An empty inbox for `service`.
    #[must_use]
    pub fn new(service: ServiceId, bounds: Bounds) -> Arc<Self> {
        let state = State {
            mailbox: Mailbox::new(bounds),
            events: VecDeque::new(),
            stop: false,
            absent: None,
            waker: None,
        };
        Arc::new(Self { service, state: Mutex::new(state), urgent: AtomicBool::new(false) })
    }

    /// Whose inbox this is.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked { state: self.state.lock() }
    }

    /// Takes `message` in and wakes the service. Says whether it was taken in;
    /// overflow is dealt with as the mailbox's policy says.
    pub fn push(&self, message: Message) -> bool {
        self.lock().push(message)
    }

    /// Whether a full mailbox refuses publishers.
    pub(crate) fn rejects(&self) -> bool {
        self.state.lock().mailbox.bounds().overflow == super::Overflow::Reject
    }

    /// Queues announcements. A service that falls behind misses the oldest.
    pub(crate) fn announce(&self, events: &[Arc<KernelEvent>]) {
        let mut state = self.state.lock();
        let newest = &events[events.len().saturating_sub(EVENTS)..];
        let room = EVENTS - newest.len();
        while state.events.len() > room {
            state.events.pop_front();
        }
        state.events.extend(newest.iter().cloned());
        self.interrupt(state);
    }

    /// Asks the incarnation that holds the lease to stop. Of what was announced
    /// only the shutdown is still worth telling it.
    pub(crate) fn request_stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        state.events.retain(|event| **event == KernelEvent::Shutdown);
        self.interrupt(state);
    }

    fn interrupt(&self, mut state: MutexGuard<'_, State>) {
        self.urgent.store(true, Ordering::Release);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Says that nobody will answer until further notice, or, with `None`,
    /// that somebody will again.
    pub(crate) fn set_absent(&self, why: Option<String>) {
        self.state.lock().absent = why;
    }

    /// What the mailbox has seen.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.lock().mailbox.stats()
    }

    /// The dead letters that are still kept, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state.lock().mailbox.dead_letters()
    }

    /// Forgets the kept dead letters; says how many there were. They stay
    /// counted.
    pub fn drop_dead_letters(&self) -> usize {
        self.state.lock().mailbox.forget_dead()
    }

    /// Delivers the kept dead letters again; says how many found room.
    pub fn replay_dead_letters(&self) -> usize {
        let mut state = self.state.lock();
        let count = state.mailbox.replay();
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        count
    }

    /// A lease for a new incarnation. Announcements and a wish to stop that
    /// were meant for the last one are forgotten; messages are not.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        let mut state = self.state.lock();
        state.stop = false;
        state.events.clear();
        state.absent = None;
        self.urgent.store(false, Ordering::Release);
        drop(state);
        Lease {
            inbox: Arc::clone(self),
            batch: VecDeque::with_capacity(BATCH),
            current: VecDeque::with_capacity(1),
            settled: Settled::default(),
        }
    }
}

/// What an incarnation is woken for.
#[derive(Debug)]
pub enum Work {
    /// There is a message to [`begin`](Lease::begin).
    Messages,
    /// The kernel announced something.
    Event(Arc<KernelEvent>),
    /// Finish, within the stop deadline.
    Stop,
}

/// The receiving end of an inbox, for one incarnation of its service.
///
/// It holds up to 32 messages that it took and the one in flight.
/// Dropping it gives back what was not settled; the message in flight then
/// counts as failed.
#[derive(Debug)]
pub struct Lease {
    inbox: Arc<Inbox>,
    batch: VecDeque<Message>,
    /// In flight: begun and not concluded.
    current: VecDeque<Message>,
    /// Handled since the lock was last held.
    settled: Settled,
}

impl Lease {
    /// The inbox this reads.
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Waits for something to do. Announcements come first, then a wish to
    /// stop, then messages. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Work {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next), for a caller with a poll function of its own.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Work> {
        if !self.batch.is_empty() && !self.interrupted() {
            return Poll::Ready(Work::Messages);
        }
        let mut state = self.inbox.state.lock();
        state.mailbox.settle(std::mem::take(&mut self.settled));
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Work::Event(event));
        }
        if state.stop {
            return Poll::Ready(Work::Stop);
        }
        self.inbox.urgent.store(false, Ordering::Release);
        if self.batch.is_empty() {
            if state.mailbox.is_empty() {
                // Registered under the lock that every push takes, so none is missed.
                match &mut state.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            state.mailbox.take(BATCH, &mut self.batch);
        }
        Poll::Ready(Work::Messages)
    }

    /// Whether something other than messages waits.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.inbox.urgent.load(Ordering::Acquire)
    }

    /// Begins the next message that was taken, if there is one and nothing
    /// else is more urgent. It is in flight until it is concluded.
    pub fn begin(&mut self) -> Option<&Message> {
        debug_assert!(self.current.is_empty(), "one message is in flight at a time");
        if self.interrupted() {
            return None;
        }
        let mut message = self.batch.pop_front()?;
        // No longer queued: the timer's next tick may come.
        message.tick = None;
        self.current.push_back(message);
        self.current.front()
    }

    /// Begins as many of the taken messages as `fits` admits one after the
    /// other, all in flight together. Fewer than two are not begun.
    ///
    /// A message that was delivered before is not among them: it goes alone,
    /// so that the one at fault is found.
    pub fn begin_batch(&mut self, mut fits: impl FnMut(&Message) -> bool) -> Option<&[Message]> {
        debug_assert!(self.current.is_empty(), "one batch is in flight at a time");
        if self.interrupted() {
            return None;
        }
        let count = self.batch.iter().take_while(|m| m.attempt == 1 && fits(m)).count();
        if count < 2 {
            return None;
        }
        self.current.extend(self.batch.drain(..count).map(|m| Message { tick: None, ..m }));
        Some(self.current.make_contiguous())
    }

    /// Messages in flight.
    pub fn in_flight(&mut self) -> &[Message] {
        self.current.make_contiguous()
    }

    /// Concludes the message in flight. To be delivered again, it comes next.
    pub fn conclude(&mut self, outcome: Outcome) {
        let Some(message) = self.current.pop_front() else { return };
        match outcome {
            Outcome::Handled => self.settled.handled += 1,
            other => {
                let again = self.inbox.state.lock().mailbox.conclude(message, other);
                if let Some(again) = again {
                    self.batch.push_front(again);
                }
            }
        }
    }

    /// Concludes a batch, asking `outcome` of each message in turn. What is to
    /// be delivered again comes next, in its order.
    pub fn conclude_all(&mut self, mut outcome: impl FnMut(usize, &Message) -> Outcome) {
        let mut again = Vec::new();
        for (index, message) in self.current.drain(..).enumerate() {
            match outcome(index, &message) {
                Outcome::Handled => self.settled.handled += 1,
                other => again.extend(self.inbox.state.lock().mailbox.conclude(message, other)),
            }
        }
        for message in again.into_iter().rev() {
            self.batch.push_front(message);
        }
    }

    /// Ends the lease. What is in flight counts as handled when the
    /// incarnation ended well, and as failed for `why` when it did not.
    pub(crate) fn end(mut self, failed: Option<&str>) {
        self.give_back(failed);
    }

    fn give_back(&mut self, failed: Option<&str>) {
        let mut state = self.inbox.state.lock();
        if failed.is_none() {
            self.settled.handled += self.current.len() as u64;
            self.current.clear();
        }
        state.mailbox.settle(std::mem::take(&mut self.settled));
        state.mailbox.give_back(self.batch.drain(..));
        if self.current.len() > 1 {
            state.mailbox.give_back_batch(self.current.drain(..));
        } else if let Some(message) = self.current.pop_front() {
            state.mailbox.give_back_failed(message, failed.unwrap_or_default());
        }
        state.waker = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.batch.is_empty() || !self.current.is_empty() || self.settled.handled > 0 {
            self.give_back(Some("the service was cut short"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Address;
    use bytes::Bytes;
    use futures_util::task::noop_waker;

    fn inbox() -> Arc<Inbox> {
        Inbox::new(ServiceId::parse("svc").expect("a name"), Bounds::default())
    }

    fn address() -> Arc<Address> {
        Arc::new(Address { topic: "t".into(), source: "s".into() })
    }

    fn message(id: u64) -> Message {
        Message::new(id, address(), Bytes::new())
    }

    fn poll(lease: &mut Lease) -> Poll<Work> {
        lease.poll_next(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn stop_and_events_overtake_messages() {
        let inbox = inbox();
        let mut lease = inbox.lease();
        for id in 1..=3 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert_eq!(lease.begin().map(|m| m.id), Some(1));
        let event = Arc::new(KernelEvent::ConfigUpdated { version: 1 });
        inbox.announce(&[event, Arc::new(KernelEvent::Shutdown)]);
        inbox.request_stop();
        lease.conclude(Outcome::Handled);
        assert!(lease.begin().is_none(), "something else is more urgent");
        let Poll::Ready(Work::Event(event)) = poll(&mut lease) else { panic!("an event") };
        assert_eq!(*event, KernelEvent::Shutdown);
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Stop)));
        lease.end(None);
        let stats = inbox.stats();
        assert!(stats.balances());
        assert_eq!((stats.handled, stats.queued, stats.in_flight), (1, 2, 0));
        // The next incarnation is not asked to stop, and goes on where this one was.
        let mut lease = inbox.lease();
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert_eq!(lease.begin().map(|m| m.id), Some(2));
    }

    #[test]
    fn a_crash_puts_the_message_in_flight_back_first() {
        let inbox = inbox();
        let mut lease = inbox.lease();
        for id in 1..=4 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert!(lease.begin().is_some());
        lease.conclude(Outcome::Handled);
        assert!(lease.begin().is_some());
        drop(lease);
        assert!(inbox.stats().balances());
        let mut lease = inbox.lease();
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        let seen: Vec<(u64, u32)> = std::iter::from_fn(|| {
            let next = lease.begin().map(|m| (m.id, m.attempt));
            lease.conclude(Outcome::Handled);
            next
        })
        .collect();
        assert_eq!(seen, [(2, 2), (3, 1), (4, 1)]);
    }

    #[test]
    fn a_failed_batch_is_delivered_one_at_a_time() {
        let inbox = inbox();
        let mut lease = inbox.lease();
        for id in 1..=3 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert_eq!(lease.begin_batch(|_| true).map(<[Message]>::len), Some(3));
        lease.end(Some("trap"));
        let mut lease = inbox.lease();
        inbox.push(message(4));
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert!(lease.begin_batch(|_| true).is_none());
        assert_eq!(lease.begin().map(|m| (m.id, m.attempt)), Some((1, 2)));
    }

    #[test]
    fn a_batch_keeps_the_order_of_what_is_retried() {
        let inbox = inbox();
        let mut lease = inbox.lease();
        for id in 1..=4 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert!(lease.begin_batch(|m| m.id < 4).is_some());
        lease.conclude_all(|index, _| match index {
            1 => Outcome::Handled,
            _ => Outcome::Retry("again".into()),
        });
        let rest: Vec<u64> = lease.batch.iter().map(|m| m.id).collect();
        assert_eq!(rest, [1, 3, 4]);
        lease.end(None);
        assert!(inbox.stats().balances());
    }

    #[test]
    fn an_idle_lease_is_woken_by_each_kind_of_work() {
        fn check(act: impl FnOnce(&Inbox), expected: fn(&Work) -> bool) {
            let inbox = inbox();
            let mut lease = inbox.lease();
            let mut task = tokio_test_task(&mut lease);
            assert!(task().is_none());
            act(&inbox);
            assert!(task().is_some_and(|work| expected(&work)));
        }
        /// Polls only when woken, as an executor does.
        fn tokio_test_task(lease: &mut Lease) -> impl FnMut() -> Option<Work> {
            struct Flag(AtomicBool);
            impl std::task::Wake for Flag {
                fn wake(self: Arc<Self>) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            let flag = Arc::new(Flag(AtomicBool::new(true)));
            move || {
                if !flag.0.swap(false, Ordering::SeqCst) {
                    return None;
                }
                let waker = Waker::from(Arc::clone(&flag));
                match lease.poll_next(&mut Context::from_waker(&waker)) {
                    Poll::Ready(work) => Some(work),
                    Poll::Pending => None,
                }
            }
        }
        check(|i| assert!(i.push(message(1))), |w| matches!(w, Work::Messages));
        check(|i| i.request_stop(), |w| matches!(w, Work::Stop));
        check(|i| i.announce(&[Arc::new(KernelEvent::Shutdown)]), |w| matches!(w, Work::Event(_)));
    }

    #[test]
    fn announcements_are_lossy_from_the_oldest() {
        let inbox = inbox();
        let mut lease = inbox.lease();
        let event = |version| Arc::new(KernelEvent::ConfigUpdated { version });
        inbox.announce(&[event(1), event(2)]);
        inbox.announce(&(3..=66).map(event).collect::<Vec<_>>());
        let mut seen = Vec::new();
        while let Poll::Ready(Work::Event(event)) = poll(&mut lease) {
            if let KernelEvent::ConfigUpdated { version } = *event {
                seen.push(version);
            }
        }
        assert_eq!(seen, (3..=66).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_to_an_absent_service_fails_at_once() {
        let inbox = inbox();
        inbox.set_absent(Some("svc is quarantined".into()));
        let (reply, mut answer) = super::super::ReplyHandle::new();
        assert!(!inbox.push(Message { reply: Some(reply), ..message(1) }));
        assert_eq!(
            answer.try_recv(),
            Ok(Err(super::super::BusError::Failed("svc is quarantined".into())))
        );
        assert!(inbox.push(message(2)), "what nobody waits for is kept");
    }
}
