//! The instances of one incarnation behind HTTP.
//!
//! Making, choosing and ending them is `wasmtime_wasi_http`'s; this says within
//! which limits, how long a request may take, and what became of one that failed.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ron_kernel::service::{ContextHandle, Crash};
use ron_kernel::{CallKind, CrashReason, Metrics};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use wasmtime::component::GuestTaskId;
use wasmtime::{PoolConcurrencyLimitError, Store, StoreContextMut, Trap, WasmBacktrace};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    ExpirationError, HandlerState, Instance, InstantiationError, Proxy, ProxyHandler, Request,
    Response, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::Unanswered;
use crate::call::bounded;
use crate::component::{Code, Component};
use crate::ending::{Failed, Seen};
use crate::grants::Grants;
use crate::instance::new_store;
use crate::limits::Limits;
use crate::state::{FIRST_TICKS, HostState, Witness};

/// Beyond a request's limit: a guest that computes is stopped at the limit by the
/// engine, with a backtrace; this is for one that waits.
const GRACE: Duration = Duration::from_millis(250);
/// How long an answer's body may go on, and an instance after it has answered.
const LONGEST_ANSWER: Duration = Duration::from_secs(3600);
const AFTER: Duration = Duration::from_secs(30);
/// How long an instance's end may take to be told, when its request has ended.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long an instance waits for another request.
const IDLE: Duration = Duration::from_secs(1);
/// Requests that one instance answers. Components of WASI 0.2 are written for
/// one: what they leave behind in their memory is nobody's to meet.
const REUSE: usize = 1;

/// See this module's header.
pub(super) struct Pool {
    handler: ProxyHandler<Workers>,
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
    ) -> Self {
        let (memory, crashed) = (Arc::default(), Arc::default());
        let state = Workers { component, limits, grants, kernel, metrics, memory, crashed };
        Self { handler: ProxyHandler::new(state) }
    }

    /// Waits for the next crash that is reported.
    pub(super) async fn crashed(&self) {
        self.handler.state().crashed.notified().await;
    }

    /// Makes an instance and lets it go: what cannot be instantiated is found
    /// before anybody waits for an answer.
    pub(super) async fn try_out(&self, limit: Duration) -> Result<(), Crash> {
        let workers = self.handler.state();
        let (store, made) = workers.make(limit).await;
        let witness = store.data().witness();
        drop(store);
        made.map(drop).map_err(|failed| workers.crash(&witness, CallKind::Start, limit, &failed))
    }

    pub(super) async fn answer(
        &self,
        request: Request,
        corr_id: &str,
    ) -> Result<Response, Unanswered> {
        let (ended, end) = oneshot::channel();
        let flight = Arc::new(Flight {
            corr_id: corr_id.to_owned(),
            answered: Arc::default(),
            began: Mutex::default(),
            ended: Mutex::new(Some(ended)),
        });
        match self.handler.handle(Arc::clone(&flight), request).await {
            Ok(response) => {
                flight.answered.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Err(error) => Err(self.unanswered(error, &flight, end).await),
        }
    }

    /// Tells what became of a request, and reports what was a crash.
    async fn unanswered(&self, error: wasmtime::Error, flight: &Flight, end: End) -> Unanswered {
        let workers = self.handler.state();
        if let Some(made) = error.downcast_ref::<InstantiationError<Arc<Flight>>>() {
            if let Some(full) = made.error.downcast_ref::<PoolConcurrencyLimitError>() {
                return Unanswered::Unavailable(format!("no room for one more instance: {full}"));
            }
            let message = format!("{:#}", made.error);
            workers.report(CrashReason::Host { message: message.clone() }.into(), flight);
            return Unanswered::Crashed(message);
        }
        if let Some(code) = error.downcast_ref::<ErrorCode>() {
            return Unanswered::Failed(format!("its answer is an error: {code:?}"));
        }
        if error.is::<ExpirationError>() {
            workers.ended(flight, Failed::Late);
        } else if error.is::<Trap>() || error.is::<WasmBacktrace>() {
            workers.ended(flight, Failed::Call(error));
        }
        // Otherwise the instance's own end tells, and that comes at once.
        match timeout(AT_ONCE, end).await {
            Ok(Ok(unanswered)) => unanswered,
            _ => Unanswered::Failed("it ended without an answer".into()),
        }
    }
}

type End = oneshot::Receiver<Unanswered>;

/// One request, as the instance that answers it and whoever waits see it.
pub(super) struct Flight {
    corr_id: String,
    /// The head of the answer is there.
    answered: Arc<AtomicBool>,
    /// There from the moment that an instance took it.
    began: Mutex<Option<Witness>>,
    /// Told once how it ended, if it was without an answer.
    ended: Mutex<Option<oneshot::Sender<Unanswered>>>,
}

/// What instances are made of. A clone makes the same.
#[derive(Clone)]
struct Workers {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    kernel: Arc<ContextHandle>,
    metrics: Metrics,
    /// Bytes of all instances together.
    memory: Arc<AtomicU64>,
    /// Told of each crash that was reported.
    crashed: Arc<Notify>,
}

impl Workers {
    async fn make(&self, limit: Duration) -> (Store<HostState>, Result<Proxy, Failed>) {
        let (kernel, total) = (Arc::clone(&self.kernel), Arc::clone(&self.memory));
        let share = Share { kernel, total, own: AtomicU64::new(0) };
        let gauge = move |bytes| share.grown_to(bytes);
        let (component, kernel) = (&self.component, Arc::clone(&self.kernel));
        let (limits, metrics) = (&self.limits, self.metrics.clone());
        let mut store = new_store(component, limits, &self.grants, kernel, metrics, gauge);
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

    /// The instance that answers `flight` has failed. Reported once, whoever
    /// notices first.
    fn ended(&self, flight: &Flight, failed: Failed) {
        let Some(ended) = flight.ended.lock().take() else { return };
        let limit = self.limits.handler_deadline;
        let Some(witness) = flight.began.lock().take() else { return };
        let crash = self.crash(&witness, CallKind::Handler, limit, &failed);
        let why = crash.reason.to_string();
        let late = matches!(crash.reason, CrashReason::Deadline { .. });
        self.report(crash, flight);
        // Whoever waits may have gone.
        let _ = ended.send(if late { Unanswered::Late(why) } else { Unanswered::Crashed(why) });
    }

    fn report(&self, mut crash: Crash, flight: &Flight) {
        crash.detail.get_or_insert_default().corr_id = Some(flight.corr_id.clone());
        self.kernel.report_crash(crash);
        self.crashed.notify_one();
    }

    fn crash(&self, witness: &Witness, call: CallKind, limit: Duration, failed: &Failed) -> Crash {
        Seen { witness, call, limit, topic: None, component: &self.component }.crash(failed)
    }
}

/// What one instance has of the memory of all. It is given back with its store.
struct Share {
    kernel: Arc<ContextHandle>,
    total: Arc<AtomicU64>,
    own: AtomicU64,
}

impl Share {
    fn grown_to(&self, bytes: u64) {
        let grown = bytes.saturating_sub(self.own.swap(bytes, Ordering::Relaxed));
        self.kernel.report_memory(self.total.fetch_add(grown, Ordering::Relaxed) + grown);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let own = self.own.load(Ordering::Relaxed);
        let left = self.total.fetch_sub(own, Ordering::Relaxed).saturating_sub(own);
        self.kernel.report_memory(left);
    }
}

impl HandlerState for Workers {
    type StoreData = HostState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<HostState, Expiration, Worker>> {
        let limit = self.limits.handler_deadline;
        let (store, made) = self.make(limit).await;
        let proxy = made.map_err(|failed| match failed {
            Failed::Call(error) => error,
            Failed::Late => wasmtime::Error::msg(format!("not instantiated within {limit:?}")),
        })?;
        let current = Arc::<Mutex<Option<Arc<Flight>>>>::default();
        let state = Worker { workers: self.clone(), current: Arc::clone(&current) };
        let expiration = Expiration { limit, current, timer: Box::pin(sleep(limit)) };
        Ok(Instance { store, proxy, view: HostState::http, expiration, state })
    }
}

/// One instance's state with the handler.
struct Worker {
    workers: Workers,
    /// What it answers at the moment.
    current: Arc<Mutex<Option<Arc<Flight>>>>,
}

impl WorkerState for Worker {
    type StoreData = HostState;
    type RequestData = Arc<Flight>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        match (concurrent, total) {
            (_, REUSE..) => ShouldAccept::Never,
            (0, _) => ShouldAccept::Yes,
            _ => ShouldAccept::No,
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
        state.call.begin_answering(limit, Arc::clone(&flight.answered));
        state.limiter.begin_call();
        *flight.began.lock() = Some(state.witness());
        *self.current.lock() = Some(Arc::clone(&flight));
        let limit = limit + GRACE;
        Box::pin(async move {
            sleep(limit).await;
            // What follows is for the body's own limit.
            if flight.answered.load(Ordering::Relaxed) {
                std::future::pending().await
            }
        })
    }

    fn drop(&self, mut store: Store<HostState>, result: wasmtime::Result<()>) {
        store.data_mut().call.end();
        let witness = store.data().witness();
        drop(store);
        let workers = &self.workers;
        witness.stdout.finish();
        witness.stderr.finish();
        let Some(flight) = self.current.lock().take() else { return };
        match result {
            Err(error) if error.is::<Trap>() || error.is::<WasmBacktrace>() => {
                workers.ended(&flight, Failed::Call(error));
            }
            // Only its expiration ends one that answers in this way.
            Err(_) => workers.ended(&flight, Failed::Late),
            // A panic after the head of the answer reaches nobody else.
            Ok(()) => {
                if let Some(message) = witness.log.panic()
                    && flight.ended.lock().take().is_some()
                {
                    workers.report(CrashReason::panic(message).into(), &flight);
                }
            }
        }
    }
}

/// Ends an instance that does not answer, or that nobody needs.
struct Expiration {
    limit: Duration,
    current: Arc<Mutex<Option<Arc<Flight>>>>,
    timer: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        let answered = || {
            let current = self.current.lock();
            current.as_ref().is_some_and(|flight| flight.answered.load(Ordering::Relaxed))
        };
        let limit = match status {
            WorkerStatus::Idle => IDLE,
            WorkerStatus::Requests if answered() => LONGEST_ANSWER,
            WorkerStatus::Requests => self.limit + 2 * GRACE,
            WorkerStatus::PostReturn => AFTER,
        };
        let at = (since + limit).into();
        if self.timer.deadline() != at {
            self.timer.set(sleep_until(at));
        }
        self.timer.as_mut().poll(cx)
    }
}
