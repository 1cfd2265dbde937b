//! A model checker for the hot swap: every order of events over the real
//! machine, the real inbox and the real leases.
//!
//! A state cannot be cloned, because an inbox is shared, so it is reached by
//! replaying the events that lead to it; two paths to states that look the same
//! are one. With the bounds below the whole space is explored, to its end.
//!
//! The last test deletes one guard after the other and shows that each is
//! missed: a model that cannot fail proves nothing.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::noop_waker;

use crate::crash::CrashReason;
use crate::message::{
    Address, Ask, Inbox, InboxAnswer, Lease, MailboxBounds, Message, Outcome, Work,
};
use crate::service::{Generation, SavedState, ServiceId};
use crate::supervisor::machine::{self, Life, Restart};
use crate::supervisor::swap::{Action, Input, PROBATION, Phase, Swap};

/// Bounds of the exploration.
const MESSAGES: u64 = 3;
const SWAPS: u32 = 2;
const CRASHES: u32 = 2;

/// What may happen next, as far as it makes sense in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Publish,
    Begin,
    NextStarts,
    NextDies,
    Cut,
    /// Whoever serves looks at its lease: takes a message, or what is asked.
    CurrentLooks,
    CurrentHandles,
    CurrentRetries,
    CurrentCrashes,
    /// It answers the question with a state, without one, or not at all.
    CurrentSaves,
    CurrentHasNoState,
    CurrentCannotSave,
    NextRestores,
    NextRefuses,
    Fails,
    PutBack,
    ParkedRestores,
    ParkedDies,
    Late,
    Cancel,
    ProbationEnds,
    /// The supervisor starts the version anew that ended.
    Respawn,
}

const EVENTS: [Event; 22] = [
    Event::Publish,
    Event::Begin,
    Event::NextStarts,
    Event::NextDies,
    Event::Cut,
    Event::CurrentLooks,
    Event::CurrentHandles,
    Event::CurrentRetries,
    Event::CurrentCrashes,
    Event::CurrentSaves,
    Event::CurrentHasNoState,
    Event::CurrentCannotSave,
    Event::NextRestores,
    Event::NextRefuses,
    Event::Fails,
    Event::PutBack,
    Event::ParkedRestores,
    Event::ParkedDies,
    Event::Late,
    Event::Cancel,
    Event::ProbationEnds,
    Event::Respawn,
];

/// A guard that is deleted, to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Cutting over does not wait for what is in flight.
    Pause,
    /// A refused swap does not let the old version go on.
    Resume,
    /// A question that is not wanted any more is not withdrawn.
    Withdraw,
    /// Cutting over does not wait for the state to be read.
    Restored,
    /// A bad version is ended, and the parked one is not put back.
    PutBack,
    /// The parked version comes back under the generation it had.
    Growth,
    /// The parked version goes on taking messages.
    Parking,
}

/// An incarnation.
struct Body {
    version: u32,
    generation: Generation,
    lease: Lease,
    /// It was asked to pause and has not answered.
    asked: bool,
    /// It read what was handed over to it, or nothing was.
    has_state: bool,
}

struct World {
    without: Without,
    start: Instant,
    swap: Swap,
    life: Life,
    inbox: Arc<Inbox>,
    current: Option<Body>,
    next: Option<Body>,
    parked: Option<Body>,
    /// The version that is started when there is no incarnation.
    recipe: u32,
    old_recipe: u32,
    state: Option<SavedState>,
    published: u64,
    handled: Vec<u64>,
    begun: u32,
    crashes: u32,
    newest: Generation,
    /// Which version served before the swap, until the cut.
    before: Option<u32>,
    /// What did not hold when it cut over.
    broken: Option<&'static str>,
}

impl World {
    fn new(without: Without) -> Self {
        let start = Instant::now();
        let bounds = MailboxBounds { max_deliveries: 100, ..MailboxBounds::default() };
        let inbox = Inbox::new(ServiceId::parse("svc").expect("a name"), bounds);
        let mut life = Life::new(Restart::default());
        let _ = life.step(machine::Input::Start, start, 0.0);
        let _ = life.step(machine::Input::Started, start, 0.0);
        let mut world = Self {
            without,
            start,
            swap: Swap::new(PROBATION),
            newest: life.generation(),
            life,
            inbox,
            current: None,
            next: None,
            parked: None,
            recipe: 1,
            old_recipe: 1,
            state: None,
            published: 0,
            handled: vec![],
            begun: 0,
            crashes: 0,
            before: None,
            broken: None,
        };
        world.current = Some(world.body(1, world.life.generation(), true));
        world
    }

    fn body(&self, version: u32, generation: Generation, active: bool) -> Body {
        let lease = self.inbox.lease(active);
        Body { version, generation, lease, asked: false, has_state: true }
    }

    /// Lets `event` happen; `false` where it makes no sense.
    fn apply(&mut self, event: Event) -> bool {
        let in_flight = self.current.as_ref().is_some_and(|body| body.lease.look().1 > 0);
        let asked = self.current.as_ref().is_some_and(|body| body.asked);
        match event {
            Event::Publish if self.published < MESSAGES => {
                self.published += 1;
                let message = Message::new(self.published, Address::any(), Bytes::new());
                assert!(self.inbox.push(message));
            }
            Event::Begin if self.begun < SWAPS => {
                self.begun += 1;
                let version = format!("v{}", self.begun + 1).into();
                for action in self.swap.step(Input::Begin { version, force: true }, self.start) {
                    // The refusal of a second swap is not the first one's.
                    if !matches!(action, Action::Refuse { .. }) {
                        self.act(action);
                    }
                }
            }
            Event::NextStarts if self.swap.phase() == &Phase::Preparing => {
                self.step(Input::Prepared);
            }
            Event::NextDies if self.next.is_some() => {
                self.next = None;
                self.step(Input::NextEnded("died".into()));
            }
            Event::Cut if self.swap.phase() == &Phase::Ready => {
                self.step(Input::Cut { serves: self.current.is_some() });
            }
            Event::CurrentLooks if !in_flight && !asked => return self.look(),
            Event::CurrentHandles | Event::CurrentRetries if in_flight => {
                let Some(body) = &mut self.current else { return false };
                let id = body.lease.look().0[0];
                if event == Event::CurrentHandles {
                    body.lease.conclude(Outcome::Handled);
                    self.handled.push(id);
                } else if self.crashes < CRASHES {
                    // A retry is bounded as a crash is.
                    self.crashes += 1;
                    body.lease.conclude(Outcome::Retry("again".into()));
                } else {
                    return false;
                }
            }
            Event::CurrentCrashes if self.current.is_some() && self.crashes < CRASHES => {
                self.crashes += 1;
                if let Some(body) = self.current.take() {
                    body.lease.end(Some("crash"));
                }
                let before = self.swap.phase().clone();
                self.step(Input::CurrentEnded(Err("crash".into())));
                if !is_after_the_cut(&before) {
                    let exited = machine::Input::Exited(Err(CrashReason::panic("crash")));
                    let _ = self.life.step(exited, self.start, 0.0);
                }
            }
            Event::CurrentSaves | Event::CurrentHasNoState | Event::CurrentCannotSave if asked => {
                let saved = match event {
                    Event::CurrentSaves => Ok(Some(SavedState { schema: 1, bytes: Bytes::new() })),
                    Event::CurrentHasNoState => Ok(None),
                    _ => Err("no".into()),
                };
                let Some(body) = &mut self.current else { return false };
                body.asked = false;
                body.lease.paused(saved);
                let seat = body.lease.seat();
                if let Some(InboxAnswer::Paused(saved)) = self.inbox.answer(seat) {
                    let has = saved.as_ref().map(Option::is_some).map_err(Clone::clone);
                    self.state = saved.ok().flatten();
                    self.step(Input::Paused(has));
                }
            }
            Event::NextRestores | Event::NextRefuses
                if self.swap.phase() == &Phase::Restoring || self.without == Without::Restored =>
            {
                let Some(body) = &mut self.next else { return false };
                let Poll::Ready(Work::Restore(_)) = poll(&mut body.lease) else { return false };
                let result = match event {
                    Event::NextRestores => Ok(()),
                    _ => Err("no".to_owned()),
                };
                body.has_state = result.is_ok();
                body.lease.restored(result);
                let seat = body.lease.seat();
                if let Some(InboxAnswer::Restored(result)) = self.inbox.answer(seat) {
                    self.step(Input::Restored(result));
                }
            }
            Event::Fails if matches!(self.swap.phase(), Phase::Probation { .. }) => {
                self.step(Input::Failing("it fails".into()));
            }
            Event::PutBack if matches!(self.swap.phase(), Phase::Probation { .. }) => {
                self.step(Input::PutBack("another service failed".into()));
            }
            Event::ParkedRestores if matches!(self.swap.phase(), Phase::Returning { .. }) => {
                let Some(body) = &mut self.parked else { return false };
                let Poll::Ready(Work::Restore(_)) = poll(&mut body.lease) else { return false };
                body.lease.restored(Ok(()));
                let seat = body.lease.seat();
                if let Some(InboxAnswer::Restored(result)) = self.inbox.answer(seat) {
                    self.step(Input::Restored(result));
                }
            }
            Event::ParkedDies if matches!(self.swap.phase(), Phase::Returning { .. }) => {
                self.parked = None;
                self.step(Input::ParkedEnded);
            }
            Event::Late
                if matches!(
                    self.swap.phase(),
                    Phase::Pausing
                        | Phase::Restoring
                        | Phase::Retreating { .. }
                        | Phase::Returning { .. }
                ) =>
            {
                self.step(Input::Late);
            }
            Event::Cancel if self.swap.phase() != &Phase::Steady => {
                self.step(Input::Cancel("cancelled".into()));
            }
            Event::ProbationEnds if matches!(self.swap.phase(), Phase::Probation { .. }) => {
                self.step(Input::Elapsed);
            }
            Event::Respawn if self.current.is_none() => {
                let _ = self.life.step(machine::Input::Start, self.start, 0.0);
                let _ = self.life.step(machine::Input::Started, self.start, 0.0);
                self.current = Some(self.body(self.recipe, self.life.generation(), true));
            }
            _ => return false,
        }
        true
    }

    /// The version that serves looks at its lease.
    fn look(&mut self) -> bool {
        let Some(body) = &mut self.current else { return false };
        match poll(&mut body.lease) {
            Poll::Ready(Work::Messages) => body.lease.begin().is_some(),
            Poll::Ready(Work::Pause { .. }) => {
                body.asked = true;
                true
            }
            _ => false,
        }
    }

    fn step(&mut self, input: Input) {
        // Late enough for a probation to end when that is what is said.
        let now = match input {
            Input::Elapsed => self.start + 2 * PROBATION,
            _ => self.start,
        };
        for action in self.swap.step(input, now) {
            self.act(action);
        }
    }

    /// As `cutover.rs` does, without the incarnations' own side.
    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare => {
                self.before = Some(self.recipe);
                let generation = self.life.reserve();
                let body = self.body(self.begun + 1, generation, false);
                self.next = Some(body);
            }
            Action::Pause { .. } if self.without == Without::Pause => {
                self.step(Input::Paused(Ok(false)));
            }
            Action::Pause { save } => {
                if let Some(body) = &self.current {
                    self.inbox.ask(body.lease.seat(), Ask::Pause { save });
                }
            }
            Action::Restore => {
                let state = self.state.take().expect("there is a state");
                let body = self.next.as_mut().expect("there is a next version");
                body.has_state = false;
                self.inbox.ask(body.lease.seat(), Ask::Restore(state));
                if self.without == Without::Restored {
                    self.step(Input::Restored(Ok(())));
                }
            }
            Action::Return => {
                let state = self.state.take().expect("there is a state");
                let body = self.parked.as_ref().expect("there is a parked version");
                self.inbox.ask(body.lease.seat(), Ask::Restore(state));
            }
            Action::Resume => {
                if let (Some(body), true) = (&mut self.current, self.without != Without::Resume) {
                    match self.without {
                        Without::Withdraw => self.inbox.activate(body.lease.seat()),
                        _ => self.inbox.resume(body.lease.seat()),
                    }
                }
            }
            Action::CutOver => self.cut_over(),
            Action::Commit => {
                if let Some(body) = &self.current {
                    self.inbox.resume(body.lease.seat());
                }
                self.parked = None;
            }
            Action::PutBack { .. } | Action::StartOld { .. } => self.put_back(),
            Action::Refuse { .. } => self.next = None,
            Action::TellReady | Action::Discard | Action::Wake(_) => {}
        }
        self.newest = self.newest.max(self.life.generation());
    }

    fn cut_over(&mut self) {
        self.before = None;
        let mut next = self.next.take().expect("there is a next version");
        if !next.has_state {
            self.broken = Some("the next version serves without the state");
        }
        self.parked = self.current.take();
        if let (Some(parked), Without::Parking) = (&self.parked, self.without) {
            self.inbox.activate(parked.lease.seat());
        }
        self.old_recipe = std::mem::replace(&mut self.recipe, next.version);
        let before = self.newest;
        next.generation = self.life.replace(Some(next.generation), self.start);
        if next.generation < before {
            self.broken = Some("generations do not grow");
        }
        self.inbox.activate(next.lease.seat());
        self.current = Some(next);
    }

    fn put_back(&mut self) {
        self.current = None;
        if self.without == Without::PutBack {
            self.parked = None;
            return;
        }
        self.recipe = self.old_recipe;
        if let Some(mut old) = self.parked.take() {
            if self.without != Without::Growth {
                old.generation = self.life.replace(None, self.start);
            }
            self.inbox.resume(old.lease.seat());
            self.current = Some(old);
        } else {
            let _ = self.life.start_over();
            let _ = self.life.step(machine::Input::Started, self.start, 0.0);
            self.current = Some(self.body(self.recipe, self.life.generation(), true));
        }
    }

    /// What holds in every state.
    fn check(&self) -> Result<(), String> {
        let fail = |what: &str| Err(what.to_owned());
        if let Some(broken) = self.broken {
            return fail(broken);
        }
        if !self.inbox.stats().balances() {
            return fail("the mailbox's accounts do not balance");
        }
        let (active, queued) = self.inbox.look();
        if active.len() > 1 {
            return fail("the mailbox has two owners");
        }
        let bodies = [&self.current, &self.next, &self.parked];
        let owner = self.current.as_ref().map(|body| body.lease.seat());
        if active.first().is_some_and(|seat| Some(*seat) != owner) {
            return fail("the mailbox's owner does not serve");
        }
        // Handled, then taken, then queued: each message once, in order.
        let mut all = self.handled.clone();
        for body in bodies.into_iter().flatten() {
            all.extend(body.lease.look().0);
        }
        all.extend(queued);
        if !all.iter().copied().eq(1..=self.published) {
            return Err(format!("lost, repeated or reordered: {all:?} of {}", self.published));
        }
        if let Some(before) = self.before
            && !is_after_the_cut(self.swap.phase())
            && self.recipe != before
        {
            return fail("a swap that was not cut over changed the version");
        }
        if *self.swap.phase() == Phase::Steady {
            match &self.current {
                Some(body) if active.is_empty() && !body.asked => {
                    return fail("a version runs and nobody serves");
                }
                None if !self.life.state().label().contains("back") && !self.may_respawn() => {
                    return fail("no version is live, and none is started");
                }
                _ => {}
            }
        }
        if let Some(body) = &self.current
            && body.generation < self.newest
            && !matches!(self.swap.phase(), Phase::Preparing | Phase::Ready)
            && body.generation != self.life.generation()
        {
            return fail("generations do not grow");
        }
        Ok(())
    }

    /// Whether the supervisor has an ending to answer for.
    fn may_respawn(&self) -> bool {
        !matches!(self.life.state(), machine::State::Running { .. })
    }

    /// What tells two states apart.
    fn key(&self) -> String {
        let phase = match self.swap.phase() {
            Phase::Probation { parked, .. } => format!("probation {parked}"),
            Phase::Retreating { parked, keep, .. } => format!("retreating {parked} {keep}"),
            other => format!("{other:?}"),
        };
        let body = |body: &Option<Body>| {
            body.as_ref().map(|body| {
                (
                    body.version,
                    body.lease.look(),
                    body.asked,
                    body.has_state,
                    body.lease.interrupted(),
                )
            })
        };
        format!(
            "{phase} {:?} {:?} {:?} {:?} {:?} {} {} {} {} {:?}",
            body(&self.current),
            body(&self.next),
            body(&self.parked),
            self.inbox.look(),
            self.handled,
            self.published,
            self.begun,
            self.crashes,
            self.recipe,
            self.life.state().label(),
        )
    }
}

fn is_after_the_cut(phase: &Phase) -> bool {
    matches!(phase, Phase::Probation { .. } | Phase::Retreating { .. } | Phase::Returning { .. })
}

fn poll(lease: &mut Lease) -> Poll<Work> {
    lease.poll_next(&mut Context::from_waker(&noop_waker()))
}

/// Explores everything. Gives the number of states, or a path to a state in
/// which something does not hold.
fn explore(without: Without) -> Result<usize, String> {
    let mut seen = HashSet::from([World::new(without).key()]);
    let mut frontier = VecDeque::from([Vec::new()]);
    while let Some(path) = frontier.pop_front() {
        for event in EVENTS {
            let mut world = World::new(without);
            for step in &path {
                assert!(world.apply(*step), "a replay takes the same path");
            }
            if !world.apply(event) {
                continue;
            }
            let path = || path.iter().copied().chain([event]).collect::<Vec<Event>>();
            world.check().map_err(|what| format!("{what}, after {:?}", path()))?;
            if seen.insert(world.key()) {
                frontier.push_back(path());
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_events_loses_repeats_or_reorders_a_message() {
    let states = explore(Without::Nothing).unwrap_or_else(|what| panic!("{what}"));
    println!("{states} states");
    assert!(states > 1000, "{states} states are not all");
}

#[test]
fn each_guard_is_missed() {
    for (without, expected) in [
        (Without::Pause, "owner"),
        (Without::Resume, "nobody serves"),
        (Without::Withdraw, "nobody serves"),
        (Without::Restored, "without the state"),
        (Without::PutBack, "no version is live"),
        (Without::Growth, "generations do not grow"),
        (Without::Parking, "two owners"),
    ] {
        let what = explore(without).expect_err("it is missed");
        assert!(what.contains(expected), "without {without:?}: {what}");
    }
}

#[test]
fn a_probation_has_its_length() {
    let now = Instant::now();
    let mut swap = Swap::new(Duration::from_secs(1));
    for input in [
        Input::Begin { version: "v".into(), force: false },
        Input::Prepared,
        Input::Cut { serves: false },
    ] {
        assert!(!swap.step(input, now).is_empty());
    }
    assert!(swap.step(Input::Elapsed, now + Duration::from_millis(999)).is_empty());
    assert_eq!(swap.step(Input::Elapsed, now + Duration::from_secs(1)), [Action::Commit]);
}
