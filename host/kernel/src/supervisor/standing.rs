//! The announcement point: what the kernel says of one service, in one place.
//!
//! Every transition, crash and word of health passes here and from here goes,
//! synchronously and once, to the log, the metrics, the health registry and
//! the bus. Nothing else in the kernel speaks of a service, so no two of them
//! can disagree, and no counter is fed by a subscription that may lose events.
//! A crash's log record alone comes later, from the [`CrashLog`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use super::crash_log::CrashLog;
use super::machine::{After, State};
use super::prepared::SwapError;
use super::probation::EndedBy;
use super::status::{ReplicaStatus, ServiceStatus};
use super::swap::Version;
use crate::bus::Bus;
use crate::crash::CrashReason;
use crate::event::KernelEvent;
use crate::health::{HealthState, ServiceHealth, Status};
use crate::message::Stats;
use crate::metrics::{Metrics, Observation, SwapOutcome};
use crate::service::{Crash, CrashDetail, Generation, ServiceId};

/// Crash reports kept for each service; the oldest goes first.
const REPORTS: usize = 16;

/// One crash, as it is kept for an operator.
#[derive(Clone, Debug, Serialize)]
pub struct CrashReport {
    /// Which service.
    pub service: ServiceId,
    /// Which of its replicas, from 0.
    pub replica: usize,
    /// Which incarnation ended.
    pub generation: Generation,
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: CrashReason,
    /// What else is known.
    pub detail: CrashDetail,
}

impl CrashReport {
    /// Writes the one log record of this crash.
    pub(super) fn log(&self) {
        let Self { service, replica, generation, reason, detail, .. } = self;
        tracing::error!(
            %service,
            replica = (*replica > 0).then_some(*replica),
            generation = generation.0,
            reason = reason.label(),
            topic = detail.topic.as_deref(),
            memory = detail.memory,
            digest = detail.digest.as_deref(),
            corr_id = detail.corr_id.as_deref(),
            backtrace = (!detail.backtrace.is_empty()).then(|| detail.backtrace.join("\n")),
            last_log = (!detail.last_log.is_empty()).then(|| detail.last_log.join("\n")),
            "crashed: {reason}"
        );
    }
}

/// How one replica of a service stands with the kernel, and through it the
/// service.
#[derive(Debug)]
pub struct Standing {
    service: Arc<Whole>,
    replica: usize,
    generation: AtomicU64,
    /// Restarts after a crash.
    restarts: AtomicU64,
    /// Bytes that the incarnation has in use.
    memory: AtomicU64,
}

/// What all replicas of a service share.
#[derive(Debug)]
struct Whole {
    id: ServiceId,
    critical: AtomicBool,
    bus: Bus,
    metrics: Metrics,
    health: HealthState,
    crash_log: Arc<CrashLog>,
    said: Mutex<AllSaid>,
    /// Shared with the log, which completes them.
    reports: Mutex<VecDeque<Arc<Mutex<CrashReport>>>>,
}

/// What was last said, of each replica and of the service.
#[derive(Debug)]
struct AllSaid {
    replicas: Vec<Said>,
    ok: bool,
}

/// What was last said of one replica.
#[derive(Clone, Debug)]
struct Said {
    version: Version,
    state: &'static str,
    running: bool,
    /// Its work is done.
    finished: bool,
    /// It stays down until somebody starts it.
    down: bool,
    /// It will be so when it has drained.
    leaves: bool,
    gave_up: bool,
    /// The host's own explanation of the state, shown unless the service has one.
    why: Option<String>,
    status: Status,
    detail: Option<String>,
    /// The last crash of a part of the incarnation.
    part_crashed: Option<String>,
    /// Since when it runs.
    since: Option<Instant>,
    /// Whether there is an incarnation.
    alive: bool,
}

impl Said {
    fn new() -> Self {
        Self {
            version: "".into(),
            state: State::Loading.label(),
            running: false,
            finished: false,
            down: false,
            leaves: false,
            gave_up: false,
            why: None,
            status: Status::Ok,
            detail: None,
            part_crashed: None,
            since: None,
            alive: false,
        }
    }
}

impl AllSaid {
    /// What is said of the service: of its only replica, or of all together. It
    /// is well while one of them is, or has finished.
    fn service(&self) -> (bool, Said) {
        let runs = |said: &&Said| said.running && said.status != Status::Failing;
        let well = |said: &&Said| said.finished || runs(said);
        let count = self.replicas.iter().filter(well).count();
        let mut all = self.replicas.iter();
        // One that runs says more than one that has finished.
        let shown = all.clone().find(runs).or_else(|| all.find(well));
        let shown = shown.unwrap_or(&self.replicas[0]);
        let mut shown = shown.clone();
        if count > 0 && count < self.replicas.len() {
            shown.status = Status::Degraded;
            shown.detail = Some(format!("{count} of {} replicas are well", self.replicas.len()));
        }
        (count > 0, shown)
    }
}

impl Standing {
    /// Those of all replicas of a service.
    pub(super) fn new(
        id: ServiceId,
        replicas: usize,
        critical: bool,
        bus: Bus,
        metrics: Metrics,
        health: HealthState,
        crash_log: Arc<CrashLog>,
    ) -> Vec<Arc<Self>> {
        metrics.register_service(id.as_str());
        let service = Arc::new(Whole {
            id,
            critical: AtomicBool::new(critical),
            bus,
            metrics,
            health,
            crash_log,
            said: Mutex::new(AllSaid { replicas: vec![Said::new(); replicas], ok: false }),
            reports: Mutex::default(),
        });
        let all: Vec<_> = (0..replicas).map(|replica| Self::of(&service, replica)).collect();
        all[0].say(|_| {});
        all
    }

    fn of(service: &Arc<Whole>, replica: usize) -> Arc<Self> {
        Arc::new(Self {
            service: Arc::clone(service),
            replica,
            generation: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            memory: AtomicU64::new(0),
        })
    }

    /// Those that are missing to have `wanted` of the service's.
    pub(super) fn more(&self, wanted: usize) -> Vec<Arc<Self>> {
        let mut said = self.service.said.lock();
        let there = said.replicas.len();
        said.replicas.resize(wanted.max(there), Said::new());
        (there..wanted).map(|replica| Self::of(&self.service, replica)).collect()
    }

    /// There are `count` of the service's by now, and this is the first.
    pub(super) fn keep(&self, count: usize) {
        self.service.said.lock().replicas.truncate(count);
        self.say(|_| {});
    }

    pub(super) fn replica(&self) -> usize {
        self.replica
    }

    pub(super) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// Another incarnation has the service: what the last one said is
    /// forgotten.
    pub(super) fn begin(&self, generation: Generation, version: &Version) {
        self.generation.store(generation.0, Ordering::Relaxed);
        let mut said = self.service.said.lock();
        let said = &mut said.replicas[self.replica];
        said.version = Arc::clone(version);
        said.status = Status::Ok;
        said.detail = None;
        said.part_crashed = None;
    }

    pub(super) fn set_critical(&self, critical: bool) {
        self.service.critical.store(critical, Ordering::Relaxed);
        self.say(|_| {});
    }

    /// A part of the incarnation crashed.
    pub(crate) fn part_crashed(&self, reason: &CrashReason) {
        let why = format!("{}: {reason}", reason.label());
        self.service.said.lock().replicas[self.replica].part_crashed = Some(why);
    }

    /// Why the incarnation fails, if it does: a part of it crashed, or it says so
    /// itself.
    pub(super) fn failing(&self) -> Option<String> {
        let said = self.service.said.lock();
        let said = &said.replicas[self.replica];
        if let Some(why) = &said.part_crashed {
            return Some(why.clone());
        }
        let detail = said.detail.as_deref().unwrap_or("without a detail");
        (said.status == Status::Failing).then(|| format!("it says that it fails: {detail}"))
    }

    /// The incarnation has so many bytes in use.
    pub(crate) fn uses_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// The service speaks of its own health.
    pub(crate) fn report(&self, status: Status, detail: Option<String>) {
        self.say(|said| {
            said.status = status;
            said.detail = detail;
        });
    }

    /// The replica is in a new state. Before anybody is told, `absent` hears why
    /// nobody answers for the service, if no replica is left that would.
    pub(super) fn entered(&self, state: &State, absent: impl FnOnce(Option<String>)) {
        let service = &self.service.id;
        tracing::debug!(%service, replica = self.replica, state = state.label(), "state");
        let tell = |all: bool| absent(all.then(|| format!("{service} is {}", state.label())));
        self.say_after(tell, |said| {
            said.state = state.label();
            said.running = matches!(state, State::Running { .. });
            said.finished = matches!(state, State::Finished);
            said.down =
                matches!(state, State::Stopped | State::Finished | State::Quarantined { .. });
            said.leaves = matches!(state, State::Draining { then: After::Stop });
            said.gave_up = matches!(state, State::Quarantined { .. });
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
            // What it said of itself while it ran is not so any more.
            if said.finished {
                said.status = Status::Ok;
                said.detail = None;
            }
        });
    }

    /// Whether any replica runs, or will without anybody's doing.
    pub(crate) fn comes_back(&self) -> bool {
        self.service.said.lock().replicas.iter().any(|said| !said.down && !said.leaves)
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        self.say_after(|_| {}, change);
    }

    /// [`say`](Self::say), after `before` was told whether all replicas are down
    /// now.
    fn say_after(&self, before: impl FnOnce(bool), change: impl FnOnce(&mut Said)) {
        let service = &*self.service;
        let mut said = service.said.lock();
        change(&mut said.replicas[self.replica]);
        before(said.replicas.iter().all(|said| said.down));
        let (ok, shown) = said.service();
        let id = service.id.as_str();
        service.metrics.observe(&Observation::ServiceState { service: id, state: shown.state });
        service.health.update(
            id,
            ServiceHealth {
                state: shown.state,
                ok,
                required: service.critical.load(Ordering::Relaxed),
                status: shown.status,
                detail: shown.detail.or(shown.why),
            },
        );
        // Under the lock, so that two changes are announced in their order.
        if ok != said.ok {
            said.ok = ok;
            service.bus.publish(KernelEvent::Health { service: id.to_owned(), ok });
        }
    }

    /// The service crashed.
    pub(crate) fn crashed(&self, crash: Crash) {
        let detail = crash.detail.map(|detail| *detail).unwrap_or_default();
        let reason = crash.reason;
        let generation = self.generation();
        let service = self.service.id.as_str();
        self.service.metrics.observe(&Observation::ServiceCrashed { service, reason: &reason });
        let report = self.crash_report(generation, reason.clone(), detail);
        let mut reports = self.service.reports.lock();
        if reports.len() >= REPORTS {
            reports.pop_front();
        }
        reports.push_back(Arc::clone(&report));
        drop(reports);
        // Before the bus, so that whoever hears of it there can wait for it.
        self.service.crash_log.push(report, crash.backtrace);
        let service = service.to_owned();
        self.service.bus.publish(KernelEvent::ServiceCrashed { service, reason });
    }

    /// Its `start` has returned.
    pub(super) fn is_up(&self, took: Duration) {
        self.service
            .metrics
            .observe(&Observation::ServiceStarted { service: self.service.id.as_str(), took });
    }

    /// The service will be started again.
    pub(super) fn restarting(&self, delay: Duration) {
        tracing::info!(service = %self.service.id, delay_ms = delay.as_millis() as u64, "restarting");
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.service
            .metrics
            .observe(&Observation::ServiceRestarted { service: self.service.id.as_str() });
    }

    /// The replica will not be started again. Answers whether no other is left that would.
    pub(super) fn gave_up(&self, reason: &CrashReason) -> bool {
        tracing::error!(
            service = %self.service.id,
            reason = reason.label(),
            critical = self.service.critical.load(Ordering::Relaxed),
            "quarantined: {reason}"
        );
        let mut said = self.service.said.lock();
        said.replicas[self.replica].gave_up = true;
        said.replicas.iter().all(|said| said.gave_up)
    }

    /// A new version has the mailbox.
    pub(super) fn swapped(&self, generation: Generation, version: &Version, pause: Duration) {
        tracing::info!(
            service = %self.service.id,
            generation = generation.0,
            version = &**version,
            pause_us = pause.as_micros() as u64,
            "swapped; on probation"
        );
        self.service
            .metrics
            .observe(&Observation::SwapPaused { service: self.service.id.as_str(), pause });
        self.say(|said| said.why = Some("on probation after a swap".into()));
    }

    /// A new version was not taken, and the old one goes on.
    pub(super) fn swap_refused(&self, error: &SwapError, version: &Version) {
        tracing::error!(service = %self.service.id, version = &**version, "swap refused: {error}");
        self.swap_ended(SwapOutcome::Refused);
    }

    /// A new version is let go of, though neither it nor the old one is at fault.
    pub(super) fn swap_called_off(&self, error: &SwapError, version: &Version) {
        tracing::info!(service = %self.service.id, version = &**version, "swap called off: {error}");
        self.swap_ended(SwapOutcome::Refused);
    }

    /// A new version crashed before its turn: its log record, and no crash of
    /// the service. The refusal that follows counts.
    pub(super) fn next_crashed(&self, generation: Generation, crash: Crash) {
        let detail = crash.detail.map(|detail| *detail).unwrap_or_default();
        let report = self.crash_report(generation, crash.reason, detail);
        self.service.crash_log.push(report, crash.backtrace);
    }

    fn crash_report(
        &self,
        generation: Generation,
        reason: CrashReason,
        detail: CrashDetail,
    ) -> Arc<Mutex<CrashReport>> {
        Arc::new(Mutex::new(CrashReport {
            service: self.service.id.clone(),
            replica: self.replica,
            generation,
            at: SystemTime::now(),
            reason,
            detail,
        }))
    }

    /// No version of this replica is on probation any more.
    pub(super) fn probation_over(&self) {
        self.say(|said| said.why = None);
    }

    /// A new version stays: it passed its probation, unless that ended before.
    pub(super) fn swap_committed(&self, generation: Generation, ended: Option<EndedBy>) {
        let (service, generation) = (&self.service.id, generation.0);
        match ended {
            None => tracing::info!(%service, generation, "swap committed"),
            Some(by) => {
                tracing::info!(%service, generation, "probation ended by {by}; the new version stays");
            }
        }
        self.swap_ended(match ended.is_none_or(EndedBy::is_good) {
            true => SwapOutcome::Committed,
            false => SwapOutcome::Ended,
        });
    }

    /// A new version was bad, and the one before is back.
    pub(super) fn put_back(&self, why: &str, failed: &Version, back: &Version) {
        tracing::error!(
            service = %self.service.id,
            failed = &**failed,
            version = &**back,
            generation = self.generation().0,
            "rolled back: {why}"
        );
        self.swap_ended(SwapOutcome::RolledBack);
    }

    /// Bytes that the incarnation has in use, if there is one.
    pub(super) fn memory(&self) -> Option<u64> {
        let alive = self.service.said.lock().replicas[self.replica].alive;
        alive.then(|| self.memory.load(Ordering::Relaxed))
    }

    /// How this replica stands.
    pub(super) fn status(&self, now: Instant) -> ReplicaStatus {
        let said = self.service.said.lock();
        let said = &said.replicas[self.replica];
        ReplicaStatus {
            replica: self.replica,
            state: said.state,
            status: said.status,
            detail: said.detail.clone().or_else(|| said.why.clone()),
            generation: self.generation(),
            version: Arc::clone(&said.version),
            uptime: said.since.map(|since| now.saturating_duration_since(since)),
            restarts: self.restarts.load(Ordering::Relaxed),
            memory: said.alive.then(|| self.memory.load(Ordering::Relaxed)),
        }
    }

    /// How the service stands, of whose replicas this is one, with what its
    /// mailbox has seen.
    pub(super) fn service_status(
        &self,
        replicas: Vec<ReplicaStatus>,
        mailbox: Stats,
    ) -> ServiceStatus {
        let (ok, shown) = self.service.said.lock().service();
        let newest = replicas.iter().map(|replica| replica.generation).max();
        let memory: Vec<u64> = replicas.iter().filter_map(|replica| replica.memory).collect();
        ServiceStatus {
            service: self.service.id.clone(),
            state: shown.state,
            ok,
            critical: self.service.critical.load(Ordering::Relaxed),
            status: shown.status,
            detail: shown.detail.or(shown.why),
            generation: newest.unwrap_or_default(),
            version: shown.version,
            uptime: replicas.iter().filter_map(|replica| replica.uptime).max(),
            restarts: replicas.iter().map(|replica| replica.restarts).sum(),
            memory: (!memory.is_empty()).then(|| memory.iter().sum()),
            mailbox,
            replicas,
        }
    }

    fn swap_ended(&self, outcome: SwapOutcome) {
        self.service
            .metrics
            .observe(&Observation::SwapEnded { service: self.service.id.as_str(), outcome });
    }

    /// The crashes that are kept, oldest first.
    pub(super) fn reports(&self) -> Vec<CrashReport> {
        self.service.reports.lock().iter().map(|report| report.lock().clone()).collect()
    }

    /// The service is gone from the host.
    pub(super) fn forget(&self) {
        self.service.metrics.forget_service(self.service.id.as_str());
        self.service.health.remove(self.service.id.as_str());
    }
}
