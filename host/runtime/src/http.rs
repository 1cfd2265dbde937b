//! Components behind HTTP: `wasi:http/incoming-handler`, and `wasi:http/handler` of
//! WASI 0.3.
//!
//! Such a component is a service as any other: supervised, swapped, drained. What
//! differs is how it is called. Its instances are made by the request, as the
//! component was written for, by `wasmtime_wasi_http`'s own handler; so there is
//! no state that is handed over, and a trap costs one request and not the service.
//!
//! A component that has a mailbox besides is one instance with one state, and its
//! requests are calls on it, in turn with its messages: they wait in the gate's
//! `queue.rs`, and a crash over one is the service's. A swap hands the state over,
//! and the requests that wait with it.
//!
//! Whoever has a listener finds the service through its [`Gate`]. An incarnation
//! enters it when it can serve and leaves it when it is asked to stop; in between
//! the gate sends requests to the incarnation that has its turn, so a swap needs
//! no word with the listener.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::{Mutex, RwLock};
use ron_kernel::http::Held;
use ron_kernel::message::{Outcome, Work};
use ron_kernel::service::{Context, ContextHandle, Crash, Service};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use wasmtime_wasi_http::WasiBody;

use crate::component::Component;
use crate::grants::Grants;
use crate::instance::earlier;
use crate::limits::Limits;
use crate::stream::Doors;

mod body;
mod common;
mod exchange;
mod flight;
mod pool;
mod queue;

use body::Ahead;
pub(crate) use exchange::Exchange;
use pool::Pool;
use queue::Queue;
pub(crate) use queue::{Said, Waiting};

/// How long a request waits for its turn at a service that handles others, is being
/// swapped or starts again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request is told that finds nobody.
const NOBODY: &str = "the service is not running";

/// What whoever leads requests to a service counts a request by, as an extension of it. It
/// is given back when the request is answered, or when the instance is no more that went on
/// with it though its client had gone: what is at work for a client counts as that.
#[derive(Clone, Debug)]
pub struct Place(pub Arc<dyn Any + Send + Sync>);

/// Who sent a request, as clients are told apart, as an extension of it: one gets no more
/// of a service than it leaves to others. Requests without it are of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub IpAddr);

/// What a body's bytes come with when they do not come.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// What a service answers.
pub type Response = http::Response<UnsyncBoxBody<Bytes, BodyError>>;

/// Why a request has no answer. What it says is for the operator's log; a client
/// is told the kind.
#[derive(Debug, Error)]
pub enum Unanswered {
    /// Nobody is there to answer at the moment: trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// The service crashed over it; the crash is reported.
    #[error("{0}")]
    Crashed(String),
    /// The service took longer than its deadline; that is reported as a crash.
    #[error("{0}")]
    Late(String),
    /// The service gave up on it, in a way that its contract has a word for.
    #[error("{0}")]
    Failed(String),
}

/// The way to a service's instances. A clone is the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Entries>);

#[derive(Debug, Default)]
struct Entries {
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Whoever entered last, and may have left.
    last: RwLock<Option<Arc<ContextHandle>>>,
    /// Whose turn it is among replicas.
    next: AtomicUsize,
    /// Requests to those that answer in turn.
    queue: Queue,
    /// The way of connections.
    doors: Doors,
    /// See [`Gate::abandoned`].
    abandoned: Mutex<Option<Arc<AtomicU64>>>,
}

/// One incarnation that serves.
#[derive(Debug)]
struct Entry {
    handle: Arc<ContextHandle>,
    way: Way,
}

/// How an incarnation is given a request.
#[derive(Debug)]
enum Way {
    /// On an instance of its own.
    Pool { pool: Arc<Pool>, threads: Handle, under_way: UnderWay },
    /// It takes one after the other from the queue.
    InTurn,
}

/// Kept for as long as a request is under way: draining waits for the last.
#[derive(Clone, Debug)]
struct UnderWay {
    _over: mpsc::Sender<Infallible>,
}

impl Gate {
    /// A gate that nobody has entered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the service answer. `corr_id` is what a report of its crash is found by.
    ///
    /// The answer's body may go on for longer than this call, and keeps the
    /// incarnation that it comes from.
    ///
    /// # Errors
    ///
    /// See [`Unanswered`].
    pub async fn handle<B>(
        &self,
        request: http::Request<B>,
        corr_id: &str,
    ) -> Result<Response, Unanswered>
    where
        B: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let mut request = request.map(|body| -> WasiBody {
            let error = |error: B::Error| {
                wasmtime_wasi_http::Error::InternalError(Some(error.into().to_string()))
            };
            body.map_err(error).boxed_unsync()
        });
        loop {
            let entry = self.pick();
            if entry.is_none() && !self.comes_back() {
                return Err(Unanswered::Unavailable(NOBODY.into()));
            }
            let way = entry.as_ref().map_or(&Way::InTurn, |entry| &entry.way);
            let Way::Pool { pool, threads, under_way } = way else {
                match self.queue(request, corr_id).await? {
                    Said::Answered(answer) => return answer,
                    Said::Again(again) => request = again.map(BodyExt::boxed_unsync),
                }
                continue;
            };
            let under_way = under_way.clone();
            let place = request.extensions_mut().remove::<Place>();
            let answering = pool.answer(request, corr_id, place);
            let response = On { threads, future: Box::pin(answering) }.await?;
            return Ok(response.map(|body| UnsyncBoxBody::new(Held::new(body, under_way))));
        }
    }

    /// Has a request wait for its turn, and for what becomes of it then.
    async fn queue(
        &self,
        request: http::Request<WasiBody>,
        corr_id: &str,
    ) -> Result<Said, Unanswered> {
        let unavailable = |why: &str| Unanswered::Unavailable(why.into());
        let (parts, body) = request.into_parts();
        let client = parts.extensions.get().copied().unwrap_or(common::UNKNOWN);
        let body = Ahead::read(body, &self.0.queue.common(client)).await.map_err(|error| {
            Unanswered::Failed(format!("the client's body ended before its end: {error}"))
        })?;
        let request = http::Request::from_parts(parts, body);
        let Some((ticket, mut said)) = self.0.queue.push(client, request, corr_id) else {
            return Err(unavailable("too many requests wait for the service"));
        };
        // Whoever was there may have left, and have looked at the queue before.
        if self.is_left() && self.0.queue.withdraw(ticket) {
            return Err(unavailable(NOBODY));
        }
        let said = match timeout(PATIENCE, &mut said).await {
            Ok(said) => said,
            Err(_) if self.0.queue.withdraw(ticket) => {
                return Err(unavailable(match self.pick() {
                    Some(_) => "the service had no time for the request",
                    None => NOBODY,
                }));
            }
            // It has its turn, which has a limit of its own.
            Err(_) => said.await,
        };
        said.map_err(|_| unavailable("the service was cut short"))
    }

    /// Instances that ended in a trap after a client of theirs had gone, or had broken
    /// its body or its connection. They are no crashes of the service's. Nothing, if the
    /// service never had instances for requests or connections.
    #[must_use]
    pub fn abandoned(&self) -> Option<u64> {
        self.0.abandoned.lock().as_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Where they are counted.
    pub(crate) fn count_abandoned(&self) -> Arc<AtomicU64> {
        Arc::clone(self.0.abandoned.lock().get_or_insert_default())
    }

    /// The way of connections to the same service.
    pub(crate) fn doors(&self) -> &Doors {
        &self.0.doors
    }

    /// Who is to answer next: one that has its turn. In the moment of a cut there
    /// is none, and the one before can still do it.
    fn pick(&self) -> Option<Arc<Entry>> {
        let entries = self.0.entries.read();
        let count = entries.len();
        let first = match count {
            0 => return None,
            1 => 0,
            _ => self.0.next.fetch_add(1, Ordering::Relaxed) % count,
        };
        let mut all = (0..count).map(|n| &entries[(first + n) % count]);
        let entry = all.find(|entry| entry.handle.has_turn());
        entry.or_else(|| entries.iter().find(|entry| entry.handle.had_turn())).cloned()
    }

    /// Whether somebody will enter again without anybody's doing.
    fn comes_back(&self) -> bool {
        self.0.last.read().as_ref().is_some_and(|last| last.comes_back())
    }

    /// Whether nobody is there and nobody will be.
    fn is_left(&self) -> bool {
        self.pick().is_none() && !self.comes_back()
    }

    fn enter(&self, handle: Arc<ContextHandle>, way: Way) -> Entered {
        *self.0.last.write() = Some(Arc::clone(&handle));
        let entry = Arc::new(Entry { handle, way });
        self.0.entries.write().push(Arc::clone(&entry));
        Entered { gate: self.clone(), entry }
    }

    /// For an incarnation that takes requests in turn with its messages.
    pub(crate) fn enter_in_turn(&self, handle: Arc<ContextHandle>) -> InTurn {
        InTurn { _entered: Some(self.enter(handle, Way::InTurn)), gate: self.clone() }
    }
}

/// The requests to an incarnation that takes them in turn.
pub(crate) struct InTurn {
    _entered: Option<Entered>,
    gate: Gate,
}

impl InTurn {
    pub(crate) fn pop(&self) -> Option<Waiting> {
        self.gate.0.queue.pop()
    }

    pub(crate) fn poll_pop(&self, cx: &mut TaskContext<'_>) -> Poll<Waiting> {
        self.gate.0.queue.poll_pop(cx)
    }

    /// Leaves the gate: what waits now is all that comes.
    pub(crate) fn leave(self) -> Self {
        Self { _entered: None, ..self }
    }
}

/// An incarnation's presence in a gate, until it is dropped.
struct Entered {
    gate: Gate,
    entry: Arc<Entry>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.gate.0.entries.write().retain(|entry| !Arc::ptr_eq(entry, &self.entry));
    }
}

/// A component that answers requests, to be run by a supervisor on the threads of
/// [`Runtime::handle`](crate::Runtime::handle).
#[derive(Debug)]
pub struct HttpService {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    gate: Gate,
}

impl HttpService {
    /// A service of a component of [`Kind::Http`](crate::Kind::Http), that serves
    /// what comes to `gate`. One of another kind crashes with `link-failed`.
    #[must_use]
    pub fn new(component: Component, limits: Limits, grants: Arc<Grants>, gate: Gate) -> Self {
        Self { component, limits, grants, gate }
    }
}

impl Service for HttpService {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        let (component, limits) = (self.component.clone(), self.limits.clone());
        let (grants, handle) = (Arc::clone(&self.grants), Arc::clone(context.handle()));
        let (kernel, metrics) = (Arc::clone(&handle), context.metrics().clone());
        let abandoned = self.gate.count_abandoned();
        let pool = Arc::new(Pool::new(component, limits, grants, kernel, metrics, abandoned));
        pool.try_out(context.deadlines.start).await?;
        let (over, mut all_over) = mpsc::channel(1);
        let threads = self.component.runtime().handle().clone();
        let under_way = UnderWay { _over: over };
        let way = Way::Pool { pool: Arc::clone(&pool), threads, under_way };
        let entered = self.gate.enter(Arc::clone(&handle), way);
        let queue = &self.gate.0.queue;
        context.started();
        loop {
            let work = tokio::select! {
                work = context.lease.next() => work,
                // Whoever polls this looks at what was reported.
                () = pool.crashed() => continue,
                // They waited for a version that had a mailbox.
                waiting = poll_fn(|cx| match handle.has_turn() {
                    true => queue.poll_pop(cx),
                    false => Poll::Pending,
                }) => {
                    let _ = waiting.reply.send(Said::Again(Box::new(waiting.request)));
                    continue;
                }
            };
            match work {
                Work::Stop => break,
                // It has no word for events.
                Work::Event(_) => {}
                Work::Pause { .. } => context.lease.paused(Ok(None)),
                Work::Restore(_) => {
                    let why = "it answers HTTP requests alone, and would lose the state";
                    context.lease.restored(Err(why.into()));
                }
                Work::Messages => {
                    while context.lease.begin().is_some() {
                        let why = "it answers HTTP requests alone, and takes no messages";
                        context.lease.conclude(Outcome::Reject(why.into()));
                    }
                }
            }
        }
        drop(entered);
        // The channel ends with the last request; nothing is ever sent.
        let last = async { while all_over.recv().await.is_some() {} };
        let limit = context.deadlines.stop;
        if timeout(earlier(limit), last).await.is_err() {
            let requests = all_over.sender_strong_count();
            tracing::warn!(
                service = %handle.id, requests,
                "requests did not end within {} of the stop and were cut",
                humantime::format_duration(limit)
            );
            pool.cut();
        }
        Ok(())
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task that waited for an answer panicked");
    }
}

/// A future that finds other threads to spawn on.
struct On<'h, F> {
    threads: &'h Handle,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for On<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let _entered = self.threads.enter();
        self.future.as_mut().poll(cx)
    }
}
