//! The probation of a swap, which all replicas of a service are on together.
//!
//! Each replica is swapped by a task of its own, and one of them may be the
//! first to learn that the new version is bad. [`Probation`] hears what each has
//! to say and decides once, for all: they stay with the new version together, or
//! go back together. It is pure; [`Seat`] is a task's place at it, and wakes the
//! others when it is decided.
//!
//! Rejected: a replica that is put back tells the others to be. Then one whose
//! time was over a moment earlier has retired its old version by then.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hashbrown::HashSet;
use parking_lot::Mutex;

use super::incarnation::Recipe;
use super::spec::ServiceSpec;
use crate::topic::TopicFilter;

/// What ends a probation before its time, with the new version staying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// Another swap: whoever replaces a version anew had no fault to find.
    NewerSwap,
    /// The service was told to restart.
    Restart,
    /// The service was told to stop, or was taken off the host.
    Stop,
    /// The host ended.
    HostEnd,
}

impl EndedBy {
    /// Whether the version counts as good.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::NewerSwap)
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewerSwap => "a newer swap",
            Self::Restart => "a restart",
            Self::Stop => "a stop",
            Self::HostEnd => "the host's end",
        })
    }
}

/// What a replica has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The new version serves.
    Serves,
    /// Its time is over, and nothing was wrong with it.
    Passed,
    /// It is bad.
    Failed(String),
    /// Nothing is wrong with it, but it is not to stay.
    Unwanted(String),
    /// Something else is wanted of the whole service.
    Ended(EndedBy),
    /// This replica is no more; the others go on.
    Left(EndedBy),
}

/// What was decided, for all replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All have passed.
    Committed,
    /// The new version stays, and nobody knows whether it is good.
    Ended(EndedBy),
    /// The old version comes back.
    PutBack {
        /// Why.
        why: String,
        /// Nothing is wrong with the new one: what it handled meanwhile is to
        /// be kept, and it is not held for bad.
        keep: bool,
    },
}

/// Where one replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Member {
    /// The old version serves.
    Waits,
    Serves,
    Passed,
    Left,
}

/// See this module's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Probation {
    members: Vec<Member>,
    outcome: Option<Outcome>,
}

impl Probation {
    /// One of so many replicas, none of which is swapped yet.
    #[must_use]
    pub(super) fn new(replicas: usize) -> Self {
        Self { members: vec![Member::Waits; replicas], outcome: None }
    }

    /// What was decided.
    #[must_use]
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Hears a replica. Gives what is decided by then; once something is, no
    /// word changes it.
    pub(super) fn hear(&mut self, replica: usize, word: Word) -> Option<&Outcome> {
        if self.outcome.is_none() {
            self.outcome = self.judge(replica, word);
        }
        self.outcome.as_ref()
    }

    /// Another replica of the new version, which was not swapped to it and has
    /// nothing to prove, but stays or goes back with the others. Gives which it
    /// is, unless it is decided already.
    pub(super) fn join(&mut self) -> Option<usize> {
        if self.outcome.is_some() {
            return None;
        }
        self.members.push(Member::Passed);
        Some(self.members.len() - 1)
    }

    fn judge(&mut self, replica: usize, word: Word) -> Option<Outcome> {
        let some_wait = self.members.contains(&Member::Waits);
        let member = self.members.get_mut(replica)?;
        match word {
            Word::Serves => {
                *member = Member::Serves;
                None
            }
            Word::Passed => {
                *member = Member::Passed;
                self.all_passed()
            }
            Word::Failed(why) => Some(Outcome::PutBack { why, keep: false }),
            Word::Unwanted(why) => Some(Outcome::PutBack { why, keep: true }),
            // Staying is for all or for none.
            Word::Ended(by) if some_wait => {
                let why = format!("{by} came before all replicas were swapped");
                Some(Outcome::PutBack { why, keep: true })
            }
            Word::Ended(by) => Some(Outcome::Ended(by)),
            Word::Left(by) => match std::mem::replace(member, Member::Left) {
                Member::Waits => {
                    let why = "another replica could not be swapped".to_owned();
                    Some(Outcome::PutBack { why, keep: true })
                }
                _ if self.members.iter().all(|member| *member == Member::Left) => {
                    Some(Outcome::Ended(by))
                }
                _ => self.all_passed(),
            },
        }
    }

    fn all_passed(&self) -> Option<Outcome> {
        let passed = |member: &Member| matches!(member, Member::Passed | Member::Left);
        self.members.iter().all(passed).then_some(Outcome::Committed)
    }
}

/// A probation with those who wait for what is decided.
#[derive(Debug)]
struct State {
    probation: Probation,
    /// Whose word decided it: who tells of it, for one swap is told of once.
    decider: Option<usize>,
    /// Of each replica.
    wakers: Vec<Option<Waker>>,
    /// What the service subscribed to before the first replica was swapped.
    subscriptions: Option<HashSet<TopicFilter>>,
    /// What was before, for replicas that join; until it is decided.
    before: Option<Before>,
}

/// What a replica goes back to that never ran it.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) recipe: Recipe,
    /// What held of the service, and what the swap brought instead, if it did.
    pub(super) rules: Option<Box<(ServiceSpec, ServiceSpec)>>,
}

/// One replica's place at a probation. Dropping it is leaving.
#[derive(Debug)]
pub(super) struct Seat {
    state: Arc<Mutex<State>>,
    replica: usize,
}

/// Looks at what is decided from outside.
#[derive(Clone, Debug)]
pub(super) struct Onlooker(Arc<Mutex<State>>);

impl Seat {
    /// Those of so many replicas.
    pub(super) fn all(replicas: usize) -> Vec<Self> {
        let state = Arc::new(Mutex::new(State {
            probation: Probation::new(replicas),
            decider: None,
            wakers: vec![None; replicas],
            subscriptions: None,
            before: None,
        }));
        (0..replicas).map(|replica| Self { state: Arc::clone(&state), replica }).collect()
    }

    /// Says a word; gives what is decided by then.
    pub(super) fn say(&self, word: Word) -> Option<Outcome> {
        let mut state = self.state.lock();
        let outcome = state.probation.hear(self.replica, word)?.clone();
        state.decider.get_or_insert(self.replica);
        let (wakers, before) = (std::mem::take(&mut state.wakers), state.before.take());
        drop(state);
        drop(before);
        wakers.into_iter().flatten().for_each(Waker::wake);
        Some(outcome)
    }

    /// Waits for what is decided.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.state.lock();
        if let Some(outcome) = state.probation.outcome() {
            return Poll::Ready(outcome.clone());
        }
        match state.wakers.get_mut(self.replica) {
            Some(Some(waker)) => waker.clone_from(cx.waker()),
            Some(none) => *none = Some(cx.waker().clone()),
            None => {}
        }
        Poll::Pending
    }

    /// Whether what was decided is this replica's to tell.
    pub(super) fn tells(&self) -> bool {
        self.state.lock().decider == Some(self.replica)
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.state.lock().probation.outcome().cloned()
    }

    /// Keeps what was before the swap. The first replica that is swapped knows.
    pub(super) fn keep(&self, subscriptions: HashSet<TopicFilter>, before: Before) {
        let mut state = self.state.lock();
        if state.subscriptions.is_none() && state.probation.outcome().is_none() {
            state.subscriptions = Some(subscriptions);
            state.before = Some(before);
        }
    }

    /// The subscriptions that were kept; once.
    pub(super) fn take_subscriptions(&self) -> Option<HashSet<TopicFilter>> {
        self.state.lock().subscriptions.take()
    }

    pub(super) fn change_subscriptions(&self, change: impl FnOnce(&mut HashSet<TopicFilter>)) {
        self.state.lock().subscriptions.as_mut().map(change);
    }

    pub(super) fn onlooker(&self) -> Onlooker {
        Onlooker(Arc::clone(&self.state))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // One that knows better has said so.
        self.say(Word::Left(EndedBy::HostEnd));
    }
}

impl Onlooker {
    /// A place for another replica of the new version, if it may still go back,
    /// and to what.
    pub(super) fn join(&self) -> Option<(Seat, Before)> {
        let mut state = self.0.lock();
        let before = state.before.clone()?;
        let replica = state.probation.join()?;
        state.wakers.push(None);
        Some((Seat { state: Arc::clone(&self.0), replica }, before))
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.0.lock().probation.outcome().cloned()
    }
}
