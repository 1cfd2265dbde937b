//! A swap as whoever wants it sees it: prepared, cut over, on probation.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::incarnation::Recipe;
use super::probation::{EndedBy, Onlooker, Outcome, Seat};
use super::swap::Version;
use super::{Command, ServiceSpec, Shared};
use crate::config::ConfigSnapshot;
use crate::service::{Generation, ServiceId};

/// How a service is swapped.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Also try a version that was put back less than ten minutes ago.
    pub force: bool,
    /// Begin without the state of the running version, which is not asked for
    /// it.
    pub discard_state: bool,
    /// What the new version reads as its configuration until that version of
    /// the configuration is in force.
    pub config: Option<Arc<ConfigSnapshot>>,
    /// What the supervisor is told of the service along with it: grants,
    /// deadlines, bounds. It is in force from the cut on, and until the version
    /// is put back; what [`adopt`](super::Supervisor::adopt) changes meanwhile
    /// outlives that. Name, version and replicas stay.
    pub spec: Option<Box<ServiceSpec>>,
}

/// Why a service was not swapped. It runs on as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SwapError {
    /// No such service, or it takes no more commands.
    #[error("there is no service named {0} that takes commands")]
    Unknown(ServiceId),
    /// The reason, and that the old version goes on.
    #[error("{why}; {service} stays at {version}, generation {generation}")]
    Refused {
        /// Which service.
        service: ServiceId,
        /// Why.
        why: String,
        /// What runs.
        version: Version,
        /// And which incarnation of it.
        generation: Generation,
    },
}

/// What came of a probation, for all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The new version is good: it passed.
    Committed,
    /// It ended before its time, and the new version stays.
    /// [`EndedBy::is_good`] says whether that speaks for it.
    Ended {
        /// What ended it.
        by: EndedBy,
    },
    /// The old version is back.
    PutBack {
        /// Why.
        why: String,
    },
}

/// A new version whose every replica has started and waits for its turn.
/// Dropping it ends it.
#[derive(Debug)]
pub struct Prepared {
    service: ServiceId,
    replicas: Vec<Ready>,
    pub(super) probation: Onlooker,
    /// What is said of the service when all are swapped, and where.
    spec: Option<Box<ServiceSpec>>,
    shared: Arc<Shared>,
}

/// One replica of it.
#[derive(Debug)]
pub(super) struct Ready {
    turnout: Turnout,
    /// For one that is stopped.
    commands: mpsc::Sender<Command>,
}

/// What a replica's task has made of it.
pub(super) enum Turnout {
    /// It has started, and waits for the word.
    Started(oneshot::Sender<Reply>),
    /// The service is stopped, so there is nothing to take over from.
    Stopped(Box<Wanted>),
}

impl std::fmt::Debug for Turnout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Started(_) => "Started",
            Self::Stopped(_) => "Stopped",
        })
    }
}

pub(super) type Reply = oneshot::Sender<Result<Turned, SwapError>>;

/// A replica whose new version has taken over. As [`Cut`] says it.
#[derive(Debug)]
pub(super) struct Turned {
    pub(super) generation: Generation,
    pub(super) pause: Duration,
    pub(super) probation: bool,
    /// Told when the probation is over there, or dropped.
    pub(super) done: oneshot::Receiver<()>,
}

/// A new version that has taken over.
#[derive(Debug)]
pub struct Cut {
    /// Its generation; of several replicas, the newest.
    pub generation: Generation,
    /// How long messages waited: from the moment the old version was asked to
    /// pause. Of several replicas, the longest.
    pub pause: Duration,
    /// Whether the new version is on probation. One that takes the place of a
    /// stopped version is not: it does not run yet.
    pub probation: bool,
    done: Vec<oneshot::Receiver<()>>,
    outcome: Onlooker,
}

impl Prepared {
    /// Whose version this is.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Cuts over, one replica after the other. When one is refused, those
    /// before it are put back, as they are when one fails before the last was
    /// swapped.
    ///
    /// # Errors
    ///
    /// See [`SwapError`].
    pub async fn cut(self) -> Result<Cut, SwapError> {
        let mut whole = Cut {
            generation: Generation(0),
            pause: Duration::ZERO,
            probation: false,
            done: vec![],
            outcome: self.probation,
        };
        let mut replicas = self.replicas.into_iter();
        while let Some(Ready { turnout, commands }) = replicas.next() {
            match cut(&self.service, turnout, &commands).await {
                Ok(turned) => {
                    whole.generation = whole.generation.max(turned.generation);
                    whole.pause = whole.pause.max(turned.pause);
                    whole.probation |= turned.probation;
                    whole.done.push(turned.done);
                }
                Err(error) => {
                    // Those that wait are let go of, and those before are back
                    // when this returns.
                    drop(replicas);
                    whole.verdict().await;
                    return Err(error);
                }
            }
        }
        if let (Some(spec), Some(entry)) =
            (self.spec, self.shared.entries.lock().get_mut(&self.service))
        {
            entry.spec = *spec;
        }
        Ok(whole)
    }
}

async fn cut(
    service: &ServiceId,
    turnout: Turnout,
    commands: &mpsc::Sender<Command>,
) -> Result<Turned, SwapError> {
    let (tell, told) = oneshot::channel();
    let gone = || SwapError::Unknown(service.clone());
    match turnout {
        Turnout::Started(go) => go.send(tell).map_err(|_| gone())?,
        Turnout::Stopped(wanted) => {
            commands.send(Command::Exchange(wanted, tell)).await.map_err(|_| gone())?;
        }
    }
    told.await.map_err(|_| gone())?
}

impl Cut {
    /// Waits for the end of the probation, at every replica.
    pub async fn verdict(self) -> Verdict {
        for done in self.done {
            // One whose task is gone has left, which decides too.
            let _ = done.await;
        }
        match self.outcome.outcome() {
            Some(Outcome::Committed) => Verdict::Committed,
            Some(Outcome::Ended(by)) => Verdict::Ended { by },
            Some(Outcome::PutBack { why, .. }) => Verdict::PutBack { why },
            None => Verdict::Ended { by: EndedBy::HostEnd },
        }
    }
}

/// What a task is told to prepare.
pub(super) struct Wanted {
    pub(super) recipe: Recipe,
    pub(super) options: SwapOptions,
    /// The replica's place at the probation.
    pub(super) seat: Seat,
    /// Taken when it is used.
    pub(super) reply: Option<oneshot::Sender<Result<Turnout, SwapError>>>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

/// Has every replica of a service prepare, one after the other. With one refusal
/// none is left.
pub(super) async fn prepare_all(
    shared: Arc<Shared>,
    service: ServiceId,
    tasks: Vec<mpsc::Sender<Command>>,
    mut recipe: impl FnMut() -> Recipe,
    options: SwapOptions,
) -> Result<Prepared, SwapError> {
    let seats = Seat::all(tasks.len());
    let Some(probation) = seats.first().map(Seat::onlooker) else {
        return Err(SwapError::Unknown(service));
    };
    let mut replicas = Vec::with_capacity(tasks.len());
    // The places that are left at a refusal are dropped, which lets go of the rest.
    for (commands, seat) in tasks.into_iter().zip(seats) {
        let (reply, replied) = oneshot::channel();
        let gone = || SwapError::Unknown(service.clone());
        let (recipe, options) = (recipe(), options.clone());
        let wanted = Box::new(Wanted { recipe, options, seat, reply: Some(reply) });
        commands.send(Command::Prepare(wanted)).await.map_err(|_| gone())?;
        let turnout = replied.await.map_err(|_| gone())??;
        replicas.push(Ready { turnout, commands });
    }
    Ok(Prepared { service, replicas, probation, spec: options.spec, shared })
}
