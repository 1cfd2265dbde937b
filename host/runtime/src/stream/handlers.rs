//! The instances of one incarnation, one for each connection.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use ron_kernel::service::{Context, ContextHandle, Crash};
use ron_kernel::{CallKind, CrashReason, Metrics};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use wasmtime::component::Resource;
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::account::Account;
use super::input::Input;
use super::output::output;
use super::{Connection, How, Refused, Socket};
use crate::bindings::stream::{connection_handler, types};
use crate::call::bounded;
use crate::component::{Code, Component};
use crate::ending::{Failed, Seen};
use crate::grants::Grants;
use crate::instance::new_store;
use crate::limits::{Limits, SharedRates};
use crate::log::cut;
use crate::memory_share::MemoryShare;
use crate::state::{FIRST_TICKS, HostState, Witness};

/// How long a client that sends on is listened to, when the service is done and all
/// was sent: to close while bytes come in would take from it what it has not read yet.
const LINGER: Duration = Duration::from_secs(1);
/// What is read and dropped meanwhile, in bytes.
const LINGERED: usize = 1 << 20;
/// Bytes of what a service says of a connection that it gave up on; the rest is cut.
const SAID: usize = 1024;

/// What instances are made of.
pub(super) struct Handlers {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    kernel: Arc<ContextHandle>,
    metrics: Metrics,
    /// What all instances together may log and publish.
    rates: SharedRates,
    /// Bytes of all instances together.
    memory: Arc<AtomicU64>,
    /// Told of each crash that was reported.
    crashed: Notify,
    /// Instances that were lost to a client.
    abandoned: Arc<AtomicU64>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

/// Why a connection was not handled to its end.
enum Unhandled {
    Full(String),
    Crashed(Box<Crash>),
}

impl Handlers {
    pub(super) fn new(
        component: Component,
        limits: Limits,
        grants: Arc<Grants>,
        context: &Context,
        abandoned: Arc<AtomicU64>,
    ) -> Self {
        let (kernel, metrics) = (Arc::clone(context.handle()), context.metrics().clone());
        let rates = SharedRates::new(&limits, component.runtime().ticks().now());
        let (memory, crashed) = (Arc::default(), Notify::new());
        Self { component, limits, grants, kernel, metrics, rates, memory, crashed, abandoned }
    }

    /// Waits for the next crash that is reported.
    pub(super) async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Makes an instance and lets it go: what cannot be instantiated is found before
    /// anybody connects.
    pub(super) async fn try_out(&self, limit: Duration) -> Result<(), Crash> {
        let (store, made) = self.make(limit).await;
        let witness = store.data().witness();
        drop(store);
        made.map(drop).map_err(|failed| self.crash(&witness, CallKind::Start, limit, &failed))
    }

    async fn make(
        &self,
        limit: Duration,
    ) -> (Store<HostState>, Result<connection_handler::Guest, Failed>) {
        let share = MemoryShare::new(Arc::clone(&self.kernel), Arc::clone(&self.memory));
        let gauge = move |bytes| share.grown_to(bytes);
        let (limits, kernel) = (&self.limits, Arc::clone(&self.kernel));
        let metrics = self.metrics.clone();
        let (component, grants, rates) = (&self.component, &self.grants, self.rates.rates());
        let mut store = new_store(component, limits, grants, kernel, metrics, rates, gauge);
        store.data_mut().call.begin(limit);
        store.set_epoch_deadline(FIRST_TICKS);
        let made = match (store.data_mut().reached(), self.component.code()) {
            (Err(error), _) => Err(Failed::Call(error)),
            (Ok(()), Code::Stream(pre, exports)) => {
                let made = bounded(limit, pre.instantiate_async(&mut store)).await;
                made.and_then(|instance| exports.load(&mut store, &instance).map_err(Failed::Call))
            }
            (Ok(()), _) => {
                Err(Failed::Call(wasmtime::Error::msg("not a component for connections")))
            }
        };
        store.data_mut().call.end();
        (store, made)
    }

    fn crash(&self, witness: &Witness, call: CallKind, limit: Duration, failed: &Failed) -> Crash {
        Seen { witness, call, limit, topic: None, component: &self.component }.crash(failed)
    }

    /// One connection, to its end; `ended` is told of it. When nobody waits for that any
    /// more the connection is cut.
    pub(super) async fn serve(
        self: Arc<Self>,
        socket: Box<dyn Socket>,
        connection: Connection,
        account: Arc<Account>,
        mut ended: oneshot::Sender<Result<How, Refused>>,
    ) {
        let idle = connection.idle_timeout;
        let (reading, mut writing) = tokio::io::split(socket);
        let how = tokio::select! {
            how = self.run(reading, &mut writing, connection, &account) => how,
            () = account.idle(idle) => Ok(How::Idle),
            () = ended.closed() => return,
        };
        if how == Ok(How::Idle) {
            // Closed in order: nothing that was sent is missing. A client that takes nothing
            // is not waited for.
            let _ = timeout(LINGER, writing.shutdown()).await;
        }
        // Whoever waits may have gone.
        let _ = ended.send(how);
    }

    async fn run(
        &self,
        reading: ReadHalf<Box<dyn Socket>>,
        writing: &mut WriteHalf<Box<dyn Socket>>,
        connection: Connection,
        account: &Arc<Account>,
    ) -> Result<How, Refused> {
        let (input, left) = Input::new(reading, Arc::clone(account));
        let (output, pump) = output(Arc::clone(account));
        let id = connection.id.clone();
        let mut pump = pin!(pump.run(writing));
        let mut sent = None;
        let result = {
            let mut call = pin!(self.handle(connection, Box::new(input), Box::new(output)));
            poll_fn(|cx| {
                let result = call.as_mut().poll(cx);
                // What the call has just written goes out with it.
                if result.is_pending()
                    && sent.is_none()
                    && let Poll::Ready(in_order) = pump.as_mut().poll(cx)
                {
                    sent = Some(in_order);
                }
                result
            })
            .await
        };
        let how = match result {
            Ok(Ok(())) => How::Done,
            // An error that follows from the connection's is nothing that the service says.
            Ok(Err(why)) if account.is_broken() => How::Broken(cut(&why, SAID).to_owned()),
            Ok(Err(why)) => How::Failed(cut(&why, SAID).to_owned()),
            // What it has written is not sent, and the end not told: a client sees that it
            // was cut off.
            Err(Unhandled::Full(why)) => return Err(Refused::Full(why)),
            Err(Unhandled::Crashed(mut crash)) => {
                let why = crash.reason.to_string();
                // Nor is a trap, unless it computed without end.
                if account.is_broken() && !matches!(crash.reason, CrashReason::Deadline { .. }) {
                    self.abandoned.fetch_add(1, Ordering::Relaxed);
                    return Ok(How::Broken(why));
                }
                crash.detail.get_or_insert_default().corr_id = Some(id);
                self.kernel.report_crash(*crash);
                self.crashed.notify_one();
                return Ok(How::Crashed(why));
            }
        };
        let in_order = match sent {
            Some(in_order) => in_order,
            None => pump.await,
        };
        let left = left.lock().take();
        if in_order && let Some(reading) = left {
            linger(reading).await;
        }
        Ok(how)
    }

    /// Calls the component. The streams are dropped when this returns.
    async fn handle(
        &self,
        connection: Connection,
        input: DynInputStream,
        output: DynOutputStream,
    ) -> Result<Result<(), String>, Unhandled> {
        let limit = self.limits.handler_deadline;
        let (mut store, made) = self.make(limit).await;
        let failed = match made {
            Err(failed) => failed,
            Ok(handler) => {
                let called = call(&mut store, &handler, limit, connection, input, output).await;
                match called {
                    Ok(result) => {
                        let witness = store.data().witness();
                        witness.stdout.finish();
                        witness.stderr.finish();
                        return Ok(result);
                    }
                    Err(error) => Failed::Call(error),
                }
            }
        };
        if let Failed::Call(error) = &failed
            && let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>()
        {
            return Err(Unhandled::Full(format!("{full}; see engine.connection_instances")));
        }
        let witness = store.data().witness();
        Err(Unhandled::Crashed(Box::new(self.crash(&witness, CallKind::Handler, limit, &failed))))
    }
}

async fn call(
    store: &mut Store<HostState>,
    handler: &connection_handler::Guest,
    limit: Duration,
    connection: Connection,
    input: DynInputStream,
    output: DynOutputStream,
) -> wasmtime::Result<Result<(), String>> {
    let state = store.data_mut();
    state.call.begin_connection(limit);
    let place = state.call.place().clone();
    state.limiter.begin_call();
    let table = state.ctx().table;
    let input: Resource<DynInputStream> = table.push(input)?;
    let output: Resource<DynOutputStream> = table.push(output)?;
    store.set_epoch_deadline(FIRST_TICKS);
    let connection = lowered(connection);
    let result = {
        let mut called = pin!(handler.call_handle(&mut *store, &connection, input, output));
        poll_fn(|cx| {
            let result = called.as_mut().poll(cx);
            if result.is_pending() {
                place.rest();
            }
            result
        })
        .await
    };
    store.data_mut().call.end();
    result
}

fn lowered(connection: Connection) -> types::Connection {
    let Connection { id, listener, peer, local, tls, idle_timeout: _ } = connection;
    let tls = tls.map(|tls| types::TlsInfo {
        sni: tls.sni,
        alpn: tls.alpn,
        client_subject: tls.client_subject,
    });
    types::Connection { id, listener, peer: peer.to_string(), local: local.to_string(), tls }
}

/// Reads what a client still sends, for a while.
async fn linger(mut reading: impl AsyncRead + Unpin) {
    let all = async {
        let mut dropped = 0;
        let mut buffer = vec![0; 8 << 10];
        while let Ok(bytes @ 1..) = reading.read(&mut buffer).await {
            dropped += bytes;
            if dropped > LINGERED {
                break;
            }
        }
    };
    // Whoever takes longer is closed all the same.
    let _ = timeout(LINGER, all).await;
}
