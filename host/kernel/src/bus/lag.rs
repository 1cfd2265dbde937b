//! What a bus lost: counted by subscriber, and when to announce it.
//!
//! The counters are apart from the bus and know nothing of its event type, so
//! metrics read them at a scrape without a subscription and without keeping the
//! bus open. The throttle is a machine that is given the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ANNOUNCE_EVERY;

/// How many distinct subscriber names a bus counts apart: room for a name each
/// of ten thousand services, and a bound on what a wrong name can cost.
pub const MAX_NAMES: usize = 16_384;

/// The name under which subscribers past [`MAX_NAMES`] are counted together.
pub const OTHER: &str = "other";

/// What the subscribers of a bus lost, by number of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusStats {
    /// The sum over all subscribers: `bus_overflow_dropped_total`.
    pub dropped: u64,
    /// By subscriber name, those that lost nothing included:
    /// `bus_lagged_total{service}`. Subscriptions of one name are added up.
    pub subscribers: BTreeMap<Arc<str>, u64>,
}

/// The counters of one bus.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    names: Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>,
}

impl Ledger {
    /// The counter of `name`, or of `other` when there are too many names.
    pub(super) fn counter(&self, name: &str) -> Arc<AtomicU64> {
        let mut names = self.names.lock();
        if let Some(counter) = names.get(name) {
            return Arc::clone(counter);
        }
        let name = if names.len() < MAX_NAMES { name } else { OTHER };
        Arc::clone(names.entry(name.into()).or_default())
    }

    pub(crate) fn stats(&self) -> BusStats {
        let names = self.names.lock();
        let subscribers: BTreeMap<_, _> = names
            .iter()
            .map(|(name, counter)| (Arc::clone(name), counter.load(Ordering::Relaxed)))
            .collect();
        BusStats { dropped: subscribers.values().sum(), subscribers }
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
pub(super) struct Throttle {
    last: Option<Instant>,
    pending: u64,
}

impl Throttle {
    /// Take note of `missed` more events, and say how many to announce now.
    pub(super) fn lost(&mut self, missed: u64, now: Instant) -> Option<u64> {
        self.pending = self.pending.saturating_add(missed);
        let open = self.last.is_none_or(|last| now.duration_since(last) >= ANNOUNCE_EVERY);
        if !open || self.pending == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.pending))
    }

    /// Whether losses wait to be announced.
    pub(super) fn owes(&self) -> bool {
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

    #[test]
    fn names_past_the_bound_are_counted_together() {
        let ledger = Ledger::default();
        for n in 0..MAX_NAMES + 10 {
            ledger.counter(&format!("s{n}")).fetch_add(1, Ordering::Relaxed);
        }
        ledger.counter("s0").fetch_add(1, Ordering::Relaxed);
        let stats = ledger.stats();
        assert_eq!(stats.subscribers.len(), MAX_NAMES + 1);
        assert_eq!(stats.subscribers["s0"], 2);
        assert_eq!(stats.subscribers[OTHER], 10);
        assert_eq!(stats.dropped, MAX_NAMES as u64 + 11);
    }
}
