//! Jobs and commands: `wasi:cli/run`, as any program for the target wasm32-wasip2
//! exports it.
//!
//! A job is called once and has an end; a long-running command is one that has none
//! in sight. Nobody can tell the one from the other before, so both are run in the
//! same way: no deadline holds for `run`, which is looked at by ticks as every guest
//! is, and shares the hog lane while it computes. WASI has no signal, so a stop
//! gives the call up where it is, between two instructions or in a host call, and
//! its store with it.
//!
//! One without a schedule is an incarnation for each run: it has finished when `run`
//! returns well, and one that ends otherwise is a crash that the restart policy
//! deals with. One with a schedule is an incarnation that waits, and makes an
//! instance for each run: a run that fails is a crash of a part, and the next one
//! comes when it is due. A tight loop of restarts would not be what a schedule asks
//! for.
//!
//! In a hot swap the new version runs when it has its turn; the one before stands
//! still from the pause on, in the middle of its run, and goes on there if it is put
//! back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ron_kernel::health::Status;
use ron_kernel::message::{Outcome, Work};
use ron_kernel::metrics::{Observation, RunOutcome};
use ron_kernel::service::{Context, Crash, Service};
use ron_kernel::{CallKind, CrashReason};
use tokio::time::sleep;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::{p2, p3};

use crate::call::bounded;
use crate::component::{Code, Component};
use crate::ending::{Failed, Seen};
use crate::grants::Grants;
use crate::instance::{earlier, new_store};
use crate::lane::LanePlace;
use crate::limits::{Limits, Rates};
use crate::schedule::Schedule;
use crate::state::{FIRST_TICKS, HostState};

/// How long a job that waits sleeps before it looks at the clock again: that may
/// have been set, and a machine that slept has not counted.
const LOOK: Duration = Duration::from_secs(30);

/// A component of [`Kind::Job`](crate::Kind::Job), to be run by a supervisor on the
/// threads of [`Runtime::handle`](crate::Runtime::handle).
#[derive(Debug)]
pub struct JobService {
    component: Component,
    limits: Limits,
    grants: Arc<Grants>,
    schedule: Option<Schedule>,
}

impl JobService {
    /// A job of that component within those limits, with those grants, run at once.
    /// A component of another kind crashes with `link-failed`.
    #[must_use]
    pub fn new(component: Component, limits: Limits, grants: Arc<Grants>) -> Self {
        Self { component, limits, grants, schedule: None }
    }

    /// The same, run when `schedule` says, if there is one.
    #[must_use]
    pub fn scheduled(self, schedule: Option<Schedule>) -> Self {
        Self { schedule, ..self }
    }

    /// An instance, whose `run` is not called yet.
    async fn make(&self, context: &Context) -> Result<Run, Crash> {
        let kernel = Arc::clone(context.handle());
        let told = Arc::clone(&kernel);
        let gauge = move |bytes| told.report_memory(bytes);
        let (component, metrics) = (&self.component, context.metrics().clone());
        let (limits, grants) = (&self.limits, &self.grants);
        let rates = Rates::own(limits, component.runtime().ticks().now());
        let mut store = new_store(component, limits, grants, kernel, metrics, rates, gauge);
        let limit = context.deadlines.start;
        let allowed = earlier(limit);
        store.data_mut().call.begin(allowed);
        store.set_epoch_deadline(FIRST_TICKS);
        let made = match (store.data_mut().reached(), component.code()) {
            (Err(error), _) => Err(Failed::Call(error)),
            (Ok(()), Code::Job(program)) => bounded(allowed, program.instantiate(&mut store)).await,
            (Ok(()), _) => {
                // Whoever makes a job of it looks at its kind.
                let message = "it is not a job".to_owned();
                return Err(CrashReason::Link { message }.into());
            }
        };
        store.data_mut().call.end();
        let component = component.clone();
        match made {
            Ok(command) => Ok(Run { store, command, component }),
            Err(failed) => {
                let witness = &store.data().witness();
                let (call, component) = (CallKind::Start, &component);
                Err(Seen { witness, call, limit, topic: None, component }.crash(&failed))
            }
        }
    }
}

/// A program that is linked, of either WASI.
pub(crate) enum Program {
    P2(p2::bindings::CommandPre<HostState>),
    P3(p3::bindings::CommandPre<HostState>),
}

/// An instance of it.
enum Command {
    P2(p2::bindings::Command),
    P3(p3::bindings::Command),
}

impl Program {
    async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Command> {
        Ok(match self {
            Self::P2(pre) => Command::P2(pre.instantiate_async(store).await?),
            Self::P3(pre) => Command::P3(pre.instantiate_async(store).await?),
        })
    }
}

impl Command {
    /// Calls `run`, which says whether all went well.
    async fn run(&self, store: &mut Store<HostState>) -> wasmtime::Result<Result<(), ()>> {
        match self {
            Self::P2(command) => command.wasi_cli_run().call_run(store).await,
            Self::P3(command) => {
                let run =
                    async |accessor: &Accessor<_>| command.wasi_cli_run().call_run(accessor).await;
                store.run_concurrent(run).await?
            }
        }
    }
}

/// One run's store and instance.
struct Run {
    store: Store<HostState>,
    command: Command,
    component: Component,
}

/// However it ends, what stands on its last line is logged.
impl Drop for Run {
    fn drop(&mut self) {
        self.store.data().stdout.finish();
        self.store.data().stderr.finish();
    }
}

impl Run {
    fn place(&self) -> LanePlace {
        self.store.data().call.place().clone()
    }

    /// Calls `run`, for as long as it takes.
    async fn call(mut self) -> Result<(), Crash> {
        let place = self.place();
        let state = self.store.data_mut();
        state.call.begin_endless();
        state.limiter.begin_call();
        self.store.set_epoch_deadline(FIRST_TICKS);
        let returned = {
            let mut call = pin!(self.command.run(&mut self.store));
            poll_fn(|cx| {
                let polled = call.as_mut().poll(cx);
                if polled.is_pending() {
                    place.rest();
                }
                polled
            })
            .await
        };
        self.store.data_mut().call.end();
        let failed = match returned {
            Ok(Ok(())) => None,
            // All that WASI has for it without `exit`.
            Ok(Err(())) => Some(wasmtime::Error::new(I32Exit(1))),
            Err(error) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => None,
            Err(error) => Some(error),
        };
        let Some(error) = failed else { return Ok(()) };
        let witness = &self.store.data().witness();
        // There is no deadline to have passed.
        let (call, limit) = (CallKind::Handler, Duration::MAX);
        let seen = Seen { witness, call, limit, topic: None, component: &self.component };
        Err(seen.crash(&Failed::Call(error)))
    }
}

impl Service for JobService {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        match self.schedule.clone() {
            None => self.once(context).await,
            Some(schedule) => self.when_due(&schedule, context).await,
        }
    }
}

/// What came first.
enum First<T> {
    /// What was waited for.
    Came(T),
    /// The wish to stop.
    Stop,
}

impl JobService {
    async fn once(&self, context: &mut Context) -> Result<(), Crash> {
        let run = self.make(context).await?;
        context.started();
        if let First::Stop = turn(context).await {
            return Ok(());
        }
        let place = run.place();
        let ended = match attended(context, Some(&place), run.call()).await {
            First::Came(ended) => ended,
            First::Stop => return Ok(()),
        };
        count(context, &ended);
        if ended.is_ok() {
            context.finished();
        }
        ended
    }

    async fn when_due(&self, schedule: &Schedule, context: &mut Context) -> Result<(), Crash> {
        // What cannot be instantiated is found before it is due.
        drop(self.make(context).await?);
        context.handle().report_memory(0);
        context.started();
        if let First::Stop = turn(context).await {
            return Ok(());
        }
        let mut failed = None;
        loop {
            let Some(due) = schedule.next(now()) else {
                context.finished();
                return Ok(());
            };
            let next = format!("next run at {}", written(due));
            let (status, detail) = match &failed {
                None => (Status::Ok, next),
                Some(why) => (Status::Degraded, format!("the last run failed: {why}; {next}")),
            };
            context.handle().report_health(status, Some(detail));
            if let First::Stop = attended(context, None, until(due)).await {
                return Ok(());
            }
            match self.one_run(due, schedule, context).await {
                First::Stop => return Ok(()),
                First::Came(ended) => {
                    count(context, &ended);
                    context.handle().report_memory(0);
                    failed = ended.err().map(|crash| {
                        let why = format!("{}: {}", crash.reason.label(), crash.reason);
                        context.handle().report_crash(crash);
                        why
                    });
                }
            }
        }
    }

    /// The run that was due at `due`. Others that are due meanwhile are skipped.
    async fn one_run(
        &self,
        due: Duration,
        schedule: &Schedule,
        context: &mut Context,
    ) -> First<Result<(), Crash>> {
        let detail = Some(format!("running since {}", written(due)));
        context.handle().report_health(Status::Ok, detail);
        let began = Instant::now();
        let run = match self.make(context).await {
            Ok(run) => run,
            Err(crash) => return First::Came(Err(crash)),
        };
        let place = run.place();
        let (handle, metrics) = (Arc::clone(context.handle()), context.metrics().clone());
        let skips = async {
            let mut last = due;
            while let Some(next) = schedule.next(last.max(now())) {
                until(next).await;
                last = next;
                let service = handle.id.as_str();
                let (at, for_s) = (written(next), began.elapsed().as_secs());
                tracing::warn!(
                    service,
                    "the run that is due at {at} is skipped: the one before has been running for {for_s} s"
                );
                let outcome = RunOutcome::Skipped;
                metrics.observe(&Observation::JobRan { service, outcome });
            }
            std::future::pending().await
        };
        let ended = async {
            tokio::select! {
                ended = run.call() => ended,
                ended = skips => ended,
            }
        };
        attended(context, Some(&place), ended).await
    }
}

/// A time as it is shown.
fn written(at: Duration) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + at)
}

/// What the clock on the wall says, as a [`Schedule`] counts.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn count(context: &Context, ended: &Result<(), Crash>) {
    let service = context.handle().id.as_str();
    let outcome = if ended.is_ok() { RunOutcome::Finished } else { RunOutcome::Failed };
    context.metrics().observe(&Observation::JobRan { service, outcome });
}

/// Waits for that time of the clock on the wall, which may be set meanwhile.
async fn until(at: Duration) {
    loop {
        let left = at.saturating_sub(now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}

/// Waits for the incarnation's turn: a version that may never take over must have
/// done nothing.
async fn turn(context: &mut Context) -> First<()> {
    let handle = Arc::clone(context.handle());
    // The turn comes on this very task, which is polled after it.
    let come = poll_fn(move |_| if handle.has_turn() { Poll::Ready(()) } else { Poll::Pending });
    attended(context, None, come).await
}

/// Awaits `future`, and meanwhile answers what the supervisor asks. `place` is what a
/// run has in the lane.
async fn attended<T>(
    context: &mut Context,
    place: Option<&LanePlace>,
    future: impl Future<Output = T>,
) -> First<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        // Whoever stands still is not polled.
        if let Some(place) = place {
            place.park(false);
        }
        // First, so that nothing of it runs once it was answered that it paused.
        if let Poll::Ready(came) = future.as_mut().poll(cx) {
            return Poll::Ready(First::Came(came));
        }
        while let Poll::Ready(work) = context.lease.poll_next(cx) {
            match work {
                Work::Stop => return Poll::Ready(First::Stop),
                Work::Pause { .. } => {
                    if let Some(place) = place {
                        place.park(true);
                        if let Poll::Ready(came) = future.as_mut().poll(cx) {
                            return Poll::Ready(First::Came(came));
                        }
                    }
                    // It is not polled again before it has its turn again.
                    context.lease.paused(Ok(None));
                }
                Work::Restore(_) => {
                    context.lease.restored(Err("a job takes no state over".into()));
                }
                Work::Event(_) => {}
                Work::Messages => {
                    while context.lease.begin().is_some() {
                        let why = "it is a job, and takes no messages";
                        context.lease.conclude(Outcome::Reject(why.into()));
                    }
                }
            }
        }
        Poll::Pending
    })
    .await
}
