//! What came of messages, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::control::wire::{Latency, Percentile};

/// Longest time that is told apart from longer ones, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;
/// Digits of a time that count.
const DIGITS: u8 = 3;
/// Of the percentiles that are told.
const PERCENTILES: [f64; 9] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999, 100.0];

/// For several tasks, or all.
#[derive(Debug)]
pub(super) struct Tally {
    /// Answered, or taken in by mailboxes.
    pub(super) done: u64,
    /// Mailboxes that took messages in.
    pub(super) delivered: u64,
    pub(super) errors: BTreeMap<&'static str, u64>,
    pub(super) latency: Histogram<u64>,
    /// How late messages were sent, for whatever reason.
    pub(super) late: Histogram<u64>,
    /// Due and never sent.
    pub(super) missed: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are in their order")
        };
        Self {
            done: 0,
            delivered: 0,
            errors: BTreeMap::new(),
            latency: histogram(),
            late: histogram(),
            missed: 0,
        }
    }

    pub(super) fn done(&mut self, delivered: u32, took: Duration) {
        self.done += 1;
        self.delivered += u64::from(delivered);
        self.latency.saturating_record(nanos(took));
    }

    pub(super) fn failed(&mut self, label: &'static str) {
        *self.errors.entry(label).or_default() += 1;
    }

    pub(super) fn was_late(&mut self, by: Duration) {
        self.late.saturating_record(nanos(by));
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.delivered += other.delivered;
        self.missed += other.missed;
        for (label, count) in &other.errors {
            *self.errors.entry(label).or_default() += count;
        }
        for (own, other) in [(&mut self.latency, &other.latency), (&mut self.late, &other.late)] {
            own.add(other).expect("all have the same bounds");
        }
    }

    fn clear(&mut self) {
        (self.done, self.delivered, self.missed) = (0, 0, 0);
        self.errors.clear();
        self.latency.reset();
        self.late.reset();
    }

    /// What all of these have counted since they were taken last.
    pub(super) fn take(all: &[Mutex<Self>]) -> Self {
        let mut sum = Self::new();
        for one in all {
            let mut one = one.lock();
            sum.add(&one);
            one.clear();
        }
        sum
    }

    /// With what was counted later.
    pub(super) fn and(&mut self, later: &Self) {
        self.add(later);
    }
}

/// Times as they are told, in microseconds.
pub(super) fn told(histogram: &Histogram<u64>) -> Option<Latency> {
    if histogram.is_empty() {
        return None;
    }
    let us = |nanos: f64| nanos / 1e3;
    let percentiles = PERCENTILES.map(|percentile| {
        let value = histogram.value_at_percentile(percentile);
        // Those that took longer than what cannot be told apart from it.
        let highest = histogram.highest_equivalent(value);
        let up_to = histogram.count_between(0, highest);
        Percentile { percentile, us: us(value as f64), beyond: histogram.len() - up_to }
    });
    Some(Latency {
        min_us: us(histogram.min() as f64),
        mean_us: us(histogram.mean()),
        stdev_us: us(histogram.stdev()),
        max_us: us(histogram.max() as f64),
        percentiles: percentiles.into(),
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_are_taken_together() {
        let all = [Mutex::new(Tally::new()), Mutex::new(Tally::new())];
        for n in 1..=1000 {
            all[n % 2].lock().done(2, Duration::from_micros(n as u64));
        }
        all[0].lock().failed("timeout");
        all[1].lock().failed("timeout");
        all[1].lock().was_late(Duration::from_millis(1));
        let sum = Tally::take(&all);
        assert_eq!((sum.done, sum.delivered, sum.errors["timeout"]), (1000, 2000, 2));
        assert_eq!((sum.late.len(), Tally::take(&all).done), (1, 0));
        let latency = told(&sum.latency).expect("there are some");
        let at = |percentile: f64| {
            let found = latency.percentiles.iter().find(|own| own.percentile == percentile);
            let found = found.expect("it is told");
            (found.us.round(), found.beyond)
        };
        assert_eq!(at(50.0).0, 500.0);
        assert_eq!(at(99.0).0, 990.0);
        assert_eq!(at(100.0), (1000.0, 0));
        assert_eq!(latency.min_us.round(), 1.0);
        assert!(told(&Tally::new().latency).is_none());
    }
}
