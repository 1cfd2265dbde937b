//! Who is ready: the registry behind `/healthz`, `/livez` and `/readyz`.
//!
//! It is told, and decides nothing about services: the supervisor combines what
//! it sees of a service with what the service says of itself, and writes the
//! result here. Readiness is computed from that on each question and never
//! stored, so it cannot disagree with its parts. What waits for a change waits
//! on a counter of changes, not by polling and not on the bus, which may lose
//! the one event that mattered.
//!
//! Liveness is another question with another answer: [`Heartbeat`]. A service
//! that is down must take the host out of a load balancer, and must not have
//! the host killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a service says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// All is well.
    #[default]
    Ok,
    /// Works, with less than usual: ready.
    Degraded,
    /// Cannot do its work: not ready.
    Failing,
}

impl Status {
    /// The stable name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// How a service is, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceHealth {
    /// Where it is in its life: `starting`, `running`, `backoff`, ... A closed
    /// set, because it is a metric's label too.
    pub state: &'static str,
    /// Whether it is ready, all things considered.
    pub ok: bool,
    /// Whether the host is not ready without it.
    pub required: bool,
    /// Its own word.
    pub status: Status,
    /// Its own explanation, or the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether to send work here.
    pub ready: bool,
    /// What is not ready, sorted: closed gates, `draining`, `services` when
    /// there is nothing to be ready, and the names of required services. Empty
    /// exactly when `ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Readiness {
    fn new(mut missing: Vec<String>) -> Self {
        missing.sort_unstable();
        missing.dedup();
        Self { ready: missing.is_empty(), missing }
    }
}

/// The health of every service, and the gates of the host itself.
///
/// Clones are handles of the same registry. Every call is a short lock; none
/// waits. As many services are held as were named, until they are removed.
#[derive(Clone, Debug)]
pub struct HealthState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: RwLock<State>,
    changes: watch::Sender<u64>,
    heartbeat: Heartbeat,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, ServiceHealth>,
    gates: BTreeMap<&'static str, bool>,
    notes: BTreeMap<&'static str, String>,
    draining: bool,
}

impl HealthState {
    /// A registry of nothing, which is not ready.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: RwLock::default(),
                changes: watch::Sender::new(0),
                heartbeat: Heartbeat::new(),
            }),
        }
    }

    /// Say in one word whether `service`, which is required, is ready: it shows
    /// as `running` or `down`.
    pub fn set(&self, service: impl Into<String>, ok: bool) {
        let state = if ok { "running" } else { "down" };
        let health = ServiceHealth { state, ok, required: true, status: Status::Ok, detail: None };
        self.update(service, health);
    }

    /// Say how `service` is. Returns whether its `ok` changed by that; for one
    /// that was not known, whether it is ok now.
    pub fn update(&self, service: impl Into<String>, health: ServiceHealth) -> bool {
        let service = service.into();
        let ok = health.ok;
        self.change(|state| match state.services.get_mut(&service) {
            Some(known) if *known == health => (false, false),
            Some(known) => (true, std::mem::replace(known, health).ok != ok),
            None => {
                state.services.insert(service, health);
                (true, ok)
            }
        })
    }

    /// Forget `service`. One that was never named is forgotten already.
    pub fn remove(&self, service: &str) {
        self.change(|state| (state.services.remove(service).is_some(), ()));
    }

    /// Open or close a gate: a condition of the host's own, such as `config`,
    /// without which it is not ready. A gate that was never named is no gate.
    pub fn gate(&self, name: &'static str, open: bool) {
        self.change(|state| (state.gates.insert(name, open) != Some(open), ()));
    }

    /// Says something of the host that whoever looks closely should see, or,
    /// with `None`, that there is nothing more to say. It makes nothing unready.
    pub fn note(&self, name: &'static str, text: Option<String>) {
        self.change(|state| match text {
            Some(text) => (state.notes.insert(name, text.clone()) != Some(text), ()),
            None => (state.notes.remove(name).is_some(), ()),
        });
    }

    /// What is noted of the host.
    #[must_use]
    pub fn notes(&self) -> BTreeMap<&'static str, String> {
        self.inner.state.read().notes.clone()
    }

    /// The host ends: not ready from now on, whatever else holds.
    pub fn drain(&self) {
        self.change(|state| (!std::mem::replace(&mut state.draining, true), ()));
    }

    /// How `service` is.
    #[must_use]
    pub fn get(&self, service: &str) -> Option<ServiceHealth> {
        self.inner.state.read().services.get(service).cloned()
    }

    /// How every service is.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, ServiceHealth> {
        self.inner.state.read().services.clone()
    }

    /// How many services are ready, and how many there are.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let state = self.inner.state.read();
        (state.services.values().filter(|health| health.ok).count(), state.services.len())
    }

    /// Whether there are services and all of them are ok, required or not.
    /// Gates and draining do not enter: that is [`readiness`](Self::readiness).
    #[must_use]
    pub fn all_ready(&self) -> bool {
        let (ready, all) = self.count();
        all > 0 && ready == all
    }

    /// Whether work may be sent to this host, and what is missing if not.
    ///
    /// Ready means: no gate is closed, the host does not drain, and every
    /// required service is ok. A registry that was told nothing is not ready
    /// (`services` is missing): there must be a service or an open gate. So a
    /// host without services is ready once it has opened a gate, and one whose
    /// services are all optional is ready whatever they do.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let state = self.inner.state.read();
        let mut missing: Vec<String> = Vec::new();
        missing.extend(state.draining.then(|| "draining".to_owned()));
        missing.extend(
            state.gates.iter().filter(|(_, open)| !**open).map(|(name, _)| (*name).to_owned()),
        );
        missing.extend(
            state
                .services
                .iter()
                .filter(|(_, health)| health.required && !health.ok)
                .map(|(name, _)| name.clone()),
        );
        if state.services.is_empty() && !state.gates.values().any(|open| *open) {
            missing.push("services".to_owned());
        }
        Readiness::new(missing)
    }

    /// Whether work may be sent to `service` on this host: it is ok, required
    /// or not, and the host does not drain. `None` when there is no such service.
    #[must_use]
    pub fn readiness_of(&self, service: &str) -> Option<Readiness> {
        let state = self.inner.state.read();
        let health = state.services.get(service)?;
        let mut missing: Vec<String> = Vec::new();
        missing.extend(state.draining.then(|| "draining".to_owned()));
        missing.extend((!health.ok).then(|| service.to_owned()));
        Some(Readiness::new(missing))
    }

    /// A counter that grows with every change of what is held here. It may skip
    /// numbers: what changed twice before it was looked at changed once.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Wait until the host is ready. Cancel safe.
    pub async fn until_ready(&self) {
        // Subscribed before the first look, so no change falls between.
        let mut changes = self.subscribe();
        while !self.readiness().ready {
            // Only fails without a sender, and `self` holds it.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The host's pulse, which `/livez` looks at.
    #[must_use]
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.inner.heartbeat
    }

    /// Apply `change`, which says whether it changed anything.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> (bool, R)) -> R {
        let (changed, result) = change(&mut self.inner.state.write());
        if changed {
            self.inner.changes.send_modify(|count| *count += 1);
        }
        result
    }
}

impl Default for HealthState {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows that the kernel's loop moves: the loop beats, and others look how long
/// ago that was.
///
/// Clones are handles of the same one. The time is an argument, so the loop
/// that beats uses the time it has anyway.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The origin that `beats` counts from.
    base: Instant,
    /// Milliseconds from `base` to the newest beat, and one; 0 for no beat.
    beats: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Older than this, the loop is taken to be stuck.
    pub const LIMIT: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self { base: Instant::now(), beats: Arc::default() }
    }

    /// The loop moves, at `now`. An earlier `now` than before changes nothing.
    pub fn beat(&self, now: Instant) {
        self.beats.fetch_max(self.millis(now).saturating_add(1), Ordering::Relaxed);
    }

    /// How long ago the newest beat was, to the millisecond. `None` when there
    /// never was one.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let beat = self.beats.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.millis(now).saturating_sub(beat)))
    }

    /// Whether the newest beat is no older than [`LIMIT`](Self::LIMIT).
    ///
    /// True where nobody ever beat: a kernel that is used without a supervisor
    /// has no loop of its own, and that its HTTP server answers is all there is
    /// to say. A loop that exists beats before it first waits.
    #[must_use]
    pub fn alive(&self, now: Instant) -> bool {
        self.age(now).is_none_or(|age| age <= Self::LIMIT)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.base);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(ok: bool, required: bool) -> ServiceHealth {
        ServiceHealth { state: "running", ok, required, status: Status::Ok, detail: None }
    }

    fn check(state: &HealthState, missing: &[&str]) {
        let readiness = state.readiness();
        assert_eq!(readiness.missing, missing);
        assert_eq!(readiness.ready, missing.is_empty());
    }

    #[test]
    fn all_ready_is_not_empty_and_all_true() {
        let state = HealthState::new();
        assert!(!state.all_ready(), "empty");
        state.set("a", true);
        assert!(state.all_ready());
        state.set(String::from("b"), false);
        assert!(!state.all_ready());
        assert_eq!(state.get("b").expect("b").state, "down");
        state.remove("b");
        assert!(state.clone().all_ready());
        assert_eq!(state.get("b"), None);
    }

    #[test]
    fn nothing_is_not_ready() {
        let state = HealthState::new();
        check(&state, &["services"]);
        state.gate("config", false);
        check(&state, &["config", "services"]);
        state.gate("config", true);
        check(&state, &[]);
        state.set("a", true);
        state.remove("a");
        check(&state, &[]);
    }

    #[test]
    fn gates_drain_and_required_services_are_missed() {
        let state = HealthState::new();
        state.set("pricing", false);
        state.update("orders", health(false, true));
        state.update("optional", health(false, false));
        state.gate("config", false);
        check(&state, &["config", "orders", "pricing"]);
        state.gate("config", true);
        state.update("orders", health(true, true));
        check(&state, &["pricing"]);
        state.set("pricing", true);
        check(&state, &[]);
        assert!(!state.all_ready(), "the optional one is not");
        state.drain();
        check(&state, &["draining"]);
        state.gate("config", false);
        check(&state, &["config", "draining"]);
    }

    #[test]
    fn a_service_alone_is_asked_whether_required_or_not() {
        let state = HealthState::new();
        state.update("optional", health(false, false));
        state.update("up", health(true, false));
        let missing = |name| state.readiness_of(name).map(|readiness| readiness.missing);
        assert_eq!(missing("unknown"), None);
        assert_eq!(missing("up"), Some(vec![]));
        assert_eq!(missing("optional"), Some(vec!["optional".to_owned()]));
        state.drain();
        assert_eq!(missing("up"), Some(vec!["draining".to_owned()]));
    }

    #[test]
    fn update_says_whether_ok_changed() {
        let state = HealthState::new();
        assert!(!state.update("a", health(false, true)), "new, and not ok");
        assert!(state.update("a", health(true, true)));
        assert!(!state.update("a", ServiceHealth { state: "draining", ..health(true, true) }));
        assert!(state.update("a", health(false, true)));
        assert!(state.update("b", health(true, true)), "new, and ok");
    }

    #[test]
    fn only_changes_are_announced() {
        let state = HealthState::new();
        let mut changes = state.subscribe();
        let mut changed = || {
            let changed = changes.has_changed().expect("the sender lives");
            changes.mark_unchanged();
            changed
        };
        state.set("a", true);
        assert!(changed());
        state.set("a", true);
        state.remove("b");
        assert!(!changed());
        state.gate("config", true);
        assert!(changed());
        state.gate("config", true);
        assert!(!changed());
        state.drain();
        assert!(changed());
        state.drain();
        assert!(!changed());
        state.remove("a");
        assert!(changed());
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_can_be_awaited() {
        let state = HealthState::new();
        state.gate("config", false);
        let waiter = tokio::spawn({
            let state = state.clone();
            async move { state.until_ready().await }
        });
        state.set("a", true);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        state.gate("config", true);
        waiter.await.expect("ready");
    }

    #[test]
    fn heartbeat_ages() {
        let beat = Heartbeat::new();
        let at = |millis| beat.base + Duration::from_millis(millis);
        assert_eq!(beat.age(at(0)), None);
        assert!(beat.alive(at(3_600_000)), "nobody ever beat");
        beat.beat(at(0));
        assert_eq!(beat.age(at(1)), Some(Duration::from_millis(1)));
        beat.beat(at(2000));
        beat.beat(at(1000));
        assert_eq!(beat.age(at(2500)), Some(Duration::from_millis(500)), "never back");
        assert!(beat.alive(at(7000)));
        assert!(!beat.alive(at(7001)));
        beat.beat(at(7001));
        assert!(beat.clone().alive(at(7001)));
    }
}
