//! A histogram that a service fills, and the bounds of every histogram there is.
//!
//! Not `prometheus`' own: that one cannot be made without a name and a help
//! text, and counts with atomics what here is under its table's lock anyway.

use prometheus::proto::{Bucket, Histogram};

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
        let bounds = bounds(name);
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

    pub(super) fn histogram(&self) -> Histogram {
        let mut cumulative = 0;
        let buckets = self.bounds.iter().zip(&self.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_sum(self.sum);
        histogram.set_sample_count(self.count);
        histogram
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
