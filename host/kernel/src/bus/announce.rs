//! How overflow is announced: beside the ring, seldom, and to all.
//!
//! The announcement lies in a [`watch`] channel, newest only, so looking for news
//! is one load. What lies there is the number of events that were lost, and who
//! receives it makes the event: a bus of any other type has this channel too, and
//! nothing ever in it.

use std::any::{Any, TypeId};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ANNOUNCE_EVERY;
use crate::crash::CrashReason;
use crate::event::{BUS_OVERFLOW, KernelEvent};

/// The announcements of one bus.
pub(super) struct Announcer {
    throttle: Mutex<Throttle>,
    /// Whether `throttle` holds losses that were not announced yet. A hint, which
    /// orders nothing: who reads it too early leaves them to the next one.
    owed: AtomicBool,
    /// How many were lost, as of the newest announcement.
    dropped: watch::Sender<u64>,
}

impl Announcer {
    pub(super) fn new() -> Self {
        Self {
            throttle: Mutex::default(),
            owed: AtomicBool::new(false),
            dropped: watch::Sender::new(0),
        }
    }

    /// What is announced from now on.
    pub(super) fn listen(&self) -> Announcements {
        Announcements(self.dropped.subscribe())
    }

    /// Some subscription of a `Bus<T>` noticed that it lost `missed` events. Only
    /// a bus of [`KernelEvent`] has a word for that; on any other nothing is
    /// announced.
    pub(super) fn lost<T: 'static>(&self, missed: u64) {
        if TypeId::of::<T>() == TypeId::of::<KernelEvent>() {
            self.announce(missed);
        }
    }

    /// Announce what was left unannounced, if its time has come. Cheap when
    /// nothing was: that is every call but the few after an overflow.
    pub(super) fn settle(&self) {
        if self.owed.load(Ordering::Relaxed) {
            self.announce(0);
        }
    }

    fn announce(&self, missed: u64) {
        let mut throttle = self.throttle.lock();
        let due = throttle.lost(missed, Instant::now());
        self.owed.store(throttle.owes(), Ordering::Relaxed);
        drop(throttle);
        if let Some(dropped) = due {
            self.dropped.send_replace(dropped);
        }
    }
}

/// The announcements that one subscription did not receive yet; the newest alone.
pub(super) struct Announcements(watch::Receiver<u64>);

impl Announcements {
    /// Whether there is one.
    #[inline]
    pub(super) fn news(&self) -> bool {
        // The subscription holds the bus' announcer, so it never closes.
        self.0.has_changed().unwrap_or(false)
    }

    /// Waits until there is one, and receives nothing.
    pub(super) async fn wait(&mut self) {
        if self.0.changed().await.is_ok() {
            self.0.mark_changed();
        }
    }

    /// Receives the newest.
    #[cold]
    pub(super) fn take<T: Clone + 'static>(&mut self) -> Option<T> {
        let dropped = *self.0.borrow_and_update();
        let event = KernelEvent::ServiceCrashed {
            service: BUS_OVERFLOW.to_owned(),
            reason: CrashReason::BusOverflow { dropped },
        };
        // A downcast, so that `T` needs no trait: any event can have a bus.
        (&event as &dyn Any).downcast_ref::<T>().cloned()
    }
}

/// Decides when losses are announced: the first at once, then no sooner than
/// [`ANNOUNCE_EVERY`] after the one before, with all that was lost between.
///
/// What is left when losses end is announced after that time too, when a
/// subscription next notices a loss or finds nothing to receive. There is no
/// timer for it: on a bus where nothing moves at all it waits, and the counters
/// have it meanwhile.
#[derive(Debug, Default)]
struct Throttle {
    last: Option<Instant>,
    pending: u64,
}

impl Throttle {
    /// Take note of `missed` more events, and say how many to announce now.
    fn lost(&mut self, missed: u64, now: Instant) -> Option<u64> {
        self.pending = self.pending.saturating_add(missed);
        let open = self.last.is_none_or(|last| now.duration_since(last) >= ANNOUNCE_EVERY);
        if !open || self.pending == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.pending))
    }

    /// Whether losses wait to be announced.
    fn owes(&self) -> bool {
        self.pending > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn throttle_announces_at_once_then_carries_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut throttle = Throttle::default();
        assert_eq!(throttle.lost(0, at(0)), None, "nothing lost, nothing announced");
        assert_eq!(throttle.lost(3, at(0)), Some(3));
        assert_eq!(throttle.lost(4, at(1)), None);
        assert!(throttle.owes());
        assert_eq!(throttle.lost(5, at(4)), None);
        assert_eq!(throttle.lost(6, at(5)), Some(15), "all since the last announcement");
        assert!(!throttle.owes());
        assert_eq!(throttle.lost(7, at(6)), None, "counted from the last one announced");
        assert_eq!(throttle.lost(0, at(11)), Some(7), "the trailing one");
        assert_eq!(throttle.lost(0, at(60)), None);
    }
}
