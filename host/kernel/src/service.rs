//! What a service is to the kernel: a name, a generation, and something to run.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::config::Config;
use crate::crash::CrashReason;
use crate::event::{BUS_OVERFLOW, KernelEvent};
use crate::health::Status;
use crate::message::{
    Answer, BusError, Lease, Message, Outcome, Publisher, Router, TopicGrants, Work,
};
use crate::metrics::Metrics;
use crate::supervisor::Standing;
use crate::timer::{TimerError, TimerOwner, Timers};
use crate::topic::TopicFilter;

/// A service's name: 1 to 64 of `A-Z a-z 0-9 _ -`, so that it can stand in a
/// topic, a metric's label and a path. A clone shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(Arc<str>);

/// Why a text is no service's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceIdError {
    /// Empty, too long, or with another character.
    #[error("{0:?} is not a service's name: 1 to 64 of A-Z a-z 0-9 _ -")]
    Malformed(String),
    /// A name that the host uses for itself.
    #[error("{0:?} is a name that the host uses for itself")]
    Reserved(String),
}

impl ServiceId {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// The rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, ServiceIdError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            return Err(ServiceIdError::Malformed(text.chars().take(80).collect()));
        }
        if matches!(text, BUS_OVERFLOW | "ron" | "host" | "config" | "draining" | "services") {
            return Err(ServiceIdError::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl Borrow<str> for ServiceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Serialize for ServiceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Which incarnation of a service: 1 for the first, growing with each restart
/// and each hot swap. What an old generation still sends is recognised by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How an incarnation ended badly: the reason, and what is known besides.
#[derive(Debug)]
pub struct Crash {
    /// Why; what metrics and events carry.
    pub reason: CrashReason,
    /// For the log and the crash report; empty where nothing more is known.
    pub detail: Option<Box<CrashDetail>>,
}

impl From<CrashReason> for Crash {
    fn from(reason: CrashReason) -> Self {
        Self { reason, detail: None }
    }
}

/// What helps a person to find the cause of a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CrashDetail {
    /// The service's own stack, symbolised, a frame a line.
    pub backtrace: Vec<String>,
    /// The service's last log lines, oldest first.
    pub last_log: Vec<String>,
    /// The topic of the message in flight.
    pub topic: Option<String>,
    /// Memory in use at the end, in bytes.
    pub memory: Option<u64>,
    /// What was running: `b3:<hex>` of the component.
    pub digest: Option<String>,
}

/// Something that runs under supervision.
///
/// One value is one incarnation: the supervisor makes a fresh one for every
/// start, so nothing of a crashed one lives on. A panic in `run` is caught and
/// counts as a crash with its text.
pub trait Service: Send + 'static {
    /// Runs until it is asked to stop ([`Incoming::Stop`], or
    /// [`Context::next`] answering it again and again), and returns then.
    ///
    /// Returning `Ok` is a clean exit and no crash: under the policy
    /// `permanent` the service is started again, otherwise it stays stopped.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Result<(), Crash>> + Send;
}

/// How long the two calls that the supervisor watches may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Making an incarnation, and its `start`.
    pub start: Duration,
    /// Stopping.
    pub stop: Duration,
}

impl Default for Deadlines {
    /// 30 s to start, because interpreted languages are slow, and 5 s to stop.
    fn default() -> Self {
        Self { start: Duration::from_secs(30), stop: Duration::from_secs(5) }
    }
}

/// What one incarnation has of the kernel: its mailbox and its way to the bus,
/// its configuration, timers and health.
#[derive(Debug)]
pub struct Context {
    /// Who this is.
    pub id: ServiceId,
    /// Which incarnation.
    pub generation: Generation,
    /// The mailbox's receiving end, for a runtime that wants batches; a plain
    /// service calls [`next`](Self::next).
    pub lease: Lease,
    /// How long it may take to start and to stop. The supervisor ends it then;
    /// a runtime that can tell more of the cause ends it a little earlier.
    pub deadlines: Deadlines,
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Metrics,
    pub(crate) grants: Arc<TopicGrants>,
    pub(crate) router: Router,
    pub(crate) timers: Timers,
    pub(crate) config: Config,
    pub(crate) standing: Arc<Standing>,
}

/// What [`Context::next`] brings.
#[derive(Debug)]
pub enum Incoming {
    /// A message that a subscription or a timer brought. It counts as handled
    /// with the next call of [`Context::next`] or with a clean exit, unless
    /// [`Context::retry`] or [`Context::reject`] said otherwise.
    Message(Message),
    /// The kernel announced something.
    Event(Arc<KernelEvent>),
    /// Return, within the stop deadline.
    Stop,
}

impl Context {
    /// Says that `start` is over and messages may come. Until then the start
    /// deadline runs and the service is not ready.
    pub fn started(&self) {
        self.standing.started();
    }

    /// Says what this is an incarnation of, by its digest.
    pub fn runs(&self, digest: Arc<str>) {
        self.standing.runs(digest);
    }

    /// Waits for what is next. The message before it counts as handled.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Incoming {
        self.conclude(Outcome::Handled);
        loop {
            match self.lease.next().await {
                Work::Stop => return Incoming::Stop,
                Work::Event(event) => return Incoming::Event(event),
                Work::Messages => {
                    if let Some(message) = self.lease.begin() {
                        return Incoming::Message(message.clone());
                    }
                }
            }
        }
    }

    fn conclude(&mut self, outcome: Outcome) {
        if !self.lease.in_flight().is_empty() {
            self.lease.conclude(outcome);
        }
    }

    /// Has the message in flight delivered again, up to the mailbox's limit.
    pub fn retry(&mut self, why: impl Into<String>) {
        self.conclude(Outcome::Retry(why.into()));
    }

    /// Sends the message in flight to the dead letters.
    pub fn reject(&mut self, why: impl Into<String>) {
        self.conclude(Outcome::Reject(why.into()));
    }

    /// Publishes; says how many mailboxes took the message in.
    ///
    /// # Errors
    ///
    /// See [`BusError`].
    pub fn publish(&mut self, topic: &str, payload: impl Into<Bytes>) -> Result<u32, BusError> {
        self.publisher.publish(topic, payload.into())
    }

    /// Publishes, and waits up to `limit` for the first answer.
    ///
    /// # Errors
    ///
    /// See [`BusError`].
    pub async fn request(
        &mut self,
        topic: &str,
        payload: impl Into<Bytes>,
        limit: Duration,
    ) -> Answer {
        let answer = self.publisher.request(topic, payload.into())?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.unwrap_or(Err(BusError::NoResponder)),
            Err(_) => Err(BusError::Timeout),
        }
    }

    /// Where to count.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The way to subscribe, to timers and to the configuration, to be kept
    /// beside the context.
    #[must_use]
    pub fn handle(&self) -> ContextHandle {
        ContextHandle {
            id: self.id.clone(),
            generation: self.generation,
            grants: Arc::clone(&self.grants),
            router: self.router.clone(),
            timers: self.timers.clone(),
            config: self.config.clone(),
            standing: Arc::clone(&self.standing),
        }
    }

    /// Subscribes; repeating a filter changes nothing.
    ///
    /// # Errors
    ///
    /// See [`BusError`].
    pub fn subscribe(&self, filter: &str) -> Result<(), BusError> {
        let filter = TopicFilter::parse(filter)?;
        self.router.subscribe(&self.id, filter, &self.grants)
    }
}

/// A service's view of the host beside its mailbox: what a runtime's host
/// functions need. It is for one generation; its timers end with that.
#[derive(Clone, Debug)]
pub struct ContextHandle {
    /// Who this is.
    pub id: ServiceId,
    /// Which incarnation.
    pub generation: Generation,
    grants: Arc<TopicGrants>,
    router: Router,
    timers: Timers,
    config: Config,
    standing: Arc<Standing>,
}

impl ContextHandle {
    /// Subscribes; repeating a filter changes nothing.
    ///
    /// # Errors
    ///
    /// See [`BusError`].
    pub fn subscribe(&self, filter: &str) -> Result<(), BusError> {
        let filter = TopicFilter::parse(filter)?;
        self.router.subscribe(&self.id, filter, &self.grants)
    }

    /// Ends a subscription; one that is not there is ended already.
    ///
    /// # Errors
    ///
    /// [`BusError::InvalidTopic`].
    pub fn unsubscribe(&self, filter: &str) -> Result<(), BusError> {
        self.router.unsubscribe(&self.id, &TopicFilter::parse(filter)?);
        Ok(())
    }

    /// A publisher of its own.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.router.publisher(self.id.as_str(), Arc::clone(&self.grants))
    }

    /// Says what the service thinks of itself.
    pub fn report_health(&self, status: Status, detail: Option<String>) {
        self.standing.report(status, detail);
    }

    /// Says how many bytes of memory the incarnation has in use.
    pub fn report_memory(&self, bytes: u64) {
        self.standing.uses_memory(bytes);
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn owner(&self) -> TimerOwner {
        TimerOwner { service: self.id.clone(), generation: self.generation }
    }

    /// Has `ron.timer.NAME` delivered once, after `delay_ms`.
    ///
    /// # Errors
    ///
    /// See [`TimerError`].
    pub fn timer_after(&self, name: &str, delay_ms: u64) -> Result<(), TimerError> {
        self.timers.after(&self.owner(), name, delay_ms)
    }

    /// Has `ron.timer.NAME` delivered each `period_ms`.
    ///
    /// # Errors
    ///
    /// See [`TimerError`].
    pub fn timer_every(&self, name: &str, period_ms: u64) -> Result<(), TimerError> {
        self.timers.every(&self.owner(), name, period_ms)
    }

    /// Ends a timer; one that is not there is ended already.
    pub fn timer_cancel(&self, name: &str) {
        self.timers.cancel(&self.owner(), name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_stand_in_topics_labels_and_paths() {
        fn check(text: &str, error: Option<&str>) {
            let got = ServiceId::parse(text).err().map(|e| e.to_string());
            assert_eq!(got.as_deref(), error);
        }
        check("pricing-v2_B", None);
        check(&"a".repeat(64), None);
        check("", Some("\"\" is not a service's name: 1 to 64 of A-Z a-z 0-9 _ -"));
        check("a.b", Some("\"a.b\" is not a service's name: 1 to 64 of A-Z a-z 0-9 _ -"));
        check("bus-overflow", Some("\"bus-overflow\" is a name that the host uses for itself"));
    }
}
