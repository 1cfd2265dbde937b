//! When a file's content may be believed: one file's watch as a pure machine.
//!
//! What happened goes in, what to do comes out; `now` is an argument. A file is
//! read [`DEBOUNCE`] after its last change and once more [`AGAIN`] later, and
//! what both reads saw is emitted, unless it is what was emitted last. A change
//! in between begins anew. So nothing is emitted that a writer is seen to be in
//! the middle of, and whatever is written last is emitted last.

use std::time::{Duration, Instant};

/// Quiet time before a file is read: an editor's save is several changes.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(250);
/// Time between the two reads that must be equal.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);
/// Longest wait for a writer to close the file or to pause. Past it the file
/// is read all the same: the two reads still have to be equal.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input<D> {
    /// Its content changed, and whoever writes has not closed it: there will
    /// be an [`Input::Touched`] when that happens.
    Written,
    /// Something else happened to it: closed, renamed, created, deleted.
    Touched,
    /// A look at it found it changed, and nothing had told so.
    FoundChanged,
    /// The time of [`Settling::wake`] has come, or something before it.
    Elapsed,
    /// What a read found: the content's digest, or that there is none.
    Read(Option<D>),
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the file, and say [`Input::Read`].
    Read,
    /// Pass on what was just read.
    Emit,
}

/// The machine of one file. `D` is a content's digest.
#[derive(Clone, Debug)]
pub(crate) struct Settling<D> {
    emitted: Option<D>,
    phase: Phase<D>,
}

#[derive(Clone, Debug)]
enum Phase<D> {
    /// Nothing happened since the last settled content.
    Quiet,
    /// It changed.
    Waiting { since: Instant, until: Instant, written: bool },
    /// The first read is under way.
    Reading,
    /// The first read saw this; the second comes.
    Waiting2 { seen: D, until: Instant },
    /// The second read is under way.
    Reading2 { seen: D },
}

impl<D: PartialEq + Clone> Settling<D> {
    /// A file whose content is known to be `known`, or not known at all.
    pub(crate) fn new(known: Option<D>) -> Self {
        Self { emitted: known, phase: Phase::Quiet }
    }

    /// When to say [`Input::Elapsed`]. It is asked for after each step, rather
    /// than told by one, so that nobody can lose it.
    pub(crate) fn wake(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until, .. } | Phase::Waiting2 { until, .. } => Some(*until),
            Phase::Quiet | Phase::Reading | Phase::Reading2 { .. } => None,
        }
    }

    /// Somebody else took what it holds, or found that it holds nothing: what is read from
    /// now on is news when it is another.
    pub(crate) fn taken(&mut self, content: Option<D>) {
        self.emitted = content;
    }

    /// Takes one step. An input that makes no sense in the current phase
    /// changes nothing: what a read saw before a change is out of date.
    pub(crate) fn step(&mut self, input: Input<D>, now: Instant) -> Option<Action> {
        match (&self.phase, input) {
            (_, Input::Written) => self.wait(PATIENCE, true, now),
            // What is written to is found changed, and not yet whole.
            (Phase::Waiting { written: true, .. }, Input::FoundChanged) => None,
            (_, Input::Touched | Input::FoundChanged) => self.wait(DEBOUNCE, false, now),
            (Phase::Waiting { until, .. }, Input::Elapsed) if now >= *until => {
                self.phase = Phase::Reading;
                Some(Action::Read)
            }
            (Phase::Waiting2 { seen, until }, Input::Elapsed) if now >= *until => {
                self.phase = Phase::Reading2 { seen: seen.clone() };
                Some(Action::Read)
            }
            // Gone, or not readable: nothing to say until that changes.
            (Phase::Reading | Phase::Reading2 { .. }, Input::Read(None)) => {
                self.phase = Phase::Quiet;
                None
            }
            (Phase::Reading2 { seen }, Input::Read(Some(read))) if *seen == read => {
                self.phase = Phase::Quiet;
                (self.emitted.as_ref() != Some(&read)).then(|| {
                    self.emitted = Some(read);
                    Action::Emit
                })
            }
            (Phase::Reading | Phase::Reading2 { .. }, Input::Read(Some(seen))) => {
                let until = now + AGAIN;
                self.phase = Phase::Waiting2 { seen, until };
                None
            }
            _ => None,
        }
    }

    fn wait(&mut self, quiet: Duration, written: bool, now: Instant) -> Option<Action> {
        let since = match self.phase {
            Phase::Waiting { since, .. } => since,
            _ => now,
        };
        let until = (now + quiet).min(since + PATIENCE);
        self.phase = Phase::Waiting { since, until, written };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file, its machine, and a clock: what the shell does, without waiting.
    struct World {
        machine: Settling<u8>,
        content: Option<u8>,
        now: Instant,
        /// A read was asked for: what it will find.
        reading: Option<Option<u8>>,
        /// Changes since the last read began, told or not.
        changes: u32,
        reads: Vec<(Option<u8>, u32)>,
        emitted: Vec<u8>,
    }

    impl World {
        fn new(known: Option<u8>) -> Self {
            Self {
                machine: Settling::new(known),
                content: known,
                now: Instant::now(),
                reading: None,
                changes: 0,
                reads: vec![],
                emitted: vec![],
            }
        }

        fn say(&mut self, input: Input<u8>) {
            if !matches!(input, Input::Elapsed | Input::Read(_)) {
                self.changes += 1;
            }
            match self.machine.step(input, self.now) {
                Some(Action::Read) => {
                    self.reads.push((self.content, std::mem::take(&mut self.changes)));
                    self.reading = Some(self.content);
                }
                Some(Action::Emit) => {
                    let [.., (first, _), (second, between)] = self.reads[..] else {
                        panic!("emitted after {:?}", self.reads);
                    };
                    assert!(first.is_some() && first == second, "both reads saw it");
                    assert_eq!((between, self.changes), (0, 0), "and nothing happened since");
                    self.emitted.push(first.expect("it was looked at"));
                }
                None => {}
            }
            match self.machine.wake() {
                Some(at) => assert!(at <= self.now + PATIENCE, "nobody waits for longer"),
                None => assert!(
                    self.reading.is_some() || self.changes == 0,
                    "what was told is read, now or later",
                ),
            }
        }

        fn finish_read(&mut self) {
            if let Some(found) = self.reading.take() {
                self.say(Input::Read(found));
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            if self.machine.wake().is_some_and(|at| self.now >= at) {
                self.say(Input::Elapsed);
            }
        }

        /// Lets everything come to rest.
        fn rest(&mut self) {
            for _ in 0..8 {
                self.finish_read();
                self.pass(PATIENCE);
            }
            assert!(self.machine.wake().is_none() && self.reading.is_none());
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(Option<u8>, Input<u8>),
        FinishRead,
        Pass(u64),
        /// A wake-up that was under way when something else happened.
        Late,
    }

    fn step() -> impl Strategy<Value = Step> {
        let told = prop::sample::select(vec![Input::Written, Input::Touched, Input::FoundChanged]);
        prop_oneof![
            2 => (prop::option::weighted(0.8, 0u8..3), told).prop_map(|(c, i)| Step::Write(c, i)),
            3 => Just(Step::FinishRead),
            4 => prop::sample::select(vec![1, 49, 50, 249, 250, 10_000]).prop_map(Step::Pass),
            1 => Just(Step::Late),
        ]
    }

    proptest! {
        /// Whatever happens: only what two reads saw with no change between is
        /// emitted, never twice in a row, and the last content is the last said.
        #[test]
        fn the_last_content_wins_and_nothing_half_is_said(
            known in prop::option::of(0u8..3),
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut world = World::new(known);
            for step in steps {
                match step {
                    Step::Write(content, input) => {
                        world.content = content;
                        world.say(input);
                    }
                    Step::FinishRead => world.finish_read(),
                    Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                    Step::Late => world.say(Input::Elapsed),
                }
            }
            world.say(Input::Touched);
            world.rest();
            let said: Vec<u8> = known.into_iter().chain(world.emitted.iter().copied()).collect();
            prop_assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "{said:?}");
            if let Some(content) = world.content {
                prop_assert_eq!(said.last(), Some(&content));
            }
        }
    }

    #[test]
    fn a_writer_is_waited_for_until_it_closes() {
        let mut world = World::new(Some(0));
        for content in 1..=9 {
            world.content = Some(content);
            world.say(Input::Written);
            world.pass(Duration::from_secs(1));
            world.say(Input::FoundChanged);
        }
        assert!(world.reads.is_empty(), "it is not closed");
        world.say(Input::Touched);
        world.rest();
        assert_eq!(world.emitted, [9]);
    }

    #[test]
    fn a_file_that_comes_back_is_news_when_it_is_another() {
        fn check(restored: u8, expected: &[u8]) {
            let mut world = World::new(Some(1));
            world.content = None;
            world.say(Input::Touched);
            world.rest();
            world.content = Some(restored);
            world.say(Input::Touched);
            world.rest();
            assert_eq!(world.emitted, expected);
        }
        check(1, &[]);
        check(2, &[2]);
    }

    #[test]
    fn what_somebody_else_took_is_no_news_and_what_was_before_is() {
        let mut world = World::new(Some(0));
        let mut holds = |content: u8, taken: Option<Option<u8>>, expected: &[u8]| {
            world.content = Some(content);
            if let Some(taken) = taken {
                world.machine.taken(taken);
            }
            world.say(Input::Touched);
            world.rest();
            assert_eq!(world.emitted, expected);
        };
        holds(1, Some(Some(1)), &[]);
        holds(0, None, &[0]);
        holds(0, None, &[0]);
        // Whoever found nothing is told of what was known.
        holds(0, Some(None), &[0, 0]);
    }

    #[test]
    fn changes_without_end_do_not_put_it_off_for_ever() {
        let mut world = World::new(None);
        world.content = Some(1);
        for _ in 0..190 {
            world.say(Input::Touched);
            world.pass(Duration::from_millis(100));
            world.finish_read();
        }
        assert_eq!(world.reads.len(), 1, "one look in each {PATIENCE:?}, and another begins");
        world.rest();
        assert_eq!(world.emitted, [1]);
    }
}
