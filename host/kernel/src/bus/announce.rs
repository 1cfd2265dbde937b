//! How overflow is announced: beside the ring, seldom, and to all.
//!
//! The announcement lies in a slot, newest only, and has a number; a
//! subscription knows the number of the last one it saw, so looking for news is
//! one load. What wakes a waiting subscription for it is a waker that the
//! subscription keeps here, not a second channel to wait on: that one would be
//! joined and left again for every event there is, for the sake of one in five
//! seconds.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ANNOUNCE_EVERY;
use crate::crash::CrashReason;
use crate::event::{BUS_OVERFLOW, KernelEvent};

/// The announcements of one bus.
pub(super) struct Announcer<T> {
    throttle: Mutex<Throttle>,
    /// Whether `throttle` holds losses that were not announced yet.
    owed: AtomicBool,
    /// The newest announcement.
    slot: Mutex<Option<T>>,
    /// The number of the one in `slot`, written while that is locked.
    number: AtomicU64,
    bells: Mutex<Bells>,
}

/// What wakes each subscription that waits.
#[derive(Default)]
struct Bells {
    next: u64,
    by_id: HashMap<u64, Arc<AtomicWaker>>,
}

impl<T> Announcer<T> {
    pub(super) fn new() -> Self {
        Self {
            throttle: Mutex::default(),
            owed: AtomicBool::new(false),
            slot: Mutex::new(None),
            number: AtomicU64::new(0),
            bells: Mutex::default(),
        }
    }

    /// A waker for one more subscription, and the id to give it back by.
    pub(super) fn join(&self) -> (u64, Arc<AtomicWaker>) {
        let bell = Arc::new(AtomicWaker::new());
        let mut bells = self.bells.lock();
        bells.next += 1;
        let id = bells.next;
        bells.by_id.insert(id, Arc::clone(&bell));
        (id, bell)
    }

    pub(super) fn leave(&self, id: u64) {
        self.bells.lock().by_id.remove(&id);
    }

    /// The number of the newest announcement; 0 before the first.
    #[inline]
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }
}

impl<T: Clone + Send + 'static> Announcer<T> {
    /// The newest announcement and its number.
    pub(super) fn newest(&self) -> (u64, Option<T>) {
        let slot = self.slot.lock();
        // Under the lock, so that the two belong together.
        (self.number(), slot.clone())
    }

    /// Some subscription noticed that it lost `missed` events. Only a bus of
    /// [`KernelEvent`] has a word for that; on any other nothing is announced.
    pub(super) fn lost(&self, missed: u64) {
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
        let due = {
            let mut throttle = self.throttle.lock();
            let due = throttle.lost(missed, Instant::now());
            self.owed.store(throttle.owes(), Ordering::Relaxed);
            due
        };
        let Some(dropped) = due else { return };
        let event = KernelEvent::ServiceCrashed {
            service: BUS_OVERFLOW.to_owned(),
            reason: CrashReason::BusOverflow { dropped },
        };
        // A downcast, so that `T` needs no trait: any event can have a bus.
        let Some(event) = (&event as &dyn Any).downcast_ref::<T>().cloned() else { return };
        {
            let mut slot = self.slot.lock();
            *slot = Some(event);
            self.number.fetch_add(1, Ordering::Release);
        }
        let bells: Vec<_> = self.bells.lock().by_id.values().cloned().collect();
        // Outside the lock: waking runs code of whoever waits.
        bells.iter().for_each(|bell| bell.wake());
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
