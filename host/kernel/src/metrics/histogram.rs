//! Histograms that are kept here, and the bounds of every histogram there is.
//!
//! Not `prometheus`' own: that one cannot be made without a name and a help
//! text, and counts with atomics what here is under its table's lock anyway.

use std::borrow::Cow;

use prometheus::proto::Histogram;

/// Upper bounds of `request_latency_seconds` and of all that is in seconds: 100 µs
/// to 10 s.
pub(super) const LATENCY: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The values that a histogram observed, by size.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [f64],
    /// One a bound, not cumulative; what is over the last is in `count` alone.
    counts: Box<[u64]>,
    sum: f64,
    count: u64,
}

impl Buckets {
    /// No values yet, with the bounds that suit a metric of this name.
    pub(super) fn of(name: &str) -> Self {
        Self::with(bounds(name))
    }

    /// No values yet, with these bounds.
    pub(super) fn with(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()].into(), sum: 0.0, count: 0 }
    }

    pub(super) fn observe(&mut self, value: f64) {
        // The first bound that is not below it: `le` includes its bound.
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        // Two large values can be infinite together; the sum stays a number.
        self.sum = (self.sum + value).min(f64::MAX);
        self.count += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        let mut sum = 0;
        let cumulative = self.counts.iter().map(|count| {
            sum += count;
            sum
        });
        Counts {
            bounds: self.bounds.into(),
            cumulative: cumulative.collect(),
            sum: self.sum,
            count: self.count,
        }
    }
}

/// What a histogram shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counts {
    pub(super) bounds: Cow<'static, [f64]>,
    /// One a bound: of all values up to it.
    pub(super) cumulative: Vec<u64>,
    pub(super) sum: f64,
    pub(super) count: u64,
}

impl Counts {
    /// What a registry's histogram shows.
    pub(super) fn of(histogram: &Histogram) -> Self {
        let buckets = histogram.get_bucket();
        Self {
            bounds: buckets.iter().map(|bucket| bucket.upper_bound()).collect(),
            cumulative: buckets.iter().map(|bucket| bucket.cumulative_count()).collect(),
            sum: histogram.get_sample_sum(),
            count: histogram.get_sample_count(),
        }
    }

    /// Nothing, with the same bounds.
    pub(super) fn none(&self) -> Self {
        let cumulative = vec![0; self.cumulative.len()];
        Self { bounds: self.bounds.clone(), cumulative, sum: 0.0, count: 0 }
    }

    /// What another shows besides. One with other bounds is in the sum and the count alone.
    pub(super) fn add(&mut self, other: &Self) {
        if self.bounds == other.bounds {
            for (own, other) in self.cumulative.iter_mut().zip(&other.cumulative) {
                *own += other;
            }
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    /// What there was `before` and is not in `now`.
    pub(super) fn lose(&mut self, before: &Self, now: &Self) {
        let lost = before.cumulative.iter().zip(&now.cumulative);
        for (own, (before, now)) in self.cumulative.iter_mut().zip(lost) {
            *own += before.saturating_sub(*now);
        }
        self.sum += (before.sum - now.sum).max(0.0);
        self.count += before.count.saturating_sub(now.count);
    }

    #[cfg(test)]
    pub(super) fn empty(bounds: &'static [f64]) -> Self {
        Buckets::with(bounds).counts()
    }

    #[cfg(test)]
    pub(super) fn observe(&mut self, value: f64) {
        let bounds = self.bounds.iter().zip(&mut self.cumulative);
        bounds.filter(|(bound, _)| value <= **bound).for_each(|(_, count)| *count += 1);
        self.sum += value;
        self.count += 1;
    }
}

fn bounds(name: &str) -> &'static [f64] {
    const BYTES: &[f64] = &[
        64.0,
        256.0,
        1024.0,
        4096.0,
        16_384.0,
        65_536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
    ];
    const DECADES: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
    if name.ends_with("_seconds") {
        LATENCY
    } else if name.ends_with("_bytes") {
        BYTES
    } else {
        DECADES
    }
}
