//! The kernel's event bus: lossy broadcast, with every loss counted and announced.
//!
//! The ring is [`tokio::sync::broadcast`]: a publisher never waits for a slow
//! subscriber, the oldest event is overwritten instead. Two things are added to
//! it, and neither is on the path of [`Bus::publish`]:
//!
//! * **Counts.** A subscription that missed events counts *how many*, where it
//!   notices, under its own name. Nothing is fed by a subscription, which could
//!   itself lose what it should count. See [`BusStats`].
//! * **The announcement.** Subscribers of [`KernelEvent`] learn of the loss by
//!   `ServiceCrashed { service: "bus-overflow", .. }`. Publishing it into the
//!   ring was rejected: in a ring that overflows it displaces one more event,
//!   and a subscriber that is slow enough lags over announcements of its own
//!   lag for ever. It lies in a side slot instead, newest only, which every
//!   subscription looks at next to the ring: it takes no place in the ring, is
//!   never counted as lag, and so cannot cause the next one.
//!
//! Waiting with a filter or a timeout goes on through lag. Ending such a wait at
//! the first lost event was rejected: under load, when lag is normal, a wait of
//! five seconds would last as long as it takes the ring to turn once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::{self, error as ring};

use crate::event::KernelEvent;

mod announce;
mod error;
mod lag;
#[cfg(test)]
mod tests;

use announce::{Announcements, Announcer};
pub use error::{Closed, RecvError, RecvTimeoutError, TryRecvError};
pub(crate) use lag::Ledger;
pub use lag::{BusStats, MAX_NAMES, OTHER};

/// Overflow is announced at most once in this time.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);

/// The name that [`Bus::subscribe`] gives.
pub const ANONYMOUS: &str = "anonymous";

/// A broadcast channel of events: every subscriber gets every event, unless it
/// is too slow.
///
/// Clones are handles of the same bus. It closes when the last is dropped.
pub struct Bus<T = KernelEvent> {
    ring: broadcast::Sender<T>,
    shared: Arc<Shared>,
}

/// What subscriptions need of their bus. It holds no sender of the ring, so a
/// subscription does not keep its own bus open.
struct Shared {
    ledger: Arc<Ledger>,
    /// How many events the ring holds: the capacity, rounded up.
    capacity: u64,
    announcer: Announcer,
}

impl Bus {
    /// The kernel's capacity, in events.
    pub const DEFAULT_CAPACITY: usize = 4096;
}

impl<T: Clone + Send + 'static> Bus<T> {
    /// A bus that holds `capacity` events for a slow subscriber.
    ///
    /// The ring's size is a power of two, so `capacity` is rounded up to the
    /// next one: a bus of 1,000 loses its first event when 1,024 are waiting. 0
    /// is treated as 1. All slots are allocated here, and none later.
    ///
    /// # Panics
    ///
    /// When there is no memory for so many slots.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            ring: broadcast::Sender::new(capacity),
            shared: Arc::new(Shared {
                ledger: Arc::default(),
                capacity: capacity.next_power_of_two() as u64,
                announcer: Announcer::new(),
            }),
        }
    }

    /// Give `event` to every subscriber there is now, and return to how many.
    ///
    /// Never blocks and never fails. With nobody subscribed the event is gone,
    /// and the answer is 0. A subscriber that is more than the capacity behind
    /// loses its oldest event and is still counted here: what it lost is in
    /// [`stats`](Self::stats), once it notices.
    #[inline]
    pub fn publish(&self, event: T) -> usize {
        self.ring.send(event).unwrap_or(0)
    }

    /// Receive what is published from now on, under the name `anonymous`.
    pub fn subscribe(&self) -> Subscription<T> {
        self.subscribe_as(ANONYMOUS)
    }

    /// Receive what is published from now on. Losses are counted under `name`,
    /// the `service` label of `bus_lagged_total`.
    ///
    /// Names must be a small set, such as those of services: past
    /// [`MAX_NAMES`] distinct ones the rest is counted together as `other`.
    pub fn subscribe_as(&self, name: impl Into<String>) -> Subscription<T> {
        Subscription {
            ring: self.ring.subscribe(),
            announcements: self.shared.announcer.listen(),
            busy: false,
            counter: self.shared.ledger.counter(&name.into()),
            shared: Arc::clone(&self.shared),
            lagged: 0,
        }
    }

    /// What subscribers lost so far.
    #[must_use]
    pub fn stats(&self) -> BusStats {
        self.shared.ledger.stats()
    }

    /// The counters by themselves: reading them does not keep the bus open.
    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.shared.ledger)
    }
}

impl<T> Clone for Bus<T> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl Default for Bus {
    /// A bus of [`Bus::DEFAULT_CAPACITY`].
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

impl<T> fmt::Debug for Bus<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("capacity", &self.shared.capacity)
            .field("subscribers", &self.ring.receiver_count())
            .finish_non_exhaustive()
    }
}

/// One subscriber's place in a [`Bus`].
///
/// Dropped while behind, it counts what was already overwritten unread; what
/// still lay in the ring was not lost but no longer wanted, and is not counted.
/// Counts stay when the subscription is gone. One that is alive and never
/// receives notices nothing, and so counts nothing until it does.
pub struct Subscription<T = KernelEvent> {
    ring: broadcast::Receiver<T>,
    shared: Arc<Shared>,
    announcements: Announcements,
    /// Whether the ring held something when it was last looked at: which of two
    /// ways to look is the cheaper one next time.
    busy: bool,
    counter: Arc<AtomicU64>,
    lagged: u64,
}

impl<T: Clone + Send + 'static> Subscription<T> {
    /// The next event, waiting for it.
    ///
    /// Cancel safe: a future that is dropped has taken nothing. Takes part in
    /// tokio's cooperative scheduling, so a busy bus does not starve the
    /// subscriber's neighbours.
    ///
    /// # Errors
    ///
    /// [`RecvError::Lagged`] with the number of events that this subscription
    /// lost since it last received; the next call goes on with the oldest that
    /// is left. [`RecvError::Closed`] when every [`Bus`] handle is gone and all
    /// events were received.
    pub async fn recv(&mut self) -> Result<T, RecvError> {
        // To try costs less than to wait where there is something, and comes on
        // top of waiting where there is nothing.
        if self.busy {
            // What `broadcast` does in its own `recv`, which is not called.
            tokio::task::coop::consume_budget().await;
            match self.try_recv() {
                Err(TryRecvError::Empty) => self.busy = false,
                Ok(event) => return Ok(event),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
            }
        }
        self.wait().await
    }

    async fn wait(&mut self) -> Result<T, RecvError> {
        self.busy = true;
        loop {
            if let Some(event) = self.announced() {
                return Ok(event);
            }
            let received = tokio::select! {
                biased;
                received = self.ring.recv() => received,
                () = async {
                    self.busy = false;
                    self.shared.announcer.settle();
                    self.announcements.wait().await;
                } => continue,
            };
            return received.map_err(|error| match error {
                ring::RecvError::Closed => RecvError::Closed,
                ring::RecvError::Lagged(missed) => {
                    self.noticed(missed);
                    RecvError::Lagged(missed)
                }
            });
        }
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when there is none; else as [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        // First, because a subscriber that is always behind never finds the
        // ring empty. One load that nobody writes to, short of an overflow.
        if let Some(event) = self.announced() {
            return Ok(event);
        }
        match self.ring.try_recv() {
            Ok(event) => Ok(event),
            Err(error) => self.not_received(error),
        }
    }

    /// Apart, so that what is inlined where events are received stays small.
    #[cold]
    fn not_received(&mut self, error: ring::TryRecvError) -> Result<T, TryRecvError> {
        match error {
            ring::TryRecvError::Empty => {
                self.shared.announcer.settle();
                self.announced().ok_or(TryRecvError::Empty)
            }
            ring::TryRecvError::Lagged(missed) => {
                self.noticed(missed);
                Err(TryRecvError::Lagged(missed))
            }
            ring::TryRecvError::Closed => Err(TryRecvError::Closed),
        }
    }

    /// The next event, waiting for it no longer than `timeout`.
    ///
    /// Lag does not end the wait and does not prolong it; it shows in
    /// [`lagged`](Self::lagged). With a timeout of zero, an event that is there
    /// already is still received. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`], or [`RecvTimeoutError::Closed`] as in
    /// [`recv`](Self::recv).
    pub async fn recv_with_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match tokio::time::timeout(timeout, self.recv_matching(|_| true)).await {
            Ok(received) => received.map_err(|Closed| RecvTimeoutError::Closed),
            Err(_elapsed) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// The next event for which `predicate` holds, waiting for it; those before
    /// it are received and discarded.
    ///
    /// Lag does not end the wait: it shows in [`lagged`](Self::lagged), and the
    /// event awaited may have been among the lost. There is no timeout here;
    /// wrap it in `tokio::time::timeout`. Cancelling loses nothing but what
    /// `predicate` refused.
    ///
    /// # Errors
    ///
    /// [`Closed`] when every [`Bus`] handle is gone and no event is left.
    pub async fn recv_matching(
        &mut self,
        mut predicate: impl FnMut(&T) -> bool,
    ) -> Result<T, Closed> {
        loop {
            match self.recv().await {
                Ok(event) if predicate(&event) => return Ok(event),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(Closed),
            }
        }
    }

    /// How many events this subscription lost in all.
    #[must_use]
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    fn noticed(&mut self, missed: u64) {
        self.lagged += missed;
        self.counter.fetch_add(missed, Ordering::Relaxed);
        self.shared.announcer.lost::<T>(missed);
    }

    /// The newest announcement, if it was not received yet.
    #[inline]
    fn announced(&mut self) -> Option<T> {
        if self.announcements.news() { self.announcements.take() } else { None }
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let overwritten = (self.ring.len() as u64).saturating_sub(self.shared.capacity);
        // Counted and not announced: an announcement is made where events are
        // received, and `bus_overflow_dropped_total` has it in any case.
        self.counter.fetch_add(overwritten, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("lagged", &self.lagged).finish_non_exhaustive()
    }
}
