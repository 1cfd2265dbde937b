//! The announcement point: what the kernel says of one service, in one place.
//!
//! Every transition, crash and word of health passes here and from here goes,
//! synchronously and once, to the log, the metrics, the health registry and
//! the bus. Nothing else in the kernel speaks of a service, so no two of them
//! can disagree, and no counter is fed by a subscription that may lose events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use super::cutover::SwapError;
use super::machine::State;
use super::swap::Version;
use crate::bus::Bus;
use crate::crash::CrashReason;
use crate::event::KernelEvent;
use crate::health::{HealthState, ServiceHealth, Status};
use crate::metrics::{Metrics, Observation, SwapOutcome};
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
    critical: AtomicBool,
    bus: Bus,
    metrics: Metrics,
    health: HealthState,
    generation: AtomicU64,
    said: Mutex<Said>,
    reports: Mutex<VecDeque<CrashReport>>,
}

/// What was last said.
#[derive(Debug)]
struct Said {
    version: Version,
    state: &'static str,
    running: bool,
    /// The host's own explanation of the state, shown unless the service has one.
    why: Option<String>,
    status: Status,
    detail: Option<String>,
    ok: bool,
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
            critical: AtomicBool::new(critical),
            bus,
            metrics,
            health,
            generation: AtomicU64::new(0),
            said: Mutex::new(Said {
                version: "".into(),
                state: State::Loading.label(),
                running: false,
                why: None,
                status: Status::Ok,
                detail: None,
                ok: false,
            }),
            reports: Mutex::default(),
        };
        standing.say(|_| {});
        standing
    }

    pub(super) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// What runs, or ran last.
    pub(super) fn version(&self) -> Version {
        Arc::clone(&self.said.lock().version)
    }

    /// Another incarnation has the service: what the last one said is
    /// forgotten.
    pub(super) fn begin(&self, generation: Generation, version: &Version) {
        self.generation.store(generation.0, Ordering::Relaxed);
        let mut said = self.said.lock();
        said.version = Arc::clone(version);
        said.status = Status::Ok;
        said.detail = None;
    }

    pub(super) fn set_critical(&self, critical: bool) {
        self.critical.store(critical, Ordering::Relaxed);
        self.say(|_| {});
    }

    /// Why the service says that it fails, if it does.
    pub(super) fn failing(&self) -> Option<String> {
        let said = self.said.lock();
        let why =
            || format!("it says that it fails: {}", said.detail.as_deref().unwrap_or("no detail"));
        (said.status == Status::Failing).then(why)
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
                required: self.critical.load(Ordering::Relaxed),
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
        self.metrics.observe(&Observation::ServiceRestarted { service: self.id.as_str() });
    }

    /// The service will not be started again.
    pub(super) fn gave_up(&self, reason: &CrashReason) {
        tracing::error!(
            service = %self.id,
            reason = reason.label(),
            critical = self.critical.load(Ordering::Relaxed),
            "quarantined: {reason}"
        );
    }

    /// A new version has the mailbox.
    pub(super) fn swapped(&self, generation: Generation, version: &Version, pause: Duration) {
        tracing::info!(
            service = %self.id,
            generation = generation.0,
            version = &**version,
            pause_us = pause.as_micros() as u64,
            "swapped; on probation"
        );
        self.metrics.observe(&Observation::SwapPaused { service: self.id.as_str(), pause });
    }

    /// A new version was not taken, and the old one goes on.
    pub(super) fn swap_refused(&self, error: &SwapError, version: &Version) {
        tracing::error!(service = %self.id, version = &**version, "swap refused: {error}");
        self.swap_ended(SwapOutcome::Refused);
    }

    /// A new version crashed before its turn; the refusal that follows counts.
    pub(super) fn next_crashed(&self, crash: &Crash) {
        let detail = crash.detail.clone().unwrap_or_default();
        tracing::error!(
            service = %self.id,
            reason = crash.reason.label(),
            digest = detail.digest.as_deref(),
            backtrace = (!detail.backtrace.is_empty()).then(|| detail.backtrace.join("\n")),
            last_log = (!detail.last_log.is_empty()).then(|| detail.last_log.join("\n")),
            "the new version did not come up: {}",
            crash.reason
        );
    }

    /// A new version is good.
    pub(super) fn swap_committed(&self, generation: Generation) {
        tracing::info!(service = %self.id, generation = generation.0, "swap committed");
        self.swap_ended(SwapOutcome::Committed);
    }

    /// A new version was bad, and the one before is back.
    pub(super) fn put_back(&self, why: &str, failed: &Version, back: &Version) {
        tracing::error!(
            service = %self.id,
            failed = &**failed,
            version = &**back,
            generation = self.generation().0,
            "rolled back: {why}"
        );
        self.swap_ended(SwapOutcome::RolledBack);
    }

    fn swap_ended(&self, outcome: SwapOutcome) {
        self.metrics.observe(&Observation::SwapEnded { service: self.id.as_str(), outcome });
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
