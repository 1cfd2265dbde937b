//! A component as a service of the kernel's: the loop of one incarnation.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use ron_kernel::message::{MAX_FRAME, Message, Outcome, Work};
use ron_kernel::metrics::Observation;
use ron_kernel::service::{Context, Crash, Service};

use crate::bindings::{bulk, types};
use crate::bulk::{Arena, fits};
use crate::component::Component;
use crate::grants::Grants;
use crate::http::{Gate, HttpService, InTurn, Waiting};
use crate::instance::Instance;
use crate::job::JobService;
use crate::kind::Kind;
use crate::lane::reschedule;
use crate::limits::Limits;
use crate::log::{WHY, cut};
use crate::messaging::MessagingService;
use crate::schedule::Schedule;
use crate::stream::StreamService;

/// A component to be run by a supervisor, on the threads of
/// [`Runtime::handle`](crate::Runtime::handle).
///
/// Made anew for each incarnation; a clone of the component costs a counter.
#[derive(Debug)]
pub struct ComponentService {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    /// Where its requests come from, if it answers any.
    gate: Option<Gate>,
}

impl ComponentService {
    /// A service of that component within those limits, with those grants.
    #[must_use]
    pub fn new(component: Component, limits: Limits, grants: Arc<Grants>) -> Self {
        Self { component, limits, grants, gate: None }
    }

    /// Has it answer the requests that come to `gate`, one at a time and in turn with
    /// its messages, if its component is one for that.
    #[must_use]
    pub fn behind(self, gate: Gate) -> Self {
        let gate = self.component.kind().answers_http().then_some(gate);
        Self { gate, ..self }
    }
}

/// What an incarnation does next.
enum Next {
    Work(Work),
    Request(Box<Waiting>),
}

impl Service for ComponentService {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        // What is done once has its room for as long: thousands idle in what follows.
        let created = Instance::create(&self.component, &self.limits, &self.grants, context);
        let mut instance = Box::pin(created).await?;
        Box::pin(instance.start(context)).await?;
        let requests =
            self.gate.as_ref().map(|gate| gate.enter_in_turn(Arc::clone(context.handle())));
        context.started();
        let ticks = self.component.runtime().ticks().clone();
        let mut arena = Arena::default();
        // The tick in which this task last let go of its worker.
        let mut since = ticks.now();
        // Messages and requests take turns: neither waits behind all of the other.
        let mut request_first = false;
        loop {
            let mut waited = false;
            let next = poll_fn(|cx| {
                if request_first
                    && !context.lease.interrupted()
                    && context.lease.is_active()
                    && let Some(request) = requests.as_ref().and_then(InTurn::pop)
                {
                    return Poll::Ready(Next::Request(Box::new(request)));
                }
                if let Poll::Ready(work) = context.lease.poll_next(cx) {
                    return Poll::Ready(Next::Work(work));
                }
                // Looked at after the lease has the waker: who is active from now on
                // is woken. One that is paused leaves them to whoever comes after it.
                if let Some(requests) = &requests
                    && context.lease.is_active()
                    && let Poll::Ready(request) = requests.poll_pop(cx)
                {
                    return Poll::Ready(Next::Request(Box::new(request)));
                }
                waited = true;
                Poll::Pending
            })
            .await;
            // A service whose messages never end would never go back to the
            // scheduler; once a tick is often enough for the others.
            if ticks.now() != since {
                if !waited {
                    reschedule().await;
                }
                since = ticks.now();
            }
            let work = match next {
                Next::Work(work) => work,
                Next::Request(request) => {
                    request_first = false;
                    Box::pin(instance.answer(*request, context.lease.inbox())).await?;
                    continue;
                }
            };
            request_first = requests.is_some();
            match work {
                Work::Event(event) => instance.on_event(&event).await?,
                Work::Pause { save } => {
                    let saved = match save {
                        true => Box::pin(instance.save(context.deadlines.handover)).await?,
                        false => Ok(None),
                    };
                    context.lease.paused(saved);
                }
                Work::Restore(state) => {
                    let restoring = instance.restore(&state, context.deadlines.handover);
                    let result = Box::pin(restoring).await?;
                    context.lease.restored(result);
                }
                Work::Stop => {
                    // Those that wait are answered first, as far as there is time for it,
                    // and no more are taken. The others, and all of one that was replaced,
                    // are left to whoever comes next.
                    if let Some(requests) = requests
                        && context.lease.is_active()
                    {
                        let last = requests.leave();
                        let until = Instant::now() + context.deadlines.stop / 4;
                        while Instant::now() < until
                            && let Some(request) = last.pop()
                        {
                            Box::pin(instance.answer(request, context.lease.inbox())).await?;
                        }
                    }
                    return Box::pin(instance.stop(context.deadlines.stop)).await;
                }
                Work::Messages => {
                    while handle(&mut instance, &mut arena, context).await? && ticks.now() == since
                    {
                    }
                }
            }
        }
    }
}

/// A component of any kind, to be run by a supervisor as what it is.
#[derive(Debug)]
pub enum AnyService {
    /// See [`ComponentService`].
    Service(ComponentService),
    /// See [`HttpService`].
    Http(HttpService),
    /// See [`JobService`].
    Job(JobService),
    /// See [`MessagingService`].
    Messaging(MessagingService),
    /// See [`StreamService`].
    Stream(StreamService),
}

impl AnyService {
    /// A service of that component within those limits, with those grants. One that answers requests
    /// or handles connections has them from `gate`; nobody else enters it.
    #[must_use]
    pub fn new(component: Component, limits: Limits, grants: Arc<Grants>, gate: &Gate) -> Self {
        match component.kind() {
            Kind::Service | Kind::ServiceWithHttp => {
                Self::Service(ComponentService::new(component, limits, grants).behind(gate.clone()))
            }
            Kind::Http => Self::Http(HttpService::new(component, limits, grants, gate.clone())),
            Kind::Messaging => Self::Messaging(MessagingService::new(component, limits, grants)),
            Kind::Job => Self::Job(JobService::new(component, limits, grants)),
            Kind::Stream => {
                Self::Stream(StreamService::new(component, limits, grants, gate.clone()))
            }
        }
    }

    /// The same; a job is run when `schedule` says, where it says anything.
    #[must_use]
    pub fn scheduled(self, schedule: Option<Schedule>) -> Self {
        match self {
            Self::Job(job) => Self::Job(job.scheduled(schedule)),
            other => other,
        }
    }
}

impl Service for AnyService {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        // Each in a box of its own size: in one they would all have that of the largest.
        match self {
            Self::Service(service) => Box::pin(service.run(context)).await,
            Self::Http(service) => Box::pin(service.run(context)).await,
            Self::Stream(service) => Box::pin(service.run(context)).await,
            Self::Job(job) => Box::pin(job.run(context)).await,
            Self::Messaging(service) => Box::pin(service.run(context)).await,
        }
    }
}

/// Handles what comes next of the messages taken: a batch, or one. Says whether
/// there was any.
async fn handle(
    instance: &mut Instance,
    arena: &mut Arena,
    context: &mut Context,
) -> Result<bool, Crash> {
    if instance.is_bulk()
        && let Some(messages) = context.lease.begin_batch(fits())
    {
        let outcomes = {
            let batch = arena.fill(messages);
            instance.on_batch(&batch).await?
        };
        conclude_batch(context, outcomes);
        return Ok(true);
    }
    let Some(message) = context.lease.begin() else { return Ok(false) };
    let asked = message.wants_reply().then(Instant::now);
    let outcome = match instance.on_message(message).await? {
        Ok(Some(answer)) => answered(message, answer),
        Ok(None) => Outcome::Handled,
        Err(failure) => outcome_of(failure),
    };
    if let Some(asked) = asked {
        let state = instance.state();
        state.metrics.observe(&Observation::RequestAnswered {
            service: state.kernel.id.as_str(),
            latency: asked.elapsed(),
        });
    }
    context.lease.conclude(outcome);
    Ok(true)
}

fn outcome_of(failure: types::Failure) -> Outcome {
    match failure {
        types::Failure::Retry(why) => Outcome::Retry(cut(&why, WHY).to_owned()),
        types::Failure::Reject(why) => Outcome::Reject(cut(&why, WHY).to_owned()),
    }
}

/// Answers a message; what is larger than a payload may be is no answer.
fn answered(message: &Message, answer: Vec<u8>) -> Outcome {
    if answer.len() > MAX_FRAME {
        let (bytes, limit) = (answer.len(), MAX_FRAME);
        return Outcome::Reject(format!(
            "its answer has {bytes} bytes; a payload has at most {limit}"
        ));
    }
    message.answer(Bytes::from(answer));
    Outcome::Handled
}

/// Concludes a batch: what its outcomes name as they say, the rest as handled.
/// Of two outcomes for one message the first counts; one for no message counts
/// for nothing.
fn conclude_batch(context: &mut Context, mut outcomes: Vec<(u32, bulk::Outcome)>) {
    outcomes.sort_by_key(|(index, _)| *index);
    let mut outcomes = outcomes.into_iter().peekable();
    context.lease.conclude_all(|index, message| {
        let mut own = None;
        while let Some((_, outcome)) = outcomes.next_if(|(of, _)| *of as usize <= index) {
            own.get_or_insert(outcome);
        }
        match own {
            None => Outcome::Handled,
            Some(bulk::Outcome::Reply(answer)) => answered(message, answer),
            Some(bulk::Outcome::Failed(failure)) => outcome_of(failure),
        }
    });
}
