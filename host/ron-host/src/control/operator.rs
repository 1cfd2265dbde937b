//! What an operator can do to a host, apart from how it is asked for.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use ron_kernel::supervisor::ServiceStatus;
use ron_kernel::{Generation, Kernel, ServiceId, Supervisor};
use thiserror::Error;
use tokio::runtime::Handle;

use super::wire::{InForce, Planned, Reloaded, Swapped};
use crate::change::Changes;
use crate::deployment::{Applied, Deployment, How, Refusal, Turns, Wanted};

/// How long a wish is waited for: a start and a stop at their default limits,
/// and some.
const PATIENCE: Duration = Duration::from_secs(45);

/// Acts for an operator.
pub(crate) struct Operator {
    supervisor: Arc<Supervisor>,
    /// There as soon as every component is loaded.
    deployed: Arc<Mutex<Weak<Deployment>>>,
    /// Of those who act on a generation that they saw: the next looks when the one
    /// before has come to something. A swap has turns of its own, and waits for a
    /// start; a stop that nobody makes conditions for waits for nothing.
    acts: Turns,
}

/// A swap, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) service: ServiceId,
    /// The new component; the configured one, read anew, where there is none.
    pub(crate) path: Option<PathBuf>,
    /// Answer at the end of probation, not at the cut.
    pub(crate) wait: bool,
    /// Though that digest was rolled back lately.
    pub(crate) force: bool,
    /// Do not hand state over.
    pub(crate) discard_state: bool,
    /// The generation that is to be replaced, if the operator cares.
    pub(crate) expected: Option<Generation>,
}

/// What an operator has a service do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A new incarnation, in place of the one that runs.
    Restart,
    /// One, where none runs.
    Start,
    /// None, until it is started.
    Stop,
}

/// Why an operator's wish was not done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum OperatorError {
    /// There is no such service; the text names those there are.
    #[error("{0}")]
    UnknownService(String),
    /// What was to be changed is not what the operator saw.
    #[error("{what} is {current} by now, not {expected}; look again, nothing was changed")]
    Stale {
        /// The generation of a service, or the configuration's version.
        what: String,
        current: u64,
        expected: u64,
    },
    /// It was tried, and what was in force stays; the text says why.
    #[error("{0}")]
    Refused(String),
    /// It makes no sense as things stand; the text says why.
    #[error("{0}")]
    Conflict(String),
    /// Too much is asked of the service already.
    #[error("{0} has not come to what it was told before; try again later")]
    Busy(ServiceId),
    /// It was begun, and its end did not come in time.
    #[error("{service} was told to {verb}, and is {state} after {} s", PATIENCE.as_secs())]
    Late { service: ServiceId, verb: &'static str, state: &'static str },
}

impl Operator {
    pub(crate) fn new(supervisor: Arc<Supervisor>, deployed: Arc<Mutex<Weak<Deployment>>>) -> Self {
        Self { supervisor, deployed, acts: Turns::default() }
    }

    fn deployment(&self) -> Result<Arc<Deployment>, OperatorError> {
        let text = || OperatorError::Conflict("the host is starting, or it ends".into());
        self.deployed.lock().upgrade().ok_or_else(text)
    }

    /// The threads that services run on.
    pub(crate) fn threads(&self) -> Result<Handle, OperatorError> {
        Ok(self.deployment()?.threads().clone())
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        self.supervisor.kernel()
    }

    /// A service by its name.
    pub(crate) fn status(&self, name: &str) -> Result<ServiceStatus, OperatorError> {
        let found = ServiceId::parse(name).ok().and_then(|id| self.supervisor.status(&id));
        found.map(|status| self.explained(status)).ok_or_else(|| {
            let names: Vec<String> =
                self.supervisor.statuses().iter().map(|own| own.service.to_string()).collect();
            let there = if names.is_empty() {
                "there is none yet".to_owned()
            } else {
                format!("there is {}", names.join(", "))
            };
            OperatorError::UnknownService(format!("there is no service named {name:?}; {there}"))
        })
    }

    /// Every service, by name.
    pub(crate) fn statuses(&self) -> Vec<ServiceStatus> {
        self.supervisor.statuses().into_iter().map(|status| self.explained(status)).collect()
    }

    /// Adds to one that waits for its restart what it crashed of, and to one that was
    /// put back what of.
    fn explained(&self, mut status: ServiceStatus) -> ServiceStatus {
        let deployment = self.deployed.lock().upgrade();
        if let Some(back) = deployment.and_then(|all| all.put_back(&status.service)) {
            status.detail = Some(match status.detail.take() {
                Some(own) => format!("{own}; {back}"),
                None => back,
            });
        }
        if status.state == "backoff"
            && status.detail.is_none()
            && let Some(last) = self.supervisor.crashes(&status.service).last()
        {
            status.detail = Some(format!("{}: {}", last.reason.label(), last.reason));
        }
        status
    }

    /// A service that is in the generation that the operator saw.
    pub(crate) fn expect(
        &self,
        name: &str,
        expected: Option<u64>,
    ) -> Result<ServiceStatus, OperatorError> {
        let status = self.status(name)?;
        let current = status.generation.0;
        match expected {
            Some(expected) if expected != current => {
                let what = format!("the generation of {name}");
                Err(OperatorError::Stale { what, current, expected })
            }
            _ => Ok(status),
        }
    }

    /// Restarts, starts or stops a service that is in the generation that the operator
    /// saw, and waits for what becomes of it.
    pub(crate) async fn act(
        &self,
        act: Act,
        name: &str,
        expected: Option<u64>,
    ) -> Result<ServiceStatus, OperatorError> {
        let of = self.expect(name, expected)?;
        let _turn = match expected {
            Some(_) => Some(self.acts.of(&of.service).await),
            None => None,
        };
        let of = self.expect(name, expected)?;
        match act {
            Act::Restart => self.restart(&of).await,
            Act::Start => self.start(&of).await,
            Act::Stop => self.stop(&of).await,
        }
    }

    /// Replaces the incarnation, and waits for what becomes of the new one. One that
    /// has finished is run once more.
    async fn restart(&self, of: &ServiceStatus) -> Result<ServiceStatus, OperatorError> {
        let service = &of.service;
        if of.state == "finished" {
            return self.start(of).await;
        }
        if matches!(of.state, "stopped" | "quarantined" | "loading") {
            let text =
                format!("{service} is {}, so there is nothing to restart; start it", of.state);
            return Err(OperatorError::Conflict(text));
        }
        self.told(service, self.supervisor.restart(service))?;
        self.until(service, "restart", |now| {
            // One that was being stopped meanwhile stays so.
            now.generation > of.generation && rests(now) || now.state == "stopped"
        })
        .await
    }

    /// Starts it, and waits for what becomes of that.
    async fn start(&self, of: &ServiceStatus) -> Result<ServiceStatus, OperatorError> {
        let service = &of.service;
        if of.state == "running" {
            return Ok(of.clone());
        }
        let starting = matches!(of.state, "starting" | "loading");
        self.told(service, self.supervisor.start(service))?;
        self.until(service, "start", |now| {
            (starting || now.generation > of.generation) && rests(now)
        })
        .await
    }

    /// Stops it until it is started, and waits for its end.
    async fn stop(&self, of: &ServiceStatus) -> Result<ServiceStatus, OperatorError> {
        let service = &of.service;
        self.told(service, self.supervisor.stop(service))?;
        self.until(service, "stop", |now| matches!(now.state, "stopped" | "quarantined")).await
    }

    /// Replaces what a service runs, without losing a message.
    pub(crate) async fn swap(&self, swap: Swap) -> Result<Swapped, OperatorError> {
        let Swap { service, path, wait, force, discard_state, expected } = swap;
        let deployment = self.deployment()?;
        let wanted = Wanted { service: service.clone(), path, force, discard_state, expected };
        let own = Arc::clone(&deployment);
        let swapped = deployment.to_its_end(async move { own.swap(wanted).await }).await;
        let swapped = swapped.ok_or_else(ending)?.map_err(|refusal| match refusal {
            Refusal::Wrong(failure) => OperatorError::Refused(failure.lines().join("; ")),
            stale @ Refusal::Stale { .. } => self.refused(stale),
        })?;
        let (digest, generation) = (swapped.digest, swapped.generation.0);
        let mut told = Swapped {
            service: service.to_string(),
            digest: digest.to_string(),
            generation,
            pause_us: u64::try_from(swapped.pause.as_micros()).unwrap_or(u64::MAX),
            committed: wait || !swapped.probation,
            ended: None,
        };
        if wait {
            let ended = swapped.verdict().await.map_err(|why| {
                OperatorError::Refused(format!("{service} was rolled back: {why}"))
            })?;
            // Whoever waits wants to know whether it is good.
            if let Some(by) = ended
                && !by.is_good()
            {
                return Err(OperatorError::Conflict(format!(
                    "{service} was swapped to {digest}, generation {generation}, which stays, but \
                     its probation was ended by {by}: whether it is good is not known"
                )));
            }
            told.ended = ended.map(|by| by.to_string());
        }
        Ok(told)
    }

    /// The configuration that is in force.
    pub(crate) fn config(&self) -> Result<InForce, OperatorError> {
        let deployment = self.deployment()?;
        let (version, settings) = deployment.settings();
        let (text, values) = settings.beside(&deployment.said());
        Ok(InForce { version, text, values })
    }

    /// Reads the configuration anew and applies it.
    pub(crate) async fn reload(&self, how: How) -> Result<Reloaded, OperatorError> {
        let deployment = self.deployment()?;
        let own = Arc::clone(&deployment);
        let reload = async move { own.reload("ctl reload", None, how).await };
        let applied = deployment.to_its_end(reload).await.ok_or_else(ending)?;
        let Applied { version, changes } = applied.map_err(|refusal| self.refused(refusal))?;
        let mut text = text(&changes, "nothing changed");
        let certificates = self.deployment()?.refused_certificates();
        for refused in &certificates {
            text.push_str(&format!("\ncertificate  {refused}"));
        }
        Ok(Reloaded { version, text, changes: json(&changes), certificates })
    }

    /// What [`reload`](Self::reload) would do.
    pub(crate) async fn plan(&self) -> Result<Planned, OperatorError> {
        let planned = self.deployment()?.plan().await;
        let Applied { version, changes } = planned.map_err(|refusal| self.refused(refusal))?;
        let text = text(&changes, "nothing would change");
        Ok(Planned { version, text, changes: json(&changes) })
    }

    fn refused(&self, refusal: Refusal) -> OperatorError {
        match refusal {
            Refusal::Stale { what, current, expected } => {
                OperatorError::Stale { what, current, expected }
            }
            Refusal::Wrong(failure) => {
                let version = self.kernel().config().version();
                let lines = failure.lines().join("\n");
                OperatorError::Refused(format!("{lines}\nkept version {version}"))
            }
        }
    }

    fn told(&self, service: &ServiceId, taken: bool) -> Result<(), OperatorError> {
        match taken {
            true => Ok(()),
            // It may have been removed since it was looked up.
            false => self.status(service.as_str()).and(Err(OperatorError::Busy(service.clone()))),
        }
    }

    async fn until(
        &self,
        service: &ServiceId,
        verb: &'static str,
        holds: impl Fn(&ServiceStatus) -> bool,
    ) -> Result<ServiceStatus, OperatorError> {
        let mut changes = self.kernel().health().subscribe();
        let reached = async {
            loop {
                let now = self.status(service.as_str())?;
                // The registry lives as long as the kernel that is held here.
                if holds(&now) || changes.changed().await.is_err() {
                    return Ok(now);
                }
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(reached) => reached,
            Err(_) => {
                let state = self.status(service.as_str())?.state;
                Err(OperatorError::Late { service: service.clone(), verb, state })
            }
        }
    }
}

/// The changes, or that there are none; what was put back is told in any case.
fn text(changes: &Changes, none: &str) -> String {
    match (changes.is_empty(), changes.put_back.is_empty()) {
        (true, true) => none.to_owned(),
        (true, false) => format!("{none}\n{changes}"),
        (false, _) => changes.to_string(),
    }
}

fn json(changes: &Changes) -> serde_json::Value {
    // Texts and names alone, so it can be written.
    serde_json::to_value(changes).unwrap_or_default()
}

/// Whether a start has come to something, good or bad.
fn rests(now: &ServiceStatus) -> bool {
    matches!(now.state, "running" | "finished" | "backoff" | "stopped" | "quarantined")
}

/// What was wanted has no outcome.
fn ending() -> OperatorError {
    OperatorError::Refused("the host ends".to_owned())
}
