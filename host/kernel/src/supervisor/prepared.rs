//! A swap as whoever wants it sees it: prepared, cut over, on probation.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::incarnation::Recipe;
use super::swap::Version;
use super::{Command, ServiceSpec};
use crate::config::ConfigSnapshot;
use crate::service::{Generation, ServiceId};

/// How a service is swapped.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Also try a version that was put back less than ten minutes ago.
    pub force: bool,
    /// Let go of a state that the running version hands over and the new one
    /// does not take.
    pub discard_state: bool,
    /// What the new version reads as its configuration until that version of
    /// the configuration is in force.
    pub config: Option<Arc<ConfigSnapshot>>,
    /// What the supervisor is told of the service along with it: grants,
    /// deadlines, bounds. It is in force from the cut on, and until the version
    /// is put back. Name, version and replicas stay.
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

/// What came of a probation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The new version is good.
    Committed,
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
    pub(super) service: ServiceId,
    pub(super) replicas: Vec<Ready>,
}

/// One replica of it.
#[derive(Debug)]
pub(super) struct Ready {
    turnout: Turnout,
    /// To have the old version back when a later replica is refused.
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

pub(super) type Reply = oneshot::Sender<Result<Cut, SwapError>>;

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
    pub(super) verdicts: Vec<oneshot::Receiver<Verdict>>,
}

impl Prepared {
    /// Whose version this is.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Cuts over, one replica after the other. When one is refused, those
    /// before it are put back.
    ///
    /// # Errors
    ///
    /// See [`SwapError`].
    pub async fn cut(self) -> Result<Cut, SwapError> {
        let mut whole = Cut {
            generation: Generation(0),
            pause: Duration::ZERO,
            probation: false,
            verdicts: vec![],
        };
        let mut done = Vec::new();
        for replica in self.replicas {
            let Ready { turnout, commands } = replica;
            match cut(&self.service, turnout, &commands).await {
                Ok(cut) => {
                    whole.generation = whole.generation.max(cut.generation);
                    whole.pause = whole.pause.max(cut.pause);
                    whole.probation |= cut.probation;
                    whole.verdicts.extend(cut.verdicts);
                    done.push(commands);
                }
                Err(error) => {
                    for commands in done {
                        let why = "another replica could not be swapped".to_owned();
                        // One that is gone has nothing to be put back.
                        let _ = commands.send(Command::PutBack(why)).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(whole)
    }
}

async fn cut(
    service: &ServiceId,
    turnout: Turnout,
    commands: &mpsc::Sender<Command>,
) -> Result<Cut, SwapError> {
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
    /// Waits for the end of the probation. Of several replicas, one that is put
    /// back decides.
    pub async fn verdict(self) -> Verdict {
        for verdict in self.verdicts {
            match verdict.await {
                Ok(Verdict::Committed) => {}
                Ok(bad) => return bad,
                Err(_) => return Verdict::PutBack { why: "the host shut down".into() },
            }
        }
        Verdict::Committed
    }
}

/// What a task is told to prepare.
pub(super) struct Wanted {
    pub(super) recipe: Recipe,
    pub(super) options: SwapOptions,
    /// Taken when it is used.
    pub(super) reply: Option<oneshot::Sender<Result<Turnout, SwapError>>>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

/// The supervisor's end of [`Task::prepare`].
pub(super) async fn prepare(
    commands: &mpsc::Sender<Command>,
    service: &ServiceId,
    recipe: Recipe,
    options: SwapOptions,
) -> Result<Ready, SwapError> {
    let (reply, replied) = oneshot::channel();
    let gone = || SwapError::Unknown(service.clone());
    let wanted = Box::new(Wanted { recipe, options, reply: Some(reply) });
    commands.send(Command::Prepare(wanted)).await.map_err(|_| gone())?;
    let turnout = replied.await.map_err(|_| gone())??;
    Ok(Ready { turnout, commands: commands.clone() })
}
