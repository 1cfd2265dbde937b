//! What is in force: the settings, the components that services run, and where
//! requests go by that.
//!
//! A value that is cheap to copy, so that whoever plans a change works with a copy,
//! for as long as it takes, and nobody waits for that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use ron_kernel::ServiceId;
use ron_runtime::{Component, Kind};

use super::put_back::{PutBack, Trial};
use crate::change::{Change, Changes, differs};
use crate::components::{Components, Loaded, Stamp};
use crate::exit::Failure;
use crate::front::{self, Ways};
use crate::plan::{Plan, PlannedService};
use crate::settings::{Settings, Unfit};
use crate::watch::Watcher;

/// See this module's header.
#[derive(Clone)]
pub(super) struct InForce {
    pub(super) settings: Arc<Settings>,
    pub(super) components: OrdMap<ServiceId, InUse>,
    /// What was put back, and not swapped since.
    pub(super) put_back: BTreeMap<ServiceId, PutBack>,
    /// Grows with every change.
    pub(super) revision: u64,
}

/// A component that a service runs, and its file when it was read.
#[derive(Clone)]
pub(super) struct InUse {
    pub(super) component: Component,
    pub(super) stamp: Option<Stamp>,
    /// Since which revision: which of two swaps to the same component this is.
    pub(super) since: u64,
    /// Somebody asked for it, and the settings say another.
    pub(super) asked_for: bool,
}

impl InUse {
    fn new(loaded: Loaded, since: u64) -> Self {
        let Loaded { component, stamp, .. } = loaded;
        Self { component, stamp, since, asked_for: false }
    }
}

impl InForce {
    pub(super) fn new(settings: Settings, loaded: Components) -> Self {
        let used = loaded.into_iter().map(|(id, loaded)| (id, InUse::new(loaded, 0)));
        Self {
            settings: Arc::new(settings),
            components: used.collect(),
            put_back: BTreeMap::new(),
            revision: 0,
        }
    }

    /// Since which revision the service runs what it runs.
    pub(super) fn since(&self, id: &ServiceId) -> Option<u64> {
        self.components.get(id).map(|used| used.since)
    }

    /// Whether a service of other settings runs another component, as far as that can be
    /// told without reading it.
    pub(super) fn runs_another(&self, id: &ServiceId, service: &PlannedService) -> bool {
        let runs = self.settings.plan.services.get(id).zip(self.components.get(id));
        !runs.is_some_and(|(runs, used)| {
            (&runs.component, runs.digest) == (&service.component, service.digest)
                && used.stamp == Stamp::of(&service.component)
        })
    }

    /// The components that need not be compiled again.
    pub(super) fn known(&self) -> Vec<Component> {
        let used = self.components.values().chain(self.put_back.values().map(|back| &back.used));
        used.map(|used| used.component.clone()).collect()
    }

    /// The services of `plan` whose component's file is another than it was, as far as that
    /// can be told without reading it. It looks at each file.
    pub(super) fn touched(&self, plan: &Plan) -> BTreeSet<ServiceId> {
        let mut seen: HashMap<&OsStr, Option<Stamp>> = HashMap::new();
        let mut touched = BTreeSet::new();
        // Both are in the order of their names, and neighbours often share a file.
        let mut used = self.components.iter().peekable();
        let mut last: Option<(&OsStr, Option<Stamp>)> = None;
        for (id, service) in &plan.services {
            while used.next_if(|(other, _)| *other < id).is_some() {}
            let then = used.next_if(|(other, _)| *other == id);
            let then = then.and_then(|(_, used)| used.stamp.as_ref());
            let path = service.component.as_os_str();
            if last.as_ref().is_none_or(|(before, _)| *before != path) {
                let now = seen.entry(path).or_insert_with(|| Stamp::of(&service.component));
                last = Some((path, now.clone()));
            }
            let now = last.as_ref().and_then(|(_, now)| now.as_ref());
            if then != now {
                touched.insert(id.clone());
            }
        }
        touched
    }

    /// Where requests go by that plan, when services get components of the kind that
    /// `fresh` says, or else run on with theirs.
    pub(super) fn ways(
        &self,
        plan: &Plan,
        fresh: impl Fn(&ServiceId) -> Option<Kind>,
        unfit: &mut Vec<Unfit>,
    ) -> Ways {
        let used = |id: &ServiceId| self.components.get(id).map(|used| used.component.kind());
        let kind = |id: &ServiceId| fresh(id).or_else(|| used(id));
        front::ways(plan, kind, unfit)
    }

    /// Where requests go, when one service gets a component of that kind.
    pub(super) fn ways_with(&self, fresh: Option<(&ServiceId, Kind)>) -> Result<Ways, Failure> {
        let kind = |id: &ServiceId| fresh.filter(|(own, _)| *own == id).map(|(_, kind)| kind);
        let mut unfit = Vec::new();
        let ways = self.ways(&self.settings.plan, kind, &mut unfit);
        self.settings.fits(unfit).map(|()| ways)
    }

    /// What of `new` stays is as it is now: it may have been swapped since the changes
    /// were planned, and that swap came after them.
    pub(super) fn keep(&self, new: &mut Plan, changes: &Changes) {
        let own = &self.settings.plan.services;
        let other = own.diff(&new.services).filter_map(|item| match item {
            // How a component is made is no part of what runs.
            DiffItem::Update { old, new } if differs(old.1, new.1).is_empty() => None,
            DiffItem::Update { old, .. } => changes.of(old.0).is_none().then_some(old),
            DiffItem::Add(..) | DiffItem::Remove(..) => None,
        });
        let stay: Vec<_> = other.map(|(id, own)| (id.clone(), Arc::clone(own))).collect();
        new.services.extend(stay);
    }

    /// These settings are in force now, with these components for what they change,
    /// and those that were put back and are `held` stay so. They were planned at the
    /// revision `seen`.
    pub(super) fn replace(
        &mut self,
        new: Settings,
        changes: &Changes,
        loaded: Components,
        held: &BTreeSet<ServiceId>,
        seen: u64,
    ) {
        self.revision += 1;
        let stays = |id: &ServiceId| changes.of(id).is_none() && new.plan.services.contains_key(id);
        self.put_back.retain(|id, back| {
            // One that nobody wants any more is there to be told of.
            held.contains(id) || stays(id) && (!back.is_wanted() || back.at > seen)
        });
        self.settings = Arc::new(new);
        let components = &mut self.components;
        for (id, loaded) in loaded {
            let used = components.get(&id);
            // One whose file was touched and is the same is not read again.
            let same = used.filter(|used| used.component.digest() == loaded.component.digest());
            let since = match changes.of(&id) {
                Some(Change::Start | Change::Swap { .. }) => Some(self.revision),
                _ => same.map(|used| used.since),
            };
            if let Some(since) = since {
                components.insert(id, InUse::new(loaded, since));
            }
        }
        for id in changes.touched().filter(|id| !self.settings.plan.services.contains_key(*id)) {
            components.remove(id);
        }
        let asked = components.iter().filter(|(_, used)| used.asked_for && used.since <= seen);
        for id in asked.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            if let Some(used) = components.get_mut(&id) {
                used.asked_for = false;
            }
        }
    }

    /// A service runs another component now, which somebody may just have asked for.
    pub(super) fn swap(
        &mut self,
        id: &ServiceId,
        planned: Arc<PlannedService>,
        loaded: Loaded,
        asked_for: bool,
    ) {
        let used = InUse { asked_for, ..InUse::new(loaded, self.revision + 1) };
        self.change(id, planned, used);
        self.put_back.remove(id);
    }

    /// A service is this now; returns the revision that it came with.
    pub(super) fn change(
        &mut self,
        id: &ServiceId,
        planned: Arc<PlannedService>,
        used: InUse,
    ) -> u64 {
        self.revision += 1;
        Arc::make_mut(&mut self.settings).plan.services.insert(id.clone(), planned);
        self.components.insert(id.clone(), used);
        self.revision
    }

    /// What is on trial, now that the service was cut over from what was in force
    /// `before`.
    pub(super) fn trial(&self, before: &Self, id: &ServiceId) -> Option<Trial> {
        let of = |state: &Self| {
            let planned = PlannedService::clone(state.settings.plan.services.get(id)?);
            Some((planned, state.components.get(id)?.clone()))
        };
        Some(Trial { service: id.clone(), before: of(before)?, tried: of(self)? })
    }

    /// Has the files of secrets watched beside the configuration file, of which they are
    /// a part.
    pub(super) fn watch_secrets(&self, watcher: Option<&Watcher>, file: Option<&Path>) {
        self.watch_files(watcher, file, None);
    }

    /// The same, and those of settings that were `refused`: the file of a secret that was not
    /// there may come.
    pub(super) fn watch_files(
        &self,
        watcher: Option<&Watcher>,
        file: Option<&Path>,
        refused: Option<&Settings>,
    ) {
        let Some(watcher) = watcher else { return };
        let known = |settings: &Settings| {
            let secrets = settings.outside.secrets();
            secrets.map(|(path, digest)| (path.to_owned(), Some(digest))).collect::<Vec<_>>()
        };
        let missing = || refused.into_iter().flat_map(|refused| refused.outside.missing());
        // What is in force is what is known, and the file is watched already.
        let all = missing().chain(file).map(|path| (path.to_owned(), None));
        let all = all.chain(refused.map(known).unwrap_or_default()).chain(known(&self.settings));
        watcher.only(all.collect());
        // When it is back it is news, though it may be what it was.
        missing().for_each(|path| watcher.taken(path, None));
    }

    /// Has the files of the components that are in use watched.
    pub(super) fn watch(&self, watcher: Option<&Watcher>) {
        let Some(watcher) = watcher else { return };
        let used = self.settings.plan.services.iter().filter_map(|(id, service)| {
            let digest = self.components.get(id)?.component.digest();
            Some((service.component.to_path_buf(), Some(digest)))
        });
        // What was put back may be mended.
        let back = self.put_back.values().filter(|back| back.is_wanted()).map(|back| {
            let digest = back.used.component.digest();
            (back.tried.component.to_path_buf(), Some(digest))
        });
        watcher.only(used.chain(back).collect());
    }
}
