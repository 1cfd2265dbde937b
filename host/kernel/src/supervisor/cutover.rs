//! What a swap's actions do: to the incarnations, the mailbox, the
//! subscriptions and the timers of one service.
//!
//! The cut is one stretch of code without an `await`: nothing of the service
//! runs between the old version's last message and the new version's first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use hashbrown::HashSet;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ServiceSpec;
use super::alarm::Alarm;
use super::incarnation::{Incarnation, Recipe};
use super::machine::State;
use super::prepared::{Cut, Reply, SwapError, SwapOptions, Turnout, Verdict, Wanted};
use super::run::Task;
use super::swap::{Action, Input, Phase};
use crate::config::ConfigSnapshot;
use crate::message::Ask;
use crate::service::{Crash, SavedState};
use crate::timer::ParkedTimers;
use crate::topic::TopicFilter;
use crate::turn::{Pin as ConfigPin, Turn};

/// Whoever waits for the next step of a swap.
enum Waiting {
    Ready(oneshot::Sender<Result<Turnout, SwapError>>),
    Go(oneshot::Receiver<Reply>),
    Cut(Reply),
    Nobody,
}

/// The next version, before its turn.
pub(super) struct Candidate {
    pub(super) incarnation: Incarnation,
    recipe: Recipe,
    spec: Option<Box<ServiceSpec>>,
    discard_state: bool,
    state: Option<SavedState>,
    waiting: Waiting,
    /// When the running version was asked to pause.
    asked: Instant,
}

impl Candidate {
    /// Whether the word to cut over has come; `false` when it never will.
    pub(super) fn poll_go(&mut self, cx: &mut task::Context<'_>) -> Poll<bool> {
        let Waiting::Go(go) = &mut self.waiting else { return Poll::Pending };
        let Poll::Ready(said) = Pin::new(go).poll(cx) else { return Poll::Pending };
        Poll::Ready(match said {
            Ok(tell) => {
                self.waiting = Waiting::Cut(tell);
                true
            }
            Err(_) => false,
        })
    }
}

/// The version before, while it may come back.
pub(super) struct Parked {
    recipe: Recipe,
    /// Paused; none, if it did not run when it was replaced.
    incarnation: Option<Incarnation>,
    /// It did not run because its work was done.
    finished: bool,
    spec: Option<ServiceSpec>,
    subscriptions: HashSet<TopicFilter>,
    timers: ParkedTimers,
    config: Arc<ConfigSnapshot>,
    verdict: oneshot::Sender<Verdict>,
    /// What the version that replaced it handed back.
    state: Option<SavedState>,
}

impl Parked {
    pub(super) fn incarnation(&mut self) -> Option<&mut Incarnation> {
        self.incarnation.as_mut()
    }
}

impl Task {
    /// Begins a swap, if the machine lets it.
    pub(super) fn prepare(&mut self, mut wanted: Box<Wanted>) {
        let Some(reply) = wanted.reply.take() else { return };
        match self.life.state() {
            State::Stopped => return drop(reply.send(Ok(Turnout::Stopped(wanted)))),
            State::Draining { .. } | State::Loading => {
                let why = format!("it is {} at this moment", self.life.state().label());
                return drop(reply.send(Err(self.refusal(why))));
            }
            _ => {}
        }
        let Wanted { recipe, options, .. } = *wanted;
        let begin = Input::Begin { version: Arc::clone(&recipe.version), force: options.force };
        for action in self.swap.step(begin, Instant::now().into_std()) {
            match action {
                Action::Prepare => return self.make_next(recipe, options, reply),
                Action::Refuse { why } => {
                    let error = self.refusal(why);
                    self.standing.swap_refused(&error, &recipe.version);
                    let _ = reply.send(Err(error));
                    return;
                }
                other => self.act(other),
            }
        }
    }

    /// The version that a stopped service starts with when it is started. There
    /// is no probation: what was stopped is not to be brought back.
    pub(super) fn exchange(&mut self, wanted: Wanted, reply: Reply) {
        if self.life.state() != &State::Stopped {
            let why = "it was started meanwhile".to_owned();
            return drop(reply.send(Err(self.refusal(why))));
        }
        self.recipe = wanted.recipe;
        if let Some(spec) = wanted.options.spec {
            self.adopt(*spec);
        }
        self.standing.begin(self.life.generation(), &self.recipe.version);
        let (verdict, told) = oneshot::channel();
        let _ = verdict.send(Verdict::Committed);
        let generation = self.life.generation();
        let pause = Duration::ZERO;
        let cut = Cut { generation, pause, probation: false, verdicts: vec![told] };
        let _ = reply.send(Ok(cut));
    }

    fn make_next(
        &mut self,
        mut recipe: Recipe,
        options: SwapOptions,
        reply: oneshot::Sender<Result<Turnout, SwapError>>,
    ) {
        recipe.pin = options.config.map(|config| {
            let until = config.version().saturating_sub(1);
            ConfigPin { config, until }
        });
        let turn = Turn::new(self.life.reserve(), true, recipe.pin.clone());
        let context = self.context(turn, options.spec.as_deref().unwrap_or(&self.spec));
        match recipe.make(context) {
            Ok(incarnation) => {
                let now = Instant::now();
                let start =
                    options.spec.as_ref().map_or(self.spec.deadlines, |spec| spec.deadlines).start;
                self.alarms.set(Alarm::Next, now + start);
                self.next = Some(Candidate {
                    incarnation,
                    recipe,
                    spec: options.spec,
                    discard_state: options.discard_state,
                    state: None,
                    waiting: Waiting::Ready(reply),
                    asked: now,
                });
            }
            Err(crash) => {
                // There is nothing to discard yet; only the refusal is told.
                let why = crash.reason.to_string();
                let error = self.refusal(why.clone());
                let _ = self.swap.step(Input::NextEnded(why), Instant::now().into_std());
                self.standing.swap_refused(&error, &recipe.version);
                let _ = reply.send(Err(error));
            }
        }
    }

    /// The running version paused, perhaps with a state.
    pub(super) fn paused(&mut self, saved: Result<Option<SavedState>, String>) {
        let has_state = saved.as_ref().map(Option::is_some).map_err(Clone::clone);
        if let Ok(state) = saved {
            match (&mut self.next, &mut self.parked) {
                (Some(next), _) => next.state = state,
                (None, Some(parked)) => parked.state = state,
                (None, None) => {}
            }
        }
        self.swap_step(Input::Paused(has_state));
    }

    /// Steps the swap's machine and does what it says.
    pub(super) fn swap_step(&mut self, mut input: Input) {
        if let (Input::Restored(Err(_)), Some(next)) = (&input, &self.next)
            && next.discard_state
        {
            input = Input::Restored(Ok(()));
        }
        for action in self.swap.step(input, Instant::now().into_std()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let now = Instant::now();
        match action {
            Action::Prepare => {}
            Action::TellReady => self.tell_ready(),
            Action::Discard => {
                self.alarms.clear(Alarm::Next);
                self.alarms.clear(Alarm::Handover);
            }
            Action::Pause { save } => {
                if let Some(next) = &mut self.next {
                    next.asked = now;
                }
                if let Some(current) = &self.current {
                    self.inbox.ask(current.seat, Ask::Pause { save });
                }
                self.alarms.set(Alarm::Handover, now + self.spec.deadlines.handover);
            }
            Action::Restore => {
                if let Some(next) = &mut self.next
                    && let Some(state) = next.state.take()
                {
                    self.inbox.ask(next.incarnation.seat, Ask::Restore(state));
                }
                self.alarms.set(Alarm::Handover, now + self.spec.deadlines.handover);
            }
            Action::Return => {
                if let Some(parked) = &mut self.parked
                    && let (Some(old), Some(state)) = (&parked.incarnation, parked.state.take())
                {
                    self.inbox.ask(old.seat, Ask::Restore(state));
                }
                self.alarms.set(Alarm::Handover, now + self.spec.deadlines.handover);
            }
            Action::Resume => {
                if let Some(current) = &self.current {
                    self.inbox.resume(current.seat);
                }
            }
            Action::CutOver => self.cut_over(),
            Action::Wake(at) => self.alarms.set(Alarm::Probation, Instant::from_std(at)),
            Action::Commit => self.commit(),
            Action::PutBack { why } | Action::StartOld { why } => self.put_back(why),
            Action::Refuse { why } => self.refused(why),
        }
    }

    fn tell_ready(&mut self) {
        let Some(next) = &mut self.next else { return };
        let Waiting::Ready(reply) = std::mem::replace(&mut next.waiting, Waiting::Nobody) else {
            return;
        };
        let (go, said) = oneshot::channel();
        next.waiting = Waiting::Go(said);
        // One that nobody takes is dropped, and the other end tells so.
        let _ = reply.send(Ok(Turnout::Started(go)));
    }

    fn refusal(&self, why: String) -> SwapError {
        SwapError::Refused {
            service: self.spec.id.clone(),
            why,
            version: Arc::clone(&self.recipe.version),
            generation: self.life.generation(),
        }
    }

    fn refused(&mut self, why: String) {
        let error = self.refusal(why);
        let Some(next) = self.next.take() else { return };
        self.standing.swap_refused(&error, &next.recipe.version);
        match next.waiting {
            Waiting::Ready(reply) => drop(reply.send(Err(error))),
            Waiting::Cut(reply) => drop(reply.send(Err(error))),
            Waiting::Go(mut go) => {
                // The word may have come a moment too late.
                if let Ok(reply) = go.try_recv() {
                    let _ = reply.send(Err(error));
                }
            }
            Waiting::Nobody => {}
        }
    }

    fn cut_over(&mut self) {
        let Some(next) = self.next.take() else { return };
        let Candidate { incarnation, recipe, spec, waiting, asked, .. } = next;
        let now = Instant::now();
        for alarm in [Alarm::Next, Alarm::Handover, Alarm::Current, Alarm::Backoff] {
            self.alarms.clear(alarm);
        }
        // One that had not started or was not asked to pause is not parked: it
        // ends here, and what it had taken goes back.
        let paused = matches!(self.life.state(), State::Running { .. });
        let finished = self.life.state() == &State::Finished;
        let old = self.current.take().filter(|_| paused);
        if let Some(old) = &old {
            old.turn.pass();
        }
        let old_spec = spec.map(|spec| {
            let old = self.spec.clone();
            self.adopt(*spec);
            old
        });
        let timers = self.kernel.timers().park(&self.owner(self.life.generation()));
        let generation = self.life.replace(Some(incarnation.turn.generation()), now.into_std());
        let withheld = incarnation.turn.come(generation);
        let mut wanted: HashSet<TopicFilter> = self.spec.subscribe.iter().cloned().collect();
        wanted.extend(withheld.subscriptions);
        let subscriptions = self.kernel.router().resubscribe(&self.spec.id, wanted);
        let (verdict, told) = oneshot::channel();
        let old_recipe = std::mem::replace(&mut self.recipe, recipe);
        self.parked = Some(Parked {
            recipe: old_recipe,
            incarnation: old,
            finished,
            spec: old_spec,
            subscriptions,
            timers,
            config: self.kernel.config().snapshot(),
            verdict,
            state: None,
        });
        self.standing.begin(generation, &self.recipe.version);
        self.standing.uses_memory(incarnation.turn.memory());
        if let Some((status, detail)) = withheld.health {
            self.standing.report(status, detail);
        }
        self.entered();
        self.inbox.set_on_probation(incarnation.seat, true);
        self.inbox.activate(incarnation.seat);
        self.current = Some(incarnation);
        let mut publisher =
            self.kernel.router().publisher(self.spec.id.as_str(), Arc::clone(&self.spec.grants));
        for (topic, payload) in withheld.publishes {
            if let Err(error) = publisher.publish(&topic, payload) {
                tracing::warn!(service = %self.spec.id, topic = &*topic, "published in start: {error}");
            }
        }
        let owner = self.owner(generation);
        for call in &withheld.timers {
            if let Err(error) = self.kernel.timers().call(&owner, call) {
                tracing::warn!(service = %self.spec.id, "a timer set in start: {error}");
            }
        }
        let pause = asked.elapsed();
        self.standing.swapped(generation, &self.recipe.version, pause);
        if let Waiting::Cut(reply) = waiting {
            let _ =
                reply.send(Ok(Cut { generation, pause, probation: true, verdicts: vec![told] }));
        }
    }

    /// The version that serves is good: the one before stops.
    fn commit(&mut self) {
        self.alarms.clear(Alarm::Probation);
        self.alarms.clear(Alarm::Handover);
        if let Some(current) = &self.current {
            self.inbox.set_on_probation(current.seat, false);
            self.inbox.resume(current.seat);
        }
        let Some(parked) = self.parked.take() else { return };
        self.standing.swap_committed(self.life.generation());
        let _ = parked.verdict.send(Verdict::Committed);
        if let Some(old) = parked.incarnation {
            self.inbox.request_stop(old.seat);
            self.alarms.set(Alarm::Retiring, Instant::now() + self.spec.deadlines.stop);
            // One that is still stopping after yet another swap is cut short.
            self.retiring = Some(old);
        }
    }

    /// The version that serves is bad: the one before goes on, or is started.
    fn put_back(&mut self, why: String) {
        self.alarms.clear(Alarm::Probation);
        self.alarms.clear(Alarm::Handover);
        self.alarms.clear(Alarm::Current);
        let Some(parked) = self.parked.take() else { return };
        // What it had in flight goes back to the head of the queue.
        drop(self.current.take());
        self.kernel.timers().cancel_all(&self.owner(self.life.generation()));
        let failed = std::mem::replace(&mut self.recipe, parked.recipe);
        self.recipe.pin =
            Some(ConfigPin { config: parked.config, until: self.kernel.config().version() });
        if let Some(spec) = parked.spec {
            self.adopt(spec);
        }
        self.kernel.router().resubscribe(&self.spec.id, parked.subscriptions);
        match parked.incarnation {
            Some(old) => {
                let generation = self.life.replace(None, Instant::now().into_std());
                old.turn.pin(self.recipe.pin.clone());
                old.turn.come(generation);
                self.kernel.timers().resume(&self.owner(generation), parked.timers);
                self.standing.begin(generation, &self.recipe.version);
                self.standing.uses_memory(old.turn.memory());
                self.inbox.resume(old.seat);
                self.current = Some(old);
            }
            // What it did is done: to be put back is no reason to do it again.
            None if parked.finished => self.life.finish(),
            None => {
                let _ = self.life.start_over();
            }
        }
        self.standing.put_back(&why, &failed.version, &self.recipe.version);
        self.entered();
        let _ = parked.verdict.send(Verdict::PutBack { why });
    }

    /// The current incarnation ended while a swap was under way. Gives the
    /// ending back where it is the supervision's to deal with.
    pub(super) fn ended_in_swap(&mut self, ended: Result<(), Crash>) -> Option<Result<(), Crash>> {
        let how = match &ended {
            Ok(()) => Ok(()),
            Err(crash) => Err(crash.reason.to_string()),
        };
        match self.swap.phase() {
            Phase::Probation { .. } | Phase::Retreating { .. } | Phase::Returning { .. } => {
                let clean = ended.is_ok() && matches!(self.swap.phase(), Phase::Probation { .. });
                if let Err(crash) = ended {
                    self.standing.crashed(crash);
                }
                self.swap_step(Input::CurrentEnded(how));
                clean.then_some(Ok(()))
            }
            _ => {
                self.swap_step(Input::CurrentEnded(how));
                Some(ended)
            }
        }
    }

    /// The next version ended before its turn.
    pub(super) fn next_ended(&mut self, ended: Result<(), Crash>) {
        let why = match ended {
            Ok(()) => "the new version ended before its turn".to_owned(),
            Err(crash) => {
                let why = format!(
                    "the new version did not come up: {}: {}",
                    crash.reason.label(),
                    crash.reason
                );
                if let Some(next) = &self.next {
                    self.standing.next_crashed(next.incarnation.turn.generation(), crash);
                }
                why
            }
        };
        self.swap_step(Input::NextEnded(why));
    }

    /// The parked version ended while it read the state that was handed back.
    pub(super) fn parked_ended(&mut self) {
        if let Some(parked) = &mut self.parked {
            parked.incarnation = None;
        }
        self.swap_step(Input::ParkedEnded);
    }

    /// A version that was replaced has stopped, or is ended here and now.
    pub(super) fn retired(&mut self, ended: Result<(), Crash>) {
        drop(self.retiring.take());
        if let Err(crash) = ended {
            tracing::warn!(
                service = %self.spec.id,
                reason = crash.reason.label(),
                "the replaced version did not stop well: {}",
                crash.reason
            );
        }
    }

    /// Other rules for the service, which runs on.
    pub(super) fn adopt(&mut self, spec: ServiceSpec) {
        self.life.set_rules(spec.restart);
        self.swap.set_probation(spec.probation);
        if spec.mailbox != self.spec.mailbox {
            self.inbox.set_bounds(spec.mailbox);
            self.kernel.router().forget_routes();
        }
        if spec.subscribe != self.spec.subscribe {
            let router = self.kernel.router();
            let mut wanted = router.subscriptions(&self.spec.id);
            wanted.retain(|filter| !self.spec.subscribe.contains(filter));
            wanted.extend(spec.subscribe.iter().cloned());
            router.resubscribe(&self.spec.id, wanted);
        }
        if let Some(parked) = &mut self.parked {
            parked.subscriptions.retain(|filter| !self.spec.subscribe.contains(filter));
            parked.subscriptions.extend(spec.subscribe.iter().cloned());
        }
        self.standing.set_critical(spec.critical);
        self.spec = spec;
    }
}
