//! Requests that wait for their turn at a service with a state.
//!
//! The queue is the gate's, as a mailbox is the host's, and no incarnation's: a
//! request that waits outlives a crash, and after a cut the new version answers it.
//! Replicas take from the same queue, whoever is free first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::body::{Ahead, Common};
use super::{Response, Unanswered};

/// Most requests that wait; one more is told that the service is unavailable.
const WAITING: usize = 256;

/// A request that waits, and the way back to whoever sent it.
pub(crate) struct Waiting {
    pub(crate) request: http::Request<Ahead>,
    pub(crate) corr_id: String,
    pub(crate) reply: oneshot::Sender<Said>,
    pub(crate) common: Common,
    ticket: Ticket,
}

/// Names a request for as long as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What becomes of a request that waited.
pub(crate) enum Said {
    /// It had its turn.
    Answered(Result<Response, Unanswered>),
    /// It is to be brought again: the version that has its turn takes none from here.
    Again(http::Request<Ahead>),
}

/// See this module's header.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    tickets: AtomicU64,
    pub(super) common: Common,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Who found nothing: at most one for each replica's task.
    wakers: Vec<Waker>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.state.lock().waiting.len()).finish()
    }
}

impl Queue {
    /// Has a request wait, unless too many do.
    pub(super) fn push(
        &self,
        request: http::Request<Ahead>,
        corr_id: &str,
    ) -> Option<(Ticket, oneshot::Receiver<Said>)> {
        let mut state = self.state.lock();
        if state.waiting.len() >= WAITING {
            // Those whose client has gone are in nobody's interest.
            state.waiting.retain(|waiting| !waiting.reply.is_closed());
            if state.waiting.len() >= WAITING {
                return None;
            }
        }
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let ((reply, said), corr_id) = (oneshot::channel(), corr_id.to_owned());
        let common = self.common.clone();
        state.waiting.push_back(Waiting { request, corr_id, reply, common, ticket });
        self.common.waiting(state.waiting.len());
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Some((ticket, said))
    }

    /// Takes a request back. Says whether it still waited.
    pub(super) fn withdraw(&self, ticket: Ticket) -> bool {
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.retain(|waiting| waiting.ticket != ticket);
        self.common.waiting(state.waiting.len());
        state.waiting.len() < before
    }

    /// The next request that somebody still waits for.
    pub(super) fn pop(&self) -> Option<Waiting> {
        let mut state = self.state.lock();
        let next = state.next();
        self.common.waiting(state.waiting.len());
        next
    }

    /// [`pop`](Self::pop), when there is one.
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Waiting> {
        let mut state = self.state.lock();
        let next = state.next();
        self.common.waiting(state.waiting.len());
        if let Some(waiting) = next {
            return Poll::Ready(waiting);
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    fn next(&mut self) -> Option<Waiting> {
        loop {
            let next = self.waiting.pop_front()?;
            if !next.reply.is_closed() {
                return Some(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> http::Request<Ahead> {
        http::Request::new(Ahead::empty())
    }

    #[test]
    fn a_full_queue_makes_room_where_nobody_waits() {
        let queue = Queue::default();
        let mut all: Vec<_> = (0..WAITING).map(|_| queue.push(request(), "")).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(queue.push(request(), "").is_none());
        all[7] = None;
        let (ticket, _said) = queue.push(request(), "last").expect("one has gone");
        assert!(queue.withdraw(ticket));
        assert!(!queue.withdraw(ticket), "it waits no more");
    }

    #[test]
    fn who_waits_is_taken_in_order_and_who_has_gone_is_not() {
        let queue = Queue::default();
        let first = queue.push(request(), "first");
        let second = queue.push(request(), "second");
        let third = queue.push(request(), "third");
        drop(second);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|next| next.corr_id).collect();
        assert_eq!(order, ["first", "third"]);
        drop((first, third));
    }
}
