//! What a bus lost, counted by subscriber.
//!
//! The counters are apart from the bus and know nothing of its event type, so
//! metrics read them at a scrape without a subscription and without keeping the
//! bus open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

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
    pub(crate) fn counter(&self, name: &str) -> Arc<AtomicU64> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
