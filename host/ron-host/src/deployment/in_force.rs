//! What is in force: the settings, the components that services run, and where
//! requests go by that.
//!
//! A value that is cheap to copy, so that whoever plans a change works with a copy,
//! for as long as it takes, and nobody waits for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use ron_kernel::ServiceId;
use ron_runtime::{Component, Kind};

use crate::change::{Change, Changes, ServiceName};
use crate::components::{Loaded, Stamp};
use crate::exit::Failure;
use crate::front::{self, Ways};
use crate::plan::{FilePath, Plan};
use crate::settings::Settings;
use crate::watch::Watcher;

/// See this module's header.
#[derive(Clone)]
pub(super) struct InForce {
    pub(super) settings: Arc<Settings>,
    pub(super) components: Arc<BTreeMap<ServiceId, InUse>>,
    /// Grows with every change.
    pub(super) revision: u64,
}

/// A component that a service runs, and its file when it was read.
#[derive(Clone)]
pub(super) struct InUse {
    pub(super) component: Component,
    pub(super) stamp: Option<Stamp>,
}

impl From<Loaded> for InUse {
    fn from(Loaded { component, stamp, .. }: Loaded) -> Self {
        Self { component, stamp }
    }
}

impl InForce {
    pub(super) fn new(settings: Settings, loaded: BTreeMap<ServiceId, Loaded>) -> Self {
        let used = loaded.into_iter().map(|(id, loaded)| (id, loaded.into()));
        Self { settings: Arc::new(settings), components: Arc::new(used.collect()), revision: 0 }
    }

    /// The components that need not be compiled again.
    pub(super) fn known(&self) -> Vec<Component> {
        self.components.values().map(|used| used.component.clone()).collect()
    }

    /// Where requests go when `new` is in force, with those components.
    pub(super) fn ways(
        &self,
        new: &Settings,
        loaded: &BTreeMap<ServiceId, Loaded>,
    ) -> Result<Ways, Failure> {
        let kinds = |id: &ServiceId| {
            let used = || self.components.get(id).map(|used| used.component.kind());
            loaded.get(id).map(|loaded| loaded.component.kind()).or_else(used)
        };
        let kinds: BTreeMap<ServiceId, Kind> =
            new.plan.services.keys().filter_map(|id| Some((id.clone(), kinds(id)?))).collect();
        front::ways(&new.plan, &kinds, &|key: &str| new.origin(key))
    }

    /// What of `new` stays is as it is now: it may have been swapped since the changes
    /// were planned, and that swap came after them.
    pub(super) fn keep(&self, new: &mut Plan, changes: &Changes) {
        for (id, service) in &mut new.services {
            if changes.services.get(&ServiceName(id.clone())) == Some(&Change::Stay)
                && let Some(own) = self.settings.plan.services.get(id)
                && own != service
            {
                service.clone_from(own);
            }
        }
    }

    /// These settings are in force now, with these components for what they change.
    pub(super) fn replace(
        &mut self,
        new: Settings,
        changes: &Changes,
        loaded: BTreeMap<ServiceId, Loaded>,
    ) {
        self.revision += 1;
        self.settings = Arc::new(new);
        let components = Arc::make_mut(&mut self.components);
        for (id, loaded) in loaded {
            let stays = changes.services.get(&ServiceName(id.clone())) == Some(&Change::Stay);
            let used = components.get(&id).map(|used| used.component.digest());
            // One whose file was touched and is the same is not read again.
            if !stays || used == Some(loaded.component.digest()) {
                components.insert(id, loaded.into());
            }
        }
        let plan = &self.settings.plan;
        components.retain(|id, _| plan.services.contains_key(id));
    }

    /// A service runs another component now.
    pub(super) fn swap(
        &mut self,
        id: &ServiceId,
        path: FilePath,
        loaded: BTreeMap<ServiceId, Loaded>,
    ) {
        self.revision += 1;
        if let Some(planned) = Arc::make_mut(&mut self.settings).plan.services.get_mut(id) {
            planned.component = path;
        }
        let used = loaded.into_iter().map(|(id, loaded)| (id, loaded.into()));
        Arc::make_mut(&mut self.components).extend(used);
    }

    /// Has the files of the components that are in use watched.
    pub(super) fn watch(&self, watcher: Option<&Watcher>) {
        let Some(watcher) = watcher else { return };
        let used = self.settings.plan.services.iter().filter_map(|(id, service)| {
            let digest = self.components.get(id)?.component.digest();
            Some((service.component.to_path_buf(), Some(digest)))
        });
        watcher.only(used.collect());
    }
}
