//! The part of a deployment that swaps: the services of a reload, all or none of
//! them, or one that an operator or a changed file asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ron_kernel::config::ConfigSnapshot;
use ron_kernel::supervisor::{Cut, EndedBy, Prepared, SwapError, SwapOptions, Verdict};
use ron_kernel::{ServiceId, Supervisor};
use ron_runtime::{AnyService, Digest};
use tokio::task::JoinSet;

use super::{Deployment, InUse, kinds, make};
use crate::change::{Change, Changes, ServiceName};
use crate::components::{self, Loaded};
use crate::exit::Failure;
use crate::front;
use crate::plan::{Plan, PlannedService};

/// A swap of one service, as an operator wants it.
pub(crate) struct Wanted {
    pub(crate) service: ServiceId,
    /// Another file than the configured one.
    pub(crate) path: Option<PathBuf>,
    pub(crate) force: bool,
    pub(crate) discard_state: bool,
}

impl Deployment {
    /// Has every new version start, all at the same time. With one failure none
    /// is left.
    pub(super) async fn prepare_all(
        &self,
        changes: &Changes,
        new: &Plan,
        loaded: &BTreeMap<ServiceId, Loaded>,
        proposed: &Arc<ConfigSnapshot>,
    ) -> Result<Vec<Prepared>, Failure> {
        let mut preparing = JoinSet::new();
        for (ServiceName(id), change) in &changes.services {
            let (Change::Swap { .. }, Some(service), Some(Loaded { component, .. })) =
                (change, new.services.get(id), loaded.get(id))
            else {
                continue;
            };
            let options =
                SwapOptions { config: Some(Arc::clone(proposed)), ..SwapOptions::default() };
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
    pub(super) async fn cut_all(&self, prepared: Vec<Prepared>) -> Result<(), Failure> {
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
        Ok(())
    }

    /// Swaps one service to a component: another file, or its own, read anew.
    pub(crate) async fn swap(&self, wanted: Wanted) -> Result<(Digest, Cut), Failure> {
        let mut state = self.in_force.lock().await;
        let Wanted { service: id, path, force, discard_state } = wanted;
        let Some(mut service) = state.settings.plan.services.get(&id).cloned() else {
            return Err(Failure::config(format!("there is no service named {id}")));
        };
        if let Some(path) = path {
            service.component = path;
        }
        let known = state.components.values().map(|used| used.component.clone()).collect();
        let mut loaded = components::load(&self.runtime, [(&id, &service)], known).await?;
        let Some(Loaded { component, stamp, .. }) = loaded.remove(&id) else {
            return Err(Failure::config(format!("{id} could not be loaded")));
        };
        // It may answer requests no more, or be another that does.
        let kind = [(id.clone(), component.kind())].into();
        let kinds = kinds(&state.settings.plan, &state.components, &kind);
        let origins = |key: &str| state.settings.origin(key);
        let ways = front::ways(&state.settings.plan, &kinds, &origins)?;
        let options = SwapOptions { force, discard_state, ..SwapOptions::default() };
        let make = make(&service, component.clone(), self.gates.of(&id));
        let swapped = async {
            prepare(&self.supervisor, &id, &service, component.digest(), make, options)
                .await?
                .cut()
                .await
        };
        let cut = swapped.await.map_err(|error| Failure::Swaps(vec![error]))?;
        let digest = component.digest();
        state.components.insert(id.clone(), InUse { component, stamp });
        if let Some(planned) = state.settings.plan.services.get_mut(&id) {
            planned.component = service.component;
        }
        state.watch(self.watcher.as_ref());
        self.front.lock().lead(&ways);
        Ok((digest, cut))
    }

    /// A component's file has another content: swaps every service that runs
    /// it.
    pub(crate) async fn component_changed(&self, path: &Path, digest: Digest) {
        let services: Vec<ServiceId> = {
            let state = self.in_force.lock().await;
            let of = |id: &ServiceId| state.components.get(id).map(|used| used.component.digest());
            let services = state.settings.plan.services.iter();
            services
                .filter(|(id, service)| service.component == path && of(id) != Some(digest))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for service in services {
            tracing::info!(%service, component = %path.display(), "its component has changed");
            // Whoever changes a file tries again what was put back.
            let wanted =
                Wanted { service: service.clone(), path: None, force: true, discard_state: false };
            match self.swap(wanted).await {
                // A refusal by the service was told where it happened.
                Ok(_) | Err(Failure::Swaps(_)) => {}
                Err(failure) => {
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

/// Waits for the end of a probation: what ended it before its time, if anything
/// did. The error says what was bad.
pub(crate) async fn verdict(cut: Cut) -> Result<Option<EndedBy>, String> {
    match cut.verdict().await {
        Verdict::Committed => Ok(None),
        Verdict::Ended { by } => Ok(Some(by)),
        Verdict::PutBack { why } => Err(why),
    }
}
