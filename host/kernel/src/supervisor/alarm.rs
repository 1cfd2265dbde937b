//! What one service's task waits for by the clock: a few deadlines, one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The incarnation's `start`, later its `stop`; nothing runs against one in
    /// between, for handlers' deadlines are the runtime's.
    Current,
    /// The back-off's end.
    Backoff,
    /// The next version's `start`.
    Next,
    /// An answer of a version that pauses or restores.
    Handover,
    /// The probation's end.
    Probation,
    /// The `stop` of a version that was replaced.
    Retiring,
}

const KINDS: [Alarm; 6] = [
    Alarm::Current,
    Alarm::Backoff,
    Alarm::Next,
    Alarm::Handover,
    Alarm::Probation,
    Alarm::Retiring,
];

/// At most one deadline of each kind.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    at: [Option<Instant>; KINDS.len()],
    timer: Option<Pin<Box<Sleep>>>,
    /// What `timer` is set to is the earliest of `at`.
    is_set: bool,
}

impl Alarms {
    pub(super) fn set(&mut self, alarm: Alarm, at: Instant) {
        self.at[alarm as usize] = Some(at);
        self.is_set = false;
    }

    pub(super) fn clear(&mut self, alarm: Alarm) {
        if self.at[alarm as usize].take().is_some() {
            self.is_set = false;
        }
    }

    #[cfg(test)]
    pub(super) fn at(&self, alarm: Alarm) -> Option<Instant> {
        self.at[alarm as usize]
    }

    /// Gives what is due, and clears it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        let earliest = KINDS
            .into_iter()
            .filter_map(|kind| Some((self.at[kind as usize]?, kind)))
            .min_by_key(|(at, _)| *at);
        let Some((at, kind)) = earliest else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if !self.is_set {
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            self.is_set = true;
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.clear(kind);
        Poll::Ready(kind)
    }
}
