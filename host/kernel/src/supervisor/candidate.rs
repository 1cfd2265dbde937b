//! The next version of one replica, from the wish for it to the cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ServiceSpec;
use super::alarm::Alarm;
use super::cutover::Parked;
use super::incarnation::{Incarnation, Recipe};
use super::machine::State;
use super::prepared::{Reply, SwapError, SwapOptions, Turned, Turnout, Wanted};
use super::probation::Seat;
use super::run::Task;
use super::swap::{Action, Input};
use crate::service::{Crash, SavedState};
use crate::turn::{Holds, Pin as ConfigPin, Turn};

/// Whoever waits for the next step of a swap.
pub(super) enum Waiting {
    Ready(oneshot::Sender<Result<Turnout, SwapError>>),
    Go(oneshot::Receiver<Reply>),
    Cut(Reply),
    Nobody,
}

/// The next version, before its turn.
pub(super) struct Candidate {
    pub(super) incarnation: Incarnation,
    pub(super) recipe: Recipe,
    pub(super) spec: Option<Box<ServiceSpec>>,
    pub(super) discard_state: bool,
    pub(super) state: Option<SavedState>,
    pub(super) waiting: Waiting,
    /// When the running version was asked to pause.
    pub(super) asked: Instant,
    pub(super) seat: Seat,
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
        let version = Arc::clone(&wanted.recipe.version);
        let running = Arc::clone(&self.recipe.version);
        let begin = Input::Begin { version, running, force: wanted.options.force };
        match self.admit(&begin) {
            Ok(()) => self.make_next(*wanted, reply),
            Err(why) => {
                let error = self.refusal(why);
                self.standing.swap_refused(&error, &wanted.recipe.version);
                let _ = reply.send(Err(error));
            }
        }
    }

    /// The version that a stopped replica starts with when it is started. It is
    /// not on probation itself, for nothing runs that could prove anything; but
    /// where siblings are, it goes back with them.
    pub(super) fn exchange(&mut self, wanted: Wanted, reply: Reply) {
        let admitted = match self.life.state() {
            State::Stopped => self.admit(&Input::Exchange {
                version: Arc::clone(&wanted.recipe.version),
                running: Arc::clone(&self.recipe.version),
            }),
            _ => Err("it was started meanwhile".to_owned()),
        };
        if let Err(why) = admitted {
            return drop(reply.send(Err(self.refusal(why))));
        }
        let Wanted { recipe, options, seat, .. } = wanted;
        let (mut parked, done) = Parked::new(self, recipe, options.spec, None, seat);
        parked.exchanged = true;
        self.parked = Some(parked);
        let generation = self.life.generation();
        self.standing.begin(generation, &self.recipe.version);
        let (pause, probation) = (Duration::ZERO, false);
        let _ = reply.send(Ok(Turned { generation, pause, probation, done }));
        self.swap_step(Input::Elapsed);
    }

    /// Asks the machine for a swap; gives why it refuses.
    fn admit(&mut self, wish: &Input) -> Result<(), String> {
        let mut why = "another swap is under way".to_owned();
        // The first wish may end the probation of the swap before.
        for _ in 0..2 {
            for action in self.swap.step(wish.clone(), Instant::now().into_std()) {
                match action {
                    Action::Prepare | Action::Exchange => return Ok(()),
                    Action::Refuse { why: new } => why = new,
                    action => self.act(action),
                }
            }
        }
        Err(why)
    }

    fn make_next(&mut self, wanted: Wanted, reply: oneshot::Sender<Result<Turnout, SwapError>>) {
        let Wanted { mut recipe, options, seat, .. } = wanted;
        let SwapOptions { config, spec, discard_state, .. } = options;
        recipe.pin = config.map(|config| {
            let holds = Holds::UntilNewer(config.version().saturating_sub(1));
            ConfigPin { config, holds }
        });
        let turn = Turn::new(self.life.reserve(), true, recipe.pin.clone());
        let context = self.context(turn, spec.as_deref().unwrap_or(&self.spec));
        match recipe.make(context) {
            Ok(incarnation) => {
                let asked = Instant::now();
                let start = spec.as_ref().map_or(self.spec.deadlines, |spec| spec.deadlines).start;
                self.alarms.set(Alarm::Next, asked + start);
                let (state, waiting) = (None, Waiting::Ready(reply));
                self.next = Some(Candidate {
                    incarnation,
                    recipe,
                    spec,
                    discard_state,
                    state,
                    waiting,
                    asked,
                    seat,
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

    pub(super) fn tell_ready(&mut self) {
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

    /// The next version is let go of: one of the two is at fault, or neither.
    pub(super) fn refused(&mut self, why: String, at_fault: bool) {
        let error = self.refusal(why);
        let Some(next) = self.next.take() else { return };
        match (next.seat.tells(), at_fault) {
            (true, true) => self.standing.swap_refused(&error, &next.recipe.version),
            (true, false) => self.standing.swap_called_off(&error, &next.recipe.version),
            (false, _) => {}
        }
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
}
