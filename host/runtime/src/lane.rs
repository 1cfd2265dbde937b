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
        LanePlace { lane: self.clone(), permit: Arc::default() }
    }
}

/// One store's permit to go on, while it has one.
#[derive(Clone, Debug)]
pub(crate) struct LanePlace {
    lane: HogLane,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl LanePlace {
    /// The future of a guest that reached a tick.
    pub(crate) fn queue(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let place = self.clone();
        Box::pin(async move {
            place.leave();
            // An uncontended permit would be had without ever going back to
            // the scheduler, whose timers and sockets need a look too.
            reschedule().await;
            // The semaphore is never closed.
            let permit = Arc::clone(&place.lane.0).acquire_owned().await.ok();
            *place.permit.lock() = permit;
        })
    }

    /// Gives the permit back. At the end of a call, for a short call that
    /// straddled a tick would keep the lane from others otherwise.
    pub(crate) fn leave(&self) {
        self.permit.lock().take();
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
