//! Metrics: what the host counts, and the one text that shows it all.
//!
//! [`Metrics`] is a value that `main` makes and passes on; there is no global
//! registry, so two hosts in one test process do not see each other. The host's
//! own series are fed at the place where a thing happens, by one call of
//! [`Metrics::observe`] with a closed enum: which labels exist is known by type.
//! What is counted elsewhere already, in a mailbox or a bus, is not counted a
//! second time here but pulled when it is looked at ([`Metrics::pull`],
//! [`Metrics::watch_bus`]); a subscription was rejected for that, as it loses
//! events exactly when the numbers matter. What a service reports of itself is
//! bounded by name, kind and number: see [`ServiceMetrics`].
//!
//! `prometheus` is named in these modules and nowhere else, and no type of it is
//! public. It counts what has few series; see `host.rs` and `families.rs` for the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::Registry;

use crate::bus::{Bus, Ledger};
use crate::health::HealthState;

mod families;
mod histogram;
mod host;
mod name;
mod request;
mod service;

pub use families::{Detail, Family, Kind, Sample};
use families::{Families, Ratchet};
use host::Host;
pub use host::{Observation, RejectReason, ReloadOutcome, RunOutcome, SwapOutcome};
pub use name::MetricError;
pub use request::{HttpMethod, StatusClass};
use service::Reported;
pub use service::{DEFAULT_SERIES_LIMIT, ServiceMetrics};

/// The host's metrics, with the HTTP service that shows them: see
/// [`Metrics::serve`].
///
/// Clones are handles of the same value.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    host: Host,
    reported: Arc<Reported>,
    buses: Mutex<Vec<Arc<Ledger>>>,
    pulls: Mutex<Vec<Arc<Pull>>>,
    detail: Mutex<Detail>,
    ratchet: Mutex<Ratchet>,
    health: HealthState,
    started: Instant,
}

struct Pull {
    families: &'static [Family],
    read: Box<ReadFn>,
}

/// What gives its samples to the function it is called with.
type ReadFn = dyn Fn(&mut dyn FnMut(Sample<'_>)) + Send + Sync;

/// Families that are read at each scrape from where they are counted.
const BUS: &[Family] = &[
    Family::counter("bus_lagged_total", "Events a bus subscriber lost to lag.", &["service"]),
    Family::counter(
        "bus_overflow_dropped_total",
        "Events lost to lag by all bus subscribers.",
        &[],
    ),
];
const OWN: &[Family] = &[
    Family::gauge("ron_build_info", "Always 1; the version is the label.", &["version"]),
    Family::gauge("ron_services", "Services the host knows of.", &[]),
    Family::gauge("ron_services_ready", "Services that are ready.", &[]),
    Family::gauge("ron_uptime_seconds", "Time since the host started.", &[]),
];

impl Metrics {
    /// Metrics of a host that has a [`HealthState`] of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::with_health(HealthState::new())
    }

    /// Metrics, with the registry that `/healthz` and `/readyz` show.
    #[must_use]
    pub fn with_health(health: HealthState) -> Self {
        let registry = Registry::new();
        let host = Host::new(&registry);
        Self {
            inner: Arc::new(Inner {
                registry,
                host,
                reported: Arc::default(),
                buses: Mutex::default(),
                pulls: Mutex::default(),
                detail: Mutex::default(),
                ratchet: Mutex::default(),
                health,
                started: Instant::now(),
            }),
        }
    }

    /// The registry behind `/healthz` and `/readyz`.
    #[must_use]
    pub fn health(&self) -> &HealthState {
        &self.inner.health
    }

    /// Count what happened. Called synchronously where it happens; never waits
    /// and never fails.
    ///
    /// A service that was not registered gets its series by being observed, so
    /// nothing is lost to an order of calls; its end is
    /// [`forget_service`](Self::forget_service) all the same.
    pub fn observe(&self, observation: &Observation<'_>) {
        self.inner.host.observe(observation);
    }

    /// Show `service` from now on, with 0 restarts, so that the first one is an
    /// increase that `rate` sees.
    pub fn register_service(&self, service: &str) {
        self.inner.host.register(service);
    }

    /// Remove every series of `service`, those that it reported itself
    /// included. What is observed of it later makes new ones.
    pub fn forget_service(&self, service: &str) {
        self.inner.host.forget(service);
        self.inner.reported.forget(service);
    }

    /// A handle with which `service` reports of itself, at most `series_limit`
    /// series ([`DEFAULT_SERIES_LIMIT`] where nothing else is configured).
    ///
    /// Handles of one service are the same, and its series stay from one
    /// incarnation to the next; the newest limit holds from now on.
    #[must_use]
    pub fn service_metrics(&self, service: &str, series_limit: usize) -> ServiceMetrics {
        Reported::handle(&self.inner.reported, service, series_limit)
    }

    /// Show what the subscribers of `bus` lose. The bus is not kept open by it;
    /// its counts stay when it is gone. Several buses are added up.
    pub fn watch_bus<T: Clone + Send + 'static>(&self, bus: &Bus<T>) {
        let ledger = bus.ledger();
        let mut buses = self.inner.buses.lock();
        if !buses.iter().any(|known| Arc::ptr_eq(known, &ledger)) {
            buses.push(ledger);
        }
    }

    /// Show numbers that are kept elsewhere: `read` is called at each scrape
    /// and gives its samples to the function it gets.
    ///
    /// `families` names all that `read` may give; a sample of another name, or
    /// with another number of labels, is left out, as is a second one of the
    /// same labels. Names begin with `ron_`, counters end in `_total`. `read`
    /// runs on a thread that serves HTTP: it takes short locks only. It is kept
    /// as long as the metrics are, so it should hold a `Weak` of what has the
    /// metrics itself.
    pub fn pull(
        &self,
        families: &'static [Family],
        read: impl Fn(&mut dyn FnMut(Sample<'_>)) + Send + Sync + 'static,
    ) {
        debug_assert!(families.iter().all(Family::is_well_named), "{families:?}");
        self.inner.pulls.lock().push(Arc::new(Pull { families, read: Box::new(read) }));
    }

    /// Show that much from the next scrape on.
    pub fn set_detail(&self, detail: Detail) {
        *self.inner.detail.lock() = detail;
    }

    /// Everything, in the Prometheus text format 0.0.4, sorted by name and
    /// labels.
    #[must_use]
    pub fn encode(&self) -> String {
        let inner = &*self.inner;
        let mut families = Families::new(*inner.detail.lock());
        families.gathered(&inner.registry.gather());
        families.read(OWN, |give| self.read_own(give));
        families.read(BUS, |give| self.read_buses(give));
        inner.host.collect(&mut families);
        // Cloned, so that no lock is held while foreign code runs.
        let pulls = inner.pulls.lock().clone();
        for pull in pulls {
            families.read(pull.families, &*pull.read);
        }
        inner.reported.collect(&mut families);
        families.encode(&mut inner.ratchet.lock())
    }

    fn read_own(&self, give: &mut dyn FnMut(Sample<'_>)) {
        let (ready, services) = self.inner.health.count();
        let version = env!("CARGO_PKG_VERSION");
        give(Sample { name: "ron_build_info", labels: &[version], value: 1.0 });
        give(Sample { name: "ron_services", labels: &[], value: services as f64 });
        give(Sample { name: "ron_services_ready", labels: &[], value: ready as f64 });
        let uptime = self.inner.started.elapsed().as_secs_f64();
        give(Sample { name: "ron_uptime_seconds", labels: &[], value: uptime });
    }

    fn read_buses(&self, give: &mut dyn FnMut(Sample<'_>)) {
        let mut total = 0;
        let mut subscribers: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for ledger in &*self.inner.buses.lock() {
            let stats = ledger.stats();
            total += stats.dropped;
            for (name, lagged) in stats.subscribers {
                *subscribers.entry(name).or_default() += lagged;
            }
        }
        for (name, lagged) in &subscribers {
            give(Sample { name: "bus_lagged_total", labels: &[name], value: *lagged as f64 });
        }
        give(Sample { name: "bus_overflow_dropped_total", labels: &[], value: total as f64 });
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("health", &self.inner.health).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
