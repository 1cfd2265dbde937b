//! Requests that wait for their turn at a service with a state.
//!
//! The queue is the gate's, as a mailbox is the host's, and no incarnation's: a
//! request that waits outlives a crash, and after a cut the new version answers it.
//! Replicas take from the same queue, whoever is free first. Clients take turns: one that
//! asks for much waits behind itself, and not the others behind it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::body::Ahead;
use super::common::{Common, Shared};
use super::{Client, Response, Unanswered};

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
    Again(Box<http::Request<Ahead>>),
}

/// See this module's header.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    tickets: AtomicU64,
    pub(super) shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    waiting: Turns<Waiting>,
    /// Who found nothing: at most one for each replica's task.
    wakers: Vec<Waker>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.state.lock().waiting.len()).finish()
    }
}

impl Queue {
    /// What a request of that client has in common with all others.
    pub(super) fn common(&self, client: Client) -> Common {
        Common::new(&self.shared, client)
    }

    /// Has a request of a client wait, unless too many do.
    pub(super) fn push(
        &self,
        client: Client,
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
        let common = self.common(client);
        state.waiting.push(client, Waiting { request, corr_id, reply, common, ticket });
        self.shared.waiting(state.waiting.len());
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
        self.shared.waiting(state.waiting.len());
        state.waiting.len() < before
    }

    /// The next request that somebody still waits for.
    pub(super) fn pop(&self) -> Option<Waiting> {
        let mut state = self.state.lock();
        let next = state.next();
        self.shared.waiting(state.waiting.len());
        next
    }

    /// [`pop`](Self::pop), when there is one.
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Waiting> {
        let mut state = self.state.lock();
        let next = state.next();
        self.shared.waiting(state.waiting.len());
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
            let next = self.waiting.pop()?;
            if !next.reply.is_closed() {
                return Some(next);
            }
        }
    }
}

/// What waits, of each client in the order in which it came, and of all clients in turn.
struct Turns<T> {
    /// Those who wait for something, whose turn is next first.
    clients: VecDeque<Client>,
    /// What each of them waits for.
    of: HashMap<Client, VecDeque<T>>,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { clients: VecDeque::new(), of: HashMap::new(), len: 0 }
    }
}

impl<T> Turns<T> {
    fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, client: Client, one: T) {
        let own = self.of.entry(client).or_default();
        if own.is_empty() {
            self.clients.push_back(client);
        }
        own.push_back(one);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let client = self.clients.pop_front()?;
        let own = self.of.get_mut(&client)?;
        let next = own.pop_front()?;
        self.len -= 1;
        if own.is_empty() {
            self.of.remove(&client);
        } else {
            self.clients.push_back(client);
        }
        Some(next)
    }

    fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        self.of.retain(|_, own| {
            own.retain(&stays);
            !own.is_empty()
        });
        self.clients.retain(|client| self.of.contains_key(client));
        self.len = self.of.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::common::UNKNOWN;
    use super::*;

    fn request() -> http::Request<Ahead> {
        http::Request::new(Ahead::empty())
    }

    #[test]
    fn a_full_queue_makes_room_where_nobody_waits() {
        let queue = Queue::default();
        let push = |corr_id| queue.push(UNKNOWN, request(), corr_id);
        let mut all: Vec<_> = (0..WAITING).map(|_| push("")).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(push("").is_none());
        all[7] = None;
        let (ticket, _said) = push("last").expect("one has gone");
        assert!(queue.withdraw(ticket));
        assert!(!queue.withdraw(ticket), "it waits no more");
    }

    #[test]
    fn who_waits_is_taken_in_order_and_who_has_gone_is_not() {
        let queue = Queue::default();
        let push = |corr_id| queue.push(UNKNOWN, request(), corr_id);
        let (first, second, third) = (push("first"), push("second"), push("third"));
        drop(second);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|next| next.corr_id).collect();
        assert_eq!(order, ["first", "third"]);
        drop((first, third));
    }

    #[test]
    fn clients_take_turns() {
        let client = |last| Client(std::net::Ipv4Addr::new(192, 0, 2, last).into());
        let mut turns = Turns::default();
        for (of, what) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            turns.push(client(of), what);
        }
        assert_eq!((turns.pop(), turns.len()), (Some("a1"), 5));
        turns.retain(|what| *what != "c1");
        turns.push(client(3), "c2");
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, ["b1", "a2", "c2", "b2", "a3"]);
        assert_eq!((turns.len(), turns.of.len(), turns.clients.len()), (0, 0, 0));
    }
}
