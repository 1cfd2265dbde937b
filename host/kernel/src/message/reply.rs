//! The way back: one answer for a request that may have gone to several.
//!
//! Every mailbox of a request's fan-out holds a clone of one handle. The first
//! answer ends the request. When the last clone is gone without one, the
//! request ends with `failed` if somebody failed and `no responder` otherwise:
//! dropping is the signal, so no path through a mailbox, a crash or an
//! overflow can leave a requester waiting for an answer that cannot come.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::BusError;

/// What a request ends with.
pub type Answer = Result<Bytes, BusError>;

/// One asked service's way to answer.
#[derive(Clone, Debug)]
pub struct ReplyHandle(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: Option<oneshot::Sender<Answer>>,
    /// The first failure, in case nobody answers.
    failed: Option<String>,
}

impl ReplyHandle {
    /// A handle, and the end that the requester waits on.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Answer>) {
        let (waiting, answer) = oneshot::channel();
        let state = State { waiting: Some(waiting), failed: None };
        (Self(Arc::new(Slot { state: Mutex::new(state) })), answer)
    }

    /// Answers; only the first answer counts.
    pub fn answer(&self, payload: Bytes) {
        let waiting = self.0.state.lock().waiting.take();
        if let Some(waiting) = waiting {
            // The requester may have gone; then nobody wants the answer.
            let _ = waiting.send(Ok(payload));
        }
    }

    /// Notes that one of those asked failed, in case none answers.
    pub fn fail(&self, why: &str) {
        self.0.state.lock().failed.get_or_insert_with(|| why.to_owned());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let Some(waiting) = state.waiting.take() {
            let error = state.failed.take().map_or(BusError::NoResponder, BusError::Failed);
            let _ = waiting.send(Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: Answer, act: impl FnOnce(ReplyHandle, ReplyHandle)) {
        let (first, mut answer) = ReplyHandle::new();
        let second = first.clone();
        act(first, second);
        assert_eq!(answer.try_recv(), Ok(expected));
    }

    #[test]
    fn the_first_answer_wins_and_the_last_drop_ends() {
        check(Ok(Bytes::from_static(b"1")), |a, b| {
            a.answer(Bytes::from_static(b"1"));
            b.answer(Bytes::from_static(b"2"));
        });
        check(Err(BusError::NoResponder), |_, _| {});
        check(Err(BusError::Failed("first".into())), |a, b| {
            a.fail("first");
            b.fail("second");
        });
        check(Ok(Bytes::from_static(b"late")), |a, b| {
            a.fail("broke");
            drop(a);
            b.answer(Bytes::from_static(b"late"));
        });
    }

    #[test]
    fn a_request_waits_while_one_may_still_answer() {
        let (first, mut answer) = ReplyHandle::new();
        let second = first.clone();
        drop(first);
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(second);
    }
}
