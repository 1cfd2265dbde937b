//! A mailbox as a pure machine: a bounded queue that can account for every
//! message it ever accepted.
//!
//! ```text
//! accepted = handled + queued + in flight + dead-lettered + dropped
//! ```
//!
//! No lock, no waker and no clock here, so the invariant is property-tested
//! over sequences of calls; [`Inbox`](super::Inbox) puts it behind a lock. The
//! receiver takes messages in batches and settles them in batches, because
//! one lock for 32 messages is what a message can afford.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::lanes::Lanes;
use super::{Message, Outcome, Pardon};

/// What happens to a message that finds the mailbox full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The oldest queued messages are dropped until it fits, and counted.
    #[default]
    DropOldest,
    /// It is dropped itself, and counted.
    DropNewest,
    /// The publisher is refused with `overloaded`.
    Reject,
}

/// Which messages go to the same replica of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionBy {
    /// None in particular: a message goes to whichever replica is free.
    #[default]
    Nothing,
    /// Those to one topic, for as long as the number of replicas is the same. They wait
    /// for that replica while it is away.
    Topic,
}

/// How much a mailbox holds, and who takes what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most queued messages; at least 1.
    pub messages: usize,
    /// Most bytes of queued payloads.
    pub bytes: usize,
    /// What happens beyond either.
    pub overflow: Overflow,
    /// How often a message is delivered before it is a dead letter; at least 1.
    pub max_deliveries: u32,
    /// Most dead letters kept, and no more of their payloads than `bytes`; the oldest
    /// goes first.
    pub dead_letters: usize,
    /// Which messages go to the same replica.
    pub partition_by: PartitionBy,
}

impl Default for Bounds {
    /// 1,024 messages, 16 MiB, drop-oldest, 3 deliveries, 256 dead letters, for
    /// whichever replica is free.
    fn default() -> Self {
        Self {
            messages: 1024,
            bytes: 16 << 20,
            overflow: Overflow::DropOldest,
            max_deliveries: 3,
            dead_letters: 256,
            partition_by: PartitionBy::Nothing,
        }
    }
}

/// What a mailbox has seen so far. All but the gauges only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Gauge: messages waiting.
    pub queued: u64,
    /// Gauge: bytes of payload waiting.
    pub queued_bytes: u64,
    /// Gauge: messages taken by the service and not settled yet.
    pub in_flight: u64,
    /// Messages taken in.
    pub accepted: u64,
    /// Messages handled.
    pub handled: u64,
    /// Messages that went to the dead letters.
    pub dead_lettered: u64,
    /// Accepted messages that made room for newer ones.
    pub dropped_oldest: u64,
    /// Messages not taken in, under `drop-newest`.
    pub dropped_newest: u64,
    /// Messages not taken in, under `reject`.
    pub rejected: u64,
    /// Deliveries after the first.
    pub redelivered: u64,
}

impl Stats {
    /// The invariant of this file's header.
    #[must_use]
    pub const fn balances(&self) -> bool {
        self.accepted
            == self.handled
                + self.queued
                + self.in_flight
                + self.dead_lettered
                + self.dropped_oldest
    }
}

/// A message that will not be delivered again, and why.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The message, as it was last delivered.
    pub message: Message,
    /// What the service said, or how it ended.
    pub why: String,
}

/// Whether a message was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits in the queue.
    Accepted,
    /// It was dropped, under `drop-newest`.
    Dropped,
    /// It was refused, under `reject`.
    Refused,
}

/// Settlements that the receiver has not handed in yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) handled: u64,
}

/// The queue of one service.
#[derive(Debug)]
pub(crate) struct Mailbox {
    bounds: Bounds,
    /// Those that share it.
    replicas: usize,
    queue: Lanes,
    dead: VecDeque<DeadLetter>,
    /// Of the payloads of `dead`.
    dead_bytes: usize,
    stats: Stats,
}

impl Mailbox {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let mut new = Self {
            bounds,
            replicas: 1,
            queue: Lanes::default(),
            dead: VecDeque::new(),
            dead_bytes: 0,
            stats: Stats::default(),
        };
        new.set_bounds(bounds);
        new
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    /// What is queued beyond the new bounds stays; the next push deals with it.
    pub(crate) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = Bounds {
            messages: bounds.messages.max(1),
            max_deliveries: bounds.max_deliveries.max(1),
            ..bounds
        };
        self.keep_dead();
        self.set_lanes();
    }

    /// So many replicas share it.
    pub(crate) fn set_replicas(&mut self, replicas: usize) {
        self.replicas = replicas;
        self.set_lanes();
    }

    fn set_lanes(&mut self) {
        self.queue.set_lanes(match self.bounds.partition_by {
            PartitionBy::Nothing => 1,
            PartitionBy::Topic => self.replicas,
        });
    }

    /// The replica that is to have a message, where that is one in particular.
    pub(crate) fn replica_for(&self, message: &Message) -> Option<usize> {
        (self.queue.lanes() > 1).then(|| self.queue.lane_of(message.topic()))
    }

    /// The lane that a replica reads: there is but one, where messages go to whichever is
    /// free.
    fn lane(&self, replica: usize) -> usize {
        if self.queue.lanes() > 1 { replica } else { 0 }
    }

    /// How many messages wait that a replica may take.
    pub(crate) fn waiting(&self, replica: usize) -> usize {
        self.queue.waiting(self.lane(replica))
    }

    /// How many of those are its fair share, where so many replicas take messages.
    pub(crate) fn share(&self, replica: usize, active: usize) -> usize {
        let sharing = if self.queue.lanes() > 1 { 1 } else { active.max(1) };
        self.waiting(replica).div_ceil(sharing)
    }

    /// Forgets dead letters beyond the bounds.
    fn keep_dead(&mut self) {
        while self.dead.len() > self.bounds.dead_letters || self.dead_bytes > self.bounds.bytes {
            if self.unearth().is_none() {
                return;
            }
        }
    }

    /// The oldest of the dead letters.
    fn unearth(&mut self) -> Option<DeadLetter> {
        let letter = self.dead.pop_front()?;
        self.dead_bytes -= letter.message.payload.len();
        Some(letter)
    }

    #[cfg(test)]
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.queue.all().iter().map(|message| message.id).collect()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < self.bounds.messages
            && self.stats.queued_bytes + bytes as u64 <= self.bounds.bytes as u64
    }

    /// Whether a push of `bytes` would be refused under `reject`. Room that is
    /// found here holds for as long as the caller keeps the lock.
    pub(crate) fn would_refuse(&self, bytes: usize) -> bool {
        self.bounds.overflow == Overflow::Reject && !self.has_room(bytes)
    }

    /// Counts a refusal that [`would_refuse`](Self::would_refuse) foretold.
    pub(crate) fn refuse(&mut self) {
        self.stats.rejected += 1;
    }

    /// Takes `message` in, or deals with the overflow.
    pub(crate) fn push(&mut self, message: Message) -> Pushed {
        let bytes = message.payload.len();
        if !self.has_room(bytes) {
            // A payload that no emptying can make room for is not worth one.
            let hopeless = bytes > self.bounds.bytes;
            match self.bounds.overflow {
                Overflow::DropOldest if !hopeless => {
                    while !self.has_room(bytes)
                        && let Some(oldest) = self.queue.pop_oldest()
                    {
                        self.leave(&oldest);
                        self.stats.dropped_oldest += 1;
                    }
                }
                Overflow::Reject => {
                    self.refuse();
                    return Pushed::Refused;
                }
                Overflow::DropOldest | Overflow::DropNewest => {
                    self.stats.dropped_newest += 1;
                    return Pushed::Dropped;
                }
            }
        }
        self.stats.accepted += 1;
        self.enter(&message);
        self.queue.push_back(message);
        Pushed::Accepted
    }

    fn enter(&mut self, message: &Message) {
        self.stats.queued += 1;
        self.stats.queued_bytes += message.payload.len() as u64;
    }

    fn leave(&mut self, message: &Message) {
        self.stats.queued -= 1;
        self.stats.queued_bytes -= message.payload.len() as u64;
    }

    /// Moves up to `most` messages from the head of what a replica may take to `out`.
    pub(crate) fn take(&mut self, replica: usize, most: usize, out: &mut VecDeque<Message>) {
        let before = out.len();
        let lane = self.lane(replica);
        out.extend(self.queue.take(lane, most));
        let count = out.len() - before;
        let bytes: usize = out.iter().rev().take(count).map(|message| message.payload.len()).sum();
        self.stats.queued -= count as u64;
        self.stats.queued_bytes -= bytes as u64;
        self.stats.in_flight += count as u64;
    }

    /// Settles messages that were taken and handled.
    pub(crate) fn settle(&mut self, settled: Settled) {
        self.stats.in_flight -= settled.handled;
        self.stats.handled += settled.handled;
    }

    /// Deals with one taken message that was not simply handled. `Some` is the
    /// message for another delivery now, still in flight: it stays at the head.
    pub(crate) fn conclude(&mut self, message: Message, outcome: Outcome) -> Option<Message> {
        match outcome {
            Outcome::Handled => {
                self.settle(Settled { handled: 1 });
                None
            }
            Outcome::Retry(_) if message.counted() < self.bounds.max_deliveries => {
                self.stats.redelivered += 1;
                Some(message.again())
            }
            Outcome::Retry(why) | Outcome::Reject(why) => {
                self.stats.in_flight -= 1;
                self.bury(message, why);
                None
            }
        }
    }

    /// Takes back, at the head and in order, what was taken and not begun. What
    /// a version on probation failed at does not count: it is put back, or the
    /// message was only paused for.
    pub(crate) fn give_back(
        &mut self,
        untouched: impl DoubleEndedIterator<Item = Message>,
        on_probation: bool,
    ) {
        for mut message in untouched.rev() {
            message.settle_attempts(on_probation);
            self.stats.in_flight -= 1;
            self.enter(&message);
            self.queue.push_front(message);
        }
    }

    /// Takes back a message whose handler ended with its service: at the head
    /// for another delivery, or to the dead letters after the last. An ending on
    /// probation is never the last.
    pub(crate) fn give_back_failed(&mut self, message: Message, why: &str, on_probation: bool) {
        if on_probation {
            self.give_back_batch(std::iter::once(message), on_probation);
        } else if let Some(again) = self.conclude(message, Outcome::Retry(why.to_owned())) {
            self.give_back(std::iter::once(again), on_probation);
        }
    }

    /// Takes back a batch whose handler ended with its service, at the head and
    /// in order. Each message is delivered again whatever its limit says, alone
    /// from now on: one of them is at fault, and which is not known.
    pub(crate) fn give_back_batch(
        &mut self,
        failed: impl DoubleEndedIterator<Item = Message>,
        on_probation: bool,
    ) {
        for message in failed.rev() {
            self.stats.redelivered += 1;
            self.give_back(std::iter::once(message.again()), on_probation);
        }
    }

    fn bury(&mut self, mut message: Message, why: String) {
        self.stats.dead_lettered += 1;
        if let Some(reply) = message.reply.take() {
            reply.fail(&why);
        }
        self.lay(DeadLetter { message, why });
        self.keep_dead();
    }

    fn lay(&mut self, letter: DeadLetter) {
        self.dead_bytes += letter.message.payload.len();
        self.dead.push_back(letter);
    }

    /// The dead letters that are still kept, oldest first.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead.iter().cloned().collect()
    }

    /// Forgets the kept dead letters; says how many there were.
    pub(crate) fn forget_dead(&mut self) -> usize {
        self.dead_bytes = 0;
        std::mem::take(&mut self.dead).len()
    }

    /// Delivers the kept dead letters again, as new messages at the end of the
    /// queue; says how many were taken in. What finds no room stays.
    pub(crate) fn replay(&mut self) -> usize {
        let mut count = 0;
        for _ in 0..self.dead.len() {
            let Some(letter) = self.unearth() else { break };
            if self.has_room(letter.message.payload.len()) {
                self.push(Message { attempt: 1, pardon: Pardon::default(), ..letter.message });
                count += 1;
            } else {
                self.lay(letter);
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Address;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message(id: u64, bytes: usize) -> Message {
        Message::new(id, Address::any(), Bytes::from(vec![0; bytes]))
    }

    fn mailbox(messages: usize, bytes: usize, overflow: Overflow) -> Mailbox {
        Mailbox::new(Bounds { messages, bytes, overflow, ..Bounds::default() })
    }

    fn ids(mailbox: &mut Mailbox) -> Vec<u64> {
        let mut out = VecDeque::new();
        mailbox.take(0, usize::MAX, &mut out);
        out.iter().map(|m| m.id).collect()
    }

    #[test]
    fn overflow_follows_the_policy() {
        fn check(overflow: Overflow, last: Pushed, kept: &[u64]) {
            let mut mailbox = mailbox(2, 100, overflow);
            assert_eq!(mailbox.push(message(1, 1)), Pushed::Accepted);
            assert_eq!(mailbox.push(message(2, 1)), Pushed::Accepted);
            assert_eq!(mailbox.push(message(3, 1)), last);
            assert!(mailbox.stats().balances());
            assert_eq!(ids(&mut mailbox), kept);
        }
        check(Overflow::DropOldest, Pushed::Accepted, &[2, 3]);
        check(Overflow::DropNewest, Pushed::Dropped, &[1, 2]);
        check(Overflow::Reject, Pushed::Refused, &[1, 2]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut mailbox = mailbox(100, 10, Overflow::DropOldest);
        for id in 1..=3 {
            mailbox.push(message(id, 4));
        }
        assert_eq!(mailbox.stats().queued_bytes, 8);
        // Larger than the mailbox: dropped itself, and nothing else with it.
        assert_eq!(mailbox.push(message(4, 11)), Pushed::Dropped);
        assert_eq!(ids(&mut mailbox), [2, 3]);
    }

    #[test]
    fn a_message_is_delivered_so_often_and_then_dead() {
        let mut mailbox = mailbox(8, 100, Overflow::DropOldest);
        mailbox.push(message(1, 1));
        mailbox.push(message(2, 1));
        for attempt in 1..=3 {
            let mut out = VecDeque::new();
            mailbox.take(0, 2, &mut out);
            let head = out.pop_front().expect("the failed message stays at the head");
            assert_eq!((head.id, head.attempt), (1, attempt));
            mailbox.give_back(out.into_iter(), false);
            mailbox.give_back_failed(head, "boom", false);
            assert!(mailbox.stats().balances());
        }
        let dead = mailbox.dead_letters();
        assert_eq!(dead.len(), 1);
        assert_eq!((dead[0].message.id, dead[0].why.as_str()), (1, "boom"));
        assert_eq!(mailbox.replay(), 1);
        assert!(mailbox.dead_letters().is_empty());
        assert_eq!(mailbox.forget_dead(), 0);
        assert_eq!(ids(&mut mailbox), [2, 1]);
    }

    /// A bad version takes nothing of a message's deliveries, whether it crashed
    /// at it, asked for it again, or both; one that stays does.
    #[test]
    fn what_is_tried_on_probation_does_not_count_if_it_is_put_back() {
        fn check(on_probation: bool, then: u32) {
            let mut mailbox = mailbox(8, 100, Overflow::DropOldest);
            mailbox.push(message(1, 1));
            let mut out = VecDeque::new();
            mailbox.take(0, 1, &mut out);
            let again = out.pop_front().map(|m| mailbox.conclude(m, Outcome::Retry("x".into())));
            let again = again.flatten().expect("it has three deliveries");
            assert_eq!((again.attempt, again.counted()), (2, 2));
            mailbox.give_back_failed(again, "boom", on_probation);
            let mut left = 0;
            while mailbox.stats().queued > 0 {
                left += 1;
                mailbox.take(0, 1, &mut out);
                let head = out.pop_front().expect("it is there");
                assert_eq!(head.attempt, 2 + left, "that it was tried is told all the same");
                mailbox.give_back_failed(head, "boom", false);
            }
            assert_eq!(left, then);
            assert!(mailbox.stats().balances());
        }
        check(true, 3);
        check(false, 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Take(usize),
        Handle,
        Retry,
        Reject,
        /// Of a version that is on probation, or not.
        Crash(bool),
        Replay,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..8).prop_map(Step::Push),
            2 => (1usize..4).prop_map(Step::Take),
            3 => Just(Step::Handle),
            1 => Just(Step::Retry),
            1 => Just(Step::Reject),
            1 => any::<bool>().prop_map(Step::Crash),
            1 => Just(Step::Replay),
        ]
    }

    proptest! {
        /// Whatever happens, every accepted message is accounted for, bounds
        /// hold for what is pushed, and first deliveries come in order.
        #[test]
        fn every_message_is_accounted_for(
            steps in prop::collection::vec(step(), 0..200),
            overflow in prop::sample::select(vec![
                Overflow::DropOldest, Overflow::DropNewest, Overflow::Reject,
            ]),
        ) {
            let bounds = Bounds {
                messages: 4, bytes: 16, overflow, max_deliveries: 2, dead_letters: 3,
                partition_by: PartitionBy::Nothing,
            };
            let mut mailbox = Mailbox::new(bounds);
            let mut held: VecDeque<Message> = VecDeque::new();
            let mut next_id = 0;
            let mut last_first_delivery = 0;
            let mut replayed = false;
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        next_id += 1;
                        let before = mailbox.stats().queued;
                        mailbox.push(message(next_id, bytes));
                        // What a crash gave back may be over the bound; a push
                        // never adds to that.
                        prop_assert!(mailbox.stats().queued <= before.max(4));
                    }
                    Step::Take(most) => mailbox.take(0, most, &mut held),
                    Step::Handle => if let Some(m) = held.pop_front() {
                        if m.attempt == 1 && !replayed {
                            prop_assert!(m.id > last_first_delivery);
                            last_first_delivery = m.id;
                        }
                        mailbox.conclude(m, Outcome::Handled);
                    },
                    Step::Retry => if let Some(m) = held.pop_front()
                        && let Some(again) = mailbox.conclude(m, Outcome::Retry(String::new()))
                    {
                        prop_assert!(again.counted() <= 2);
                        held.push_front(again);
                    },
                    Step::Reject => if let Some(m) = held.pop_front() {
                        mailbox.conclude(m, Outcome::Reject(String::new()));
                    },
                    Step::Crash(on_probation) => {
                        let failed = held.pop_front();
                        let dead = mailbox.stats().dead_lettered;
                        mailbox.give_back(std::mem::take(&mut held).into_iter(), on_probation);
                        if let Some(m) = failed {
                            mailbox.give_back_failed(m, "crash", on_probation);
                        }
                        prop_assert!(!on_probation || mailbox.stats().dead_lettered == dead);
                    }
                    Step::Replay => replayed |= mailbox.replay() > 0,
                }
                let stats = mailbox.stats();
                prop_assert!(stats.balances(), "{stats:?}");
                prop_assert_eq!(stats.queued as usize, mailbox.queue.len());
                prop_assert_eq!(stats.in_flight as usize, held.len());
                let bytes: usize = mailbox.queue.all().iter().map(|m| m.payload.len()).sum();
                prop_assert_eq!(stats.queued_bytes as usize, bytes);
                prop_assert!(mailbox.dead.len() <= 3);
                let kept: usize = mailbox.dead.iter().map(|one| one.message.payload.len()).sum();
                prop_assert!(kept == mailbox.dead_bytes && kept <= 16);
            }
        }
    }
}
