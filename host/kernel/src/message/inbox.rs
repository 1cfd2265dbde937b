//! A service's end of the bus: its mailbox, the kernel's announcements and the
//! wishes of its supervisor, behind one lock and one waker.
//!
//! One waker, because a service waits for all three at once and a `select!`
//! over three channels would cost a message more than its delivery does. One
//! lock a service, held for a push or for a take of up to [`BATCH`] messages,
//! and never while anything else is locked or awaited.
//!
//! The inbox outlives every incarnation of its service. An incarnation reads it
//! through a [`Lease`], which has a seat at it; while one version takes over
//! from another there are two seats, and messages go to the one that is
//! active. What a lease had taken and not settled goes back to the head of the
//! queue when the incarnation ends or pauses, however it does.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

use super::burial::{About, Burials};
use super::mailbox::{Bounds, DeadLetter, Mailbox, Pushed, Settled, Stats};
use super::{Message, Outcome};
use crate::event::KernelEvent;
use crate::service::{SavedState, ServiceId};

pub use super::mailbox::Bounds as MailboxBounds;

/// Most messages taken from the queue under one lock, and most in one batch: a
/// call into a guest costs what handling some ten small messages does.
const BATCH: usize = 64;
/// Most announcements that wait for one incarnation; the oldest goes first.
const EVENTS: usize = 64;

/// Where a service's messages wait. See this module's header.
#[derive(Debug)]
pub struct Inbox {
    service: ServiceId,
    state: Mutex<State>,
    burials: Burials,
}

#[derive(Debug)]
struct State {
    mailbox: Mailbox,
    /// One for each incarnation that lives: mostly one.
    seats: Vec<Seat>,
    next_seat: u64,
    /// Why nobody will answer for a while: the service is stopped or
    /// quarantined. Requests fail at once with it; other messages wait.
    absent: Option<String>,
}

/// An incarnation's place at the inbox.
#[derive(Debug)]
struct Seat {
    id: SeatId,
    /// Which of the service's replicas has it.
    replica: usize,
    /// Whether messages go to it.
    active: bool,
    /// Whether its incarnation is of a version that may be put back: what it
    /// fails at then counts as not tried.
    on_probation: bool,
    events: VecDeque<Arc<KernelEvent>>,
    /// Announcements that it missed and that nobody has counted.
    missed: u64,
    stop: bool,
    ask: Option<Ask>,
    /// What was asked is not answered or withdrawn yet.
    asked: bool,
    answer: Option<Answer>,
    waker: Option<Waker>,
    /// Something other than messages waits. Read between two messages without
    /// the lock; the lock orders what it announces.
    urgent: Arc<AtomicBool>,
}

/// Names a seat for as long as the inbox is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SeatId(u64);

/// What a supervisor asks of an incarnation, between two messages.
#[derive(Debug)]
pub(crate) enum Ask {
    /// See [`Work::Pause`].
    Pause { save: bool },
    /// See [`Work::Restore`].
    Restore(SavedState),
}

/// What the incarnation said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It took its last message and is paused.
    Paused(Result<Option<SavedState>, String>),
    /// It read the state, or refused it.
    Restored(Result<(), String>),
}

impl State {
    fn seat(&mut self, id: SeatId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.id == id)
    }

    /// The waker of an active seat that waits for messages: of that replica, where they are
    /// for one in particular.
    fn idle(&mut self, replica: Option<usize>) -> Option<Waker> {
        let fits = |seat: &&mut Seat| seat.active && replica.is_none_or(|own| own == seat.replica);
        self.seats.iter_mut().filter(fits).find_map(|seat| seat.waker.take())
    }

    /// The wakers of active seats for which there is something by now.
    fn served(&mut self) -> Vec<Waker> {
        let Self { mailbox, seats, .. } = self;
        let fits = |seat: &&mut Seat| seat.active && mailbox.waiting(seat.replica) > 0;
        seats.iter_mut().filter(fits).filter_map(|seat| seat.waker.take()).collect()
    }

    fn active(&self) -> usize {
        self.seats.iter().filter(|seat| seat.active).count()
    }
}

impl Seat {
    fn interrupt(&mut self) -> Option<Waker> {
        self.urgent.store(true, Ordering::Release);
        self.waker.take()
    }
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
        let replica = self.state.mailbox.replica_for(&message);
        let accepted = self.state.mailbox.push(message) == Pushed::Accepted;
        let waker = if accepted { self.state.idle(replica) } else { None };
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
            seats: Vec::with_capacity(1),
            next_seat: 0,
            absent: None,
        };
        Arc::new(Self { service, state: Mutex::new(state), burials: Burials::default() })
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

    /// Changes how much it holds, and who takes what. What is queued beyond it stays.
    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        self.wake_after(|mailbox| mailbox.set_bounds(bounds));
    }

    /// So many replicas read it, from 0.
    pub(crate) fn set_replicas(&self, replicas: usize) {
        self.wake_after(|mailbox| mailbox.set_replicas(replicas));
    }

    /// Changes the mailbox, and wakes those who find something in it.
    fn wake_after<T>(&self, change: impl FnOnce(&mut Mailbox) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state.mailbox);
        let wakers = state.served();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        changed
    }

    /// Queues announcements. A service that falls behind misses the oldest; says how
    /// many it has missed that were not told before. Of a version that has not its
    /// turn they are told when it has: one that never gets it misses nothing.
    pub(crate) fn announce(&self, events: &[Arc<KernelEvent>]) -> u64 {
        let newest = &events[events.len().saturating_sub(EVENTS)..];
        let mut missed = 0;
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        for seat in &mut state.seats {
            let room = EVENTS - newest.len();
            let oldest = seat.events.len().saturating_sub(room);
            seat.events.drain(..oldest);
            seat.missed += (oldest + events.len() - newest.len()) as u64;
            seat.events.extend(newest.iter().cloned());
            if seat.active {
                missed += std::mem::take(&mut seat.missed);
            }
            wakers.extend(seat.interrupt());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        missed
    }

    /// Asks the incarnation of that seat to stop. Of what was announced only
    /// the shutdown is still worth telling it.
    pub(crate) fn request_stop(&self, seat: SeatId) {
        self.interrupt(seat, |seat| {
            seat.stop = true;
            seat.events.retain(|event| **event == KernelEvent::Shutdown);
        });
    }

    /// Asks something that [`answer`](Self::answer) will tell the answer to.
    pub(crate) fn ask(&self, seat: SeatId, ask: Ask) {
        self.interrupt(seat, |seat| {
            seat.ask = Some(ask);
            seat.asked = true;
        });
    }

    /// The answer of that seat's incarnation, once.
    pub(crate) fn answer(&self, seat: SeatId) -> Option<Answer> {
        self.state.lock().seat(seat).and_then(|seat| seat.answer.take())
    }

    /// From now on messages go to that seat too.
    pub(crate) fn activate(&self, seat: SeatId) {
        self.interrupt(seat, |seat| seat.active = true);
    }

    /// [`activate`](Self::activate), and what the seat was asked is not wanted
    /// any more: nothing of it happens, or what happened has no effect.
    pub(crate) fn resume(&self, seat: SeatId) {
        self.interrupt(seat, |seat| {
            seat.ask = None;
            seat.asked = false;
            seat.answer = None;
            seat.active = true;
        });
    }

    /// Whether the version of that seat's incarnation may still be put back.
    pub(crate) fn set_on_probation(&self, seat: SeatId, on_probation: bool) {
        if let Some(seat) = self.state.lock().seat(seat) {
            seat.on_probation = on_probation;
        }
    }

    /// The seats that messages go to, and the ids of the messages that wait.
    #[cfg(test)]
    pub(crate) fn look(&self) -> (Vec<SeatId>, Vec<u64>) {
        let state = self.state.lock();
        let active = state.seats.iter().filter(|seat| seat.active).map(|seat| seat.id);
        (active.collect(), state.mailbox.ids())
    }

    fn interrupt(&self, seat: SeatId, change: impl FnOnce(&mut Seat)) {
        let mut state = self.state.lock();
        let waker = state.seat(seat).and_then(|seat| {
            change(seat);
            seat.interrupt()
        });
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

    /// Has the mailbox deal with a message that was not handled.
    fn conclude(&self, message: Message, outcome: Outcome) -> Option<Message> {
        let about = self.burials.about(&message, outcome.why());
        self.telling(self.state.lock(), about, |mailbox| mailbox.conclude(message, outcome))
    }

    /// Does something with a message that may bury it, and tells of that without the lock.
    fn telling<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        about: Option<About>,
        act: impl FnOnce(&mut Mailbox) -> T,
    ) -> T {
        let before = state.mailbox.stats().dead_lettered;
        let done = act(&mut state.mailbox);
        let buried = state.mailbox.stats().dead_lettered > before;
        drop(state);
        if buried {
            self.burials.tell(&self.service, about);
        }
        done
    }

    /// Delivers the kept dead letters again; says how many found room.
    pub fn replay_dead_letters(&self) -> usize {
        self.wake_after(Mailbox::replay)
    }

    /// A lease for a new incarnation of that replica, whose seat is active or waits for its
    /// turn. What was announced and asked before is not for it.
    pub(crate) fn lease(self: &Arc<Self>, replica: usize, active: bool) -> Lease {
        let urgent = Arc::new(AtomicBool::new(false));
        let mut state = self.state.lock();
        let id = SeatId(state.next_seat);
        state.next_seat += 1;
        state.seats.push(Seat {
            id,
            replica,
            active,
            on_probation: false,
            events: VecDeque::new(),
            missed: 0,
            stop: false,
            ask: None,
            asked: false,
            answer: None,
            waker: None,
            urgent: Arc::clone(&urgent),
        });
        if active {
            state.absent = None;
        }
        drop(state);
        Lease {
            inbox: Arc::clone(self),
            seat: id,
            urgent,
            taken: VecDeque::new(),
            begun: 0,
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
    /// Another version takes over, or this one is put back: say
    /// [`Lease::paused`], with the state to hand over if `save` asks for it and
    /// there is any. No messages come until the version has its turn again.
    Pause {
        /// Whether the state is wanted.
        save: bool,
    },
    /// Read the state of the version before, and say [`Lease::restored`].
    Restore(SavedState),
    /// Finish, within the stop deadline.
    Stop,
}

/// The receiving end of an inbox, for one incarnation of its service.
///
/// It holds up to 64 messages that it took. Dropping it gives back what was not
/// settled; a message in flight then counts as failed.
#[derive(Debug)]
pub struct Lease {
    inbox: Arc<Inbox>,
    seat: SeatId,
    urgent: Arc<AtomicBool>,
    /// Taken from the queue, in its order.
    taken: VecDeque<Message>,
    /// So many at the head of `taken` are in flight: begun and not concluded.
    begun: usize,
    /// Handled since the lock was last held.
    settled: Settled,
}

impl Lease {
    /// The inbox this reads.
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    pub(crate) fn seat(&self) -> SeatId {
        self.seat
    }

    /// Waits for something to do: what the supervisor asks comes first, then
    /// announcements, then a wish to stop, then messages. Cancelling it loses
    /// nothing.
    pub async fn next(&mut self) -> Work {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next), for a caller with a poll function of its own.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Work> {
        if !self.taken.is_empty() && !self.interrupted() {
            return Poll::Ready(Work::Messages);
        }
        let mut state = self.inbox.state.lock();
        let active = state.active();
        let State { mailbox, seats, .. } = &mut *state;
        mailbox.settle(std::mem::take(&mut self.settled));
        let seat = seats.iter_mut().find(|seat| seat.id == self.seat);
        let seat = seat.expect("a seat is there until its lease ends");
        match seat.ask.take() {
            Some(Ask::Pause { save }) => return Poll::Ready(Work::Pause { save }),
            Some(Ask::Restore(saved)) => return Poll::Ready(Work::Restore(saved)),
            None => {}
        }
        if (seat.active || seat.stop)
            && let Some(event) = seat.events.pop_front()
        {
            return Poll::Ready(Work::Event(event));
        }
        if seat.stop {
            return Poll::Ready(Work::Stop);
        }
        seat.urgent.store(false, Ordering::Release);
        if self.taken.is_empty() {
            if !seat.active || mailbox.waiting(seat.replica) == 0 {
                // Registered under the lock that every push takes, so none is missed.
                match &mut seat.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            let share = mailbox.share(seat.replica, active);
            mailbox.take(seat.replica, share.min(BATCH), &mut self.taken);
        }
        Poll::Ready(Work::Messages)
    }

    /// Whether it is this incarnation that messages come to: it has its turn, and is
    /// not paused. For a runtime that brings it more than messages.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.inbox.state.lock().seat(self.seat).is_some_and(|seat| seat.active)
    }

    /// Whether this incarnation was asked to stop: for a runtime that has not come to
    /// [`next`](Self::next) yet.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.interrupted() && self.inbox.state.lock().seat(self.seat).is_some_and(|seat| seat.stop)
    }

    /// Whether something other than messages waits.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.urgent.load(Ordering::Acquire)
    }

    /// Answers [`Work::Pause`]. What was taken goes back to the head of the
    /// queue, and messages go elsewhere.
    ///
    /// Without effect when it is not wanted any more: then messages come on.
    pub fn paused(&mut self, saved: Result<Option<SavedState>, String>) {
        debug_assert_eq!(self.begun, 0, "it pauses between two messages");
        self.reply(Answer::Paused(saved));
    }

    /// Answers [`Work::Restore`]: the state was read, or why it was not.
    pub fn restored(&mut self, result: Result<(), String>) {
        self.reply(Answer::Restored(result));
    }

    fn reply(&mut self, answer: Answer) {
        let mut state = self.inbox.state.lock();
        let Some(seat) = state.seat(self.seat) else { return };
        if !std::mem::take(&mut seat.asked) {
            return;
        }
        let pauses = matches!(answer, Answer::Paused(_));
        seat.answer = Some(answer);
        if pauses {
            seat.active = false;
            let on_probation = seat.on_probation;
            state.mailbox.settle(std::mem::take(&mut self.settled));
            state.mailbox.give_back(self.taken.drain(..), on_probation);
        }
    }

    /// Begins the next message that was taken, if there is one and nothing
    /// else is more urgent. It is in flight until it is concluded.
    pub fn begin(&mut self) -> Option<&Message> {
        self.begin_first(1).first()
    }

    /// Begins as many of the taken messages as `fits` admits one after the
    /// other, all in flight together. Fewer than two are not begun.
    ///
    /// A message that was delivered before is not among them: it goes alone,
    /// so that the one at fault is found.
    pub fn begin_batch(&mut self, mut fits: impl FnMut(&Message) -> bool) -> Option<&[Message]> {
        let count = self.taken.iter().take_while(|m| m.attempt == 1 && fits(m)).count();
        if count < 2 {
            return None;
        }
        let begun = self.begin_first(count);
        (!begun.is_empty()).then_some(begun)
    }

    fn begin_first(&mut self, count: usize) -> &[Message] {
        debug_assert_eq!(self.begun, 0, "what was begun is concluded first");
        if !self.interrupted() {
            self.begun = count.min(self.taken.len());
        }
        for message in self.taken.iter_mut().take(self.begun) {
            // No longer queued: the timer's next tick may come.
            message.tick = None;
        }
        self.in_flight()
    }

    /// The ids of the messages it took, those in flight first, and how many
    /// those are.
    #[cfg(test)]
    pub(crate) fn look(&self) -> (Vec<u64>, usize) {
        (self.taken.iter().map(|message| message.id).collect(), self.begun)
    }

    /// Messages in flight.
    pub fn in_flight(&mut self) -> &[Message] {
        self.taken.make_contiguous().get(..self.begun).unwrap_or_default()
    }

    /// Concludes the message in flight. To be delivered again, it comes next.
    pub fn conclude(&mut self, outcome: Outcome) {
        if std::mem::take(&mut self.begun) == 0 {
            return;
        }
        let Some(message) = self.taken.pop_front() else { return };
        if outcome == Outcome::Handled {
            self.settled.handled += 1;
        } else if let Some(again) = self.inbox.conclude(message, outcome) {
            self.taken.push_front(again);
        }
    }

    /// Concludes a batch, asking `outcome` of each message in turn. What is to
    /// be delivered again comes next, in its order.
    pub fn conclude_all(&mut self, mut outcome: impl FnMut(usize, &Message) -> Outcome) {
        let mut again = Vec::new();
        let begun = std::mem::take(&mut self.begun);
        for (index, message) in self.taken.drain(..begun).enumerate() {
            match outcome(index, &message) {
                Outcome::Handled => self.settled.handled += 1,
                other => again.extend(self.inbox.conclude(message, other)),
            }
        }
        for message in again.into_iter().rev() {
            self.taken.push_front(message);
        }
    }

    /// Ends the lease. What is in flight counts as handled when the
    /// incarnation ended well, and as failed for `why` when it did not.
    pub(crate) fn end(mut self, failed: Option<&str>) {
        self.give_back(failed);
    }

    fn give_back(&mut self, failed: Option<&str>) {
        if failed.is_none() {
            self.conclude_all(|_, _| Outcome::Handled);
        }
        let mut state = self.inbox.state.lock();
        let on_probation = state.seat(self.seat).is_some_and(|seat| seat.on_probation);
        state.mailbox.settle(std::mem::take(&mut self.settled));
        let begun = std::mem::take(&mut self.begun);
        state.mailbox.give_back(self.taken.drain(begun..), on_probation);
        if begun > 1 {
            state.mailbox.give_back_batch(self.taken.drain(..), on_probation);
        } else if let Some(message) = self.taken.pop_front() {
            let why = failed.unwrap_or_default();
            let about = self.inbox.burials.about(&message, why);
            self.inbox.telling(state, about, |mailbox| {
                mailbox.give_back_failed(message, why, on_probation);
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.taken.is_empty() || self.settled.handled > 0 {
            self.give_back(Some("the service was cut short"));
        }
        let mut state = self.inbox.state.lock();
        state.seats.retain(|seat| seat.id != self.seat);
        // What it gave back may be for another seat that waits.
        let wakers = state.served();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
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

    fn message(id: u64) -> Message {
        Message::new(id, Address::any(), Bytes::new())
    }

    fn poll(lease: &mut Lease) -> Poll<Work> {
        lease.poll_next(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn stop_and_events_overtake_messages() {
        let inbox = inbox();
        let mut lease = inbox.lease(0, true);
        for id in 1..=3 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert_eq!(lease.begin().map(|m| m.id), Some(1));
        let event = Arc::new(KernelEvent::ConfigUpdated { version: 1 });
        inbox.announce(&[event, Arc::new(KernelEvent::Shutdown)]);
        inbox.request_stop(lease.seat());
        lease.conclude(Outcome::Handled);
        assert!(lease.begin().is_none(), "something else is more urgent");
        let Poll::Ready(Work::Event(event)) = poll(&mut lease) else { panic!("an event") };
        assert_eq!(*event, KernelEvent::Shutdown);
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Stop)));
        assert!(lease.is_stopping());
        lease.end(None);
        let stats = inbox.stats();
        assert!(stats.balances());
        assert_eq!((stats.handled, stats.queued, stats.in_flight), (1, 2, 0));
        // The next incarnation is not asked to stop, and goes on where this one was.
        let mut lease = inbox.lease(0, true);
        assert!(!lease.is_stopping());
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert_eq!(lease.begin().map(|m| m.id), Some(2));
    }

    #[test]
    fn a_crash_puts_the_message_in_flight_back_first() {
        let inbox = inbox();
        let mut lease = inbox.lease(0, true);
        for id in 1..=4 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert!(lease.begin().is_some());
        lease.conclude(Outcome::Handled);
        assert!(lease.begin().is_some());
        drop(lease);
        assert!(inbox.stats().balances());
        let mut lease = inbox.lease(0, true);
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
        let mut lease = inbox.lease(0, true);
        for id in 1..=3 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert_eq!(lease.begin_batch(|_| true).map(<[Message]>::len), Some(3));
        lease.end(Some("trap"));
        let mut lease = inbox.lease(0, true);
        inbox.push(message(4));
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert!(lease.begin_batch(|_| true).is_none());
        assert_eq!(lease.begin().map(|m| (m.id, m.attempt)), Some((1, 2)));
    }

    #[test]
    fn a_batch_keeps_the_order_of_what_is_retried() {
        let inbox = inbox();
        let mut lease = inbox.lease(0, true);
        for id in 1..=4 {
            inbox.push(message(id));
        }
        assert!(matches!(poll(&mut lease), Poll::Ready(Work::Messages)));
        assert!(lease.begin_batch(|m| m.id < 4).is_some());
        lease.conclude_all(|index, _| match index {
            1 => Outcome::Handled,
            _ => Outcome::Retry("again".into()),
        });
        let rest: Vec<u64> = lease.taken.iter().map(|m| m.id).collect();
        assert_eq!(rest, [1, 3, 4]);
        lease.end(None);
        assert!(inbox.stats().balances());
    }

    #[test]
    fn an_idle_lease_is_woken_by_each_kind_of_work() {
        fn check(act: impl FnOnce(&Inbox), expected: fn(&Work) -> bool) {
            let inbox = inbox();
            let mut lease = inbox.lease(0, true);
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
        check(|i| i.request_stop(SeatId(0)), |w| matches!(w, Work::Stop));
        check(
            |i| assert_eq!(i.announce(&[Arc::new(KernelEvent::Shutdown)]), 0),
            |w| matches!(w, Work::Event(_)),
        );
    }

    #[test]
    fn announcements_are_lossy_from_the_oldest() {
        let inbox = inbox();
        let mut lease = inbox.lease(0, true);
        let event = |version| Arc::new(KernelEvent::ConfigUpdated { version });
        assert_eq!(inbox.announce(&[event(1), event(2)]), 0);
        assert_eq!(inbox.announce(&(3..=66).map(event).collect::<Vec<_>>()), 2);
        let mut seen = Vec::new();
        while let Poll::Ready(Work::Event(event)) = poll(&mut lease) {
            if let KernelEvent::ConfigUpdated { version } = *event {
                seen.push(version);
            }
        }
        assert_eq!(seen, (3..=66).collect::<Vec<_>>());
        // More at a time than there is room for.
        assert_eq!(inbox.announce(&(1..=200).map(event).collect::<Vec<_>>()), 136);
    }

    #[test]
    fn what_a_version_misses_is_told_when_it_has_its_turn() {
        let inbox = inbox();
        let events = |count| {
            vec![KernelEvent::Shutdown; count].into_iter().map(Arc::new).collect::<Vec<_>>()
        };
        let (serves, waits) = (inbox.lease(0, true), inbox.lease(0, false));
        assert_eq!(inbox.announce(&events(70)), 6, "of the one that has it");
        inbox.activate(waits.seat());
        assert_eq!(inbox.announce(&events(1)), 1 + 6 + 1, "of both");
        drop(waits);
        assert_eq!(inbox.announce(&events(1)), 1);
        drop(serves);
        assert_eq!(inbox.announce(&events(70)), 0, "nobody is there to miss them");
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

    /// Each topic goes to one replica, which alone is woken for it; it waits while that one
    /// is away, and what was taken and not handled stays its own.
    #[test]
    fn what_is_partitioned_goes_to_one_replica() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let bounds = Bounds { partition_by: super::super::PartitionBy::Topic, ..Bounds::default() };
        let inbox = Inbox::new(ServiceId::parse("svc").expect("a name"), bounds);
        inbox.set_replicas(2);
        let to = |id, topic: &str| {
            let address = Address { topic: topic.into(), source: "s".into() };
            Message::new(id, Arc::new(address), Bytes::new())
        };
        let replica = |topic: &str| inbox.state.lock().mailbox.replica_for(&to(0, topic));
        let names: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
        let of = |own| names.iter().find(|name| replica(name) == Some(own)).expect("one of 20");
        let (zero, one) = (of(0), of(1));
        let counts = [(); 2].map(|()| Arc::new(Count(0.into())));
        let mut leases = [inbox.lease(0, true), inbox.lease(1, true)];
        let look = |lease: &mut Lease, count: &Arc<Count>| {
            let waker = Waker::from(Arc::clone(count));
            lease.poll_next(&mut Context::from_waker(&waker)).is_ready()
        };
        let woken = |which: usize| counts[which].0.swap(0, Ordering::SeqCst);
        let ids = |lease: &mut Lease| {
            let mut ids = Vec::new();
            while let Some(message) = lease.begin() {
                ids.push(message.id);
                lease.conclude(Outcome::Handled);
            }
            ids
        };
        for (lease, count) in leases.iter_mut().zip(&counts) {
            assert!(!look(lease, count));
        }
        for (id, topic) in [(1, one), (2, zero), (3, one)] {
            inbox.push(to(id, topic));
        }
        assert_eq!((woken(0), woken(1)), (1, 1));
        let [first, second] = &mut leases;
        assert!(look(second, &counts[1]));
        assert_eq!(ids(second), [1, 3]);
        assert!(!look(second, &counts[1]), "the other one's is not for it");
        assert!(look(first, &counts[0]));
        assert!(first.begin().is_some());
        inbox.push(to(4, zero));

        // Its successor goes on with it, and nobody else is woken for it.
        let [first, mut second] = leases;
        drop(first);
        assert_eq!(woken(1), 0);
        assert!(!look(&mut second, &counts[1]));
        inbox.push(to(5, one));
        assert_eq!(woken(1), 1);
        let mut again = inbox.lease(0, true);
        assert!(look(&mut again, &counts[0]));
        assert_eq!(ids(&mut again), [2, 4]);
        drop(again);

        // With fewer replicas nothing is left behind.
        inbox.push(to(6, zero));
        assert!(look(&mut second, &counts[1]));
        assert_eq!(ids(&mut second), [5]);
        assert!(!look(&mut second, &counts[1]));
        inbox.set_replicas(1);
        assert_eq!(woken(1), 1);
        assert!(look(&mut second, &counts[1]));
        assert_eq!(ids(&mut second), [6]);
        drop(second);
        assert!(inbox.stats().balances());
    }
}
