//! The part of a deployment that reloads: from new settings to what is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ron_kernel::{KernelEvent, ServiceId};
use ron_runtime::Kind;
use tokio::task::JoinSet;

use super::in_force::InForce;
use super::{Applied, Deployment, How, add, make, watch_certificates};
use crate::admin;
use crate::change::{Change, Changes, HostChange, ServiceName, rebase};
use crate::components::{self, Components};
use crate::exit::Failure;
use crate::front::{self, Own, Ways};
use crate::plan::Plan;
use crate::room;
use crate::settings::Settings;

/// The way from what is in force to new settings.
pub(super) struct Steps {
    /// What is to be in force: the new plan, but for services that were put back and stay
    /// so.
    pub(super) plan: Plan,
    pub(super) changes: Changes,
    pub(super) loaded: Components,
    /// Those that stay put back.
    held: BTreeSet<ServiceId>,
}

impl Steps {
    /// What the component is that a service gets.
    pub(super) fn kind(&self, id: &ServiceId) -> Option<Kind> {
        let stays = self.changes.of(id).is_none();
        self.loaded.get(id).filter(|_| !stays).map(|loaded| loaded.component.kind())
    }

    /// Whether requests may go other ways.
    fn lead(&self) -> bool {
        let leads = |change: &Change| match change {
            // It may be of another kind.
            Change::Swap { .. } => true,
            change => change.concerns(&["http", "stream"]),
        };
        let host = |change: &HostChange| matches!(change, HostChange::Http | HostChange::Listeners);
        self.changes.host.iter().any(host) || self.changes.services.values().any(leads)
    }

    /// The configuration of each service of which that may be another than it was `seen`.
    fn tables<'a>(
        &'a self,
        seen: &'a InForce,
    ) -> impl Iterator<Item = (String, BTreeMap<String, String>)> {
        // What is put back has the kernel's, and not that of its plan.
        let names: BTreeSet<&ServiceId> =
            self.changes.touched().chain(seen.put_back.keys()).collect();
        names.into_iter().map(|id| {
            let table = self.plan.services.get(id).map(|service| service.table());
            (id.to_string(), table.unwrap_or_default())
        })
    }
}

impl Deployment {
    /// What it takes to get from what is in force to `new`, and the components for
    /// that. A component's file that has another content is a change as any. What was
    /// put back a short while ago stays so, unless it is to be tried `again`.
    pub(super) async fn steps(
        &self,
        seen: &InForce,
        new: &Settings,
        again: bool,
    ) -> Result<Steps, Failure> {
        let now = Instant::now();
        let (old, new_plan) = (&seen.settings.plan, &new.plan);
        let held = if again { BTreeSet::new() } else { self.held(seen, new_plan, now).await? };
        let mut plan = new_plan.clone();
        for id in &held {
            if let (Some(back), Some(runs), Some(wanted)) =
                (seen.put_back.get(id), old.services.get(id), new_plan.services.get(id))
            {
                let stays = rebase(&back.tried, runs, wanted);
                plan.services.insert(id.clone(), Arc::new(stays));
            }
        }
        let mut changes = Changes::between(old, &plan);
        let (state, planned) = (seen.clone(), plan.clone());
        let touched = tokio::task::spawn_blocking(move || state.touched(&planned)).await;
        let mut needed = touched
            .map_err(|error| Failure::host("a look at the components ended early", error))?;
        needed.retain(|id| !held.contains(id));
        let fresh =
            |id: &&ServiceId| matches!(changes.of(id), Some(Change::Start | Change::Swap { .. }));
        needed.extend(changes.touched().filter(fresh).cloned());
        let needed = needed.iter().filter_map(|id| plan.services.get_key_value(id));
        let loading = components::load(&self.runtime, needed, || seen.known()).await?;
        let loaded = new.whole(loading, vec![])?;
        for (id, one) in &loaded {
            let digest = seen.components.get(id).map(|used| used.component.digest());
            if digest == Some(one.component.digest()) {
                continue;
            }
            let mut because = match changes.of(id) {
                Some(Change::Start | Change::Stop | Change::Swap { .. }) => continue,
                Some(Change::InPlace { because }) => because.clone(),
                Some(Change::Configure) => vec!["config"],
                None => vec![],
            };
            because.push("the component's content");
            changes.insert(id, Change::Swap { because });
        }
        for (id, back) in &seen.put_back {
            let wanted = new_plan.services.get(id);
            let (Some(runs), Some(wanted)) = (old.services.get(id), wanted) else { continue };
            let held = held.contains(id);
            let swapped = matches!(changes.of(id), Some(Change::Swap { .. }));
            if held || swapped && back.is_tried_with(wanted) {
                let name = ServiceName(id.clone());
                changes.put_back.insert(name, back.again(runs, wanted, held, now));
            }
        }
        let before = |id: &ServiceId| seen.components.get(id)?.component.room();
        let after = |id: &ServiceId| loaded.get(id)?.component.room();
        room::check(&changes, old, &plan, before, after)?;
        Ok(Steps { plan, changes, loaded, held })
    }

    /// Goes from what is in force to `new`, or nowhere.
    pub(super) async fn apply(
        &self,
        own: &mut Own,
        mut new: Settings,
        how: How,
    ) -> Result<Applied, Failure> {
        let kernel = self.kernel().clone();
        let mut turns = BTreeMap::new();
        let (seen, before, steps, proposed, staged, cuts, cutting) = loop {
            let seen = self.in_force();
            let steps = self.steps(&seen, &new, how.force).await?;
            // What a service was when its change was planned holds once it is this
            // reload's turn with it.
            let mut waited = false;
            for id in steps.changes.touched() {
                if !turns.contains_key(id) {
                    turns.insert(id.clone(), self.turns.of(id).await);
                    waited = true;
                }
            }
            if waited && self.in_force.lock().revision != seen.revision {
                continue;
            }
            // Certificates are read again whatever else changes.
            let mut unfit = Vec::new();
            let admin = {
                let before = self.admin.lock();
                admin::Staged::new(&steps.plan, Some(&before), own, &mut unfit)?
            };
            let front = self.front.lock().stage(&steps.plan, own, &mut unfit)?;
            let leads = steps.lead() || front.is_new();
            if leads {
                seen.ways(&steps.plan, |id| steps.kind(id), &mut unfit);
            }
            let Some(admin) = admin.filter(|_| unfit.is_empty()) else {
                return Err(new.unfit(unfit));
            };
            let proposed = kernel.config().propose_changes(steps.tables(&seen));
            let prepared = self.prepare_all(&seen, &steps, &proposed, how).await?;

            let cutting = self.cutting.lock().await;
            let before = self.in_force();
            // It is nobody else's turn with them, but a version on probation needs none
            // to be put back.
            if steps.changes.touched().any(|id| before.since(id) != seen.since(id)) {
                continue;
            }
            let ways = leads.then(|| before.ways(&steps.plan, |id| steps.kind(id), &mut unfit));
            new.fits(unfit)?;
            let cuts = self.cut_all(prepared).await?;
            break (seen, before, steps, proposed, (admin, front, ways), cuts, cutting);
        };
        let Steps { plan, changes, loaded, held } = steps;
        new.plan = plan;
        before.keep(&mut new.plan, &changes);
        let mut ending = JoinSet::new();
        let mut version = kernel.config().version();
        if !changes.is_empty() {
            version = kernel.config().apply(&proposed);
            self.go(&before, &new, &changes, &loaded, &mut ending).await;
            kernel.bus().publish(KernelEvent::ConfigUpdated { version });
        }
        {
            let mut state = self.in_force.lock();
            state.replace(new, &changes, loaded, &held, seen.revision);
            state.watch(self.watcher.as_ref());
            state.watch_secrets(self.files.as_ref(), self.inputs.file());
            for (id, cut) in cuts {
                if let Some(trial) = state.trial(&before, &id) {
                    // Nobody waits for it.
                    drop(self.follow(trial, cut));
                }
            }
        }
        // Though nothing changed, the file may have another text.
        self.keep_good();
        let (admin, front, ways) = staged;
        self.listen(front, ways.as_ref(), admin, &mut ending);
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
        loaded: &Components,
        ending: &mut JoinSet<()>,
    ) {
        let component = |id: &ServiceId| {
            let used = || before.components.get(id).map(|used| &used.component);
            loaded.get(id).map(|loaded| &loaded.component).or_else(used)
        };
        if changes.services.values().any(|change| change.concerns(&["depends_on", "strategy"])) {
            self.supervisor.set_groups(new.plan.groups());
        }
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
        for id in changes.touched() {
            let was = before.settings.plan.services.get(id);
            if let (Some(was), Some(service)) = (was, new.plan.services.get(id))
                && was.replicas != service.replicas
                && let Some(component) = component(id)
            {
                let spec = service.spec(id, component.digest());
                let make = make(service, component.clone(), self.gates.of(id));
                self.supervisor.scale_on(self.runtime.handle(), &spec, make).await;
            }
        }
        self.levels.set(new.plan.log.written);
        *self.on_critical.lock() = new.plan.on_critical;
        self.kernel().metrics().set_detail(new.plan.metrics_detail.into());
    }

    /// Has the listeners be as they were staged, and those that are no more drained.
    fn listen(
        &self,
        staged: front::Staged,
        ways: Option<&Ways>,
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
