//! What a swap's actions do: to the incarnations, the mailbox, the
//! subscriptions and the timers of one replica.
//!
//! The cut is one stretch of code without an `await`: nothing of the replica
//! runs between the old version's last message and the new version's first.

use std::sync::Arc;

use hashbrown::HashSet;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ServiceSpec;
use super::alarm::Alarm;
use super::candidate::{Candidate, Waiting};
use super::incarnation::{Incarnation, Recipe};
use super::machine::State;
use super::prepared::Turned;
use super::probation::{Before, EndedBy, Outcome, Seat};
use super::run::Task;
use super::spec::Amendment;
use super::swap::{Action, Input};
use crate::message::Ask;
use crate::service::{Crash, SavedState};
use crate::timer::ParkedTimers;
use crate::topic::TopicFilter;
use crate::turn::{Holds, Pin as ConfigPin, Turn};

/// The version before, while it may come back.
pub(super) struct Parked {
    recipe: Recipe,
    /// Paused; none, if it did not run when it was replaced.
    incarnation: Option<Incarnation>,
    /// It did not run because its work was done.
    finished: bool,
    /// It did not run because it was stopped, or was not there.
    pub(super) exchanged: bool,
    /// What holds of the service if it comes back, where the swap brought
    /// something else.
    spec: Option<ServiceSpec>,
    timers: Option<ParkedTimers>,
    /// What the version that replaced it handed back.
    state: Option<SavedState>,
    pub(super) seat: Seat,
    /// Told when the probation is over here.
    done: oneshot::Sender<()>,
}

impl Parked {
    /// Takes the recipe and the spec of a task's current version out of it, in
    /// exchange for those of another. `old` is its incarnation, if that paused.
    pub(super) fn new(
        task: &mut Task,
        mut recipe: Recipe,
        spec: Option<Box<ServiceSpec>>,
        old: Option<Incarnation>,
        seat: Seat,
    ) -> (Self, oneshot::Receiver<()>) {
        let service = task.spec.id.clone();
        let config = task.kernel.config();
        let reads = Turn::pinned(task.recipe.pin.as_ref(), service.as_str(), config);
        // What came with the new version is not for the old one; what is said
        // of the service later is.
        if let Some(came) = &recipe.pin
            && let came = came.config.service(service.as_str())
            && came != reads.service(service.as_str())
        {
            task.recipe.pin = Some(ConfigPin { config: reads, holds: Holds::While(came) });
        }
        std::mem::swap(&mut recipe, &mut task.recipe);
        let rules = spec.as_ref().map(|spec| Box::new((task.spec.clone(), (**spec).clone())));
        let before = Before { recipe: recipe.clone(), rules };
        seat.keep(task.kernel.router().subscriptions(&service), before);
        let spec = spec.map(|spec| {
            let old = task.spec.clone();
            task.adopt(*spec);
            old
        });
        let (done, told) = oneshot::channel();
        let parked = Self {
            recipe,
            incarnation: old,
            finished: task.life.state() == &State::Finished,
            exchanged: false,
            spec,
            timers: None,
            state: None,
            seat,
            done,
        };
        (parked, told)
    }

    /// That of a replica that begins with the new version while its siblings are
    /// on probation.
    fn joined(spec: &ServiceSpec, seat: Seat, before: Before) -> Self {
        let Before { recipe, rules } = before;
        let spec = rules.map(|rules| {
            let (mut old, brought) = *rules;
            old.follow(&Amendment { before: brought, after: spec.clone() });
            old
        });
        Self {
            recipe,
            incarnation: None,
            finished: false,
            exchanged: true,
            spec,
            timers: None,
            state: None,
            seat,
            done: oneshot::channel().0,
        }
    }

    pub(super) fn incarnation(&mut self) -> Option<&mut Incarnation> {
        self.incarnation.as_mut()
    }

    #[cfg(test)]
    pub(super) fn look(&self) -> Option<&Incarnation> {
        self.incarnation.as_ref()
    }
}

impl Task {
    /// Begins on the probation that its siblings are on.
    pub(super) fn join(&mut self, seat: Seat, before: Before) {
        let version = Arc::clone(&self.recipe.version);
        let running = Arc::clone(&before.recipe.version);
        self.parked = Some(Parked::joined(&self.spec, seat, before));
        self.swap_step(Input::Exchange { version, running });
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
    pub(super) fn swap_step(&mut self, input: Input) {
        for action in self.swap.step(input, Instant::now().into_std()) {
            self.act(action);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        // The model takes guards away, to see that they are missed.
        #[cfg(test)]
        if let Some(tamper) = self.tamper.take() {
            let left = tamper(self, action);
            self.tamper = Some(tamper);
            return left.map(|action| self.act_untampered(action)).unwrap_or_default();
        }
        self.act_untampered(action);
    }

    pub(super) fn act_untampered(&mut self, action: Action) {
        let now = Instant::now();
        match action {
            // Done where they are asked for, with what they are about.
            Action::Prepare | Action::Exchange => {}
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
            Action::Say(word) => {
                if let Some(outcome) = self.seat().and_then(|seat| seat.say(word)) {
                    let serves = self.serves();
                    self.swap_step(Input::Decided { outcome, serves });
                }
            }
            Action::Commit { ended } => self.commit(ended),
            Action::PutBack { why } | Action::StartOld { why } => self.put_back(why),
            Action::Refuse { why } => self.refused(why, true),
            Action::CallOff { why } => self.refused(why, false),
        }
    }

    /// The place at the probation of the swap that is under way.
    pub(super) fn seat(&self) -> Option<&Seat> {
        let next = self.next.as_ref().map(|next| &next.seat);
        next.or(self.parked.as_ref().map(|parked| &parked.seat))
    }

    /// Whether the current version runs, and so can be asked to pause.
    pub(super) fn serves(&self) -> bool {
        self.current.is_some() && matches!(self.life.state(), State::Running { .. })
    }

    fn cut_over(&mut self) {
        let Some(next) = self.next.take() else { return };
        let Candidate { incarnation, recipe, spec, waiting, asked, seat, .. } = next;
        let now = Instant::now();
        for alarm in [Alarm::Next, Alarm::Handover, Alarm::Current, Alarm::Backoff] {
            self.alarms.clear(alarm);
        }
        // One that had not started or was not asked to pause is not parked: it
        // ends here, and what it had taken goes back.
        let paused = matches!(self.life.state(), State::Running { .. });
        let old = self.current.take().filter(|_| paused);
        if let Some(old) = &old {
            old.turn.pass();
        }
        let timers = self.kernel.timers().park(&self.owner(self.life.generation()));
        let (parked, done) = Parked::new(self, recipe, spec, old, seat);
        self.parked = Some(Parked { timers: Some(timers), ..parked });
        let generation = self.life.replace(Some(incarnation.turn.generation()), now.into_std());
        let withheld = incarnation.turn.come(generation);
        let mut wanted: HashSet<TopicFilter> = self.spec.subscribe.iter().cloned().collect();
        wanted.extend(withheld.subscriptions);
        self.kernel.router().resubscribe(&self.spec.id, wanted);
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
            let _ = reply.send(Ok(Turned { generation, pause, probation: true, done }));
        }
    }

    /// The version that serves stays: the one before stops.
    fn commit(&mut self, ended: Option<EndedBy>) {
        self.alarms.clear(Alarm::Probation);
        self.alarms.clear(Alarm::Handover);
        if let Some(current) = &self.current {
            self.inbox.set_on_probation(current.seat, false);
            self.inbox.resume(current.seat);
        }
        let Some(parked) = self.parked.take() else { return };
        self.standing.probation_over();
        if parked.seat.tells() && !parked.exchanged {
            // A replica that leaves may be the last word on those that stay.
            let ended = match parked.seat.outcome() {
                Some(Outcome::Committed) => None,
                _ => ended,
            };
            self.standing.swap_committed(self.life.generation(), ended);
        }
        if let Some(old) = parked.incarnation {
            self.inbox.request_stop(old.seat);
            self.alarms.set(Alarm::Retiring, Instant::now() + self.spec.deadlines.stop);
            // One that is still stopping after yet another swap is cut short.
            self.retiring = Some(old);
        }
        let _ = parked.done.send(());
    }

    /// The version that serves is bad: the one before goes on, or is started.
    fn put_back(&mut self, why: String) {
        for alarm in [Alarm::Probation, Alarm::Handover, Alarm::Current, Alarm::Backoff] {
            self.alarms.clear(alarm);
        }
        let Some(parked) = self.parked.take() else { return };
        // Told before anything is said of the one that comes back.
        if let Some(Err(crash)) = self.unsettled.take() {
            self.standing.crashed(crash);
        }
        // What it had in flight goes back to the head of the queue.
        drop(self.current.take());
        self.kernel.timers().cancel_all(&self.owner(self.life.generation()));
        let failed = std::mem::replace(&mut self.recipe, parked.recipe);
        if let Some(spec) = parked.spec {
            self.adopt(spec);
        }
        if let Some(before) = parked.seat.take_subscriptions() {
            self.kernel.router().resubscribe(&self.spec.id, before);
        }
        match parked.incarnation {
            Some(old) => {
                let generation = self.life.replace(None, Instant::now().into_std());
                old.turn.pin(self.recipe.pin.clone());
                old.turn.come(generation);
                if let Some(timers) = parked.timers {
                    self.kernel.timers().resume(&self.owner(generation), timers);
                }
                self.standing.uses_memory(old.turn.memory());
                self.inbox.resume(old.seat);
                self.current = Some(old);
            }
            // What it did is done: to be put back is no reason to do it again.
            None if parked.finished => self.life.finish(),
            // Nobody wants it to run.
            None if self.life.state() == &State::Stopped => {}
            None => {
                let _ = self.life.start_over();
            }
        }
        self.standing.begin(self.life.generation(), &self.recipe.version);
        if parked.seat.tells() {
            self.standing.put_back(&why, &failed.version, &self.recipe.version);
        }
        self.entered();
        let _ = parked.done.send(());
    }

    /// The current incarnation ended while a swap was under way. Gives the
    /// ending back where it is the supervision's to deal with.
    pub(super) fn ended_in_swap(&mut self, ended: Result<(), Crash>) -> Option<Result<(), Crash>> {
        let how = match &ended {
            Ok(()) => Ok(()),
            Err(crash) => Err(crash.reason.to_string()),
        };
        // Where it leads to the old version's coming back, it is told there.
        self.unsettled = Some(ended);
        self.swap_step(Input::CurrentEnded(how));
        self.unsettled.take()
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

    /// What is said anew of the service, which runs on. A version that comes
    /// back finds it too, and nothing of what the swap had brought.
    pub(super) fn amend(&mut self, amendment: &Amendment) {
        let mut spec = self.spec.clone();
        spec.follow(amendment);
        self.adopt(spec);
        if let Some(parked) = &mut self.parked {
            parked.seat.change_subscriptions(|filters| amendment.subscribe(filters));
            if let Some(old) = &mut parked.spec {
                old.follow(amendment);
            }
        }
    }

    /// Other rules for the service, which runs on.
    fn adopt(&mut self, spec: ServiceSpec) {
        self.life.set_rules(spec.restart);
        self.swap.set_probation(spec.probation);
        if spec.mailbox != self.spec.mailbox {
            self.inbox.set_bounds(spec.mailbox);
            self.kernel.router().forget_routes();
        }
        self.standing.set_critical(spec.critical);
        let amendment = Amendment { before: self.spec.clone(), after: spec };
        if amendment.before.subscribe != amendment.after.subscribe {
            let mut wanted = self.kernel.router().subscriptions(&self.spec.id);
            amendment.subscribe(&mut wanted);
            self.kernel.router().resubscribe(&self.spec.id, wanted);
        }
        self.spec = amendment.after;
    }
}
