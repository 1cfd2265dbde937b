//! The swap of one service from one version to the next, as a pure machine.
//!
//! ```text
//! Steady -> Preparing -> Ready -> Pausing -> Restoring -> Probation -> Steady
//!   ^          |           |         |           |            |
//!   +----------+-----------+---------+-----------+     Retreating -> Returning
//!                refused: the old one goes on                put back
//! ```
//!
//! The cut is the step into `Probation`: one action, [`Action::CutOver`], that
//! flips who owns the mailbox. Before it every failure ends in `Steady` with
//! the old version running as if nothing had been; after it every failure puts
//! the old one back.
//!
//! A service with replicas has a machine for each of them. How a probation ends
//! is decided for all of them together, in `probation.rs`: a machine
//! [says](Action::Say) what it knows and is told what was
//! [decided](Input::Decided).
//!
//! `now` is an argument and nothing here runs or waits, so `tests/swap_model.rs`
//! explores every order of events over the task that this is the machine of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::probation::{EndedBy, Outcome, Word};

/// Versions that were put back and are still remembered.
const HELD: usize = 16;

/// How long a new version is on probation by default.
pub const PROBATION: Duration = Duration::from_secs(30);
/// How long a version that was put back is not tried again.
pub const HOLD: Duration = Duration::from_secs(600);

/// What tells two versions of a service apart: for a component, its digest.
pub type Version = Arc<str>;

/// Where a swap is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is none.
    Steady,
    /// The next version is being made and started.
    Preparing,
    /// The next version has started, and the word to cut over is waited for.
    Ready,
    /// The current version finishes what is in flight and saves its state.
    Pausing {
        /// Whether its state is wanted.
        save: bool,
    },
    /// The next version reads the state.
    Restoring,
    /// The next version serves; the one before is parked.
    Probation {
        /// Whether the one before is there to be put back as it was.
        parked: bool,
        /// When the new version counts as good.
        until: Instant,
    },
    /// The new version is bad, and finishes what is in flight.
    Retreating {
        /// See [`Probation`](Self::Probation).
        parked: bool,
        /// What is bad about it.
        why: String,
        /// Nothing is: it is put back for another service's sake, and what it
        /// handled meanwhile is to be kept.
        keep: bool,
    },
    /// The parked version reads the state of the one that replaced it.
    Returning {
        /// Why it comes back.
        why: String,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants that version.
    Begin {
        /// Which.
        version: Version,
        /// What runs now.
        running: Version,
        /// Whether it is tried though it was put back a while ago.
        force: bool,
    },
    /// A replica that does not run is to start as that version, and its running
    /// siblings are swapped.
    Exchange {
        /// Which.
        version: Version,
        /// What it would start as.
        running: Version,
    },
    /// The next version's `start` has returned.
    Prepared,
    /// Cut over now.
    Cut {
        /// Whether the current version runs, and so can be asked to pause.
        serves: bool,
        /// Whether its state is wanted.
        save: bool,
    },
    /// The current version paused, with or without a state; or it could not
    /// save.
    Paused(Result<bool, String>),
    /// The next version read the state; or it refused it.
    Restored(Result<(), String>),
    /// The next version ended before its turn: it could not be made, its start
    /// failed, it crashed.
    NextEnded(String),
    /// The version that serves ended: with a crash, or well.
    CurrentEnded(Result<(), String>),
    /// The parked version ended.
    ParkedEnded,
    /// The version that serves says that it fails.
    Failing(String),
    /// What was waited for did not come in time.
    Late,
    /// Whoever wanted the swap is gone.
    Cancel(String),
    /// Something else is wanted of the whole service.
    Told(EndedBy),
    /// This replica is to be no more.
    Leave(EndedBy),
    /// Whoever wanted the swap wants the old version back, with the state of
    /// the new one if it takes it. The new version is not held for bad.
    PutBack(String),
    /// The time that [`Action::Wake`] asked for has come.
    Elapsed,
    /// What became of the probation, for all replicas.
    Decided {
        /// See above.
        outcome: Outcome,
        /// Whether the current version runs, and so can be asked to pause.
        serves: bool,
    },
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the next version and start it, before its turn.
    Prepare,
    /// The next version is ready to be cut over to: say so.
    TellReady,
    /// End the next version; nothing of it was seen.
    Discard,
    /// Ask the version that serves to pause, by a time limit.
    Pause {
        /// Whether its state is wanted.
        save: bool,
    },
    /// Give the next version the state, by a time limit.
    Restore,
    /// Give the parked version the state, by a time limit.
    Return,
    /// What was asked is not wanted any more; the current version goes on.
    Resume,
    /// The next version has the mailbox from here on; the current one, if it
    /// serves, is parked.
    CutOver,
    /// A stopped replica starts as the wanted version when it is started.
    Exchange,
    /// Say [`Input::Elapsed`] at this time.
    Wake(Instant),
    /// Say this where the probation of all replicas is decided, and
    /// [`Input::Decided`] if it is by then.
    Say(Word),
    /// The version that serves stays: the parked one is retired.
    Commit {
        /// What it is if it has not passed its probation.
        ended: Option<EndedBy>,
    },
    /// The version that serves ends, and the parked one goes on where it was.
    PutBack {
        /// Why.
        why: String,
    },
    /// As [`PutBack`](Self::PutBack), but there is none parked: the old version
    /// is started anew.
    StartOld {
        /// Why.
        why: String,
    },
    /// The swap is refused; the current version goes on untouched.
    Refuse {
        /// Why.
        why: String,
    },
    /// As [`Refuse`](Self::Refuse), but neither version is at fault: the swap is
    /// not wanted any more.
    CallOff {
        /// Why.
        why: String,
    },
}

/// The machine of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Swap {
    phase: Phase,
    probation: Duration,
    /// What is being swapped to, or was last.
    version: Option<Version>,
    /// What was swapped from.
    before: Option<Version>,
    /// Versions that were put back, and until when they are not tried again.
    held: VecDeque<(Version, Instant)>,
}

impl Swap {
    /// No swap, and probations of that length.
    #[must_use]
    pub fn new(probation: Duration) -> Self {
        Self { phase: Phase::Steady, probation, version: None, before: None, held: VecDeque::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Other probations from the next swap on.
    pub fn set_probation(&mut self, probation: Duration) {
        self.probation = probation;
    }

    /// Takes one step. An input that makes no sense in the current phase
    /// changes nothing: it came too late.
    #[must_use]
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match (self.phase.clone(), input) {
            (Phase::Steady, Input::Begin { version, running, force }) => {
                if let Some(why) = self.held(&version, &running, force, now) {
                    return vec![Action::Refuse { why }];
                }
                self.version = Some(version);
                self.before = Some(running);
                self.phase = Phase::Preparing;
                vec![Action::Prepare]
            }
            // A swap that is asked for in probation ends it, and is asked for
            // again then.
            (Phase::Probation { .. }, Input::Begin { version, running, force }) => {
                match self.held(&version, &running, force, now) {
                    Some(why) => vec![Action::Refuse { why }],
                    None => vec![Action::Say(Word::Ended(EndedBy::NewerSwap))],
                }
            }
            (Phase::Steady, Input::Exchange { version, running }) => {
                self.version = Some(version);
                self.before = Some(running);
                self.phase = Phase::Probation { parked: false, until: now };
                // It has nothing to prove; its time is over when it begins.
                vec![Action::Exchange]
            }
            (Phase::Probation { .. }, Input::Exchange { .. }) => {
                vec![Action::Say(Word::Ended(EndedBy::NewerSwap))]
            }
            (_, Input::Begin { .. } | Input::Exchange { .. }) => {
                vec![Action::Refuse { why: "another swap is under way".into() }]
            }

            (Phase::Preparing, Input::Prepared) => {
                self.phase = Phase::Ready;
                vec![Action::TellReady]
            }
            (Phase::Ready, Input::Cut { serves: true, save }) => {
                self.phase = Phase::Pausing { save };
                vec![Action::Pause { save }]
            }
            // Nobody to ask: it waits for a restart, or gave up.
            (Phase::Ready, Input::Cut { serves: false, .. }) => self.cut_over(false, now),
            (Phase::Pausing { save: true }, Input::Paused(Ok(true))) => {
                self.phase = Phase::Restoring;
                vec![Action::Restore]
            }
            (Phase::Pausing { .. }, Input::Paused(Ok(_))) => self.cut_over(true, now),
            (Phase::Restoring, Input::Restored(Ok(()))) => self.cut_over(true, now),

            // Before the cut, every failure leaves the old one as it was.
            (Phase::Preparing | Phase::Ready, Input::NextEnded(why)) => self.refuse(why, false),
            (Phase::Pausing { .. }, Input::Paused(Err(why))) => {
                self.refuse(format!("the running version could not save its state: {why}"), true)
            }
            (Phase::Restoring, Input::Restored(Err(why))) => {
                self.refuse(format!("the new version refused the state: {why}"), true)
            }
            (Phase::Pausing { .. } | Phase::Restoring, Input::NextEnded(why)) => {
                self.refuse(why, true)
            }
            (Phase::Pausing { .. }, Input::Late) => {
                self.refuse("the running version did not pause in time".into(), true)
            }
            (Phase::Restoring, Input::Late) => {
                self.refuse("the new version did not read the state in time".into(), true)
            }
            // Its restart is the supervisor's, and so is what becomes of it.
            (Phase::Pausing { .. } | Phase::Restoring, Input::CurrentEnded(how)) => {
                let why = how.err().unwrap_or_else(|| "it ended".into());
                self.refuse(format!("the running version ended while it paused: {why}"), false)
            }
            (
                phase
                @ (Phase::Preparing | Phase::Ready | Phase::Pausing { .. } | Phase::Restoring),
                input @ (Input::Cancel(_)
                | Input::Told(_)
                | Input::Leave(_)
                | Input::Decided { .. }),
            ) => {
                let why = match input {
                    Input::Decided { outcome: Outcome::PutBack { why, .. }, .. } => {
                        format!("another replica was not swapped: {why}")
                    }
                    Input::Cancel(why) => why,
                    Input::Told(by) | Input::Leave(by) => {
                        format!("{by} came before it was swapped")
                    }
                    _ => "it was decided without this replica".to_owned(),
                };
                let paused = matches!(phase, Phase::Pausing { .. } | Phase::Restoring);
                self.let_go(Action::CallOff { why: why.clone() }, why, paused)
            }

            // In probation this replica only says what it knows.
            (Phase::Probation { .. }, Input::CurrentEnded(Err(why)) | Input::Failing(why)) => {
                vec![Action::Say(Word::Failed(why))]
            }
            (Phase::Probation { .. }, Input::PutBack(why)) => {
                vec![Action::Say(Word::Unwanted(why))]
            }
            (Phase::Probation { until, .. }, Input::Elapsed) if now >= until => {
                vec![Action::Say(Word::Passed)]
            }
            (Phase::Probation { .. }, Input::CurrentEnded(Ok(()))) => {
                vec![Action::Say(Word::Passed)]
            }
            (Phase::Probation { .. }, Input::Told(by)) => vec![Action::Say(Word::Ended(by))],
            (Phase::Probation { .. }, Input::Leave(by)) => {
                let mut actions = self.commit(Some(by));
                actions.insert(0, Action::Say(Word::Left(by)));
                actions
            }
            (Phase::Probation { until, .. }, Input::ParkedEnded) => {
                self.phase = Phase::Probation { parked: false, until };
                vec![]
            }
            (Phase::Probation { parked, .. }, Input::Decided { outcome, serves }) => {
                match outcome {
                    Outcome::Committed => self.commit(None),
                    Outcome::Ended(by) => self.commit(Some(by)),
                    Outcome::PutBack { why, keep } if serves => {
                        self.phase = Phase::Retreating { parked, why, keep };
                        vec![Action::Pause { save: keep }]
                    }
                    Outcome::PutBack { why, keep } => self.put_back(parked, why, !keep, now),
                }
            }

            (Phase::Retreating { parked: true, why, keep: true }, Input::Paused(Ok(true))) => {
                self.phase = Phase::Returning { why };
                vec![Action::Return]
            }
            (Phase::Retreating { parked, why, keep }, Input::Paused(_) | Input::Late) => {
                self.put_back(parked, why, !keep, now)
            }
            (Phase::Retreating { parked, why, .. }, Input::CurrentEnded(how)) => {
                self.put_back(parked, how.err().unwrap_or(why), true, now)
            }
            (Phase::Retreating { why, keep, .. }, Input::ParkedEnded) => {
                self.phase = Phase::Retreating { parked: false, why, keep };
                vec![]
            }
            // If it does not take the state, it goes on with its own.
            (Phase::Returning { why }, Input::Restored(_) | Input::Late) => {
                self.put_back(true, why, false, now)
            }
            (Phase::Returning { why }, Input::CurrentEnded(_)) => {
                self.put_back(true, why, false, now)
            }
            (Phase::Returning { why }, Input::ParkedEnded) => self.put_back(false, why, false, now),
            // It was decided that the old one comes back, so it does, and what is
            // wanted of the service is its to do.
            (Phase::Retreating { parked, why, keep }, Input::Told(_) | Input::Leave(_)) => {
                self.put_back(parked, why, !keep, now)
            }
            (Phase::Returning { why }, Input::Told(_) | Input::Leave(_)) => {
                self.put_back(true, why, false, now)
            }
            _ => vec![],
        }
    }

    /// Why `version` is not tried at this time, if it is not. What runs is never
    /// held: to swap it for itself, under other limits perhaps, may be the cure.
    fn held(
        &mut self,
        version: &Version,
        running: &Version,
        force: bool,
        now: Instant,
    ) -> Option<String> {
        self.held.retain(|(_, until)| *until > now);
        let (_, until) = self.held.iter().find(|(held, _)| held == version)?;
        if force || version == running {
            return None;
        }
        let left = until.duration_since(now).as_secs().div_ceil(60);
        Some(format!(
            "{version} was put back a while ago, and is not tried again for {left} min \
             unless it is forced"
        ))
    }

    fn cut_over(&mut self, parked: bool, now: Instant) -> Vec<Action> {
        let until = now + self.probation;
        self.phase = Phase::Probation { parked, until };
        vec![Action::CutOver, Action::Wake(until), Action::Say(Word::Serves)]
    }

    fn refuse(&mut self, why: String, resume: bool) -> Vec<Action> {
        self.let_go(Action::Refuse { why: why.clone() }, why, resume)
    }

    /// The next version ends before its turn, and with it those of the siblings.
    fn let_go(&mut self, told: Action, why: String, resume: bool) -> Vec<Action> {
        self.phase = Phase::Steady;
        let mut actions = Vec::with_capacity(4);
        if resume {
            actions.push(Action::Resume);
        }
        actions.extend([Action::Discard, Action::Say(Word::Unwanted(why)), told]);
        actions
    }

    fn put_back(&mut self, parked: bool, why: String, bad: bool, now: Instant) -> Vec<Action> {
        self.phase = Phase::Steady;
        if bad {
            self.hold(now);
        }
        vec![if parked { Action::PutBack { why } } else { Action::StartOld { why } }]
    }

    fn commit(&mut self, ended: Option<EndedBy>) -> Vec<Action> {
        self.phase = Phase::Steady;
        // What proved to be good is held no more.
        if ended.is_none_or(EndedBy::is_good) {
            self.held.retain(|(held, _)| Some(held) != self.version.as_ref());
        }
        vec![Action::Commit { ended }]
    }

    fn hold(&mut self, now: Instant) {
        let Some(version) = self.version.take() else { return };
        // It is not the component that is bad, if that is what comes back.
        if Some(&version) == self.before.as_ref() {
            return;
        }
        self.held.retain(|(held, _)| *held != version);
        if self.held.len() >= HELD {
            self.held.pop_front();
        }
        self.held.push_back((version, now + HOLD));
    }
}
