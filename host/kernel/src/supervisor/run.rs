//! One service's task: takes the machines' actions to the incarnations, and
//! what becomes of the incarnations to the machines.
//!
//! Two machines decide: [`Life`] when the service runs, [`Swap`] which version
//! of it does. This is the shell around both; `cutover.rs` has the part that
//! a swap's actions need.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::alarm::{Alarm, Alarms};
use super::candidate::Candidate;
use super::cutover::Parked;
use super::incarnation::{Became, Incarnation, Recipe, panicked};
use super::machine::{Action, Input, Life, State};
use super::probation::EndedBy;
use super::swap::{self, Swap};
use super::{Command, ServiceSpec, Shared, Standing};
use crate::crash::{CallKind, CrashReason};
use crate::kernel::Kernel;
use crate::message::{Inbox, InboxAnswer};
use crate::service::{Context, ContextHandle, Crash, Generation, ServiceId};
use crate::timer::TimerOwner;
use crate::turn::Turn;

pub(super) struct Task {
    pub(super) kernel: Kernel,
    pub(super) shared: Arc<Shared>,
    pub(super) spec: ServiceSpec,
    pub(super) inbox: Arc<Inbox>,
    pub(super) standing: Arc<Standing>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) life: Life,
    pub(super) swap: Swap,
    /// The version that runs.
    pub(super) recipe: Recipe,
    pub(super) current: Option<Incarnation>,
    /// The version that is to take over.
    pub(super) next: Option<Candidate>,
    /// The version that was taken over from, for as long as it may come back.
    pub(super) parked: Option<Parked>,
    /// A version that was replaced for good and has not stopped yet.
    pub(super) retiring: Option<Incarnation>,
    pub(super) alarms: Alarms,
    /// When making the current incarnation began.
    began: Instant,
    /// The task ends when its incarnations have.
    ending: bool,
    /// How the current incarnation ended, while it is not clear who deals with it.
    pub(super) unsettled: Option<Result<(), Crash>>,
    #[cfg(test)]
    pub(super) tamper: Option<super::tests::swap_model::Tamper>,
}

/// Which incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Current,
    Next,
    Parked,
    Retiring,
}

/// What the task was waiting for.
enum Step {
    Became(Role, Became),
    Answered(InboxAnswer),
    Failing(String),
    Go(swap::Input),
    Told(Option<Command>),
    Due(Alarm),
}

impl Task {
    pub(super) fn new(
        kernel: Kernel,
        shared: Arc<Shared>,
        spec: ServiceSpec,
        inbox: Arc<Inbox>,
        standing: Arc<Standing>,
        commands: mpsc::Receiver<Command>,
        recipe: Recipe,
    ) -> Self {
        Self {
            life: Life::new(spec.restart),
            swap: Swap::new(spec.probation),
            kernel,
            shared,
            spec,
            inbox,
            standing,
            commands,
            recipe,
            current: None,
            next: None,
            parked: None,
            retiring: None,
            alarms: Alarms::default(),
            began: Instant::now(),
            ending: false,
            unsettled: None,
            #[cfg(test)]
            tamper: None,
        }
    }

    /// [`run`](Self::run); a panic of the kernel's own, which should not be,
    /// is told like a crash and leaves the service quarantined. In a box, or each future
    /// around it would have room for one more of it.
    pub(super) async fn run_guarded(self: Box<Self>) -> ServiceId {
        let (id, standing) = (self.spec.id.clone(), Arc::clone(&self.standing));
        match AssertUnwindSafe(self.run()).catch_unwind().await {
            Ok(id) => id,
            Err(panic) => {
                let message = format!("the host's own fault: {}", panicked(&*panic).reason);
                let reason = CrashReason::Host { message };
                standing.crashed(reason.clone().into());
                standing.entered(&State::Quarantined { reason }, |_| {});
                id
            }
        }
    }

    /// Runs until it is told to end, or its supervisor is gone.
    async fn run(mut self: Box<Self>) -> ServiceId {
        self.take(Input::Start);
        while poll_fn(|cx| self.turn(cx)).await {}
        if self.life.state() != &State::Stopped {
            self.take(Input::Stop);
        }
        self.spec.id
    }

    /// Waits for one thing to happen, and deals with it. Says whether more may.
    pub(super) fn turn(&mut self, cx: &mut task::Context<'_>) -> Poll<bool> {
        if self.current.is_none() && matches!(self.life.state(), State::Starting) {
            self.spawn();
            return Poll::Ready(true);
        }
        if self.ending && self.current.is_none() && self.retiring.is_none() {
            return Poll::Ready(false);
        }
        match ready!(self.poll(cx)) {
            Step::Became(role, became) => self.became(role, became),
            Step::Answered(InboxAnswer::Paused(saved)) => self.paused(saved),
            Step::Answered(InboxAnswer::Restored(result)) => {
                self.swap_step(swap::Input::Restored(result));
            }
            Step::Failing(why) => self.swap_step(swap::Input::Failing(why)),
            Step::Go(input) => self.swap_step(input),
            Step::Told(told) => self.obey(told),
            Step::Due(alarm) => self.due(alarm),
        }
        Poll::Ready(true)
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Step> {
        if let Some(current) = &mut self.current
            && let Poll::Ready(became) = current.poll(cx)
        {
            return Poll::Ready(Step::Became(Role::Current, became));
        }
        if self.swap.phase() != &swap::Phase::Steady
            && let Poll::Ready(step) = self.poll_swap(cx)
        {
            return Poll::Ready(step);
        }
        if let Some(retiring) = &mut self.retiring
            && let Poll::Ready(became) = retiring.poll(cx)
        {
            return Poll::Ready(Step::Became(Role::Retiring, became));
        }
        if !self.ending
            && let Poll::Ready(told) = self.commands.poll_recv(cx)
        {
            return Poll::Ready(Step::Told(told));
        }
        self.alarms.poll(cx).map(Step::Due)
    }

    fn poll_swap(&mut self, cx: &mut task::Context<'_>) -> Poll<Step> {
        if let Some(next) = &mut self.next {
            if let Poll::Ready(became) = next.incarnation.poll(cx) {
                return Poll::Ready(Step::Became(Role::Next, became));
            }
            if self.swap.phase() == &swap::Phase::Ready
                && let Poll::Ready(wanted) = next.poll_go(cx)
            {
                let save = !next.discard_state;
                let serves = self.serves();
                return Poll::Ready(Step::Go(match wanted {
                    true => swap::Input::Cut { serves, save },
                    false => swap::Input::Cancel("nobody wants the swap any more".into()),
                }));
            }
        }
        // What was decided concerns whoever has not acted on it.
        let acts = !matches!(
            self.swap.phase(),
            swap::Phase::Retreating { .. } | swap::Phase::Returning { .. }
        );
        if acts
            && let Some(seat) = self.seat()
            && let Poll::Ready(outcome) = seat.poll(cx)
        {
            let serves = self.serves();
            return Poll::Ready(Step::Go(swap::Input::Decided { outcome, serves }));
        }
        if matches!(self.swap.phase(), swap::Phase::Returning { .. })
            && let Some(old) = self.parked.as_mut().and_then(Parked::incarnation)
            && let Poll::Ready(became) = old.poll(cx)
        {
            return Poll::Ready(Step::Became(Role::Parked, became));
        }
        let asked = match self.swap.phase() {
            swap::Phase::Pausing { .. } | swap::Phase::Retreating { .. } => self.current.as_ref(),
            swap::Phase::Restoring => self.next.as_ref().map(|next| &next.incarnation),
            swap::Phase::Returning { .. } => {
                self.parked.as_mut().and_then(Parked::incarnation).map(|old| &*old)
            }
            _ => None,
        };
        let seat = asked.map(|incarnation| incarnation.seat);
        if let Some(answer) = seat.and_then(|seat| self.inbox.answer(seat)) {
            return Poll::Ready(Step::Answered(answer));
        }
        if matches!(self.swap.phase(), swap::Phase::Probation { .. })
            && let Some(why) = self.standing.failing()
        {
            return Poll::Ready(Step::Failing(why));
        }
        Poll::Pending
    }

    /// Passes a command to the machine that it concerns.
    fn obey(&mut self, told: Option<Command>) {
        let (input, wanted) = match told {
            Some(Command::Prepare(wanted)) => return self.prepare(wanted),
            Some(Command::Exchange(wanted, reply)) => return self.exchange(*wanted, reply),
            Some(Command::PutBack(why)) => return self.swap_step(swap::Input::PutBack(why)),
            Some(Command::Amend(amendment)) => return self.amend(&amendment),
            Some(Command::Start) => return self.take(Input::Start),
            Some(Command::Restart) => (Input::Restart, swap::Input::Told(EndedBy::Restart)),
            Some(Command::Stop) => (Input::Stop, swap::Input::Told(EndedBy::Stop)),
            Some(Command::End(by)) => {
                self.ending = true;
                (Input::Stop, swap::Input::Leave(by))
            }
            None => {
                self.ending = true;
                (Input::Stop, swap::Input::Leave(EndedBy::HostEnd))
            }
        };
        self.swap_step(wanted.clone());
        // It may have learnt that the old version is to come back. It does, and
        // what is told is the old one's to do.
        self.swap_step(wanted);
        while self.current.is_none() && matches!(self.life.state(), State::Starting) {
            self.spawn();
        }
        self.take(input);
        if matches!(self.life.state(), State::Draining { .. }) {
            self.alarms.set(Alarm::Current, Instant::now() + self.spec.deadlines.stop);
        }
    }

    fn became(&mut self, role: Role, became: Became) {
        match (role, became) {
            (Role::Current, Became::Started) => {
                if matches!(self.life.state(), State::Starting) {
                    self.alarms.clear(Alarm::Current);
                }
                self.take(Input::Started);
            }
            (Role::Current, Became::Ended(ended)) => self.ended(ended),
            (Role::Next, Became::Started) => {
                self.alarms.clear(Alarm::Next);
                self.swap_step(swap::Input::Prepared);
            }
            (Role::Next, Became::Ended(ended)) => self.next_ended(ended),
            (Role::Parked, Became::Ended(_)) => self.parked_ended(),
            (Role::Parked | Role::Retiring, Became::Started) => {}
            (Role::Retiring, Became::Ended(ended)) => {
                self.alarms.clear(Alarm::Retiring);
                self.retired(ended);
            }
        }
    }

    fn due(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Current => {
                let starts = |own: &Incarnation| !own.turn.has_started();
                let (call, limit) = match self.life.state() {
                    // It was told to stop, and hangs in its start.
                    State::Draining { .. } if self.current.as_ref().is_some_and(starts) => {
                        (CallKind::Start, self.spec.deadlines.stop)
                    }
                    State::Draining { .. } => (CallKind::Stop, self.spec.deadlines.stop),
                    _ => (CallKind::Start, self.spec.deadlines.start),
                };
                self.ended(Err(CrashReason::deadline(call, limit).into()));
            }
            Alarm::Backoff => self.take(Input::Elapsed),
            Alarm::Next => {
                let limit = self.spec.deadlines.start;
                self.next_ended(Err(CrashReason::deadline(CallKind::Start, limit).into()));
            }
            Alarm::Handover => self.swap_step(swap::Input::Late),
            Alarm::Probation => self.swap_step(swap::Input::Elapsed),
            Alarm::Retiring => {
                let limit = self.spec.deadlines.stop;
                self.retired(Err(CrashReason::deadline(CallKind::Stop, limit).into()));
            }
        }
    }

    /// Steps the machine and does what it says.
    pub(super) fn take(&mut self, input: Input) {
        self.take_with(input, None);
    }

    /// [`take`](Self::take), for an ending with more to tell than its reason.
    fn take_with(&mut self, input: Input, mut crash: Option<Crash>) {
        let now = Instant::now();
        let before = self.life.state().clone();
        let actions = self.life.step(input, now.into_std(), fastrand::f64());
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
                    // The last replica to give up takes the service along. Known before it
                    // shows in the state: whoever sees that may end the host at once.
                    if self.standing.gave_up(&reason) && self.spec.critical {
                        self.shared.failed.send_if_modified(|failed| {
                            let first = failed.is_none();
                            failed.get_or_insert_with(|| (self.spec.id.clone(), reason));
                            first
                        });
                    }
                }
                Action::AskToStop => {
                    if let Some(current) = &self.current {
                        self.inbox.request_stop(current.seat);
                    }
                }
                // It shows in the state, which the loop acts on.
                Action::Spawn(_) => {}
                Action::Wake(at) => self.alarms.set(Alarm::Backoff, Instant::from_std(at)),
            }
        }
        if *self.life.state() != before {
            if matches!(before, State::Backoff { .. }) {
                self.alarms.clear(Alarm::Backoff);
            }
            if matches!(before, State::Starting)
                && matches!(self.life.state(), State::Running { .. })
            {
                self.standing.is_up(self.began.elapsed());
            }
            self.entered();
        }
    }

    /// Tells the state.
    pub(super) fn entered(&self) {
        self.standing.entered(self.life.state(), |absent| self.inbox.set_absent(absent));
    }

    /// Makes the incarnation that the machine wants.
    fn spawn(&mut self) {
        self.began = Instant::now();
        let generation = self.life.generation();
        self.standing.begin(generation, &self.recipe.version);
        let turn = Turn::new(generation, false, self.recipe.pin.clone());
        let context = self.context(turn, &self.spec);
        match self.recipe.make(context) {
            Ok(incarnation) => {
                self.current = Some(incarnation);
                self.alarms.set(Alarm::Current, Instant::now() + self.spec.deadlines.start);
            }
            Err(crash) => self.ended(Err(crash)),
        }
    }

    pub(super) fn context(&self, turn: Arc<Turn>, spec: &ServiceSpec) -> Context {
        let lease = self.inbox.lease(self.standing.replica(), !turn.waits());
        let on_probation = matches!(self.swap.phase(), swap::Phase::Probation { .. });
        self.inbox.set_on_probation(lease.seat(), on_probation && !turn.waits());
        Context {
            lease,
            deadlines: spec.deadlines,
            metrics: self.kernel.metrics().clone(),
            publisher: None,
            handle: Arc::new(ContextHandle {
                id: self.spec.id.clone(),
                replica: self.standing.replica(),
                turn,
                grants: Arc::clone(&spec.grants),
                router: self.kernel.router().clone(),
                timers: self.kernel.timers().clone(),
                config: self.kernel.config().clone(),
                standing: Arc::clone(&self.standing),
            }),
        }
    }

    /// The current incarnation has ended, or is ended here and now.
    fn ended(&mut self, ended: Result<(), Crash>) {
        self.alarms.clear(Alarm::Current);
        let finished = self.current.take().is_some_and(|current| current.turn.has_finished());
        self.kernel.timers().cancel_all(&self.owner(self.life.generation()));
        let Some(ended) = self.ended_in_swap(ended) else { return };
        match ended {
            Ok(()) if finished => self.take(Input::Finished),
            Ok(()) => self.take(Input::Exited(Ok(()))),
            Err(crash) => {
                let reason = crash.reason.clone();
                self.take_with(Input::Exited(Err(reason)), Some(crash));
            }
        }
    }

    pub(super) fn owner(&self, generation: Generation) -> TimerOwner {
        let replica = self.standing.replica();
        TimerOwner { service: self.spec.id.clone(), replica, generation }
    }
}
