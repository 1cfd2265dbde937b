//! One service's task: takes the machine's actions to the incarnation, and what
//! becomes of the incarnation to the machine.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use super::machine::{Action, Input, Life, State};
use super::{Command, ServiceSpec, Shared, Standing};
use crate::crash::{CallKind, CrashReason};
use crate::kernel::Kernel;
use crate::message::Inbox;
use crate::service::{Context, Crash, Generation, Service, ServiceId};
use crate::timer::TimerOwner;

pub(super) struct Task {
    pub(super) kernel: Kernel,
    pub(super) shared: Arc<Shared>,
    pub(super) spec: ServiceSpec,
    pub(super) inbox: Arc<Inbox>,
    pub(super) standing: Arc<Standing>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// When the current incarnation was decided on.
    pub(super) decided: Instant,
}

/// What an incarnation's drive was interrupted by.
enum Step {
    Ended(Result<(), Crash>),
    Started,
    Told(Option<Command>),
    Late,
}

impl Task {
    /// [`run`](Self::run); a panic of the kernel's own, which should not be,
    /// is told like a crash and leaves the service quarantined.
    pub(super) async fn run_guarded<S: Service>(self, make: impl FnMut() -> S) -> ServiceId {
        let (id, standing) = (self.spec.id.clone(), Arc::clone(&self.standing));
        match AssertUnwindSafe(self.run(make)).catch_unwind().await {
            Ok(id) => id,
            Err(panic) => {
                let message = format!("the host's own fault: {}", panicked(&*panic).reason);
                let reason = CrashReason::Host { message };
                standing.crashed(reason.clone().into());
                standing.entered(&State::Quarantined { reason });
                id
            }
        }
    }

    /// Runs until it is told to end, or its supervisor is gone.
    async fn run<S: Service>(mut self, mut make: impl FnMut() -> S) -> ServiceId {
        let mut life = Life::new(self.spec.restart);
        self.take(&mut life, Input::Start);
        let mut ending = false;
        loop {
            let told = match life.state().clone() {
                State::Starting | State::Running { .. } | State::Draining { .. } => {
                    ending |= self.incarnate(&mut life, &mut make).await;
                    continue;
                }
                _ if ending => break,
                State::Backoff { until } => {
                    tokio::select! {
                        told = self.commands.recv() => told,
                        () = sleep_until(Instant::from_std(until)) => {
                            self.take(&mut life, Input::Elapsed);
                            continue;
                        }
                    }
                }
                State::Loading | State::Stopped | State::Quarantined { .. } => {
                    self.commands.recv().await
                }
            };
            ending |= self.obey(&mut life, told);
        }
        if life.state() != &State::Stopped {
            self.take(&mut life, Input::Stop);
        }
        self.spec.id
    }

    /// Passes a command to the machine; says whether the task is to end.
    fn obey(&mut self, life: &mut Life, told: Option<Command>) -> bool {
        let (input, end) = match told {
            Some(Command::Start) => (Input::Start, false),
            Some(Command::Restart) => (Input::Restart, false),
            Some(Command::Stop) => (Input::Stop, false),
            Some(Command::End) | None => (Input::Stop, true),
        };
        self.take(life, input);
        end
    }

    /// Steps the machine and does what it says.
    fn take(&mut self, life: &mut Life, input: Input) {
        self.take_with(life, input, None);
    }

    /// [`take`](Self::take), for an ending with more to tell than its reason.
    fn take_with(&mut self, life: &mut Life, input: Input, mut crash: Option<Crash>) {
        let now = Instant::now();
        let before = life.state().clone();
        let actions = life.step(input, now.into_std(), fastrand::f64());
        for action in actions {
            match action {
                Action::Crashed(reason) => {
                    self.standing.crashed(crash.take().unwrap_or(reason.into()));
                    // One that was on its way out takes nobody along: two of a
                    // group that crash in stopping would never come to rest.
                    if !matches!(before, State::Draining { .. }) {
                        self.shared.take_along(&self.spec.id);
                    }
                }
                Action::Restarting(delay) => self.standing.restarting(delay),
                Action::GaveUp(reason) => {
                    self.standing.gave_up(&reason);
                    if self.spec.critical {
                        self.shared.failed.send_if_modified(|failed| {
                            let first = failed.is_none();
                            failed.get_or_insert_with(|| (self.spec.id.clone(), reason));
                            first
                        });
                    }
                }
                Action::AskToStop => self.inbox.request_stop(),
                // These two show in the state, which the loop acts on.
                Action::Spawn(_) => self.decided = now,
                Action::Wake(_) => {}
            }
        }
        if *life.state() != before {
            if matches!(before, State::Starting) && matches!(life.state(), State::Running { .. }) {
                self.standing.is_up(self.decided.elapsed());
            }
            let absent = match life.state() {
                State::Stopped | State::Quarantined { .. } => {
                    Some(format!("{} is {}", self.spec.id, life.state().label()))
                }
                _ => None,
            };
            self.inbox.set_absent(absent);
            self.standing.entered(life.state());
        }
    }

    /// Makes one incarnation and drives it to its end. Says whether the task
    /// is to end too.
    async fn incarnate<S: Service>(
        &mut self,
        life: &mut Life,
        make: &mut impl FnMut() -> S,
    ) -> bool {
        let generation = life.generation();
        self.standing.begin(generation);
        let mut service = match catch(make) {
            Ok(service) => service,
            Err(crash) => {
                self.end(life, generation, Err(crash));
                return false;
            }
        };
        let mut context = self.context(generation);
        let (ended, ending) = {
            let mut incarnation = pin!(service.run(&mut context));
            self.drive(life, incarnation.as_mut()).await
        };
        // The instance goes before its successor is made: one at a time.
        drop(service);
        let failed = ended.as_ref().err().map(|crash| crash.reason.to_string());
        context.lease.end(failed.as_deref());
        self.end(life, generation, ended);
        ending
    }

    fn context(&self, generation: Generation) -> Context {
        let grants = Arc::new(self.spec.grants.clone());
        Context {
            id: self.spec.id.clone(),
            generation,
            lease: self.inbox.lease(),
            deadlines: self.spec.deadlines,
            metrics: self.kernel.metrics().clone(),
            publisher: self.kernel.router().publisher(self.spec.id.as_str(), Arc::clone(&grants)),
            grants,
            router: self.kernel.router().clone(),
            timers: self.kernel.timers().clone(),
            config: self.kernel.config().clone(),
            standing: Arc::clone(&self.standing),
        }
    }

    fn end(&mut self, life: &mut Life, generation: Generation, ended: Result<(), Crash>) {
        let owner = TimerOwner { service: self.spec.id.clone(), generation };
        self.kernel.timers().cancel_all(&owner);
        match ended {
            Ok(()) => self.take(life, Input::Exited(Ok(()))),
            Err(crash) => {
                let reason = crash.reason.clone();
                self.take_with(life, Input::Exited(Err(reason)), Some(crash));
            }
        }
    }

    async fn drive(
        &mut self,
        life: &mut Life,
        mut incarnation: Pin<&mut impl Future<Output = Result<(), Crash>>>,
    ) -> (Result<(), Crash>, bool) {
        let mut ending = false;
        let mut started = false;
        // The deadline of `start`, later of `stop`; nothing runs against one
        // in between, for handlers' deadlines are the runtime's.
        let mut deadline: Option<Pin<Box<Sleep>>> =
            Some(Box::pin(sleep_until(Instant::now() + self.spec.deadlines.start)));
        loop {
            let step = poll_fn(|cx| {
                let polled = catch_unwind(AssertUnwindSafe(|| incarnation.as_mut().poll(cx)));
                match polled {
                    Ok(Poll::Ready(ended)) => return Poll::Ready(Step::Ended(ended)),
                    Ok(Poll::Pending) => {}
                    Err(panic) => return Poll::Ready(Step::Ended(Err(panicked(&*panic)))),
                }
                if !started && self.standing.has_started() {
                    return Poll::Ready(Step::Started);
                }
                if !ending && let Poll::Ready(told) = self.commands.poll_recv(cx) {
                    return Poll::Ready(Step::Told(told));
                }
                if let Some(sleep) = &mut deadline
                    && sleep.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Step::Late);
                }
                Poll::Pending
            })
            .await;
            match step {
                Step::Ended(ended) => {
                    // It may have started and ended within one poll.
                    if !started && self.standing.has_started() {
                        self.take(life, Input::Started);
                    }
                    return (ended, ending);
                }
                Step::Started => {
                    started = true;
                    if matches!(life.state(), State::Starting) {
                        deadline = None;
                    }
                    self.take(life, Input::Started);
                }
                Step::Told(told) => {
                    ending |= self.obey(life, told);
                    if matches!(life.state(), State::Draining { .. }) {
                        let limit = Instant::now() + self.spec.deadlines.stop;
                        deadline = Some(Box::pin(sleep_until(limit)));
                    }
                }
                Step::Late => {
                    let (call, limit) = match life.state() {
                        State::Draining { .. } => (CallKind::Stop, self.spec.deadlines.stop),
                        _ => (CallKind::Start, self.spec.deadlines.start),
                    };
                    return (Err(CrashReason::deadline(call, limit).into()), ending);
                }
            }
        }
    }
}

fn catch<T>(make: &mut impl FnMut() -> T) -> Result<T, Crash> {
    catch_unwind(AssertUnwindSafe(make)).map_err(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn Any + Send)) -> Crash {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    CrashReason::panic(text).into()
}
