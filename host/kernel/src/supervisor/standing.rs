//! The announcement point: what the kernel says of one service, in one place.
//!
//! Every transition, crash and word of health passes here and from here goes,
//! synchronously and once, to the log, the metrics, the health registry and
//! the bus. Nothing else in the kernel speaks of a service, so no two of them
//! can disagree, and no counter is fed by a subscription that may lose events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use super::machine::State;
use super::status::ServiceStatus;
use crate::bus::Bus;
use crate::crash::CrashReason;
use crate::event::KernelEvent;
use crate::health::{HealthState, ServiceHealth, Status};
use crate::message::Stats;
use crate::metrics::{Metrics, Observation};
use crate::service::{Crash, CrashDetail, Generation, ServiceId};

/// Crash reports kept for each service; the oldest goes first.
const REPORTS: usize = 16;

/// One crash, as it is kept for an operator.
#[derive(Clone, Debug, Serialize)]
pub struct CrashReport {
    /// Which service.
    pub service: ServiceId,
    /// Which incarnation ended.
    pub generation: Generation,
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: CrashReason,
    /// What else is known.
    pub detail: CrashDetail,
}

/// How one service stands with the kernel.
#[derive(Debug)]
pub struct Standing {
    id: ServiceId,
    critical: bool,
    bus: Bus,
    metrics: Metrics,
    health: HealthState,
    /// Set by the incarnation when its `start` is over.
    started: AtomicBool,
    generation: AtomicU64,
    /// Restarts after a crash.
    restarts: AtomicU64,
    /// Bytes that the incarnation has in use.
    memory: AtomicU64,
    said: Mutex<Said>,
    reports: Mutex<VecDeque<CrashReport>>,
}

/// What was last said.
#[derive(Debug)]
struct Said {
    state: &'static str,
    running: bool,
    /// The host's own explanation of the state, shown unless the service has one.
    why: Option<String>,
    status: Status,
    detail: Option<String>,
    ok: bool,
    /// Since when it runs.
    since: Option<Instant>,
    /// Whether there is an incarnation.
    alive: bool,
    /// What the incarnation is of.
    digest: Option<Arc<str>>,
}

impl Standing {
    pub(super) fn new(
        id: ServiceId,
        critical: bool,
        bus: Bus,
        metrics: Metrics,
        health: HealthState,
    ) -> Self {
        metrics.register_service(id.as_str());
        let standing = Self {
            id,
            critical,
            bus,
            metrics,
            health,
            started: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            said: Mutex::new(Said {
                state: State::Loading.label(),
                running: false,
                why: None,
                status: Status::Ok,
                detail: None,
                ok: false,
                since: None,
                alive: false,
                digest: None,
            }),
            reports: Mutex::default(),
        };
        standing.say(|_| {});
        standing
    }

    pub(super) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// A new incarnation begins: what the last one said is forgotten.
    pub(super) fn begin(&self, generation: Generation) {
        self.started.store(false, Ordering::Relaxed);
        self.generation.store(generation.0, Ordering::Relaxed);
        self.memory.store(0, Ordering::Relaxed);
        let mut said = self.said.lock();
        said.status = Status::Ok;
        said.detail = None;
    }

    /// The incarnation says that its `start` is over.
    pub(crate) fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    pub(super) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The incarnation is one of what this digest names.
    pub(crate) fn runs(&self, digest: Arc<str>) {
        self.said.lock().digest = Some(digest);
    }

    /// The incarnation has so many bytes in use.
    pub(crate) fn uses_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
        self.metrics.observe(&Observation::ServiceMemory { service: self.id.as_str(), bytes });
    }

    /// The service speaks of its own health.
    pub(crate) fn report(&self, status: Status, detail: Option<String>) {
        self.say(|said| {
            said.status = status;
            said.detail = detail;
        });
    }

    /// The service is in a new state.
    pub(super) fn entered(&self, state: &State) {
        tracing::debug!(service = %self.id, state = state.label(), "state");
        self.say(|said| {
            said.state = state.label();
            said.running = matches!(state, State::Running { .. });
            said.alive = state.is_alive();
            said.since = match state {
                State::Running { since } => Some(*since),
                // It runs until it has drained.
                State::Draining { .. } => said.since,
                _ => None,
            };
            said.why = match state {
                State::Quarantined { reason } => Some(format!("{}: {reason}", reason.label())),
                _ => None,
            };
        });
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        let mut said = self.said.lock();
        change(&mut said);
        let ok = said.running && said.status != Status::Failing;
        self.metrics
            .observe(&Observation::ServiceState { service: self.id.as_str(), state: said.state });
        self.health.update(
            self.id.as_str(),
            ServiceHealth {
                state: said.state,
                ok,
                required: self.critical,
                status: said.status,
                detail: said.detail.clone().or_else(|| said.why.clone()),
            },
        );
        // Under the lock, so that two changes are announced in their order.
        if ok != said.ok {
            said.ok = ok;
            self.bus.publish(KernelEvent::Health { service: self.id.as_str().to_owned(), ok });
        }
    }

    /// The service crashed.
    pub(super) fn crashed(&self, crash: Crash) {
        let detail = crash.detail.map(|detail| *detail).unwrap_or_default();
        let reason = crash.reason;
        let generation = self.generation();
        tracing::error!(
            service = %self.id,
            generation = generation.0,
            reason = reason.label(),
            topic = detail.topic.as_deref(),
            memory = detail.memory,
            digest = detail.digest.as_deref(),
            backtrace = (!detail.backtrace.is_empty()).then(|| detail.backtrace.join("\n")),
            last_log = (!detail.last_log.is_empty()).then(|| detail.last_log.join("\n")),
            "crashed: {reason}"
        );
        self.metrics
            .observe(&Observation::ServiceCrashed { service: self.id.as_str(), reason: &reason });
        let mut reports = self.reports.lock();
        if reports.len() >= REPORTS {
            reports.pop_front();
        }
        reports.push_back(CrashReport {
            service: self.id.clone(),
            generation,
            at: SystemTime::now(),
            reason: reason.clone(),
            detail,
        });
        drop(reports);
        let service = self.id.as_str().to_owned();
        self.bus.publish(KernelEvent::ServiceCrashed { service, reason });
    }

    /// Its `start` has returned.
    pub(super) fn is_up(&self, took: Duration) {
        self.metrics.observe(&Observation::ServiceStarted { service: self.id.as_str(), took });
    }

    /// The service will be started again.
    pub(super) fn restarting(&self, delay: Duration) {
        tracing::info!(service = %self.id, delay_ms = delay.as_millis() as u64, "restarting");
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.metrics.observe(&Observation::ServiceRestarted { service: self.id.as_str() });
    }

    /// The service will not be started again.
    pub(super) fn gave_up(&self, reason: &CrashReason) {
        tracing::error!(
            service = %self.id,
            reason = reason.label(),
            critical = self.critical,
            "quarantined: {reason}"
        );
    }

    /// How it stands, with what its mailbox has seen.
    pub(super) fn status(&self, now: Instant, mailbox: Stats) -> ServiceStatus {
        let said = self.said.lock();
        ServiceStatus {
            service: self.id.clone(),
            state: said.state,
            ok: said.ok,
            critical: self.critical,
            status: said.status,
            detail: said.detail.clone().or_else(|| said.why.clone()),
            generation: self.generation(),
            digest: said.digest.clone(),
            uptime: said.since.map(|since| now.saturating_duration_since(since)),
            restarts: self.restarts.load(Ordering::Relaxed),
            memory: said.alive.then(|| self.memory.load(Ordering::Relaxed)),
            mailbox,
        }
    }

    /// The crashes that are kept, oldest first.
    pub(super) fn reports(&self) -> Vec<CrashReport> {
        self.reports.lock().iter().cloned().collect()
    }

    /// The service is gone from the host.
    pub(super) fn forget(&self) {
        self.metrics.forget_service(self.id.as_str());
        self.health.remove(self.id.as_str());
    }
}
