//! The host's own series: what can be observed, and how it is counted.
//!
//! Observations are one closed enum, so what is counted where is read here and
//! not searched for. Labels are closed sets but for `service`. What seldom happens to a
//! service is kept here, all that concerns one in one place: it goes with the service, and
//! is a tenth of what ten thousand services' series in a registry would be. Requests
//! are counted in the registry, without a lock that services share.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::families::{Families, Kind, Value};
use super::histogram::{Buckets, LATENCY};
use super::request::{HttpMethod, StatusClass};
use crate::crash::CrashReason;

/// Buckets of a service's start, in seconds: a small component takes tens of
/// microseconds, an interpreter up to many seconds.
const START: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];

/// Why the host refused a message, a request or a connection: the `reason` label of
/// `rejected_total`. What is said of messages is named as the WIT's `bus-error` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// A mailbox or a limit was full.
    Overloaded,
    /// The payload was over its limit.
    PayloadTooLarge,
    /// No such topic was granted, or nobody of that name on the network.
    Denied,
    /// Not a topic, or not a filter.
    InvalidTopic,
    /// No answer in time.
    Timeout,
    /// Nobody answers to this topic.
    NoResponder,
    /// Who was asked failed.
    Failed,
    /// A listener had as many requests as it may have.
    ListenerOverloaded,
    /// A client asks faster than it may.
    RateLimited,
    /// A client had as many connections as it may have.
    TooManyConnections,
    /// A request's body was over its limit.
    BodyTooLarge,
    /// A request that no route leads anywhere.
    NoRoute,
    /// What no service is asked: it breaks HTTP, or its method is not served.
    BadRequest,
    /// A service that was to answer a request did not run, or had no room or no time for it.
    Unavailable,
    /// A TLS handshake that failed, or came to no end.
    Handshake,
}

impl RejectReason {
    const ALL: [Self; 15] = [
        Self::Overloaded,
        Self::PayloadTooLarge,
        Self::Denied,
        Self::InvalidTopic,
        Self::Timeout,
        Self::NoResponder,
        Self::Failed,
        Self::ListenerOverloaded,
        Self::RateLimited,
        Self::TooManyConnections,
        Self::BodyTooLarge,
        Self::NoRoute,
        Self::BadRequest,
        Self::Unavailable,
        Self::Handshake,
    ];

    /// The label; it never changes its meaning.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::PayloadTooLarge => "payload-too-large",
            Self::Denied => "denied",
            Self::InvalidTopic => "invalid-topic",
            Self::Timeout => "timeout",
            Self::NoResponder => "no-responder",
            Self::Failed => "failed",
            Self::ListenerOverloaded => "listener-overloaded",
            Self::RateLimited => "rate-limited",
            Self::TooManyConnections => "too-many-connections",
            Self::BodyTooLarge => "body-too-large",
            Self::NoRoute => "no-route",
            Self::BadRequest => "bad-request",
            Self::Unavailable => "unavailable",
            Self::Handshake => "tls-handshake",
        }
    }
}

/// How a hot swap ended: the `outcome` label of `ron_swaps_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapOutcome {
    /// The new version passed its probation, or a newer one took its place
    /// before anything was wrong with it.
    Committed,
    /// The new version stays, but its probation was ended: by a restart, a stop
    /// or the host's end.
    Ended,
    /// The new version was not taken, and the old one never left.
    Refused,
    /// The new version was taken, was bad, and the old one is back.
    RolledBack,
}

impl SwapOutcome {
    /// The label; it never changes its meaning.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// What became of a job's run: the `outcome` label of `ron_job_runs_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunOutcome {
    /// It came to its end, and said that all is well.
    Finished,
    /// It crashed, or said that it failed.
    Failed,
    /// It was due while the one before was still going, and was left out.
    Skipped,
}

impl RunOutcome {
    /// The label; it never changes its meaning.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What became of a configuration that was read: the `outcome` label of
/// `ron_config_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadOutcome {
    /// It is in force.
    Applied,
    /// It is what was in force.
    Unchanged,
    /// Something is wrong with it, and what was in force stays.
    Refused,
}

impl ReloadOutcome {
    const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// The label; it never changes its meaning.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Something that happened and is counted. See [`Metrics::observe`](super::Metrics::observe).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Observation<'a> {
    /// `service_crashes_total{service,reason}`.
    ServiceCrashed {
        /// Whose.
        service: &'a str,
        /// Its label is the series' `reason`.
        reason: &'a CrashReason,
    },
    /// `service_restarts_total{service}`.
    ServiceRestarted {
        /// Whose.
        service: &'a str,
    },
    /// `ron_service_start_seconds{service}`.
    ServiceStarted {
        /// Whose.
        service: &'a str,
        /// From the decision to start it, at once after a crash, until its
        /// `start` has returned. A back-off before that is not counted.
        took: Duration,
    },
    /// `ron_swaps_total{service,outcome}`.
    SwapEnded {
        /// Whose.
        service: &'a str,
        /// How.
        outcome: SwapOutcome,
    },
    /// `ron_swap_pause_seconds{service}`.
    SwapPaused {
        /// Whose.
        service: &'a str,
        /// From asking the old version to pause until the new one has the
        /// mailbox.
        pause: Duration,
    },
    /// `ron_service_state{service,state}`: 1 for this state; the series of the
    /// state before goes.
    ServiceState {
        /// Whose.
        service: &'a str,
        /// `starting`, `running`, `backoff`, ...
        state: &'static str,
    },
    /// `request_latency_seconds{service}`.
    RequestAnswered {
        /// Who answered.
        service: &'a str,
        /// From being asked to having answered.
        latency: Duration,
    },
    /// `request_latency_seconds{service,method,status}`.
    HttpAnswered {
        /// Who answered.
        service: &'a str,
        /// The request's method.
        method: HttpMethod,
        /// The answer's status.
        status: StatusClass,
        /// From the end of the request's headers to the start of the answer.
        latency: Duration,
    },
    /// `rejected_total{reason}`.
    Rejected {
        /// Why.
        reason: RejectReason,
    },
    /// `ron_log_dropped_total{service}`.
    LogDropped {
        /// Whose record was not written.
        service: &'a str,
    },
    /// `ron_job_runs_total{service,outcome}`.
    JobRan {
        /// Whose.
        service: &'a str,
        /// What became of it.
        outcome: RunOutcome,
    },
    /// `ron_config_version`.
    ConfigApplied {
        /// The version in force now.
        version: u64,
    },
    /// `ron_config_reloads_total{outcome}` and `ron_config_stale`.
    ConfigRead {
        /// What became of it.
        outcome: ReloadOutcome,
    },
    /// `ron_config_stale`, where more is known than what became of the last read: what
    /// was applied may have been put back since.
    ConfigStale {
        /// Whether what is in force is not what was read last.
        stale: bool,
    },
    /// `ron_http_refused_total`: the admin listener had no connection to spare.
    ConnectionRefused,
}

/// The host's own series that are fed by observations.
pub(super) struct Host {
    /// What is counted for a service, by its name.
    known: Mutex<BTreeMap<String, Known>>,
    latency: HistogramVec,
    rejected: IntCounterVec,
    config_version: IntGauge,
    config_stale: IntGauge,
    reloads: IntCounterVec,
    refused: IntCounter,
}

/// What happened to one service. What never did is not shown, but for restarts.
#[derive(Default)]
struct Known {
    state: Option<&'static str>,
    restarts: Option<u64>,
    crashes: Tally,
    runs: Tally,
    swaps: Tally,
    log_dropped: u64,
    start: Option<Buckets>,
    swap_pause: Option<Buckets>,
}

/// Counts by the value of a label.
#[derive(Default)]
struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    fn add(&mut self, label: &'static str) {
        match self.0.iter_mut().find(|(own, _)| *own == label) {
            Some((_, count)) => *count += 1,
            None => self.0.push((label, 1)),
        }
    }
}

impl Host {
    /// All families of the registry; those whose labels are known start at 0.
    pub(super) fn new(registry: &Registry) -> Self {
        fn valid<C: Collector + Clone + 'static>(
            registry: &Registry,
            collector: prometheus::Result<C>,
        ) -> C {
            let collector = collector.expect("names, labels and buckets are valid constants");
            registry.register(Box::new(collector.clone())).expect("each name is used once");
            collector
        }
        let counters = |name: &str, help: &str, labels: &[&str]| {
            valid(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let host = Self {
            known: Mutex::default(),
            rejected: counters(
                "rejected_total",
                "Messages and requests that the host refused.",
                &["reason"],
            ),
            latency: valid(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "request_latency_seconds",
                        "Time from asking a service to its answer.",
                    )
                    .buckets(LATENCY.to_vec()),
                    &["service", "method", "status"],
                ),
            ),
            config_version: valid(
                registry,
                IntGauge::new("ron_config_version", "Version of the configuration in force."),
            ),
            config_stale: valid(
                registry,
                IntGauge::new(
                    "ron_config_stale",
                    "1 while the configuration in force is not the one that was read last.",
                ),
            ),
            reloads: counters(
                "ron_config_reloads_total",
                "Configurations that were read, by what became of them.",
                &["outcome"],
            ),
            refused: valid(
                registry,
                IntCounter::new(
                    "ron_http_refused_total",
                    "Connections to the admin listener over its limit.",
                ),
            ),
        };
        for outcome in ReloadOutcome::ALL {
            host.reloads.with_label_values(&[outcome.label()]);
        }
        for reason in RejectReason::ALL {
            host.rejected.with_label_values(&[reason.label()]);
        }
        host
    }

    pub(super) fn observe(&self, observation: &Observation<'_>) {
        match *observation {
            Observation::ServiceCrashed { service, reason } => {
                self.known(service, |known| known.crashes.add(reason.label()));
            }
            Observation::ServiceRestarted { service } => {
                self.known(service, |known| *known.restarts.get_or_insert(0) += 1);
            }
            Observation::ServiceState { service, state } => {
                self.known(service, |known| known.state = Some(state));
            }
            Observation::RequestAnswered { service, latency } => {
                self.latency.with_label_values(&[service, "", ""]).observe(latency.as_secs_f64());
            }
            Observation::HttpAnswered { service, method, status, latency } => {
                let labels = [service, method.label(), status.label()];
                self.latency.with_label_values(&labels).observe(latency.as_secs_f64());
            }
            Observation::Rejected { reason } => {
                self.rejected.with_label_values(&[reason.label()]).inc();
            }
            Observation::ServiceStarted { service, took } => self.known(service, |known| {
                let start = known.start.get_or_insert_with(|| Buckets::with(&START));
                start.observe(took.as_secs_f64());
            }),
            Observation::SwapEnded { service, outcome } => {
                self.known(service, |known| known.swaps.add(outcome.label()));
            }
            Observation::SwapPaused { service, pause } => self.known(service, |known| {
                let paused = known.swap_pause.get_or_insert_with(|| Buckets::with(&START));
                paused.observe(pause.as_secs_f64());
            }),
            Observation::LogDropped { service } => {
                self.known(service, |known| known.log_dropped += 1);
            }
            Observation::JobRan { service, outcome } => {
                self.known(service, |known| known.runs.add(outcome.label()));
            }
            Observation::ConfigApplied { version } => {
                self.config_version.set(i64::try_from(version).unwrap_or(i64::MAX));
            }
            Observation::ConfigRead { outcome } => {
                self.reloads.with_label_values(&[outcome.label()]).inc();
                self.config_stale.set(i64::from(outcome == ReloadOutcome::Refused));
            }
            Observation::ConfigStale { stale } => self.config_stale.set(i64::from(stale)),
            Observation::ConnectionRefused => self.refused.inc(),
        }
    }

    fn known(&self, service: &str, change: impl FnOnce(&mut Known)) {
        let mut all = self.known.lock();
        match all.get_mut(service) {
            Some(known) => change(known),
            None => change(all.entry(service.to_owned()).or_default()),
        }
    }

    /// What is kept here.
    pub(super) fn collect(&self, families: &mut Families) {
        let mut family = |name, help, kind| families.family(name, help, kind);
        let states = family("ron_service_state", "1 for the state a service is in.", Kind::Gauge);
        let restarts = family(
            "service_restarts_total",
            "Restarts of a service after it ended.",
            Kind::Counter,
        );
        let crashes =
            family("service_crashes_total", "Crashes of a service, by reason.", Kind::Counter);
        let runs =
            family("ron_job_runs_total", "Runs of a job, by what became of them.", Kind::Counter);
        let swaps =
            family("ron_swaps_total", "Hot swaps of a service, by how they ended.", Kind::Counter);
        let log_dropped = family(
            "ron_log_dropped_total",
            "Log records not written because a service logs faster than its limit.",
            Kind::Counter,
        );
        let start = family(
            "ron_service_start_seconds",
            "Time from making an instance of a service until its start has returned.",
            Kind::Histogram,
        );
        let swap_pause = family(
            "ron_swap_pause_seconds",
            "Time that messages waited while a new version took over.",
            Kind::Histogram,
        );
        for (service, known) in &*self.known.lock() {
            let own = ("service", service.as_str());
            let mut count = |family, labels: &[(&str, &str)], count: u64| {
                families.push(family, labels.iter().copied(), Value::Number(count as f64));
            };
            if let Some(state) = known.state {
                count(states, &[own, ("state", state)], 1);
            }
            if let Some(of) = known.restarts {
                count(restarts, &[own], of);
            }
            for (reason, of) in &known.crashes.0 {
                count(crashes, &[("reason", reason), own], *of);
            }
            for (family, tally) in [(runs, &known.runs), (swaps, &known.swaps)] {
                for (outcome, of) in &tally.0 {
                    count(family, &[("outcome", outcome), own], *of);
                }
            }
            if known.log_dropped > 0 {
                count(log_dropped, &[own], known.log_dropped);
            }
            for (family, buckets) in [(start, &known.start), (swap_pause, &known.swap_pause)] {
                if let Some(buckets) = buckets {
                    let counts = Value::Histogram(Box::new(buckets.counts()));
                    families.push(family, std::iter::once(own), counts);
                }
            }
        }
    }

    pub(super) fn register(&self, service: &str) {
        self.known(service, |known| {
            known.restarts.get_or_insert(0);
        });
    }

    pub(super) fn forget(&self, service: &str) {
        self.known.lock().remove(service);
        remove(self.latency.remove_label_values(&[service, "", ""]));
        for method in HttpMethod::ALL {
            for status in StatusClass::ALL {
                let labels = [service, method.label(), status.label()];
                remove(self.latency.remove_label_values(&labels));
            }
        }
    }
}

/// A series that is not there is removed already.
fn remove(removed: prometheus::Result<()>) {
    drop(removed);
}
