//! The part of a deployment that swaps: the services of a reload, all or none of
//! them, or one that an operator or a changed file asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ron_kernel::config::ConfigSnapshot;
use ron_kernel::supervisor::{Cut, EndedBy, Prepared, SwapError, SwapOptions, Verdict};
use ron_kernel::{Generation, ServiceId, Supervisor};
use ron_runtime::{AnyService, Digest};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::apply::Steps;
use super::in_force::InForce;
use super::turns::Turn;
use super::{Deployment, How, Refusal, make};
use crate::change::{Change, ServiceName};
use crate::components::{self, Loaded};
use crate::exit::Failure;
use crate::plan::PlannedService;

/// A swap of one service, as an operator wants it.
pub(crate) struct Wanted {
    pub(crate) service: ServiceId,
    /// Another file than the configured one.
    pub(crate) path: Option<PathBuf>,
    pub(crate) force: bool,
    pub(crate) discard_state: bool,
    /// The generation that is to be replaced, if that matters.
    pub(crate) expected: Option<Generation>,
}

/// A swap that was done.
pub(crate) struct Swapped {
    /// Of the component that runs now.
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    /// How long messages waited.
    pub(crate) pause: Duration,
    /// Whether it may yet be put back.
    pub(crate) probation: bool,
    verdict: Option<oneshot::Receiver<Verdict>>,
}

impl Swapped {
    /// Waits for the end of the probation: what ended it before its time, if anything
    /// did. The error says what was bad.
    pub(crate) async fn verdict(self) -> Result<Option<EndedBy>, String> {
        let Some(verdict) = self.verdict else { return Ok(None) };
        match verdict.await {
            Ok(Verdict::Committed) => Ok(None),
            Ok(Verdict::Ended { by }) => Ok(Some(by)),
            Ok(Verdict::PutBack { why }) => Err(why),
            Err(_) => Ok(Some(EndedBy::HostEnd)),
        }
    }
}

impl Deployment {
    /// Has every new version start, all at the same time. With one failure none
    /// is left.
    pub(super) async fn prepare_all(
        &self,
        seen: &InForce,
        steps: &Steps,
        proposed: &Arc<ConfigSnapshot>,
        how: How,
    ) -> Result<Vec<Prepared>, Failure> {
        let mut preparing = JoinSet::new();
        for (ServiceName(id), change) in &steps.changes.services {
            let (Change::Swap { .. }, Some(service), Some(Loaded { component, .. })) =
                (change, steps.plan.services.get(id), steps.loaded.get(id))
            else {
                continue;
            };
            // What was put back would not be here, if it were the same too early.
            let again = seen.put_back.get(id).is_some_and(|back| back.is_tried_with(service));
            let options = SwapOptions {
                config: Some(Arc::clone(proposed)),
                force: how.force || again,
                discard_state: how.discard_state,
                ..SwapOptions::default()
            };
            let (this, id) = (Arc::clone(&self.supervisor), id.clone());
            let (service, component) = (service.clone(), component.clone());
            let (digest, make) =
                (component.digest(), make(&service, component, self.gates.of(&id)));
            preparing
                .spawn(async move { prepare(&this, &id, &service, digest, make, options).await });
        }
        let mut prepared = Vec::new();
        let mut refused = Vec::new();
        while let Some(joined) = preparing.join_next().await {
            match joined.map_err(|error| Failure::host("a swap ended early", error))? {
                Ok(one) => prepared.push(one),
                Err(error) => refused.push(error),
            }
        }
        if !refused.is_empty() {
            return Err(Failure::Swaps(refused));
        }
        prepared.sort_by(|a, b| a.service().cmp(b.service()));
        Ok(prepared)
    }

    /// Cuts over to all of them, or to none.
    pub(super) async fn cut_all(
        &self,
        prepared: Vec<Prepared>,
    ) -> Result<Vec<(ServiceId, Cut)>, Failure> {
        let mut done: Vec<(ServiceId, Cut)> = Vec::new();
        for one in prepared {
            let id = one.service().clone();
            match one.cut().await {
                Ok(cut) => done.push((id, cut)),
                Err(error) => {
                    for (before, cut) in done.into_iter().rev() {
                        self.supervisor.put_back(&before, format!("{id} could not be swapped"));
                        cut.verdict().await;
                    }
                    return Err(Failure::Swaps(vec![error]));
                }
            }
        }
        Ok(done)
    }

    /// Swaps one service to a component: another file, or its own, read anew.
    pub(crate) async fn swap(&self, wanted: Wanted) -> Result<Swapped, Refusal> {
        let turn = self.turns.of(&wanted.service).await;
        self.swap_in(&turn, wanted).await
    }

    /// [`swap`](Self::swap), by whoever has the turn.
    async fn swap_in(&self, _: &Turn, wanted: Wanted) -> Result<Swapped, Refusal> {
        let Wanted { service: id, path, force, discard_state, expected } = wanted;
        loop {
            self.expect(&id, expected)?;
            let seen = self.in_force();
            let Some(mut service) = seen.settings.plan.services.get(&id).cloned() else {
                return Err(Failure::config(format!("there is no service named {id}")).into());
            };
            let other = path.as_ref().is_some_and(|path| !service.component.is(path));
            let asked_for = other || seen.components.get(&id).is_some_and(|used| used.asked_for);
            if let Some(path) = &path {
                Arc::make_mut(&mut service).component = path.clone().into();
            }
            let mut loading =
                components::load(&self.runtime, [(&id, &service)], || seen.known()).await?;
            let Some(loaded) = loading.loaded.remove(&id) else {
                let error = loading.failed.remove(&id);
                let error = error.expect("what was to be loaded was loaded, or was not");
                return Err(Failure::Components(vec![(id.to_string(), error)]).into());
            };
            let component = loaded.component.clone();
            // It may answer requests no more, or be another that does.
            let fresh = Some((&id, component.kind()));
            seen.ways_with(fresh)?;
            let options = SwapOptions { force, discard_state, ..SwapOptions::default() };
            let digest = component.digest();
            let make = make(&service, component, self.gates.of(&id));
            let refused = |error| Failure::Swaps(vec![error]);
            let prepared = prepare(&self.supervisor, &id, &service, digest, make, options).await;
            let prepared = prepared.map_err(refused)?;

            // While it started, it may have crashed, and listeners and other services may
            // have changed.
            let _cutting = self.cutting.lock().await;
            self.expect(&id, expected)?;
            let before = self.in_force();
            if before.since(&id) != seen.since(&id) {
                // It was put back, so it is another that is to be replaced.
                continue;
            }
            let ways = before.ways_with(fresh)?;
            let cut = prepared.cut().await.map_err(refused)?;
            let Cut { generation, pause, probation, .. } = cut;
            let verdict = {
                let mut state = self.in_force.lock();
                state.swap(&id, service, loaded, asked_for);
                state.watch(self.watcher.as_ref());
                state.trial(&before, &id).map(|trial| self.follow(trial, cut))
            };
            self.front.lock().lead(&ways);
            self.tell();
            return Ok(Swapped { digest, generation, pause, probation, verdict });
        }
    }

    /// Refuses unless that generation of the service runs, if somebody cares.
    fn expect(&self, id: &ServiceId, expected: Option<Generation>) -> Result<(), Refusal> {
        let current = self.supervisor.generation(id);
        match (expected, current) {
            (Some(expected), Some(current)) if expected != current => Err(Refusal::Stale {
                what: format!("the generation of {id}"),
                current: current.0,
                expected: expected.0,
            }),
            _ => Ok(()),
        }
    }

    /// A component was made just now: as [`component_changed`](Self::component_changed), and
    /// whoever watches the file need not say it again.
    pub(crate) async fn component_built(&self, path: &Path, digest: Digest) {
        if let Some(watcher) = &self.watcher {
            let (_, settings) = self.settings();
            let services = settings.plan.services.values();
            for service in services.filter(|service| service.component.is(path)) {
                watcher.taken(&service.component, Some(digest));
            }
        }
        self.component_changed(path, digest).await;
    }

    /// A component's file has another content: swaps every service that runs
    /// it. What was put back a short while ago is not tried again, unless it is another now.
    pub(crate) async fn component_changed(&self, path: &Path, digest: Digest) {
        let (services, mended) = {
            let state = self.in_force.lock();
            let services = state.settings.plan.services.iter();
            let runs = services.filter(|(_, service)| service.component.is(path));
            let services: Vec<ServiceId> = runs.map(|(id, _)| id.clone()).collect();
            let mut back = state.put_back.values().filter(|back| back.is_wanted());
            let mended = back.any(|back| {
                back.tried.component.is(path) && back.used.component.digest() != digest
            });
            (services, mended)
        };
        // What was put back may have come with other settings.
        if mended {
            let cause = "a component that was put back has changed";
            let _ = self.reload(cause, None, How::default()).await;
            return;
        }
        for service in services {
            let turn = self.turns.of(&service).await;
            let runs = self.in_force().components.get(&service).map(|used| used.component.digest());
            if runs == Some(digest) {
                continue;
            }
            tracing::info!(%service, component = %path.display(), "its component has changed");
            let wanted = Wanted {
                service: service.clone(),
                path: None,
                force: false,
                discard_state: false,
                expected: None,
            };
            match self.swap_in(&turn, wanted).await {
                // A refusal by the service was told where it happened, and nothing was
                // expected that could be stale.
                Ok(_) | Err(Refusal::Wrong(Failure::Swaps(_)) | Refusal::Stale { .. }) => {}
                Err(Refusal::Wrong(failure)) => {
                    tracing::error!(%service, "not swapped: {}", failure.lines().join("; "));
                }
            }
        }
    }
}

async fn prepare(
    supervisor: &Supervisor,
    id: &ServiceId,
    service: &PlannedService,
    digest: Digest,
    make: impl FnMut() -> AnyService + Send + 'static,
    options: SwapOptions,
) -> Result<Prepared, SwapError> {
    let spec = service.spec(id, digest);
    let version = Arc::clone(&spec.version);
    let options = SwapOptions { spec: Some(Box::new(spec)), ..options };
    supervisor.prepare(id, version, make, options).await
}
