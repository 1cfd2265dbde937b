//! What runs, and the one path from it to something else: read, validate all,
//! plan, apply; or keep all and say why.
//!
//! The watcher, SIGHUP, `ron-host ctl` and the control API all come here, one at
//! a time. Whatever can fail comes first and leaves everything as it was: the
//! file, the components, a listener's address, the start of each new version.
//! Then the services that are swapped are cut over; when one of them is refused,
//! those before it are put back with what they handled meanwhile. What comes
//! after that cannot fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ron_kernel::metrics::{Observation, ReloadOutcome};
use ron_kernel::{Kernel, KernelEvent, ServiceId, Supervisor};
use ron_runtime::{AnyService, Component, Gate, Kind, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::change::{Change, Changes, ServiceName};
use crate::cli::OnCritical;
use crate::components::{self, Loaded, Stamp};
use crate::exit::{Failure, chain};
use crate::front::{self, Expiries, Front, Own, Ways};
use crate::gates::Gates;
use crate::last_good::LastGood;
use crate::logging::Levels;
use crate::plan::{Plan, PlannedService};
use crate::room;
use crate::settings::{Inputs, Settings};
use crate::watch::Watcher;

mod swap;

pub(crate) use swap::{Wanted, verdict};

/// Under which name the host's notes speak of the configuration.
const NOTE: &str = "config";

/// See this module's header.
pub(crate) struct Deployment {
    inputs: Inputs,
    supervisor: Arc<Supervisor>,
    runtime: Runtime,
    gates: Gates,
    /// No lock of it is held across an `await`: a drain takes it at any time.
    front: Mutex<Front>,
    levels: Levels,
    last_good: Option<LastGood>,
    /// There, if component files are watched.
    watcher: Option<Watcher>,
    /// Watches the files of certificates.
    certificates: Watcher,
    expiries: Expiries,
    /// What somebody wanted, and is under way.
    wishes: Mutex<JoinSet<()>>,
    on_critical: Mutex<OnCritical>,
    in_force: tokio::sync::Mutex<InForce>,
}

/// What is in force.
struct InForce {
    settings: Settings,
    components: BTreeMap<ServiceId, InUse>,
    admin: Admin,
    /// The certificate that the host makes, if a listener asks for it.
    own: Own,
}

/// A component that a service runs, and its file when it was read.
#[derive(Clone)]
struct InUse {
    component: Component,
    stamp: Option<Stamp>,
}

impl InForce {
    /// These are what services run now. One whose file was touched and is the
    /// same is not read again.
    fn use_components(&mut self, loaded: BTreeMap<ServiceId, Loaded>) {
        let used = |Loaded { component, stamp, .. }| InUse { component, stamp };
        self.components.extend(loaded.into_iter().map(|(id, loaded)| (id, used(loaded))));
    }

    /// Has the files of the components that are in use watched.
    fn watch(&self, watcher: Option<&Watcher>) {
        let Some(watcher) = watcher else { return };
        let used = self.settings.plan.services.iter().filter_map(|(id, service)| {
            let digest = self.components.get(id)?.component.digest();
            Some((service.component.clone(), Some(digest)))
        });
        watcher.only(used.collect());
    }
}

/// What a deployment is made of.
pub(crate) struct Parts {
    pub(crate) inputs: Inputs,
    pub(crate) settings: Settings,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) runtime: Runtime,
    pub(crate) gates: Gates,
    pub(crate) front: Front,
    pub(crate) levels: Levels,
    pub(crate) last_good: Option<LastGood>,
    pub(crate) watcher: Option<Watcher>,
    pub(crate) certificates: Watcher,
    pub(crate) expiries: Expiries,
    pub(crate) admin: Admin,
    pub(crate) own: Own,
}

/// What a reload did.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The version in force now.
    pub(crate) version: u64,
    /// Empty, if it was in force already.
    pub(crate) changes: Changes,
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The version in force is another than the one that was meant.
    Stale { current: u64, expected: u64 },
    /// All that is wrong.
    Wrong(Failure),
}

impl Deployment {
    /// Starts what `parts.settings` say. It waits for no service.
    pub(crate) fn start(
        parts: Parts,
        loaded: BTreeMap<ServiceId, Loaded>,
    ) -> Result<Self, Failure> {
        let Parts {
            inputs,
            settings,
            supervisor,
            runtime,
            gates,
            front,
            levels,
            last_good,
            watcher,
            certificates,
            expiries,
            admin,
            own,
        } = parts;
        let plan = &settings.plan;
        let kernel = supervisor.kernel().clone();
        let version = kernel.config().apply(&kernel.config().propose(plan.config()));
        kernel.metrics().observe(&Observation::ConfigApplied { version });
        supervisor.set_groups(plan.groups());
        for (id, Loaded { component, .. }) in &loaded {
            add(&supervisor, &runtime, id, &plan.services[id], component, gates.of(id))?;
        }
        let on_critical = Mutex::new(plan.on_critical);
        let mut in_force = InForce { settings, components: BTreeMap::new(), admin, own };
        in_force.use_components(loaded);
        keep(last_good.as_ref(), &in_force.settings);
        in_force.watch(watcher.as_ref());
        watch_certificates(&certificates, &front, &in_force.admin);
        expiries.admin(in_force.admin.certified().clone());
        Ok(Self {
            on_critical,
            in_force: tokio::sync::Mutex::new(in_force),
            inputs,
            supervisor,
            runtime,
            gates,
            front: Mutex::new(front),
            levels,
            last_good,
            watcher,
            certificates,
            expiries,
            wishes: Mutex::default(),
        })
    }

    /// Does something to its end, though whoever wants it may go away: half of a reload
    /// is none. Nothing comes of it when the host ends.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        doing: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, told) = oneshot::channel();
        {
            let mut wishes = self.wishes.lock();
            while wishes.try_join_next().is_some() {}
            wishes.spawn(async move {
                // Who wanted it may be gone.
                let _ = done.send(doing.await);
            });
        }
        told.await.ok()
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    fn kernel(&self) -> &Kernel {
        self.supervisor.kernel()
    }

    /// What to do now when a critical service gives up.
    pub(crate) fn on_critical(&self) -> OnCritical {
        *self.on_critical.lock()
    }

    /// Where requests go, with those settings and components.
    fn ways(
        &self,
        state: &InForce,
        new: &Settings,
        loaded: &BTreeMap<ServiceId, Loaded>,
    ) -> Result<Ways, Failure> {
        let loaded = loaded.iter().map(|(id, one)| (id.clone(), one.component.kind())).collect();
        let kinds = kinds(&new.plan, &state.components, &loaded);
        front::ways(&new.plan, &kinds, &|key: &str| new.origin(key))
    }

    /// Ends the public listeners: nobody is let in, and who is inside is let finish.
    pub(crate) async fn close_front(&self) {
        let running = self.front.lock().close();
        let mut draining: JoinSet<()> = running.into_iter().map(front::drain).collect();
        while draining.join_next().await.is_some() {}
    }

    /// A certificate's file has another content.
    pub(crate) async fn certificate_changed(&self, path: &Path) {
        let state = self.in_force.lock().await;
        state.admin.file_changed(path);
        self.front.lock().file_changed(path);
    }

    /// Ends the admin listener.
    pub(crate) async fn close(self: Arc<Self>) {
        // Whoever reloads or swaps at this moment holds it for the last time.
        if let Some(this) = Arc::into_inner(self) {
            this.in_force.into_inner().admin.shutdown().await;
        }
    }

    /// Reads everything anew and applies it, if `expected` is the version in
    /// force. `text` is the file's, where it was read already.
    pub(crate) async fn reload(
        &self,
        cause: &'static str,
        text: Option<Bytes>,
        expected: Option<u64>,
    ) -> Result<Applied, Refusal> {
        let mut state = self.in_force.lock().await;
        self.check(expected)?;
        let done = match self.read(text).await {
            Ok(new) => self.apply(&mut state, new).await,
            Err(failure) => Err(failure),
        };
        let metrics = self.kernel().metrics();
        let outcome = match &done {
            Ok(Applied { version, changes }) => {
                self.kernel().health().note(NOTE, None);
                if changes.is_empty() {
                    tracing::info!(cause, version, "the configuration is in force already");
                    ReloadOutcome::Unchanged
                } else {
                    let changes = changes.to_string();
                    tracing::info!(cause, version, changes, "applied the configuration");
                    metrics.observe(&Observation::ConfigApplied { version: *version });
                    ReloadOutcome::Applied
                }
            }
            Err(failure) => {
                let version = self.kernel().config().version();
                let lines = failure.lines();
                for line in &lines {
                    tracing::error!(cause, "{line}");
                }
                tracing::error!(cause, "refused the configuration: kept version {version}");
                let first = lines.first().map(String::as_str).unwrap_or_default();
                let more = match lines.len() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let note = format!("refused, version {version} is kept: {first}{more}");
                self.kernel().health().note(NOTE, Some(note));
                ReloadOutcome::Refused
            }
        };
        metrics.observe(&Observation::ConfigRead { outcome });
        done.map_err(Refusal::Wrong)
    }

    /// What [`reload`](Self::reload) would do.
    pub(crate) async fn plan(&self) -> Result<Applied, Refusal> {
        let state = self.in_force.lock().await;
        let planned = async {
            let new = self.read(None).await?;
            let (changes, loaded) = self.changes(&state, &new.plan).await?;
            // What a reload refuses, but for addresses, which are not tried.
            self.ways(&state, &new, &loaded)?;
            front::certificates(&new.plan, &|key: &str| new.origin(key))?;
            Ok(Applied { version: self.kernel().config().version(), changes })
        };
        planned.await.map_err(Refusal::Wrong)
    }

    fn check(&self, expected: Option<u64>) -> Result<(), Refusal> {
        let current = self.kernel().config().version();
        match expected {
            Some(expected) if expected != current => Err(Refusal::Stale { current, expected }),
            _ => Ok(()),
        }
    }

    async fn read(&self, text: Option<Bytes>) -> Result<Settings, Failure> {
        let inputs = self.inputs.clone();
        let read = tokio::task::spawn_blocking(move || match text {
            Some(text) => inputs.check_text(&text),
            None => inputs.read(),
        });
        let read = read.await.map_err(|error| Failure::host("reading ended early", error))?;
        read.map_err(Failure::Settings)
    }

    /// What it takes to get to `new`, and the components for that. A component's
    /// file that has another content is a change as any.
    async fn changes(
        &self,
        state: &InForce,
        new: &Plan,
    ) -> Result<(Changes, BTreeMap<ServiceId, Loaded>), Failure> {
        let mut changes = Changes::between(&state.settings.plan, new);
        let needed = |id: &ServiceId, service: &PlannedService| {
            let fresh = matches!(
                changes.services.get(&ServiceName(id.clone())),
                Some(Change::Start | Change::Swap { .. })
            );
            fresh || {
                let stamp = state.components.get(id).and_then(|used| used.stamp.as_ref());
                stamp != Stamp::of(&service.component).as_ref()
            }
        };
        let needed: Vec<_> =
            new.services.iter().filter(|(id, service)| needed(id, service)).collect();
        let known = state.components.values().map(|used| used.component.clone()).collect();
        let loaded = components::load(&self.runtime, needed, known).await?;
        for (id, one) in &loaded {
            let digest = state.components.get(id).map(|used| used.component.digest());
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
        let before = |id: &ServiceId| state.components.get(id)?.component.room();
        let after = |id: &ServiceId| loaded.get(id)?.component.room();
        room::check(&changes, &state.settings.plan, new, before, after)?;
        Ok((changes, loaded))
    }

    /// Has the listeners be as they were staged, and those that are no more drained.
    async fn listen(
        &self,
        state: &mut InForce,
        staged: front::Staged,
        ways: &Ways,
        admin: admin::Staged,
    ) {
        let mut ending = JoinSet::new();
        {
            let mut front = self.front.lock();
            for running in front.commit(staged, ways) {
                ending.spawn(front::drain(running));
            }
            if let Some(server) = state.admin.replace(admin) {
                ending.spawn(server.shutdown());
            }
            watch_certificates(&self.certificates, &front, &state.admin);
        }
        self.expiries.admin(state.admin.certified().clone());
        while ending.join_next().await.is_some() {}
    }

    async fn apply(&self, state: &mut InForce, new: Settings) -> Result<Applied, Failure> {
        let kernel = self.kernel().clone();
        let (changes, loaded) = self.changes(state, &new.plan).await?;
        // Certificates are read again whatever else changes.
        let origins = |key: &str| new.origin(key);
        let admin = admin::Staged::new(&new.plan, Some(&state.admin), &mut state.own, &origins)?;
        let front = self.front.lock().stage(&new.plan, &mut state.own, &origins)?;
        let ways = self.ways(state, &new, &loaded)?;
        if changes.is_empty() {
            state.use_components(loaded);
            state.settings = new;
            self.listen(state, front, &ways, admin).await;
            return Ok(Applied { version: kernel.config().version(), changes });
        }
        let proposed = kernel.config().propose(new.plan.config());
        let prepared = self.prepare_all(&changes, &new.plan, &loaded, &proposed).await?;
        self.cut_all(prepared).await?;

        let version = kernel.config().apply(&proposed);
        self.supervisor.set_groups(new.plan.groups());
        let mut stopping = JoinSet::new();
        for (ServiceName(id), change) in &changes.services {
            let planned = new.plan.services.get(id);
            match (change, planned) {
                (Change::Stop, _) => {
                    state.components.remove(id);
                    self.gates.forget(id);
                    let (supervisor, id) = (Arc::clone(&self.supervisor), id.clone());
                    stopping.spawn(async move { supervisor.remove(&id).await });
                }
                (Change::InPlace { .. }, Some(service)) => {
                    if let Some(used) = state.components.get(id) {
                        self.supervisor.adopt(service.spec(id, used.component.digest())).await;
                    }
                }
                (Change::Start, Some(service)) => {
                    if let Some(Loaded { component, .. }) = loaded.get(id)
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
        state.use_components(loaded);
        for (id, service) in &new.plan.services {
            let before = state.settings.plan.services.get(id);
            if before.is_some_and(|before| before.replicas != service.replicas)
                && let Some(InUse { component, .. }) = state.components.get(id)
            {
                let spec = service.spec(id, component.digest());
                let make = make(service, component.clone(), self.gates.of(id));
                self.supervisor.scale_on(self.runtime.handle(), &spec, make).await;
            }
        }
        self.levels.set(new.plan.log.written);
        *self.on_critical.lock() = new.plan.on_critical;
        kernel.bus().publish(KernelEvent::ConfigUpdated { version });
        keep(self.last_good.as_ref(), &new);
        state.settings = new;
        state.watch(self.watcher.as_ref());
        self.listen(state, front, &ways, admin).await;
        while stopping.join_next().await.is_some() {}
        Ok(Applied { version, changes })
    }
}

/// Has the files of all certificates watched. What is in them now may be news: they
/// are read without harm.
fn watch_certificates(watcher: &Watcher, front: &Front, admin: &Admin) {
    let own = admin.certified().files().map(Path::to_owned);
    watcher.only(front.files().into_iter().chain(own).map(|path| (path, None)).collect());
}

/// What each component is, of those that are `loaded` and those that stay.
fn kinds(
    plan: &Plan,
    used: &BTreeMap<ServiceId, InUse>,
    loaded: &BTreeMap<ServiceId, Kind>,
) -> BTreeMap<ServiceId, Kind> {
    let kind = |id: &ServiceId| {
        let new = loaded.get(id).copied();
        new.or_else(|| Some(used.get(id)?.component.kind()))
    };
    plan.services.keys().filter_map(|id| Some((id.clone(), kind(id)?))).collect()
}

/// Keeps the configuration that was applied last.
fn keep(last_good: Option<&LastGood>, settings: &Settings) {
    if let (Some(last_good), Some(file)) = (last_good, &settings.file)
        && let Err(error) = last_good.write(file)
    {
        tracing::error!("the last good configuration could not be kept: {}", chain(&error));
    }
}

fn add(
    supervisor: &Supervisor,
    runtime: &Runtime,
    id: &ServiceId,
    service: &PlannedService,
    component: &Component,
    gate: Gate,
) -> Result<(), Failure> {
    let spec = service.spec(id, component.digest());
    supervisor
        .add_on(runtime.handle(), spec, make(service, component.clone(), gate))
        .map_err(|error| Failure::config(chain(&error)))
}

fn make(
    service: &PlannedService,
    component: Component,
    gate: Gate,
) -> impl FnMut() -> AnyService + Send + 'static {
    let (limits, grants) = (service.limits.clone(), Arc::new(service.reach()));
    let schedule = service.schedule.clone();
    move || {
        let (component, limits, grants) = (component.clone(), limits.clone(), Arc::clone(&grants));
        AnyService::new(component, limits, grants, &gate).scheduled(schedule.clone())
    }
}
