//! What a service is to the kernel: a name, a generation, and something to run.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::config::{Config, ConfigSnapshot};
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
use crate::turn::{TimerCall, Turn};

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
    /// What takes the place of [`CrashDetail::backtrace`] when it is found.
    pub backtrace: Option<LateBacktrace>,
}

impl From<CrashReason> for Crash {
    fn from(reason: CrashReason) -> Self {
        Self { reason, detail: None, backtrace: None }
    }
}

/// A backtrace that says more and takes its time, with places in the source
/// for instance.
///
/// Looked for once at most, on a thread that may block, when the service is on
/// its way again. Nothing found, or a panic in looking, leaves the backtrace
/// that [`CrashDetail`] has.
pub struct LateBacktrace(Box<dyn FnOnce() -> Option<Vec<String>> + Send>);

impl LateBacktrace {
    /// What `find` finds: a frame a line.
    pub fn new(find: impl FnOnce() -> Option<Vec<String>> + Send + 'static) -> Self {
        Self(Box::new(find))
    }

    pub(crate) fn find(self) -> Option<Vec<String>> {
        (self.0)()
    }
}

impl fmt::Debug for LateBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateBacktrace").finish_non_exhaustive()
    }
}

/// What one version hands over to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// The author's own number for the layout of `bytes`.
    pub schema: u32,
    /// The state.
    pub bytes: Bytes,
}

/// What helps a person to find the cause of a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CrashDetail {
    /// The service's own stack, a frame a line. In a crash report, the names of
    /// functions until a [`LateBacktrace`] is found.
    pub backtrace: Vec<String>,
    /// What the answer to the request that failed named, so that both are found
    /// together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corr_id: Option<String>,
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
    /// `permanent` the service is started again, otherwise it stays stopped. One
    /// that said [`Context::finished`] before is not started again.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Result<(), Crash>> + Send;
}

/// How long what the supervisor watches may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Making an incarnation, and its `start`.
    pub start: Duration,
    /// Stopping.
    pub stop: Duration,
    /// In a hot swap: finishing what is in flight and saving the state; and
    /// again, reading it. Messages wait as long.
    pub handover: Duration,
}

impl Default for Deadlines {
    /// 30 s to start, because interpreted languages are slow, 5 s to stop, and
    /// 10 s to hand over, which is longer than a handler may take by default.
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { start: s(30), stop: s(5), handover: s(10) }
    }
}

/// What one incarnation has of the kernel: its mailbox and its way to the bus,
/// its configuration, timers and health.
#[derive(Debug)]
pub struct Context {
    /// The mailbox's receiving end, for a runtime that wants batches; a plain
    /// service calls [`next`](Self::next).
    pub lease: Lease,
    /// How long it may take to start and to stop. The supervisor ends it then;
    /// a runtime that can tell more of the cause ends it a little earlier.
    pub deadlines: Deadlines,
    pub(crate) metrics: Metrics,
    /// Made when it is first needed.
    pub(crate) publisher: Option<Publisher>,
    pub(crate) handle: Arc<ContextHandle>,
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
    /// Which incarnation. It grows when a new version has its turn, or an old
    /// one again.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.handle.generation()
    }

    /// Says that `start` is over and messages may come. Until then the start
    /// deadline runs and the service is not ready.
    pub fn started(&self) {
        self.handle.turn.start_returned();
    }

    /// Says that what the service is there for is done. When it returns `Ok` after
    /// that it has *finished*: it is not started again, whatever the policy, and
    /// counts as ready. Whoever starts it runs it once more.
    pub fn finished(&self) {
        self.handle.turn.work_is_done();
    }

    /// Waits for what is next. The message before it counts as handled.
    /// Cancelling it loses nothing.
    ///
    /// In a hot swap it hands no state over and takes none; a service that has
    /// some reads its [`lease`](Self::lease) itself.
    pub async fn next(&mut self) -> Incoming {
        self.conclude(Outcome::Handled);
        loop {
            match self.lease.next().await {
                Work::Stop => return Incoming::Stop,
                Work::Event(event) => return Incoming::Event(event),
                Work::Pause { .. } => self.lease.paused(Ok(None)),
                Work::Restore(_) => {
                    self.lease.restored(Err("this service takes no state over".into()));
                }
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
        self.publisher().publish(topic, payload.into())
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
        let answer = self.publisher().request(topic, payload.into())?;
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

    fn publisher(&mut self) -> &mut Publisher {
        self.publisher.get_or_insert_with(|| self.handle.publisher())
    }

    /// Who it is, the way to subscribe, to timers and to the configuration, to be
    /// kept beside the context.
    #[must_use]
    pub fn handle(&self) -> &Arc<ContextHandle> {
        &self.handle
    }

    /// Subscribes; repeating a filter changes nothing.
    ///
    /// # Errors
    ///
    /// See [`BusError`].
    pub fn subscribe(&self, filter: &str) -> Result<(), BusError> {
        self.handle.subscribe(filter)
    }
}

/// A service's view of the host beside its mailbox: what a runtime's host
/// functions need. Its timers end with the incarnation.
#[derive(Debug)]
pub struct ContextHandle {
    /// Who this is.
    pub id: ServiceId,
    /// Which of its replicas, from 0.
    pub replica: usize,
    pub(crate) turn: Arc<Turn>,
    pub(crate) grants: Arc<TopicGrants>,
    pub(crate) router: Router,
    pub(crate) timers: Timers,
    pub(crate) config: Config,
    pub(crate) standing: Arc<Standing>,
}

impl ContextHandle {
    /// Which incarnation. See [`Context::generation`].
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.turn.generation()
    }

    /// Whether it has its turn: what is for the service is for this incarnation.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        !self.turn.waits() && !self.turn.is_past()
    }

    /// Whether it had its turn, and another has it now.
    #[must_use]
    pub fn had_turn(&self) -> bool {
        self.turn.is_past()
    }

    /// Whether the service runs, or will without anybody's doing: one that crashed and
    /// waits for its next start does, one that was stopped or gave up does not.
    #[must_use]
    pub fn comes_back(&self) -> bool {
        self.standing.comes_back()
    }

    /// Announces a crash of a part of the service, such as one of many instances
    /// behind a listener, that does not end the incarnation. Nothing is restarted
    /// for it; a version on probation is put back when its service's own future is
    /// polled the next time, which is the caller's to wake.
    pub fn report_crash(&self, crash: Crash) {
        if self.has_turn() {
            self.standing.part_crashed(&crash.reason);
        }
        self.standing.crashed(crash);
    }

    /// Subscribes; repeating a filter changes nothing.
    ///
    /// # Errors
    ///
    /// See [`BusError`].
    pub fn subscribe(&self, filter: &str) -> Result<(), BusError> {
        let filter = TopicFilter::parse(filter)?;
        let kept = self.turn.withhold(|withheld| {
            Router::may_subscribe(&self.id, &filter, &self.grants)?;
            withheld.subscribe(filter.clone())
        });
        kept.unwrap_or_else(|| self.router.subscribe(&self.id, filter, &self.grants))
    }

    /// Ends a subscription; one that is not there is ended already.
    ///
    /// # Errors
    ///
    /// [`BusError::InvalidTopic`].
    pub fn unsubscribe(&self, filter: &str) -> Result<(), BusError> {
        let filter = TopicFilter::parse(filter)?;
        if self.turn.withhold(|withheld| withheld.subscriptions.remove(&filter)).is_none() {
            self.router.unsubscribe(&self.id, &filter);
        }
        Ok(())
    }

    /// A publisher of its own.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        let grants = Arc::clone(&self.grants);
        // One whose turn has come withholds nothing any more.
        let turn = self.turn.waits().then(|| Arc::clone(&self.turn));
        self.router.publisher_in_turn(self.id.as_str(), grants, turn)
    }

    /// Says what the service thinks of itself.
    pub fn report_health(&self, status: Status, detail: Option<String>) {
        if self.turn.withhold(|withheld| withheld.health = Some((status, detail.clone()))).is_none()
            && !self.turn.is_past()
        {
            self.standing.report(status, detail);
        }
    }

    /// Says how many bytes of memory the incarnation has in use.
    pub fn report_memory(&self, bytes: u64) {
        self.turn.uses_memory(bytes);
        if !self.turn.waits() && !self.turn.is_past() {
            self.standing.uses_memory(bytes);
        }
    }

    /// What the service is configured with.
    #[must_use]
    pub fn config(&self) -> Arc<ConfigSnapshot> {
        self.turn.config(self.id.as_str(), &self.config)
    }

    /// Has `ron.timer.NAME` delivered once, after `delay_ms`.
    ///
    /// # Errors
    ///
    /// See [`TimerError`].
    pub fn timer_after(&self, name: &str, delay_ms: u64) -> Result<(), TimerError> {
        self.timer(TimerCall::After(name.into(), delay_ms))
    }

    /// Has `ron.timer.NAME` delivered each `period_ms`.
    ///
    /// # Errors
    ///
    /// See [`TimerError`].
    pub fn timer_every(&self, name: &str, period_ms: u64) -> Result<(), TimerError> {
        self.timer(TimerCall::Every(name.into(), period_ms))
    }

    /// Ends a timer; one that is not there is ended already.
    pub fn timer_cancel(&self, name: &str) {
        // It cannot fail, unless too many are withheld; then it was never set.
        let _ = self.timer(TimerCall::Cancel(name.into()));
    }

    fn timer(&self, call: TimerCall) -> Result<(), TimerError> {
        Timers::check(&call)?;
        if let Some(kept) = self.turn.withhold(|withheld| withheld.timer(call.clone())) {
            return kept;
        }
        if self.turn.is_past() {
            return Ok(());
        }
        let (service, generation) = (self.id.clone(), self.generation());
        let owner = TimerOwner { service, replica: self.replica, generation };
        self.timers.call(&owner, &call)
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
