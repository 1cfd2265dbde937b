//! The part of a deployment that reloads: from new settings to what is in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use ron_kernel::{KernelEvent, ServiceId};
use tokio::task::JoinSet;

use super::in_force::InForce;
use super::{Applied, Deployment, add, keep, make, watch_certificates};
use crate::admin;
use crate::change::{Change, Changes, ServiceName};
use crate::components::{self, Loaded, Stamp};
use crate::exit::Failure;
use crate::front::{self, Own, Ways};
use crate::plan::{Plan, PlannedService};
use crate::settings::Settings;

impl Deployment {
    /// What it takes to get from what is in force to `new`, and the components for
    /// that. A component's file that has another content is a change as any.
    pub(super) async fn changes(
        &self,
        seen: &InForce,
        new: &Plan,
    ) -> Result<(Changes, BTreeMap<ServiceId, Loaded>), Failure> {
        let mut changes = Changes::between(&seen.settings.plan, new);
        let needed = |id: &ServiceId, service: &PlannedService| {
            let fresh = matches!(
                changes.services.get(&ServiceName(id.clone())),
                Some(Change::Start | Change::Swap { .. })
            );
            fresh || {
                let stamp = seen.components.get(id).and_then(|used| used.stamp.as_ref());
                stamp != Stamp::of(&service.component).as_ref()
            }
        };
        let needed: Vec<_> =
            new.services.iter().filter(|(id, service)| needed(id, service)).collect();
        let loaded = components::load(&self.runtime, needed, seen.known()).await?;
        for (id, one) in &loaded {
            let digest = seen.components.get(id).map(|used| used.component.digest());
            let Some(change) = changes.services.get_mut(&ServiceName(id.clone())) else { continue };
            if digest == Some(one.component.digest()) {
                continue;
            }
            let mut because = match change {
                Change::Start | Change::Stop | Change::Swap { .. } => continue,
                Change::InPlace { because } => std::mem::take(because),
                Change::Configure => vec!["config"],
                Change::Stay => vec![],
            };
            because.push("the component's content");
            *change = Change::Swap { because };
        }
        Ok((changes, loaded))
    }

    /// Goes from what is in force to `new`, or nowhere.
    pub(super) async fn apply(&self, own: &mut Own, mut new: Settings) -> Result<Applied, Failure> {
        // What a service was when its change was planned holds once it is this
        // reload's turn with it.
        let mut turns = BTreeMap::new();
        let (seen, changes, loaded) = loop {
            let seen = self.in_force();
            let (changes, loaded) = self.changes(&seen, &new.plan).await?;
            let mut waited = false;
            for (ServiceName(id), change) in &changes.services {
                if *change != Change::Stay && !turns.contains_key(id) {
                    turns.insert(id.clone(), self.turns.of(id).await);
                    waited = true;
                }
            }
            if !waited || self.in_force.lock().revision == seen.revision {
                break (seen, changes, loaded);
            }
        };
        // Certificates are read again whatever else changes.
        let origins = |key: &str| new.origin(key);
        let admin = admin::Staged::new(&new.plan, Some(&self.admin.lock()), own, &origins)?;
        let front = self.front.lock().stage(&new.plan, own, &origins)?;
        seen.ways(&new, &loaded)?;
        let kernel = self.kernel().clone();
        let proposed = kernel.config().propose(new.plan.config());
        let prepared = self.prepare_all(&changes, &new.plan, &loaded, &proposed).await?;

        let cutting = self.cutting.lock().await;
        let before = self.in_force();
        before.keep(&mut new.plan, &changes);
        let ways = before.ways(&new, &loaded)?;
        self.cut_all(prepared).await?;

        let mut ending = JoinSet::new();
        let mut version = kernel.config().version();
        if !changes.is_empty() {
            version = kernel.config().apply(&proposed);
            self.go(&before, &new, &changes, &loaded, &mut ending).await;
            kernel.bus().publish(KernelEvent::ConfigUpdated { version });
            keep(self.last_good.as_ref(), &new);
        }
        {
            let mut state = self.in_force.lock();
            state.replace(new, &changes, loaded);
            state.watch(self.watcher.as_ref());
        }
        self.listen(front, &ways, admin, &mut ending);
        drop(cutting);
        drop(turns);
        while ending.join_next().await.is_some() {}
        Ok(Applied { version, changes })
    }

    /// Does all of a change that is left once the swapped services were cut over,
    /// which is what cannot fail. What takes its time to end is `ending`.
    async fn go(
        &self,
        before: &InForce,
        new: &Settings,
        changes: &Changes,
        loaded: &BTreeMap<ServiceId, Loaded>,
        ending: &mut JoinSet<()>,
    ) {
        let component = |id: &ServiceId| {
            let used = || before.components.get(id).map(|used| &used.component);
            loaded.get(id).map(|loaded| &loaded.component).or_else(used)
        };
        self.supervisor.set_groups(new.plan.groups());
        for (ServiceName(id), change) in &changes.services {
            let planned = new.plan.services.get(id);
            match (change, planned) {
                (Change::Stop, _) => {
                    self.gates.forget(id);
                    let (supervisor, id) = (Arc::clone(&self.supervisor), id.clone());
                    ending.spawn(async move {
                        supervisor.remove(&id).await;
                    });
                }
                (Change::InPlace { .. }, Some(service)) => {
                    if let Some(component) = component(id) {
                        self.supervisor.adopt(service.spec(id, component.digest())).await;
                    }
                }
                (Change::Start, Some(service)) => {
                    if let Some(component) = component(id)
                        && let Err(failure) = add(
                            &self.supervisor,
                            &self.runtime,
                            id,
                            service,
                            component,
                            self.gates.of(id),
                        )
                    {
                        tracing::error!(service = %id, "{}", failure.lines().join("; "));
                    }
                }
                _ => {}
            }
        }
        for (id, service) in &new.plan.services {
            let was = before.settings.plan.services.get(id);
            if was.is_some_and(|was| was.replicas != service.replicas)
                && let Some(component) = component(id)
            {
                let spec = service.spec(id, component.digest());
                let make = make(service, component.clone(), self.gates.of(id));
                self.supervisor.scale_on(self.runtime.handle(), &spec, make).await;
            }
        }
        self.levels.set(new.plan.log.written);
        *self.on_critical.lock() = new.plan.on_critical;
    }

    /// Has the listeners be as they were staged, and those that are no more drained.
    fn listen(
        &self,
        staged: front::Staged,
        ways: &Ways,
        staged_admin: admin::Staged,
        ending: &mut JoinSet<()>,
    ) {
        let (mut front, mut admin) = (self.front.lock(), self.admin.lock());
        for running in front.commit(staged, ways) {
            ending.spawn(front::drain(running));
        }
        if let Some(server) = admin.replace(staged_admin) {
            ending.spawn(server.shutdown());
        }
        watch_certificates(&self.certificates, &front, &admin);
        self.expiries.admin(admin.certified().clone());
    }
}
