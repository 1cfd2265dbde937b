//! An incarnation's turn: before it comes, what the incarnation does to the
//! world is withheld.
//!
//! A new version starts beside the one it is to replace. Until it takes over
//! nothing of it may be seen: what it publishes, subscribes to, sets and
//! reports is checked at once, so that it learns of a refusal, and done when
//! its turn comes, or never. A request is the exception. Its answer is part of
//! starting, so it is sent at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::HashSet;
use parking_lot::Mutex;

use crate::config::{Config, ConfigSnapshot, ServiceConfig};
use crate::health::Status;
use crate::message::{BusError, MAX_SUBSCRIPTIONS};
use crate::service::Generation;
use crate::timer::TimerError;
use crate::topic::TopicFilter;

/// Most messages that are withheld, and most bytes of their payloads: what a
/// mailbox holds by default.
const MAX_PUBLISHES: usize = 1024;
const MAX_BYTES: usize = 16 << 20;
/// Most calls that set or cancel a timer.
const MAX_TIMER_CALLS: usize = 256;

/// See this module's header.
#[derive(Debug)]
pub(crate) struct Turn {
    generation: AtomicU64,
    /// `start` is over.
    started: AtomicBool,
    /// What it was there for is done.
    finished: AtomicBool,
    /// Whether something is withheld; read without the lock.
    waits: AtomicBool,
    withheld: Mutex<Withheld>,
    /// It had its turn, and another has it now.
    past: AtomicBool,
    /// Bytes that the incarnation has in use.
    memory: AtomicU64,
    pin: Mutex<Option<Pin>>,
}

/// A configuration that one version reads instead of what is in force.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    pub(crate) config: Arc<ConfigSnapshot>,
    pub(crate) holds: Holds,
}

/// For how long a [`Pin`] holds.
#[derive(Clone, Debug)]
pub(crate) enum Holds {
    /// While nothing newer than this version is in force: what the version was
    /// prepared with is not yet.
    UntilNewer(u64),
    /// While this is the service's table in force: it came with a version that
    /// was put back, and is not for the one before. A table that does not change
    /// from one configuration to the next stays the same allocation, and one that
    /// is said anew is another.
    While(Arc<ServiceConfig>),
}

impl Pin {
    fn holds(&self, service: &str, newest: &ConfigSnapshot) -> bool {
        match &self.holds {
            Holds::UntilNewer(version) => newest.version() <= *version,
            Holds::While(table) => Arc::ptr_eq(table, &newest.service(service)),
        }
    }
}

/// What an incarnation did before its turn, in its order.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    pub(crate) publishes: Vec<(Box<str>, Bytes)>,
    bytes: usize,
    pub(crate) subscriptions: HashSet<TopicFilter>,
    pub(crate) timers: Vec<TimerCall>,
    pub(crate) health: Option<(Status, Option<String>)>,
}

/// A call of a service's that concerns its timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimerCall {
    After(Box<str>, u64),
    Every(Box<str>, u64),
    Cancel(Box<str>),
}

impl Turn {
    /// One that has come, or that is waited for.
    pub(crate) fn new(generation: Generation, waits: bool, pin: Option<Pin>) -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(generation.0),
            started: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            waits: AtomicBool::new(waits),
            withheld: Mutex::default(),
            past: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            pin: Mutex::new(pin),
        })
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// Whether it is still to come.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// `start` is over.
    pub(crate) fn start_returned(&self) {
        self.started.store(true, Ordering::Release);
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// What the incarnation was there for is done.
    pub(crate) fn work_is_done(&self) {
        self.finished.store(true, Ordering::Release);
    }

    pub(crate) fn has_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    pub(crate) fn uses_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Does `keep` with what is withheld while the turn has not come, and
    /// nothing afterwards.
    pub(crate) fn withhold<T>(&self, keep: impl FnOnce(&mut Withheld) -> T) -> Option<T> {
        if !self.waits.load(Ordering::Acquire) {
            return None;
        }
        let mut withheld = self.withheld.lock();
        // It may have come since.
        self.waits.load(Ordering::Acquire).then(|| keep(&mut withheld))
    }

    /// The turn comes, under that generation: what was withheld is the
    /// caller's to do.
    pub(crate) fn come(&self, generation: Generation) -> Withheld {
        self.generation.store(generation.0, Ordering::Relaxed);
        self.past.store(false, Ordering::Release);
        let mut withheld = self.withheld.lock();
        self.waits.store(false, Ordering::Release);
        std::mem::take(&mut withheld)
    }

    /// Another has the turn. What this one still says of its health and wants
    /// of its timers is let go.
    pub(crate) fn pass(&self) {
        self.past.store(true, Ordering::Release);
    }

    pub(crate) fn is_past(&self) -> bool {
        self.past.load(Ordering::Acquire)
    }

    pub(crate) fn pin(&self, pin: Option<Pin>) {
        *self.pin.lock() = pin;
    }

    /// What this incarnation of `service` is configured with.
    pub(crate) fn config(&self, service: &str, in_force: &Config) -> Arc<ConfigSnapshot> {
        Self::pinned(self.pin.lock().as_ref(), service, in_force)
    }

    /// What an incarnation of `service` with that pin is configured with.
    pub(crate) fn pinned(
        pin: Option<&Pin>,
        service: &str,
        in_force: &Config,
    ) -> Arc<ConfigSnapshot> {
        let newest = in_force.snapshot();
        match pin {
            Some(pin) if pin.holds(service, &newest) => Arc::clone(&pin.config),
            _ => newest,
        }
    }
}

impl Withheld {
    pub(crate) fn publish(&mut self, topic: &str, payload: Bytes) -> Result<(), BusError> {
        let bytes = self.bytes + payload.len();
        if self.publishes.len() >= MAX_PUBLISHES || bytes > MAX_BYTES {
            return Err(BusError::Overloaded);
        }
        self.bytes = bytes;
        self.publishes.push((topic.into(), payload));
        Ok(())
    }

    pub(crate) fn subscribe(&mut self, filter: TopicFilter) -> Result<(), BusError> {
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(BusError::Limit(format!(
                "a service may have {MAX_SUBSCRIPTIONS} subscriptions"
            )));
        }
        self.subscriptions.insert(filter);
        Ok(())
    }

    pub(crate) fn timer(&mut self, call: TimerCall) -> Result<(), TimerError> {
        if self.timers.len() >= MAX_TIMER_CALLS {
            return Err(TimerError::TooMany);
        }
        self.timers.push(call);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_withheld_comes_out_once_and_in_order() {
        let turn = Turn::new(Generation(2), true, None);
        for topic in ["a", "b"] {
            let kept = turn.withhold(|withheld| withheld.publish(topic, Bytes::new()));
            assert_eq!(kept, Some(Ok(())));
        }
        let withheld = turn.come(Generation(3));
        let topics: Vec<&str> = withheld.publishes.iter().map(|(topic, _)| &**topic).collect();
        assert_eq!(topics, ["a", "b"]);
        assert_eq!(turn.generation(), Generation(3));
        assert!(turn.withhold(|_| ()).is_none(), "its turn has come");
        assert!(turn.come(Generation(4)).publishes.is_empty());
    }

    #[test]
    fn what_is_withheld_is_bounded() {
        let mut withheld = Withheld::default();
        let payload = Bytes::from(vec![0; MAX_BYTES]);
        assert_eq!(withheld.publish("t", payload.clone()), Ok(()));
        assert_eq!(withheld.publish("t", payload.slice(..1)), Err(BusError::Overloaded));
        for _ in 1..MAX_PUBLISHES {
            assert_eq!(withheld.publish("t", Bytes::new()), Ok(()));
        }
        assert_eq!(withheld.publish("t", Bytes::new()), Err(BusError::Overloaded));
        for _ in 0..MAX_TIMER_CALLS {
            assert_eq!(withheld.timer(TimerCall::Cancel("t".into())), Ok(()));
        }
        assert_eq!(withheld.timer(TimerCall::Cancel("t".into())), Err(TimerError::TooMany));
    }

    fn table(value: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let own = BTreeMap::from([("k".to_owned(), value.to_owned())]);
        BTreeMap::from([("svc".to_owned(), own)])
    }

    #[test]
    fn a_pin_holds_until_a_newer_version_is_in_force() {
        let config = Config::new();
        let old = config.snapshot();
        config.apply(&config.propose(BTreeMap::new()));
        let pin = Pin { config: old, holds: Holds::UntilNewer(1) };
        let turn = Turn::new(Generation(1), false, Some(pin));
        assert_eq!(turn.config("svc", &config).version(), 0);
        config.apply(&config.propose(BTreeMap::new()));
        assert_eq!(turn.config("svc", &config).version(), 2);
    }

    /// What came with a bad version is not read, for as long as nothing else is
    /// said for the service; and no longer, if it is said anew.
    #[test]
    fn a_pin_holds_while_a_table_is_in_force() {
        let config = Config::new();
        config.replace(table("old"));
        let (old, came) = (config.snapshot(), config.propose(table("came")));
        let pin = Pin { config: old, holds: Holds::While(came.service("svc")) };
        let turn = Turn::new(Generation(1), false, Some(pin));
        let reads = |config: &Config| {
            let read = turn.config("svc", config);
            (read.version(), read.get("svc", "k").map(str::to_owned))
        };
        assert_eq!(reads(&config), (1, Some("old".into())));
        config.apply(&came);
        assert_eq!(reads(&config), (1, Some("old".into())));
        let mut with_another = table("came");
        with_another.insert("other".into(), BTreeMap::from([("a".into(), "b".into())]));
        config.replace(with_another);
        assert_eq!(reads(&config), (1, Some("old".into())), "another service's change is not its");
        config.replace(table("new"));
        assert_eq!(reads(&config), (4, Some("new".into())));
        config.replace(table("came"));
        assert_eq!(reads(&config), (5, Some("came".into())));
    }
}
