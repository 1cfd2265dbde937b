//! The hog lane: guests that burn whole ticks share fewer workers than there
//! are, so that short calls never wait for a long one.
//!
//! A guest that computes through a tick goes into the lane: it yields, and goes
//! on only with one of `workers - 1` permits, first come first served. With
//! every further tick it gives the permit back and takes its place at the end
//! of the queue. One worker is therefore always free for what is short. The
//! figures that chose this over a plain yield are in the benches' `starve`
//! group: with a hundred runaways a plain yield delays host timers by tens of
//! milliseconds.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lane of one runtime.
#[derive(Clone, Debug)]
pub(crate) struct HogLane(Arc<Semaphore>);

impl HogLane {
    /// A lane that leaves one of `workers` free; of a single one, none is.
    pub(crate) fn new(workers: usize) -> Self {
        Self(Arc::new(Semaphore::new(workers.saturating_sub(1).max(1))))
    }

    /// A place for one store's calls.
    pub(crate) fn place(&self) -> LanePlace {
        LanePlace { lane: self.clone(), stand: Arc::default(), parked: Arc::default() }
    }
}

/// One store's permit to go on, while it has one.
#[derive(Clone, Debug)]
pub(crate) struct LanePlace {
    lane: HogLane,
    stand: Arc<Mutex<Stand>>,
    parked: Arc<AtomicBool>,
}

/// Where a store's call stands with the lane.
#[derive(Debug, Default)]
enum Stand {
    /// It needs no permit.
    #[default]
    Outside,
    /// It waited for something since it was looked at last: what it burned before
    /// says nothing of it now.
    Rested,
    /// It waits for a permit.
    Queued,
    /// It goes on; `None` only where the semaphore is closed, which it never is.
    Inside(#[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>),
}

impl LanePlace {
    /// The future of a guest that reached a tick.
    pub(crate) fn queue(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let place = self.clone();
        Box::pin(async move {
            *place.stand.lock() = Stand::Queued;
            // An uncontended permit would be had without ever going back to
            // the scheduler, whose timers and sockets need a look too.
            reschedule().await;
            let permit = place.permit().await;
            *place.stand.lock() = Stand::Inside(permit);
        })
    }

    /// Waits for a permit, and for as long as the call is parked for none.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut waiting = None;
        poll_fn(|cx| {
            if self.parked.load(Ordering::Relaxed) {
                waiting = None;
                return Poll::Pending;
            }
            let lane = Arc::clone(&self.lane.0);
            waiting.get_or_insert_with(|| Box::pin(lane.acquire_owned())).as_mut().poll(cx)
        })
        .await
        .ok()
    }

    /// Whether the call stands still for a while: then it is out of the queue when it
    /// is polled the next time, and in it again when it is polled after that. A permit
    /// that came to one whom nobody polls would be lost to all others.
    pub(crate) fn park(&self, parked: bool) {
        self.parked.store(parked, Ordering::Relaxed);
    }

    /// Gives the permit back. At the end of a call, for a short call that
    /// straddled a tick would keep the lane from others otherwise.
    pub(crate) fn leave(&self) {
        *self.stand.lock() = Stand::Outside;
    }

    /// The call waits for something outside of itself, and goes back to the
    /// scheduler. A call that may go on for days must not take a permit along into
    /// an hour's sleep; one that waits for its permit is not meant.
    pub(crate) fn rest(&self) {
        let mut stand = self.stand.lock();
        if !matches!(*stand, Stand::Queued) {
            *stand = Stand::Rested;
        }
    }

    /// Whether the call has [rested](Self::rest) since this was asked last.
    pub(crate) fn has_rested(&self) -> bool {
        let mut stand = self.stand.lock();
        let rested = matches!(*stand, Stand::Rested);
        if rested {
            *stand = Stand::Outside;
        }
        rested
    }
}

/// Goes to the end of the run queue, from where any free worker takes it.
///
/// Not `tokio::task::yield_now`: what that defers stays with its worker until
/// the worker has polled a number of other tasks, and where
/// those are hogs each takes a tick. A service that yielded beside a hundred of
/// them came back after 80 ms.
pub(crate) async fn reschedule() {
    let mut again = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut again, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_rests_lets_others_through() {
        let lane = HogLane::new(2);
        let (long, other) = (lane.place(), lane.place());
        long.rest();
        assert!(long.has_rested());
        assert!(!long.has_rested(), "it is told once");
        long.queue().await;
        let mut waits = other.queue();
        // Once for the scheduler, and once for the permit.
        for _ in 0..2 {
            assert!(poll_once(&mut waits).await.is_none(), "there is one permit");
        }
        // Waiting for a permit is no rest.
        other.rest();
        assert!(!other.has_rested());
        long.rest();
        assert!(poll_once(&mut waits).await.is_some());
    }

    #[tokio::test]
    async fn a_call_that_is_parked_takes_no_permit() {
        let lane = HogLane::new(2);
        let (first, parked, last) = (lane.place(), lane.place(), lane.place());
        first.queue().await;
        let (mut stands, mut waits) = (parked.queue(), last.queue());
        for _ in 0..2 {
            assert!(poll_once(&mut stands).await.is_none());
            assert!(poll_once(&mut waits).await.is_none());
        }
        parked.park(true);
        assert!(poll_once(&mut stands).await.is_none());
        first.leave();
        assert!(poll_once(&mut waits).await.is_some(), "its turn comes without the parked one");
        parked.park(false);
        assert!(poll_once(&mut stands).await.is_none());
        last.leave();
        assert!(poll_once(&mut stands).await.is_some());
    }

    /// What one poll brings.
    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *future).poll(cx) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            })
        })
        .await
    }
}
