//! The instances of one incarnation behind HTTP.
//!
//! Making, choosing and ending them is `wasmtime_wasi_http`'s; this says within
//! which limits, how long a request may take, and what became of one that failed.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use ron_kernel::service::{ContextHandle, Crash};
use ron_kernel::{CallKind, CrashReason, Metrics};
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use wasmtime::component::GuestTaskId;
use wasmtime::{PoolConcurrencyLimitError, Store, StoreContextMut, Trap, WasmBacktrace};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    ExpirationError, HandlerState, Instance, InstantiationError, Proxy, ProxyHandler, ProxyPre,
    Request, Response, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::bindings::http::types as p3;

use super::flight::{Aboard, Began, Flight, Giving, Upload};
use super::{Place, Unanswered, report};
use crate::call::bounded;
use crate::component::{Code, Component};
use crate::ending::{Failed, Seen};
use crate::grants::Grants;
use crate::instance::new_store;
use crate::lane::LanePlace;
use crate::limits::{Limits, SharedRates};
use crate::memory_share::MemoryShare;
use crate::state::{FIRST_TICKS, HostState, Progress, Witness};

/// Beyond a request's limit: a guest that computes is stopped at the limit by the
/// engine, with a backtrace; this is for one that waits.
const GRACE: Duration = Duration::from_millis(250);
/// How long an answer's body may go on, and an instance after it has answered.
const LONGEST_ANSWER: Duration = Duration::from_secs(3600);
const AFTER: Duration = Duration::from_secs(30);
/// How long an instance's end may take to be told, when its request has ended: it
/// comes at once, unless the instance goes on with something else.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long an instance waits for another request.
const IDLE: Duration = Duration::from_secs(1);
/// Requests whose client has gone before their answer, and whose answer is awaited all the
/// same. One more is dropped, which its instance may notice.
const LEAVING: usize = 1024;
/// Requests that one instance answers, in all and at a time. Components of WASI 0.2
/// are written for one: what they leave behind in their memory is nobody's to meet.
/// Those of WASI 0.3 are for many, and these are the numbers of `wasmtime serve`.
const ONCE: Reuse = Reuse { total: 1, at_a_time: 1 };
const AGAIN: Reuse = Reuse { total: 128, at_a_time: 16 };

#[derive(Clone, Copy)]
struct Reuse {
    total: usize,
    at_a_time: usize,
}

/// See this module's header.
pub(super) struct Pool {
    workers: Workers,
    handler: Mutex<Handling>,
    /// Waits for the answers of those who have gone.
    leaving: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(
        component: Component,
        limits: Limits,
        grants: Arc<Grants>,
        kernel: Arc<ContextHandle>,
        metrics: Metrics,
        abandoned: Arc<AtomicU64>,
    ) -> Self {
        let rates = SharedRates::new(&limits, component.runtime().ticks().now());
        let state = Workers {
            component,
            limits,
            grants,
            kernel,
            metrics,
            rates,
            memory: Arc::default(),
            crashed: Arc::default(),
            abandoned,
            instances: Arc::default(),
        };
        let handler = Mutex::new(Handling::new(&state, 0));
        Self { workers: state, handler, leaving: Mutex::default() }
    }

    /// Who handles the next request. An instance that takes no more while it answers others
    /// may still be the one that is woken for it (wasmtime-wasi-http 48), and the request
    /// would wait for somebody else's: so after each such instance there is another handler,
    /// and what the one before has left to do goes on.
    fn handler(&self) -> ProxyHandler<Workers> {
        let mut handling = self.handler.lock();
        let spoils = self.workers.instances.spoils.load(Ordering::Acquire);
        if handling.spoils != spoils && self.workers.is_reused() {
            *handling = Handling::new(&self.workers, spoils);
        }
        handling.handler.clone()
    }

    /// Ends every instance, whatever it does. What it had to answer is cut.
    pub(super) fn cut(&self) {
        let instances = &self.workers.instances;
        instances.cut.store(true, Ordering::Release);
        let all: Vec<_> = instances.all.lock().values().cloned().collect();
        for aboard in all {
            aboard.wake();
        }
    }

    /// Waits for the next crash that is reported.
    pub(super) async fn crashed(&self) {
        self.workers.crashed.notified().await;
    }

    /// Makes an instance and lets it go: what cannot be instantiated is found
    /// before anybody waits for an answer.
    pub(super) async fn try_out(&self, limit: Duration) -> Result<(), Crash> {
        let workers = &self.workers;
        let (store, made) = workers.make(limit).await;
        let witness = store.data().witness();
        drop(store);
        made.map(drop).map_err(|failed| workers.crash(&witness, CallKind::Start, limit, &failed))
    }

    pub(super) async fn answer(
        &self,
        request: Request,
        corr_id: &str,
        place: Option<Place>,
    ) -> Result<http::Response<Giving>, Unanswered> {
        let https = request.uri().scheme() == Some(&Scheme::HTTPS);
        let (flight, end) = Flight::new(corr_id, https, place);
        let request = request.map(|body| Upload::new(body, &flight).boxed_unsync());
        let (handler, own) = (self.handler(), Arc::clone(&flight));
        let handling = async move { handler.handle(own, request).await };
        let handling = Some(Box::pin(handling) as Handled);
        match (Awaited { pool: self, flight: Arc::clone(&flight), handling }).await {
            Ok(response) => Ok(flight.answers(response)),
            Err(error) => {
                let _told = Told(&flight);
                Err(self.unanswered(error, &flight, end).await)
            }
        }
    }

    /// Tells what became of a request, and reports what was a crash.
    async fn unanswered(&self, error: wasmtime::Error, flight: &Flight, end: End) -> Unanswered {
        let workers = &self.workers;
        if let Some(made) = error.downcast_ref::<InstantiationError<Arc<Flight>>>() {
            let full = made.error.downcast_ref::<PoolConcurrencyLimitError>();
            let full = full.map(|full| format!("{full}; see engine.request_instances"));
            if let Some(full) = full.or_else(|| Some(made.error.downcast_ref::<All>()?.to_string()))
            {
                return Unanswered::Unavailable(format!("no room for one more instance: {full}"));
            }
            let message = format!("{:#}", made.error);
            let crash = CrashReason::Host { message: message.clone() }.into();
            workers.report(crash, flight.corr_id.clone());
            return Unanswered::Crashed(message);
        }
        let code = error.downcast_ref::<ErrorCode>().map(|code| format!("{code:?}"));
        let code = code.or_else(|| Some(format!("{:?}", error.downcast_ref::<p3::ErrorCode>()?)));
        if let Some(code) = code {
            return Unanswered::Failed(format!("its answer is an error: {code}"));
        }
        if error.is::<ExpirationError>() {
            workers.ended(flight, &Failed::Late);
        } else if is_trap(&error) {
            workers.ended(flight, &Failed::Call(error));
        }
        // Otherwise the instance's own end tells, and that comes at once.
        match timeout(AT_ONCE, end).await {
            Ok(Ok(unanswered)) => unanswered,
            _ => Unanswered::Failed("it ended without an answer".into()),
        }
    }
}

/// The handler of new requests.
struct Handling {
    handler: ProxyHandler<Workers>,
    /// How many instances were spoiled before it was made.
    spoils: u64,
}

impl Handling {
    fn new(workers: &Workers, spoils: u64) -> Self {
        Self { handler: ProxyHandler::new(workers.clone()), spoils }
    }
}

type Handled = Pin<Box<dyn Future<Output = wasmtime::Result<Response>> + Send>>;

/// A request whose answer somebody waits for.
struct Awaited<'p> {
    pool: &'p Pool,
    flight: Arc<Flight>,
    /// There until it has come.
    handling: Option<Handled>,
}

impl Future for Awaited<'_> {
    type Output = wasmtime::Result<Response>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // It is not polled when it has come.
        let Some(handling) = &mut self.handling else { return Poll::Pending };
        let handled = handling.as_mut().poll(cx);
        if handled.is_ready() {
            self.handling = None;
        }
        handled
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let Some(handling) = self.handling.take() else { return };
        self.flight.left();
        let workers = &self.pool.workers;
        // An instance that has nothing else to answer costs nobody anything.
        if !workers.is_reused() || self.flight.is_noticed() {
            return;
        }
        let mut leaving = self.pool.leaving.lock();
        while let Some(ended) = leaving.try_join_next() {
            report(ended);
        }
        if leaving.len() >= LEAVING {
            return;
        }
        let flight = Arc::clone(&self.flight);
        let last = async move {
            // Nobody takes it: it is held as that of any client who has gone.
            let answer = handling.await.map(|response| flight.answers(response));
            drop(answer);
        };
        leaving.spawn_on(last, workers.component.runtime().handle());
    }
}

/// A request that has no answer, until whoever waits is told so or has gone.
struct Told<'f>(&'f Flight);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.unanswered();
    }
}

type End = oneshot::Receiver<Unanswered>;

/// What instances are made of. A clone makes the same.
#[derive(Clone)]
struct Workers {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    kernel: Arc<ContextHandle>,
    metrics: Metrics,
    rates: SharedRates,
    /// Bytes of all instances together.
    memory: Arc<AtomicU64>,
    /// Told of each crash that was reported.
    crashed: Arc<Notify>,
    /// Instances that were lost to a client.
    abandoned: Arc<AtomicU64>,
    instances: Arc<Instances>,
}

/// There are as many instances of the service as it may have.
#[derive(Debug, Error)]
#[error("the service has {0}, which is all that one may have; see engine.request_instances")]
struct All(usize);

/// Those that there are.
#[derive(Default)]
struct Instances {
    /// What each answers, by its address.
    all: Mutex<HashMap<usize, Arc<Aboard>>>,
    /// How many have taken no more for what a client did, or for a late request.
    spoils: Arc<AtomicU64>,
    /// None is to go on.
    cut: AtomicBool,
}

impl Instances {
    fn are_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

impl Workers {
    async fn make(&self, limit: Duration) -> (Store<HostState>, Result<Proxy, Failed>) {
        let (kernel, total) = (Arc::clone(&self.kernel), Arc::clone(&self.memory));
        let share = MemoryShare::new(kernel, total);
        let gauge = move |bytes| share.grown_to(bytes);
        let (component, kernel) = (&self.component, Arc::clone(&self.kernel));
        let (limits, metrics) = (&self.limits, self.metrics.clone());
        let (grants, rates) = (&self.grants, self.rates.rates());
        let mut store = new_store(component, limits, grants, kernel, metrics, rates, gauge);
        store.data_mut().call.begin(limit);
        store.set_epoch_deadline(FIRST_TICKS);
        let made = match (store.data_mut().reached(), component.code()) {
            (Err(error), _) => Err(Failed::Call(error)),
            (Ok(()), Code::Http(pre)) => bounded(limit, pre.instantiate_async(&mut store)).await,
            (Ok(()), _) => Err(Failed::Call(wasmtime::Error::msg("not a component for HTTP"))),
        };
        store.data_mut().call.end();
        (store, made)
    }

    /// The instance that answers `flight` has failed, or the request has. Reported
    /// once, whoever notices first.
    fn ended(&self, flight: &Flight, failed: &Failed) {
        let Some(ended) = flight.ended() else { return };
        let limit = self.limits.handler_deadline;
        let Some(Began { witness, instance }) = flight.began() else { return };
        if matches!(failed, Failed::Late) && self.instances.are_cut() {
            // Whoever waits may have gone.
            let _ = ended.send(Unanswered::Unavailable("the service was stopped".into()));
            return;
        }
        let crash = self.crash(&witness, CallKind::Handler, limit, failed);
        let why = crash.reason.to_string();
        let late = matches!(crash.reason, CrashReason::Deadline { .. });
        let clients = match failed {
            // One that waits when its client has gone may wait for that.
            _ if late => {
                flight.is_broken() || (matches!(failed, Failed::Late) && flight.is_noticed())
            }
            _ => instance.may_fail(),
        };
        match failed {
            // The instance goes on with the others that it answers.
            Failed::Late if clients => self.abandoned(flight, &crash.reason),
            Failed::Late => self.report(crash, flight.corr_id.clone()),
            Failed::Call(_) if instance.reported.swap(true, Ordering::Relaxed) => {}
            Failed::Call(_) if clients => self.abandoned(flight, &crash.reason),
            Failed::Call(_) => self.report(crash, instance.ids(flight)),
        }
        let _ = ended.send(if late { Unanswered::Late(why) } else { Unanswered::Crashed(why) });
    }

    /// An instance has ended for what a client did, which is no crash of the service's.
    fn abandoned(&self, flight: &Flight, reason: &CrashReason) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            service = %self.kernel.id,
            corr_id = flight.corr_id,
            "an instance was lost to its client: {reason}"
        );
    }

    /// Reports a crash by the ids of the requests that it cost.
    fn report(&self, mut crash: Crash, corr_id: String) {
        crash.detail.get_or_insert_default().corr_id = Some(corr_id);
        self.kernel.report_crash(crash);
        self.crashed.notify_one();
    }

    fn is_reused(&self) -> bool {
        matches!(self.component.code(), Code::Http(ProxyPre::P3(_)))
    }

    fn crash(&self, witness: &Witness, call: CallKind, limit: Duration, failed: &Failed) -> Crash {
        Seen { witness, call, limit, topic: None, component: &self.component }.crash(failed)
    }
}

impl HandlerState for Workers {
    type StoreData = HostState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<HostState, Expiration, Worker>> {
        let most = self.component.runtime().config().requests_each();
        if self.instances.all.lock().len() >= most {
            return Err(wasmtime::Error::new(All(most)));
        }
        let limit = self.limits.handler_deadline;
        let (store, made) = self.make(limit).await;
        let proxy = made.map_err(|failed| match failed {
            Failed::Call(error) => error,
            Failed::Late => wasmtime::Error::msg(format!("not instantiated within {limit:?}")),
        })?;
        let aboard = Aboard::new(&self.instances.spoils);
        self.instances.all.lock().insert(Arc::as_ptr(&aboard).addr(), Arc::clone(&aboard));
        let reuse = if self.is_reused() { AGAIN } else { ONCE };
        let state = Worker { workers: self.clone(), aboard: Arc::clone(&aboard), reuse };
        let (timer, instances) = (Box::pin(sleep(limit)), Arc::clone(&self.instances));
        let place = store.data().call.place().clone();
        let expiration = Expiration { limit, aboard, instances, place, timer, seen: None };
        Ok(Instance { store, proxy, view: HostState::http, expiration, state })
    }
}

/// One instance's state with the handler.
struct Worker {
    workers: Workers,
    aboard: Arc<Aboard>,
    reuse: Reuse,
}

impl WorkerState for Worker {
    type StoreData = HostState;
    type RequestData = Arc<Flight>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse.total || !self.aboard.is_inviting() {
            ShouldAccept::Never
        } else if concurrent >= self.reuse.at_a_time {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, HostState>,
        flight: Arc<Flight>,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        store.set_epoch_deadline(FIRST_TICKS);
        let state = store.data_mut();
        let limit = self.workers.limits.handler_deadline;
        // Where several are under way, a tick is nobody's in particular: what is
        // computed since the last came is held to the limit.
        let progress = match self.reuse.at_a_time {
            1 => Arc::clone(&flight.progress),
            _ => Progress::begun(),
        };
        state.call.begin_answering(limit, progress);
        state.limiter.begin_call();
        state.https = flight.https;
        flight.begins(&self.aboard, state.witness());
        // What the client takes to send its body has the listener's limits. The instance's
        // own timer wakes it: most requests are over long before, and one more timer each
        // would cost a part of them.
        let due = Instant::now() + limit + GRACE;
        Box::pin(poll_fn(move |cx| {
            // What follows the head of an answer is for the body's own limit.
            match !flight.is_answered() && flight.is_late(due, cx.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }))
    }

    fn drop(&self, mut store: Store<HostState>, result: wasmtime::Result<()>) {
        store.data_mut().call.end();
        let witness = store.data().witness();
        let workers = &self.workers;
        let flights = self.aboard.flights();
        let why = match &result {
            Err(error) if is_trap(error) => Some("the service crashed over it"),
            Err(_) if workers.instances.are_cut() => Some("the service was stopped"),
            // Nothing that it began for a request goes on: what is not written is not to
            // come. In WASI 0.3 the end of a body is read by the instance's own task, and
            // may be on its way; in WASI 0.2 it is there, or never will be.
            Ok(()) if workers.is_reused() && witness.log.panic().is_none() => None,
            _ => Some("its instance ended before it did"),
        };
        // While what it wrote can be told from what its end leaves.
        if let Some(why) = why {
            for flight in &flights {
                flight.orphan(why);
            }
        }
        drop(store);
        for flight in &flights {
            flight.wake();
        }
        witness.stdout.finish();
        witness.stderr.finish();
        let failed = match result {
            Err(error) if is_trap(&error) => Some(Failed::Call(error)),
            // Only its expiration ends one that answers in this way.
            Err(_) => Some(Failed::Late),
            Ok(()) => None,
        };
        // Those that are there are concerned; where none is, the last.
        let mut concerned: Vec<_> = flights.iter().filter(|flight| flight.is_there()).collect();
        let failed = match failed {
            // It was told of when the request was late.
            Some(Failed::Late) if concerned.is_empty() && self.aboard.is_late() => None,
            failed => failed,
        };
        if concerned.is_empty() {
            concerned.extend(flights.last());
        }
        for flight in concerned {
            if let Some(failed) = &failed {
                workers.ended(flight, failed);
                continue;
            }
            // Whoever still waits learns with this that nothing comes.
            let untold = flight.ended();
            // A panic after the head of the answer reaches nobody else.
            if let Some(message) = witness.log.panic()
                && untold.is_some()
            {
                let reason = CrashReason::panic(message);
                if self.aboard.may_fail() {
                    workers.abandoned(flight, &reason);
                } else {
                    workers.report(reason.into(), flight.corr_id.clone());
                }
            }
        }
        workers.instances.all.lock().remove(&Arc::as_ptr(&self.aboard).addr());
        self.aboard.ended();
    }
}

fn is_trap(error: &wasmtime::Error) -> bool {
    error.is::<Trap>() || error.is::<WasmBacktrace>()
}

/// Ends an instance that does not answer, or that nobody needs.
struct Expiration {
    limit: Duration,
    aboard: Arc<Aboard>,
    instances: Arc<Instances>,
    place: LanePlace,
    timer: Pin<Box<Sleep>>,
    /// What the timer was last compared with: its state, since when, and until when.
    seen: Option<(WorkerStatus, Instant, Option<Instant>)>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        self.aboard.watched_by(cx.waker());
        // This is asked whenever the instance goes back to the scheduler. It must not take a
        // permit to compute along, as one that idles would for as long as it does.
        self.place.rest();
        if self.instances.are_cut() {
            return Poll::Ready(());
        }
        let Self { limit, aboard, timer, seen, .. } = &mut *self;
        // One that nobody waits for has as long as for a request, unless it has had that.
        let more = if aboard.is_late() { Duration::ZERO } else { *limit };
        let deserted = aboard.deserted().map(|since| since + more);
        let until = |time: Duration| deserted.map_or(since + time, |end| end.min(since + time));
        // To set a timer costs a part of a request, and what it is set for is hardly ever
        // reached: so it is set for what may be the earliest, and looks then.
        let now = (status, since, deserted);
        if *seen != Some(now) {
            *seen = Some(now);
            let earliest = until(match status {
                WorkerStatus::Idle => IDLE,
                WorkerStatus::Requests => *limit + GRACE,
                WorkerStatus::PostReturn => AFTER,
            });
            if timer.deadline() > earliest.into() {
                timer.as_mut().reset(earliest.into());
            }
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = aboard.remind(now);
            let due = until(match (status, aboard.unused()) {
                (WorkerStatus::Idle, _) => IDLE,
                (WorkerStatus::Requests, _) if aboard.all_answered() => LONGEST_ANSWER,
                (WorkerStatus::Requests, _) => *limit + 2 * GRACE + aboard.waited(),
                // In WASI 0.3 what is left to do after an answer's head is its body.
                (WorkerStatus::PostReturn, None) => LONGEST_ANSWER,
                (WorkerStatus::PostReturn, Some(left)) => {
                    AFTER + left.saturating_duration_since(since)
                }
            });
            if due <= now {
                return Poll::Ready(());
            }
            // Nobody tells when a body has been taken to its end.
            let next = next.map_or(due, |next| next.min(due)).min(now + AFTER);
            timer.as_mut().reset(next.into());
        }
        Poll::Pending
    }
}
