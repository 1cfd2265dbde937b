//! One incarnation: a fresh store with its limits, and calls into it.
//!
//! A store that trapped, or in which a call was given up, is dead as a whole;
//! whoever gets a [`Crash`] from here drops the instance.

use std::sync::Arc;
use std::time::Duration;

use ron_kernel::message::{Inbox, Message};
use ron_kernel::service::{Context, ContextHandle, Crash, CrashDetail, SavedState};
use ron_kernel::{CallKind, CrashReason, KernelEvent, Metrics};
use wasmtime::component::InstancePre;
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use crate::bindings::{bulk, handover, lifecycle, types};
use crate::bulk::Batch;
use crate::call::{bounded, watched};
use crate::component::{Code, Component};
use crate::ending::{Failed, Seen};
use crate::grants::Grants;
use crate::http::{Exchange, Waiting};
use crate::limits::{Limits, Rates};
use crate::log::{WHY, cut};
use crate::state::{FIRST_TICKS, HostState, Hurry};

/// The least of [`earlier`]: what a loaded machine may take to come back to a
/// guest.
const MARGIN: Duration = Duration::from_millis(50);

/// The kernel's own deadlines know no backtrace, so the runtime's are a little
/// earlier: by a 64th, and by no less than [`MARGIN`].
pub(crate) fn earlier(limit: Duration) -> Duration {
    limit - (limit / 64).max(MARGIN).min(limit / 2)
}

/// A store for an instance of that component, within those limits. `gauge` is told
/// of the memory in use with every growth.
pub(crate) fn new_store(
    component: &Component,
    limits: &Limits,
    grants: &Arc<Grants>,
    kernel: Arc<ContextHandle>,
    metrics: Metrics,
    rates: Rates,
    gauge: impl Fn(u64) + Send + Sync + 'static,
) -> Store<HostState> {
    let state = HostState::new(component, kernel, metrics, limits, grants, rates, gauge);
    let mut store = Store::new(component.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    // Of the component's own making, and of WASI 0.3: tables apart from the host's.
    store.set_max_component_handles(limits.resources.saturating_mul(HANDLES));
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(limits.resources.saturating_mul(HANDLES));
    }
    store.epoch_deadline_callback(HostState::on_tick);
    store
}

/// A store and the instance in it, within the time for a start.
pub(crate) async fn instantiate(
    component: &Component,
    pre: &InstancePre<HostState>,
    limits: &Limits,
    grants: &Arc<Grants>,
    context: &Context,
) -> Result<(Store<HostState>, wasmtime::component::Instance), Crash> {
    let kernel = Arc::clone(context.handle());
    let told = Arc::clone(&kernel);
    let gauge = move |bytes| told.report_memory(bytes);
    let metrics = context.metrics().clone();
    let rates = Rates::own(limits, component.runtime().ticks().now());
    let mut store = new_store(component, limits, grants, kernel, metrics, rates, gauge);
    let limit = earlier(context.deadlines.start);
    store.data_mut().call.begin(limit);
    store.set_epoch_deadline(FIRST_TICKS);
    let made = match store.data_mut().reached() {
        Ok(()) => bounded(limit, pre.instantiate_async(&mut store)).await,
        Err(error) => Err(Failed::Call(error)),
    };
    store.data_mut().call.end();
    match made {
        Ok(instance) => Ok((store, instance)),
        Err(failed) => {
            let seen = Seen {
                witness: &store.data().witness(),
                call: CallKind::Start,
                limit: context.deadlines.start,
                topic: None,
                component,
            };
            Err(seen.crash(&failed))
        }
    }
}

/// Handles of a component, and entries of what it has under way at a time, for each
/// resource of the host's that it may hold.
const HANDLES: usize = 8;

pub(crate) struct Instance {
    store: Store<HostState>,
    lifecycle: lifecycle::Guest,
    handover: Option<handover::Guest>,
    bulk: Option<bulk::Guest>,
    http: Option<incoming_handler::Guest>,
    component: Component,
    handler_deadline: Duration,
    state_bytes: usize,
}

/// Runs one export under a deadline; evaluates to its result or the crash.
/// A macro, because a closure cannot lend the store to the future it returns.
macro_rules! call {
    ($self:ident, $kind:expr, $limit:expr, $topic:expr, |$store:ident| $call:expr) => {{
        let limit: Duration = $limit;
        let allowed = match $kind {
            CallKind::Start | CallKind::Stop | CallKind::Handover => earlier(limit),
            // The kernel has no deadline of its own for it.
            CallKind::Handler => limit,
        };
        $self.begin(allowed);
        let result = {
            let $store = $self.store.as_context_mut();
            bounded(allowed, $call).await
        };
        match result {
            Ok(value) => {
                $self.store.data_mut().call.end();
                Ok(value)
            }
            Err(failed) => Err($self.crash(&failed, $kind, limit, $topic)),
        }
    }};
}

impl Instance {
    /// Makes the store and the instance in it; `start` is not called yet.
    pub(crate) async fn create(
        component: &Component,
        limits: &Limits,
        grants: &Arc<Grants>,
        context: &Context,
    ) -> Result<Self, Crash> {
        let Code::Service(pre, exports) = component.code() else {
            // Whoever makes a service of it looks at its kind.
            let message = "it is not a service".to_owned();
            return Err(CrashReason::Link { message }.into());
        };
        let (mut store, instance) = instantiate(component, pre, limits, grants, context).await?;
        let link = |error: wasmtime::Error| Crash {
            reason: CrashReason::Link { message: format!("{error:#}") },
            detail: Some(Box::new(CrashDetail {
                digest: Some(component.digest().to_string()),
                ..CrashDetail::default()
            })),
            backtrace: None,
        };
        let lifecycle = exports.lifecycle.load(&mut store, &instance).map_err(link)?;
        let handover = match &exports.handover {
            Some(handover) => Some(handover.load(&mut store, &instance).map_err(link)?),
            None => None,
        };
        let bulk = match &exports.bulk {
            Some(bulk) => Some(bulk.load(&mut store, &instance).map_err(link)?),
            None => None,
        };
        let http = match &exports.http {
            Some(http) => Some(http.load(&mut store, &instance).map_err(link)?),
            None => None,
        };
        Ok(Self {
            store,
            lifecycle,
            handover,
            bulk,
            http,
            component: component.clone(),
            handler_deadline: limits.handler_deadline,
            state_bytes: limits.state_bytes,
        })
    }

    fn begin(&mut self, limit: Duration) {
        let state = self.store.data_mut();
        state.call.begin(limit);
        state.limiter.begin_call();
        self.store.set_epoch_deadline(FIRST_TICKS);
    }

    #[cold]
    fn crash(
        &mut self,
        failed: &Failed,
        call: CallKind,
        limit: Duration,
        topic: Option<&str>,
    ) -> Crash {
        self.store.data_mut().call.end();
        let component = &self.component;
        let state = self.store.data();
        let limit = state.call.hurry.lock().map_or(limit, |hurry| hurry.limit);
        let witness = &state.witness();
        Seen { witness, call, limit, topic, component }.crash(failed)
    }

    /// Whether it takes messages by the batch.
    pub(crate) fn is_bulk(&self) -> bool {
        self.bulk.is_some()
    }

    pub(crate) fn state(&self) -> &HostState {
        self.store.data()
    }

    /// Calls `start`. One that is told to stop meanwhile has the time of a stop left, and
    /// ends a little before its supervisor would end it, with a stack to show.
    pub(crate) async fn start(&mut self, context: &Context) -> Result<(), Crash> {
        let (limit, stop) = (context.deadlines.start, context.deadlines.stop);
        let hurry = Arc::clone(&self.state().call.hurry);
        let look = || {
            if context.lease.is_stopping() {
                hurry.lock().get_or_insert_with(|| Hurry::new(stop, earlier(stop)));
            }
        };
        let started = call!(self, CallKind::Start, limit, None, |store| {
            watched(self.lifecycle.call_start(store), look)
        })?;
        started.map_err(|message| Crash {
            reason: CrashReason::Start { message: cut(&message, WHY).to_owned() },
            detail: Some(Box::new(CrashDetail {
                last_log: self.state().log.last_lines(),
                memory: Some(self.state().limiter.memory().bytes()),
                digest: Some(self.component.digest().to_string()),
                ..CrashDetail::default()
            })),
            backtrace: None,
        })
    }

    pub(crate) async fn on_message(
        &mut self,
        message: &Message,
    ) -> Result<Result<Option<Vec<u8>>, types::Failure>, Crash> {
        let lowered = lifecycle::Message {
            id: message.id,
            topic: message.topic(),
            payload: &message.payload,
            source: message.source(),
            attempt: message.attempt,
            wants_reply: message.wants_reply(),
        };
        call!(self, CallKind::Handler, self.handler_deadline, Some(message.topic()), |store| {
            self.lifecycle.call_on_message(store, lowered)
        })
    }

    /// Hands a batch over to a component that [`is_bulk`](Self::is_bulk).
    pub(crate) async fn on_batch(
        &mut self,
        batch: &Batch<'_>,
    ) -> Result<Vec<(u32, bulk::Outcome)>, Crash> {
        let lowered = batch.lowered();
        call!(self, CallKind::Handler, self.handler_deadline, batch.topic(), |store| {
            // Nobody makes a batch for a component without it.
            let bulk = self.bulk.as_ref().expect("is_bulk was asked");
            bulk.call_on_batch(store, lowered)
        })
    }

    /// Has a component with the export for it answer a request. Returns when the
    /// call does; what is left of the answer's body goes on without the instance.
    /// What is in `inbox` may have to wait for it.
    pub(crate) async fn answer(
        &mut self,
        waiting: Waiting,
        inbox: &Arc<Inbox>,
    ) -> Result<(), Crash> {
        let Waiting { request, corr_id, reply, common, .. } = waiting;
        let common = common.beside(inbox);
        let limit = self.handler_deadline;
        let (mut exchange, head) = Exchange::new(reply, limit, common.clone());
        let https = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        self.store.data_mut().https = https;
        let scheme = if https { Scheme::Https } else { Scheme::Http };
        let request = request.map(|body| body.by(exchange.until, &common));
        let mut view = self.store.data_mut().http();
        let given = view
            .new_incoming_request(scheme, request)
            .and_then(|request| Ok((request, view.new_response_outparam(head)?)));
        let (request, out) = match given {
            Ok(given) => given,
            Err(error) => {
                exchange.refused(&error);
                return Ok(());
            }
        };
        let answered = call!(self, CallKind::Handler, self.handler_deadline, None, |store| {
            // Nobody brings requests to a component without it.
            let http = self.http.as_ref().expect("it answers HTTP");
            exchange.during(http.call_handle(store, request, out))
        });
        match answered {
            Ok(()) => {
                exchange.returned();
                Ok(())
            }
            Err(mut crash) => {
                crash.detail.get_or_insert_default().corr_id = Some(corr_id);
                exchange.crashed(&crash.reason);
                Err(crash)
            }
        }
    }

    pub(crate) async fn on_event(&mut self, event: &KernelEvent) -> Result<(), Crash> {
        // Borrowed by the lowered reason.
        let message = match event {
            KernelEvent::ServiceCrashed { reason, .. } => reason.to_string(),
            _ => String::new(),
        };
        let lowered = match event {
            KernelEvent::Health { service, ok } => {
                lifecycle::KernelEvent::Health(types::HealthChanged { service, ok: *ok })
            }
            KernelEvent::ConfigUpdated { version } => {
                lifecycle::KernelEvent::ConfigUpdated(*version)
            }
            KernelEvent::ServiceCrashed { service, reason } => {
                lifecycle::KernelEvent::ServiceCrashed(types::ServiceCrashed {
                    service,
                    reason: types::CrashReason { label: reason.label(), message: &message },
                })
            }
            KernelEvent::Shutdown => lifecycle::KernelEvent::Shutdown,
        };
        call!(self, CallKind::Handler, self.handler_deadline, None, |store| {
            self.lifecycle.call_on_event(store, lowered)
        })
    }

    /// The state that the service hands over, if it has any; or why it could
    /// not be saved.
    pub(crate) async fn save(
        &mut self,
        limit: Duration,
    ) -> Result<Result<Option<SavedState>, String>, Crash> {
        if self.handover.is_none() {
            return Ok(Ok(None));
        }
        let saved = call!(self, CallKind::Handover, limit, None, |store| {
            // It was looked at above.
            self.handover.as_ref().expect("it has the export").call_save(store)
        })?;
        let most = self.state_bytes;
        Ok(saved.and_then(|state| match state.bytes.len() {
            bytes if bytes > most => {
                Err(format!("a state of {bytes} bytes; at most {most} are handed over"))
            }
            _ => Ok(Some(SavedState { schema: state.schema, bytes: state.bytes.into() })),
        }))
    }

    /// Gives the service the state of the version before it, which it may
    /// refuse.
    pub(crate) async fn restore(
        &mut self,
        state: &SavedState,
        limit: Duration,
    ) -> Result<Result<(), String>, Crash> {
        if self.handover.is_none() {
            return Ok(Err(format!(
                "it does not export ron:kernel/handover, and would lose {} bytes of schema {}",
                state.bytes.len(),
                state.schema
            )));
        }
        let lowered = handover::StateParam { schema: state.schema, bytes: &state.bytes };
        call!(self, CallKind::Handover, limit, None, |store| {
            // It was looked at above.
            self.handover.as_ref().expect("it has the export").call_restore(store, lowered)
        })
    }

    pub(crate) async fn stop(&mut self, limit: Duration) -> Result<(), Crash> {
        call!(self, CallKind::Stop, limit, None, |store| self.lifecycle.call_stop(store))?;
        self.state().stdout.finish();
        self.state().stderr.finish();
        Ok(())
    }
}
