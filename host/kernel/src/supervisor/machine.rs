//! One service's life as a pure machine: what happened goes in, what to do
//! comes out.
//!
//! ```text
//! Loading -> Starting -> Running -> Draining -> Stopped
//!               \___________\__________\-> Backoff -> Starting
//!                \___________\-> Quarantined
//!                 \___________\-> Finished
//! ```
//!
//! `now` and the jitter are arguments, and nothing here runs, waits or logs, so
//! the rules below are property-tested over sequences of events:
//! at most one incarnation lives; generations only grow; no more restarts
//! happen within the period than the budget allows, nor in a row without health
//! between them; what was stopped or quarantined, or has finished, stays so until
//! it is told to start.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::crash::CrashReason;
use crate::service::Generation;

/// Which endings are followed by a new start. The names are systemd's and
/// OTP's ideas: `permanent`, `transient` (here `on-failure`), `temporary`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Every ending, a clean exit too.
    #[default]
    Permanent,
    /// Crashes only.
    OnFailure,
    /// None.
    Never,
}

/// When a service is started again, and when no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Which endings are followed by a new start.
    pub policy: RestartPolicy,
    /// Most restarts within [`within`](Self::within), and most in a row without
    /// [`reset_after`](Self::reset_after) of health in between; the next crash
    /// quarantines. A fault of the host's own spends none of it. OTP calls it the
    /// intensity.
    pub budget: u32,
    /// OTP's period.
    pub within: Duration,
    /// The delay before the second restart in a row; it doubles from there. The
    /// first is without delay.
    pub first_delay: Duration,
    /// Where the doubling ends.
    pub max_delay: Duration,
    /// Running for so long is health: it makes the next crash the first in a row.
    pub reset_after: Duration,
}

impl Default for Restart {
    /// Permanent, 10 in 60 s, delays of 0, 100 ms, 200 ms, ... to 30 s, reset
    /// after 60 s.
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Permanent,
            budget: 10,
            within: Duration::from_secs(60),
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(30),
            reset_after: Duration::from_secs(60),
        }
    }
}

/// How much of a delay the jitter may take away. It never adds: the delays of
/// the default budget sum up to 51.1 s, so that what crashes at once spends it
/// within its 60 s.
const JITTER: f64 = 0.2;

impl Restart {
    /// The delay before the restart after the `nth` crash in a row, from 1.
    /// `jitter` is between 0 and 1.
    #[must_use]
    pub fn delay(&self, nth: u32, jitter: f64) -> Duration {
        let Some(doublings) = nth.checked_sub(2) else { return Duration::ZERO };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let delay = self.first_delay.saturating_mul(factor).min(self.max_delay);
        delay.mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0))
    }
}

/// What follows when a service has drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays stopped.
    Stop,
    /// It starts again.
    Start,
}

/// Where a service is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being read, verified, compiled.
    Loading,
    /// An incarnation was made and its `start` has not returned.
    Starting,
    /// It takes messages.
    Running {
        /// Since when.
        since: Instant,
    },
    /// It was asked to stop and has not ended.
    Draining {
        /// What follows.
        then: After,
    },
    /// It ended, and waits to be told to start.
    Stopped,
    /// It ended well with its work done. As [`Stopped`](Self::Stopped), but what
    /// was wanted of it is there, so nobody misses it.
    Finished,
    /// It crashed, and starts again at a time.
    Backoff {
        /// When.
        until: Instant,
    },
    /// It gave up: its budget is spent, or no restart can help.
    Quarantined {
        /// The last crash.
        reason: CrashReason,
    },
}

impl State {
    /// A stable name, for metrics and JSON.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Draining { .. } => "draining",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Backoff { .. } => "backoff",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// Whether an incarnation exists.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. } | Self::Draining { .. })
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants it to run: forgets earlier crashes.
    Start,
    /// The incarnation's `start` has returned.
    Started,
    /// The incarnation ended: well, or with a crash.
    Exited(Result<(), CrashReason>),
    /// The incarnation ended well and its work is done: whatever the policy, there
    /// is nothing to start it again for.
    Finished,
    /// The back-off is over.
    Elapsed,
    /// Somebody wants it to stop.
    Stop,
    /// Somebody wants a new incarnation of it, if it runs at all.
    Restart,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make an incarnation.
    Spawn(Generation),
    /// Ask the incarnation to stop, and end it when the stop deadline passes.
    AskToStop,
    /// Say [`Input::Elapsed`] at this time.
    Wake(Instant),
    /// Announce a crash.
    Crashed(CrashReason),
    /// Announce that it will be started again, after this delay.
    Restarting(Duration),
    /// Announce that it gave up.
    GaveUp(CrashReason),
}

/// The machine of one service.
#[derive(Clone, Debug)]
pub struct Life {
    rules: Restart,
    state: State,
    generation: Generation,
    /// The newest that was given out, to an incarnation or to a version that
    /// is being prepared.
    newest: Generation,
    /// Restarts in a row, without health in between: for the delay.
    in_a_row: u32,
    /// Those of them that the budget is spent on.
    spent: u32,
    /// When the restarts of the last period were decided.
    restarts: VecDeque<Instant>,
}

impl Life {
    /// A service that has not been started.
    #[must_use]
    pub fn new(rules: Restart) -> Self {
        Self {
            rules,
            state: State::Loading,
            generation: Generation(0),
            newest: Generation(0),
            in_a_row: 0,
            spent: 0,
            restarts: VecDeque::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The current incarnation, or the last one.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Takes one step. `jitter` is between 0 and 1. An input that makes no
    /// sense in the current state changes nothing.
    #[must_use]
    pub fn step(&mut self, input: Input, now: Instant, jitter: f64) -> Vec<Action> {
        match (&self.state, input) {
            (
                State::Loading
                | State::Stopped
                | State::Finished
                | State::Backoff { .. }
                | State::Quarantined { .. },
                Input::Start,
            ) => {
                self.forget_crashes();
                vec![self.spawn()]
            }
            (State::Backoff { .. }, Input::Elapsed | Input::Restart) => vec![self.spawn()],
            (State::Draining { then: After::Stop }, Input::Start) => {
                self.state = State::Draining { then: After::Start };
                vec![]
            }
            (State::Starting, Input::Started) => {
                self.state = State::Running { since: now };
                vec![]
            }
            (State::Starting | State::Running { .. }, Input::Stop) => {
                self.state = State::Draining { then: After::Stop };
                vec![Action::AskToStop]
            }
            (State::Starting | State::Running { .. }, Input::Restart) => {
                self.was_healthy(now);
                self.state = State::Draining { then: After::Start };
                vec![Action::AskToStop]
            }
            (State::Draining { .. }, Input::Stop) => {
                self.state = State::Draining { then: After::Stop };
                vec![]
            }
            (State::Loading | State::Finished | State::Backoff { .. }, Input::Stop) => {
                self.state = State::Stopped;
                vec![]
            }
            (State::Draining { then }, Input::Exited(how)) => {
                let then = *then;
                let mut actions: Vec<Action> = how.err().map(Action::Crashed).into_iter().collect();
                match then {
                    After::Stop => self.state = State::Stopped,
                    After::Start => actions.push(self.spawn()),
                }
                actions
            }
            // It was told to end, and came to its end by itself.
            (State::Draining { .. }, Input::Finished) => self.step(Input::Exited(Ok(())), now, 0.0),
            (State::Starting | State::Running { .. }, Input::Finished) => {
                self.finish();
                vec![]
            }
            (State::Starting | State::Running { .. }, Input::Exited(how)) => {
                self.was_healthy(now);
                self.exited(how, now, jitter)
            }
            _ => vec![],
        }
    }

    /// Other rules from now on; what was counted stays counted.
    pub fn set_rules(&mut self, rules: Restart) {
        self.rules = rules;
    }

    /// A generation for a version that is prepared beside the current one.
    pub fn reserve(&mut self) -> Generation {
        self.newest = self.newest.next();
        self.newest
    }

    /// Another incarnation than the current one has the service from here on:
    /// a new version, under the generation that was reserved for it unless
    /// there are newer ones, or an old version that is put back. It runs
    /// already, and its crashes are counted from none.
    pub fn replace(&mut self, reserved: Option<Generation>, now: Instant) -> Generation {
        self.generation = match reserved {
            Some(generation) if generation == self.newest => generation,
            _ => self.reserve(),
        };
        self.state = State::Running { since: now };
        self.forget_crashes();
        self.generation
    }

    /// The current incarnation is gone and its version with it: the one before
    /// is started.
    #[must_use]
    pub fn start_over(&mut self) -> Action {
        self.forget_crashes();
        self.spawn()
    }

    /// There is no incarnation any more, and none is missed: its work is done.
    pub fn finish(&mut self) {
        self.state = State::Finished;
    }

    fn spawn(&mut self) -> Action {
        self.generation = self.reserve();
        self.state = State::Starting;
        Action::Spawn(self.generation)
    }

    /// What runs is about to end, and may have run for long enough to begin anew.
    fn was_healthy(&mut self, now: Instant) {
        if let State::Running { since } = self.state
            && now.saturating_duration_since(since) >= self.rules.reset_after
        {
            self.in_a_row = 0;
            self.spent = 0;
        }
    }

    fn forget_crashes(&mut self) {
        self.in_a_row = 0;
        self.spent = 0;
        self.restarts.clear();
    }

    fn exited(&mut self, how: Result<(), CrashReason>, now: Instant, jitter: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        let restart = match (self.rules.policy, &how) {
            (RestartPolicy::Permanent, _) | (RestartPolicy::OnFailure, Err(_)) => true,
            (RestartPolicy::OnFailure, Ok(())) | (RestartPolicy::Never, _) => false,
        };
        // A clean exit is announced as none; if it uses up the budget all the
        // same, this is what the service is quarantined for.
        let reason = how.as_ref().err().cloned().unwrap_or(CrashReason::Exit { code: 0 });
        if let Err(reason) = how {
            actions.push(Action::Crashed(reason));
        }
        if !restart {
            self.state = State::Stopped;
            return actions;
        }
        while self
            .restarts
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= self.rules.within)
        {
            self.restarts.pop_front();
        }
        // A component that does not fit the host will not fit it next time.
        let hopeless = matches!(reason, CrashReason::Link { .. });
        // The period alone would let go what lives for some seconds each time: the
        // longest delays are of half a period, and such crashes never come as close.
        let often = self.restarts.len() >= self.rules.budget as usize;
        let spent = often || self.spent >= self.rules.budget;
        // What the host has no room for is at no fault: it waits for its turn, for as
        // long as that takes, and spends nothing.
        let own = !matches!(reason, CrashReason::Host { .. });
        if hopeless || own && spent {
            self.state = State::Quarantined { reason: reason.clone() };
            actions.push(Action::GaveUp(reason));
            return actions;
        }
        if own {
            self.restarts.push_back(now);
            self.spent = self.spent.saturating_add(1);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let delay = self.rules.delay(self.in_a_row, jitter);
        actions.push(Action::Restarting(delay));
        if delay.is_zero() {
            actions.push(self.spawn());
        } else {
            let until = now + delay;
            self.state = State::Backoff { until };
            actions.push(Action::Wake(until));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crash() -> Input {
        Input::Exited(Err(CrashReason::panic("boom")))
    }

    fn started(rules: Restart, now: Instant) -> Life {
        let mut life = Life::new(rules);
        assert_eq!(life.step(Input::Start, now, 0.0), [Action::Spawn(Generation(1))]);
        assert!(life.step(Input::Started, now, 0.0).is_empty());
        life
    }

    #[test]
    fn delays_double_to_their_cap() {
        let rules = Restart::default();
        let ms = |nth| rules.delay(nth, 0.0).as_millis();
        assert_eq!([1, 2, 3, 4, 10, 11, 40].map(ms), [0, 100, 200, 400, 25_600, 30_000, 30_000]);
        assert_eq!(rules.delay(2, 1.0).as_millis(), 80);
    }

    /// The budget really quarantines, whatever the jitter: what crashes as soon
    /// as it starts gets ten restarts and no eleventh.
    #[test]
    fn the_default_budget_quarantines_a_crash_loop() {
        for jitter in [0.0, 0.5, 1.0] {
            let mut now = Instant::now();
            let mut life = started(Restart::default(), now);
            let mut restarts = 0;
            let gave_up = loop {
                let actions = life.step(crash(), now, jitter);
                assert_eq!(actions[0], Action::Crashed(CrashReason::panic("boom")));
                if matches!(actions.last(), Some(Action::GaveUp(_))) {
                    break restarts;
                }
                restarts += 1;
                assert!(restarts <= 10, "the budget is 10");
                if let State::Backoff { until } = *life.state() {
                    now = until;
                    let _ = life.step(Input::Elapsed, now, jitter);
                }
                let _ = life.step(Input::Started, now, jitter);
            };
            assert_eq!(gave_up, 10);
            assert_eq!(life.state().label(), "quarantined");
            assert!(life.step(Input::Restart, now, 0.0).is_empty(), "stays so");
            assert_eq!(life.step(Input::Start, now, 0.0).len(), 1, "until told to start");
        }
    }

    /// One that lives for a while each time is found too: its crashes never come
    /// close enough for the period.
    #[test]
    fn a_crash_loop_of_short_lives_is_one_too() {
        for (life, within) in [(1u64, 60u64), (2, 60), (30, 60), (59, 1)] {
            let mut now = Instant::now();
            let rules = Restart { within: Duration::from_secs(within), ..Restart::default() };
            let mut service = started(rules, now);
            let mut restarts = 0;
            while service.state().label() != "quarantined" {
                now += Duration::from_secs(life);
                let actions = service.step(crash(), now, 0.0);
                restarts += actions.iter().filter(|a| matches!(a, Action::Restarting(_))).count();
                assert!(restarts <= 10, "{life} s: the budget is 10");
                if let State::Backoff { until } = *service.state() {
                    now = until;
                    let _ = service.step(Input::Elapsed, now, 0.0);
                }
                let _ = service.step(Input::Started, now, 0.0);
            }
            assert_eq!(restarts, 10, "{life} s");
        }
    }

    /// Health before a restart that somebody wanted is health too.
    #[test]
    fn crashes_in_a_row_have_no_health_between_them() {
        let mut now = Instant::now();
        let mut life = started(Restart::default(), now);
        for _ in 0..30 {
            let actions = life.step(crash(), now, 0.0);
            assert!(actions.contains(&Action::Restarting(Duration::ZERO)), "{actions:?}");
            let _ = life.step(Input::Started, now, 0.0);
            now += Duration::from_secs(60);
            assert_eq!(life.step(Input::Restart, now, 0.0), [Action::AskToStop]);
            let _ = life.step(Input::Exited(Ok(())), now, 0.0);
            let _ = life.step(Input::Started, now, 0.0);
        }
    }

    #[test]
    fn a_minute_of_health_makes_the_next_crash_the_first() {
        let mut now = Instant::now();
        let mut life = started(Restart::default(), now);
        let _ = life.step(crash(), now, 0.0);
        let _ = life.step(Input::Started, now, 0.0);
        now += Duration::from_secs(60);
        let actions = life.step(crash(), now, 0.0);
        assert!(actions.contains(&Action::Restarting(Duration::ZERO)), "{actions:?}");
    }

    #[test]
    fn a_clean_exit_is_no_crash() {
        fn check(policy: RestartPolicy, expected: &[Action], state: &str) {
            let now = Instant::now();
            let mut life = started(Restart { policy, ..Restart::default() }, now);
            assert_eq!(life.step(Input::Exited(Ok(())), now, 0.0), expected);
            assert_eq!(life.state().label(), state);
        }
        let again = [Action::Restarting(Duration::ZERO), Action::Spawn(Generation(2))];
        check(RestartPolicy::Permanent, &again, "starting");
        check(RestartPolicy::OnFailure, &[], "stopped");
        check(RestartPolicy::Never, &[], "stopped");
    }

    #[test]
    fn what_has_finished_stays_so_whatever_the_policy() {
        for policy in [RestartPolicy::Permanent, RestartPolicy::OnFailure, RestartPolicy::Never] {
            let now = Instant::now();
            let mut life = started(Restart { policy, ..Restart::default() }, now);
            assert!(life.step(Input::Finished, now, 0.0).is_empty());
            assert_eq!(life.state().label(), "finished");
            assert!(!life.state().is_alive());
            for input in [Input::Elapsed, Input::Restart, Input::Started] {
                assert!(life.step(input, now, 0.0).is_empty());
                assert_eq!(life.state(), &State::Finished);
            }
            assert_eq!(life.step(Input::Start, now, 0.0), [Action::Spawn(Generation(2))]);
        }
    }

    #[test]
    fn one_that_finishes_while_it_drains_does_what_was_wanted() {
        let now = Instant::now();
        for (input, label) in [(Input::Stop, "stopped"), (Input::Restart, "starting")] {
            let mut life = started(Restart::default(), now);
            let _ = life.step(input, now, 0.0);
            let _ = life.step(Input::Finished, now, 0.0);
            assert_eq!(life.state().label(), label);
        }
    }

    #[test]
    fn what_cannot_link_is_quarantined_at_once() {
        let now = Instant::now();
        let mut life = started(Restart::default(), now);
        let reason = CrashReason::Link { message: "no such import".into() };
        let actions = life.step(Input::Exited(Err(reason.clone())), now, 0.0);
        assert_eq!(actions, [Action::Crashed(reason.clone()), Action::GaveUp(reason)]);
    }

    /// What there is no room for waits longer and longer, and is not given up for it.
    #[test]
    fn a_fault_of_the_hosts_spends_no_budget() {
        let no_room = || Input::Exited(Err(CrashReason::Host { message: "no room".into() }));
        let mut now = Instant::now();
        let rules = Restart::default();
        let mut life = Life::new(rules);
        assert_eq!(life.step(Input::Start, now, 0.0), [Action::Spawn(Generation(1))]);
        for nth in 1..=100 {
            let actions = life.step(no_room(), now, 0.0);
            assert!(actions.contains(&Action::Restarting(rules.delay(nth, 0.0))), "{actions:?}");
            if let State::Backoff { until } = *life.state() {
                now = until;
                let _ = life.step(Input::Elapsed, now, 0.0);
            }
        }
        // Its own crashes are counted from none.
        for restart in 0..=rules.budget {
            let actions = life.step(crash(), now, 0.0);
            let gave_up = matches!(actions.last(), Some(Action::GaveUp(_)));
            assert_eq!(gave_up, restart == rules.budget, "{restart}: {actions:?}");
            now += Duration::from_secs(31);
            let _ = life.step(Input::Elapsed, now, 0.0);
        }
    }

    #[test]
    fn stopping_does_not_wait_out_a_backoff() {
        let now = Instant::now();
        let mut life = started(Restart::default(), now);
        let _ = life.step(crash(), now, 0.0);
        let _ = life.step(crash(), now, 0.0);
        assert_eq!(life.state().label(), "backoff");
        assert!(life.step(Input::Stop, now, 0.0).is_empty());
        assert_eq!(life.state().label(), "stopped");
        assert!(life.step(Input::Elapsed, now, 0.0).is_empty(), "a late alarm starts nothing");
    }

    #[test]
    fn a_crash_while_draining_is_told_and_what_was_wanted_follows() {
        let now = Instant::now();
        for (input, label) in [(Input::Stop, "stopped"), (Input::Restart, "starting")] {
            let mut life = started(Restart::default(), now);
            assert_eq!(life.step(input, now, 0.0), [Action::AskToStop]);
            let actions = life.step(crash(), now, 0.0);
            assert_eq!(actions[0], Action::Crashed(CrashReason::panic("boom")));
            assert_eq!(life.state().label(), label);
        }
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            1 => Just(Input::Start),
            4 => Just(Input::Started),
            6 => Just(crash()),
            1 => Just(Input::Exited(Err(CrashReason::Host { message: "no room".into() }))),
            1 => Just(Input::Exited(Ok(()))),
            1 => Just(Input::Finished),
            4 => Just(Input::Elapsed),
            1 => Just(Input::Stop),
            1 => Just(Input::Restart),
        ]
    }

    proptest! {
        #[test]
        fn the_rules_hold_over_any_sequence(
            steps in prop::collection::vec((input(), 0u64..20_000, 0.0..1.0f64), 0..300),
            policy in prop::sample::select(vec![
                RestartPolicy::Permanent, RestartPolicy::OnFailure, RestartPolicy::Never,
            ]),
        ) {
            let rules = Restart { policy, budget: 3, ..Restart::default() };
            let mut life = Life::new(rules);
            let mut now = Instant::now();
            let mut decided: Vec<Instant> = Vec::new();
            let mut in_a_row = 0;
            for (input, ms, jitter) in steps {
                now += Duration::from_millis(ms);
                let before = life.clone();
                let actions = life.step(input.clone(), now, jitter);
                let spawned = actions.iter().any(|a| matches!(a, Action::Spawn(_)));
                if spawned {
                    // At most one incarnation: the one before is gone.
                    let ended = matches!(input, Input::Exited(_) | Input::Finished);
                    prop_assert!(!before.state.is_alive() || ended);
                    prop_assert_eq!(life.generation, before.generation.next());
                    prop_assert_eq!(&life.state, &State::Starting);
                } else {
                    prop_assert_eq!(life.generation, before.generation);
                    prop_assert!(!life.state.is_alive() || before.state.is_alive());
                }
                match before.state {
                    State::Stopped
                    | State::Finished
                    | State::Quarantined { .. }
                    | State::Loading => {
                        prop_assert!(!spawned || input == Input::Start);
                    }
                    _ => {}
                }
                // An ending ends: nothing of the old incarnation is alive.
                if matches!(input, Input::Exited(_) | Input::Finished) && life.state.is_alive() {
                    prop_assert!(spawned || !before.state.is_alive());
                }
                if input == Input::Start && !before.state.is_alive() {
                    decided.clear();
                    in_a_row = 0;
                }
                if let State::Running { since } = before.state
                    && before.state != life.state
                    && now - since >= rules.reset_after
                {
                    in_a_row = 0;
                }
                let own = !matches!(input, Input::Exited(Err(CrashReason::Host { .. })));
                prop_assert!(own || !actions.iter().any(|a| matches!(a, Action::GaveUp(_))));
                if own && actions.iter().any(|a| matches!(a, Action::Restarting(_))) {
                    decided.push(now);
                    in_a_row += 1;
                    prop_assert!(in_a_row <= 3, "{in_a_row} restarts without health");
                    let window = decided.iter().filter(|at| now - **at < rules.within).count();
                    prop_assert!(window <= 3, "{window} restarts in the period");
                }
                if let State::Backoff { until } = life.state {
                    prop_assert!(until <= now + rules.max_delay || before.state == life.state);
                }
            }
        }
    }
}
