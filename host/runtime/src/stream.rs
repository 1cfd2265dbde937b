//! Components behind a listener of byte streams: `ron:stream/connection-handler`.
//!
//! Such a component is a service as any other: supervised, swapped, drained. Each
//! connection has a store and an instance of its own, made when the connection
//! comes and dropped with it, so there is no state that is handed over, and a trap
//! costs one connection and not the service.
//!
//! Whoever has a listener finds the service through its [`Gate`]: a connection goes
//! to the incarnation that has its turn, and stays with it. So after a swap new
//! connections go to the new version and old ones end where they began, for as long
//! as the old version is kept: through its probation, and then within the time that
//! it has to stop.
//!
//! A connection is a task on the guests' threads, in a set that its incarnation owns:
//! what ends the incarnation ends its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use ron_kernel::message::{Outcome, Work};
use ron_kernel::service::{Context, ContextHandle, Crash, Service};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::component::Component;
use crate::grants::Grants;
use crate::http::Gate;
use crate::instance::earlier;
use crate::limits::Limits;

mod account;
mod handlers;
mod input;
mod output;

pub use account::Traffic;
use account::{Account, Counts};
use handlers::Handlers;

/// What either direction of a connection holds of bytes, at most.
const CHUNK: usize = 64 << 10;

/// What is known of a connection, as the service is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Unique in this host; crash reports name the connection by it.
    pub id: String,
    /// The listener's name.
    pub listener: String,
    /// Who connected.
    pub peer: SocketAddr,
    /// The listener's own end.
    pub local: SocketAddr,
    /// Of the handshake, where there was one.
    pub tls: Option<Tls>,
    /// How long it may be without a byte in either direction. It is closed then.
    pub idle_timeout: Duration,
}

/// What a TLS handshake told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The name that the client asked for.
    pub sni: Option<String>,
    /// The protocol that was agreed on.
    pub alpn: Option<String>,
    /// Whom the client's certificate, which was checked, is for.
    pub client_subject: Option<String>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub how: How,
    /// Bytes that the service was given.
    pub received: u64,
    /// Bytes of the service's that the connection took.
    pub sent: u64,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The service was done with it.
    Done,
    /// The service gave up on it, and said why.
    Failed(String),
    /// The connection broke, and the service gave up on it or ended in a trap, which is no
    /// crash: this is what it said.
    Broken(String),
    /// The service crashed over it; the crash is reported.
    Crashed(String),
    /// No byte moved for too long.
    Idle,
    /// The service was stopped, and it did not end in time.
    Cut,
}

/// Why a connection did not get to a service.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Nobody is there to handle it at the moment.
    #[error("the service is not running")]
    NotRunning,
    /// There are as many connections as there can be: 1,024, of all services of
    /// byte streams together.
    #[error("no room for one more connection: {0}")]
    Full(String),
}

/// What a connection is made of.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// The incarnations that handle a service's connections.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Whose turn it is among replicas.
    next: AtomicUsize,
    counts: Arc<Counts>,
}

/// One incarnation that handles connections.
#[derive(Debug)]
struct Entry {
    handle: Arc<ContextHandle>,
    handlers: Arc<Handlers>,
    threads: Handle,
    /// Its connections; none are taken in any more where there is no set.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Gate {
    /// Has the service handle a connection, until that has ended. When the future is
    /// dropped, the connection is cut.
    ///
    /// # Errors
    ///
    /// See [`Refused`]. The connection is closed then, and nothing was sent.
    pub async fn connect(
        &self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        connection: Connection,
    ) -> Result<Ended, Refused> {
        let doors = self.doors();
        let account = Arc::new(Account::new(&doors.counts));
        let (ended, end) = oneshot::channel();
        loop {
            let entry = doors.pick().ok_or(Refused::NotRunning)?;
            let mut tasks = entry.tasks.lock();
            // Whoever leaves is no entry before it takes nobody in: it is not found again.
            let Some(tasks) = tasks.as_mut() else { continue };
            // Those that have ended are collected here, so that no more are kept than
            // there were at the same time.
            while let Some(ended) = tasks.try_join_next() {
                report(ended);
            }
            let (handlers, account) = (Arc::clone(&entry.handlers), Arc::clone(&account));
            let task = handlers.serve(Box::new(socket), connection, account, ended);
            tasks.spawn_on(task, &entry.threads);
            break;
        }
        // Who is cut short says nothing.
        let how = end.await.unwrap_or(Ok(How::Cut))?;
        Ok(Ended { how, received: account.received(), sent: account.sent() })
    }

    /// What went through it of byte streams; nothing, if the service was never one for
    /// that.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        self.doors().counts.traffic()
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

impl Doors {
    /// Who is to have the next connection: one that has its turn. In the moment of a
    /// cut there is none, and the one before can still do it.
    fn pick(&self) -> Option<Arc<Entry>> {
        let entries = self.entries.read();
        let count = entries.len();
        let first = match count {
            0 => return None,
            1 => 0,
            _ => self.next.fetch_add(1, Ordering::Relaxed) % count,
        };
        let mut all = (0..count).map(|n| &entries[(first + n) % count]);
        let entry = all.find(|entry| entry.handle.has_turn());
        entry.or_else(|| entries.iter().find(|entry| entry.handle.had_turn())).cloned()
    }

    fn enter(&self, entry: Entry) -> Entered<'_> {
        self.counts.used();
        let entry = Arc::new(entry);
        self.entries.write().push(Arc::clone(&entry));
        Entered { doors: self, entry }
    }
}

/// An incarnation's presence, until it is dropped; its connections are cut then.
struct Entered<'d> {
    doors: &'d Doors,
    entry: Arc<Entry>,
}

impl Entered<'_> {
    /// Takes nobody in any more; gives those that are inside.
    fn leave(&self) -> JoinSet<()> {
        self.doors.entries.write().retain(|entry| !Arc::ptr_eq(entry, &self.entry));
        self.entry.tasks.lock().take().unwrap_or_default()
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

/// A component that handles connections, to be run by a supervisor on the threads of
/// [`Runtime::handle`](crate::Runtime::handle).
#[derive(Debug)]
pub struct StreamService {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    gate: Gate,
}

impl StreamService {
    /// A service of a component of [`Kind::Stream`](crate::Kind::Stream), that handles
    /// what comes to `gate`. One of another kind crashes with `link-failed`.
    #[must_use]
    pub fn new(component: Component, limits: Limits, grants: Arc<Grants>, gate: Gate) -> Self {
        Self { component, limits, grants, gate }
    }
}

impl Service for StreamService {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        let (component, limits) = (self.component.clone(), self.limits.clone());
        let (grants, abandoned) = (Arc::clone(&self.grants), self.gate.count_abandoned());
        let handlers = Handlers::new(component, limits, grants, context, abandoned);
        let handlers = Arc::new(handlers);
        handlers.try_out(context.deadlines.start).await?;
        let (handle, threads) = (Arc::clone(context.handle()), self.component.runtime().handle());
        let (threads, tasks) = (threads.clone(), Mutex::new(Some(JoinSet::new())));
        let entry = Entry { handle, handlers: Arc::clone(&handlers), threads, tasks };
        let entered = self.gate.doors().enter(entry);
        context.started();
        loop {
            let work = tokio::select! {
                work = context.lease.next() => work,
                // Whoever polls this looks at what was reported.
                () = handlers.crashed() => continue,
            };
            match work {
                Work::Stop => break,
                // It has no word for events.
                Work::Event(_) => {}
                Work::Pause { .. } => context.lease.paused(Ok(None)),
                Work::Restore(_) => {
                    let why = "it handles connections alone, and would lose the state";
                    context.lease.restored(Err(why.into()));
                }
                Work::Messages => {
                    while context.lease.begin().is_some() {
                        let why = "it handles connections alone, and takes no messages";
                        context.lease.conclude(Outcome::Reject(why.into()));
                    }
                }
            }
        }
        let mut inside = entered.leave();
        let last = async {
            while let Some(ended) = inside.join_next().await {
                report(ended);
            }
        };
        let limit = context.deadlines.stop;
        if timeout(earlier(limit), last).await.is_err() {
            tracing::warn!(
                service = %context.handle().id, connections = inside.len(),
                "connections did not end within {} of the stop and were cut",
                humantime::format_duration(limit)
            );
            inside.shutdown().await;
        }
        Ok(())
    }
}
