//! Components of wasmCloud's that handle messages: `wasmcloud:messaging/handler`.
//!
//! Such a component is one instance with a mailbox, as a service of `ron:kernel` is;
//! what it lacks are words. It cannot subscribe, so its topics come from its
//! configuration; it has no start but its instantiation, no stop, no events, and no
//! state that could be handed over. wasmCloud delivers nothing twice, so an error
//! that it returns puts the message to the dead letters at once; a message that it
//! traps over is delivered again, as any service's is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ron_kernel::message::{Message, Outcome, Work};
use ron_kernel::metrics::Observation;
use ron_kernel::service::{Context, Crash, Service};
use ron_kernel::{CallKind, CrashReason};
use wasmtime::{AsContextMut, Store};

use crate::adopted::handler;
use crate::adopted::messaging::types::BrokerMessage;
use crate::call::bounded;
use crate::component::{Code, Component};
use crate::ending::Seen;
use crate::grants::Grants;
use crate::host::consumer::InFlight;
use crate::instance::instantiate;
use crate::lane::reschedule;
use crate::limits::Limits;
use crate::log::{WHY, cut};
use crate::state::{FIRST_TICKS, HostState};

/// A component that handles messages as wasmCloud's do, to be run by a supervisor on
/// the threads of [`Runtime::handle`](crate::Runtime::handle).
#[derive(Debug)]
pub struct MessagingService {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
}

impl MessagingService {
    /// A service of a component of [`Kind::Messaging`](crate::Kind::Messaging). One of
    /// another kind crashes with `link-failed`.
    #[must_use]
    pub fn new(component: Component, limits: Limits, grants: Arc<Grants>) -> Self {
        Self { component, limits, grants }
    }
}

impl Service for MessagingService {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        let mut handler =
            Handler::create(&self.component, &self.limits, &self.grants, context).await?;
        context.started();
        let ticks = self.component.runtime().ticks().clone();
        // The tick in which this task last let go of its worker.
        let mut since = ticks.now();
        loop {
            let work = context.lease.next().await;
            if ticks.now() != since {
                reschedule().await;
                since = ticks.now();
            }
            match work {
                Work::Stop => {
                    handler.finish();
                    return Ok(());
                }
                // It has no word for events.
                Work::Event(_) => {}
                Work::Pause { .. } => context.lease.paused(Ok(None)),
                Work::Restore(_) => {
                    let why = "a handler of wasmcloud:messaging would lose the state";
                    context.lease.restored(Err(why.into()));
                }
                Work::Messages => {
                    while let Some(message) = context.lease.begin() {
                        let outcome = handler.handle(message).await?;
                        context.lease.conclude(outcome);
                        if ticks.now() != since {
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// One incarnation.
struct Handler {
    store: Store<HostState>,
    guest: handler::Guest,
    component: Component,
    deadline: Duration,
}

impl Handler {
    async fn create(
        component: &Component,
        limits: &Limits,
        grants: &Arc<Grants>,
        context: &Context,
    ) -> Result<Self, Crash> {
        let link = |message: String| Crash::from(CrashReason::Link { message });
        let Code::Messaging(pre, export) = component.code() else {
            // Whoever makes a service of it looks at its kind.
            return Err(link("it does not handle wasmcloud:messaging".into()));
        };
        let (mut store, instance) = instantiate(component, pre, limits, grants, context).await?;
        let guest = export.load(&mut store, &instance).map_err(|e| link(format!("{e:#}")))?;
        let deadline = limits.handler_deadline;
        Ok(Self { store, guest, component: component.clone(), deadline })
    }

    async fn handle(&mut self, message: &Message) -> Result<Outcome, Crash> {
        let asked = message.wants_reply().then(Instant::now);
        let in_flight = InFlight::of(message);
        let lowered = BrokerMessage {
            subject: message.topic().to_owned(),
            body: message.payload.to_vec(),
            reply_to: in_flight.as_ref().map(|asked| asked.reply_to().to_owned()),
        };
        let state = self.store.data_mut();
        state.in_flight = in_flight;
        state.call.begin(self.deadline);
        state.limiter.begin_call();
        self.store.set_epoch_deadline(FIRST_TICKS);
        let called = {
            let store = self.store.as_context_mut();
            bounded(self.deadline, self.guest.call_handle_message(store, &lowered)).await
        };
        let state = self.store.data_mut();
        // Whoever waits learns with the last clone that no answer comes.
        state.in_flight = None;
        state.call.end();
        let handled = called.map_err(|failed| {
            let seen = Seen {
                witness: &self.store.data().witness(),
                call: CallKind::Handler,
                limit: self.deadline,
                topic: Some(message.topic()),
                component: &self.component,
            };
            seen.crash(&failed)
        })?;
        if let Some(asked) = asked {
            let state = self.store.data();
            state.metrics.observe(&Observation::RequestAnswered {
                service: state.kernel.id.as_str(),
                latency: asked.elapsed(),
            });
        }
        Ok(match handled {
            Ok(()) => Outcome::Handled,
            Err(why) => Outcome::Reject(cut(&why, WHY).to_owned()),
        })
    }

    /// Nothing more is called; lines that were not ended are.
    fn finish(&self) {
        self.store.data().stdout.finish();
        self.store.data().stderr.finish();
    }
}
