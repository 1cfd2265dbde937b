//! What one service may use, and who holds it to that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::ResourceLimiter;

/// The limits of one service. Every field has a default that fits a small
/// service; none can be switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory in bytes, summed over all memories of the instance.
    pub memory: u64,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// How long `on-message`, `on-event` and `on-batch` may take, each.
    pub handler_deadline: Duration,
    /// Host resources (streams, pollables, ..) an instance may hold at a time.
    pub resources: usize,
    /// Bytes that one call may have the host allocate for its arguments.
    pub hostcall_bytes: usize,
    /// Bytes of the state that it may hand over in a hot swap.
    pub state_bytes: usize,
    /// Log records a second; ten times as many in a burst.
    pub log_records: u32,
    /// Bytes of one log record; the rest is cut.
    pub log_bytes: usize,
    /// Series of its own metrics.
    pub metric_series: usize,
    /// Messages it may publish a second; a tenth of that in a burst.
    pub publish_rate: u32,
    /// HTTP requests that all of its incarnations together may have under way to
    /// others; one more is refused.
    pub outgoing_requests: usize,
}

impl Default for Limits {
    /// 64 MiB, 20,000 elements, 5 s, 1,024 resources, 16 MiB, 1 MiB, 500
    /// records/s, 16 KiB, 64 series, 2,000,000 messages/s, 256 requests.
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            table_elements: 20_000,
            handler_deadline: Duration::from_secs(5),
            resources: 1024,
            hostcall_bytes: 16 << 20,
            state_bytes: 1 << 20,
            log_records: 500,
            log_bytes: 16 << 10,
            metric_series: 64,
            publish_rate: 2_000_000,
            outgoing_requests: 256,
        }
    }
}

/// Core instances, memories and tables one component may be made of.
const PARTS: usize = 16;

/// Holds an instance's memories and tables to their sums.
///
/// wasmtime's own `StoreLimits` counts each memory for itself, so a component
/// of four memories would get four times its limit.
pub(crate) struct Limiter {
    /// Told of the memory in use with every growth.
    gauge: Box<dyn Fn(u64) + Send + Sync>,
    table_limit: usize,
    memory: Arc<MemoryUse>,
    elements: usize,
}

/// The memory that one instance has in use, for whoever looks on.
#[derive(Debug)]
pub(crate) struct MemoryUse {
    bytes: AtomicU64,
    pub(crate) limit: u64,
    /// Growth was refused in the call at hand.
    refused: AtomicBool,
    /// There was a call.
    called: AtomicBool,
}

impl MemoryUse {
    /// In bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the instance is still being made: what it begins with is too much, if
    /// anything was refused.
    pub(crate) fn is_being_made(&self) -> bool {
        !self.called.load(Ordering::Relaxed)
    }
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, gauge: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let (bytes, refused) = (AtomicU64::new(0), AtomicBool::new(false));
        let called = AtomicBool::new(false);
        Self {
            gauge: Box::new(gauge),
            table_limit: limits.table_elements,
            memory: Arc::new(MemoryUse { bytes, limit: limits.memory, refused, called }),
            elements: 0,
        }
    }

    pub(crate) fn memory(&self) -> &Arc<MemoryUse> {
        &self.memory
    }

    pub(crate) fn begin_call(&mut self) {
        self.memory.refused.store(false, Ordering::Relaxed);
        self.memory.called.store(true, Ordering::Relaxed);
    }

    fn refuse(&self) -> bool {
        self.memory.refused.store(true, Ordering::Relaxed);
        false
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.bytes() + (desired - current) as u64;
        if total > self.memory.limit {
            return Ok(self.refuse());
        }
        // Beyond the memory's own maximum the growth fails without us.
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.memory.bytes.store(total, Ordering::Relaxed);
            (self.gauge)(total);
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.elements + (desired - current);
        if total > self.table_limit {
            return Ok(self.refuse());
        }
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.elements = total;
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

/// So many a second, with room for a burst. Counts in the engine's ticks of a
/// millisecond instead of asking the clock, because a publish cannot afford to.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_tick: u64,
    burst: u64,
    left: u64,
    at: u64,
    /// Not admitted since somebody asked.
    refused: u64,
}

/// Millionths, so that less than one a tick adds up.
const ONE: u64 = 1_000_000;

impl RateLimit {
    /// `per_second`, and up to `burst` at once.
    pub(crate) fn new(per_second: u32, burst: u32, now: u64) -> Self {
        let burst = u64::from(burst.max(1)) * ONE;
        Self {
            per_tick: u64::from(per_second) * ONE / 1000,
            burst,
            left: burst,
            at: now,
            refused: 0,
        }
    }

    /// Whether one more fits at tick `now`.
    pub(crate) fn admit(&mut self, now: u64) -> bool {
        if now != self.at {
            let ticks = now.saturating_sub(self.at);
            self.left =
                self.left.saturating_add(self.per_tick.saturating_mul(ticks)).min(self.burst);
            self.at = now;
        }
        let admitted = self.left >= ONE;
        if admitted {
            self.left -= ONE;
        } else {
            self.refused += 1;
        }
        admitted
    }

    /// How many were not admitted since this was last asked.
    fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

/// Who keeps count of a rate. A service's instance does for itself, without a
/// lock; instances that one service has many of at a time do together, because
/// otherwise each of them would have the whole service's rate.
#[derive(Debug)]
pub(crate) enum Rate {
    Own(RateLimit),
    Shared(Arc<Mutex<RateLimit>>),
}

impl Rate {
    /// Whether one more fits at tick `now`.
    pub(crate) fn admit(&mut self, now: u64) -> bool {
        match self {
            Self::Own(rate) => rate.admit(now),
            Self::Shared(rate) => rate.lock().admit(now),
        }
    }

    /// How many were not admitted since this was last asked.
    pub(crate) fn take_refused(&mut self) -> u64 {
        match self {
            Self::Own(rate) => rate.take_refused(),
            Self::Shared(rate) => rate.lock().take_refused(),
        }
    }
}

/// The rates of one store.
#[derive(Debug)]
pub(crate) struct Rates {
    pub(crate) publish: Rate,
    pub(crate) log: Rate,
}

impl Rates {
    /// For the one instance of a service.
    pub(crate) fn own(limits: &Limits, now: u64) -> Self {
        Self {
            publish: Rate::Own(publish_rate(limits, now)),
            log: Rate::Own(log_rate(limits, now)),
        }
    }
}

/// The rates that all instances of one incarnation have together.
#[derive(Clone, Debug)]
pub(crate) struct SharedRates {
    publish: Arc<Mutex<RateLimit>>,
    log: Arc<Mutex<RateLimit>>,
}

impl SharedRates {
    pub(crate) fn new(limits: &Limits, now: u64) -> Self {
        let shared = |rate| Arc::new(Mutex::new(rate));
        Self { publish: shared(publish_rate(limits, now)), log: shared(log_rate(limits, now)) }
    }

    /// For one more instance.
    pub(crate) fn rates(&self) -> Rates {
        let shared = |rate| Rate::Shared(Arc::clone(rate));
        Rates { publish: shared(&self.publish), log: shared(&self.log) }
    }
}

fn publish_rate(limits: &Limits, now: u64) -> RateLimit {
    RateLimit::new(limits.publish_rate, limits.publish_rate / 10, now)
}

fn log_rate(limits: &Limits, now: u64) -> RateLimit {
    RateLimit::new(limits.log_records, limits.log_records.saturating_mul(10), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed() {
        let mut limiter = Limiter::new(&Limits { memory: 100, ..Limits::default() }, |_| {});
        let mut grow =
            |current, desired| limiter.memory_growing(current, desired, None).expect("no error");
        assert!(grow(0, 60));
        assert!(grow(0, 40));
        assert!(!grow(60, 61));
        assert!(limiter.memory().refused());
        assert_eq!(limiter.memory().bytes(), 100);
    }

    #[test]
    fn a_rate_has_a_burst_and_fills_again() {
        let mut rate = RateLimit::new(500, 3, 0);
        let admitted = |rate: &mut RateLimit, now| (0..10).take_while(|_| rate.admit(now)).count();
        assert_eq!(admitted(&mut rate, 0), 3);
        assert_eq!(admitted(&mut rate, 1), 0, "half a record a tick");
        assert_eq!(admitted(&mut rate, 2), 1);
        assert_eq!(admitted(&mut rate, 1_000_000), 3);
    }
}
