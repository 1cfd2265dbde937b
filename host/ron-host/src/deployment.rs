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
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ron_kernel::config::ConfigSnapshot;
use ron_kernel::http::ServerHandle;
use ron_kernel::metrics::{Observation, ReloadOutcome};
use ron_kernel::supervisor::{Cut, Prepared, SwapError, SwapOptions, Verdict};
use ron_kernel::{Kernel, KernelEvent, ServiceId, Supervisor};
use ron_runtime::{Component, ComponentService, Digest, Runtime};
use tokio::task::JoinSet;

use crate::change::{Change, Changes, HostChange, ServiceName};
use crate::cli::OnCritical;
use crate::components::{self, Loaded, Stamp};
use crate::exit::{Failure, chain};
use crate::last_good::LastGood;
use crate::logging::Levels;
use crate::plan::{Plan, PlannedService};
use crate::settings::{Inputs, Settings};
use crate::watch::Watcher;

/// Under which name the host's notes speak of the configuration.
const NOTE: &str = "config";

/// See this module's header.
pub(crate) struct Deployment {
    inputs: Inputs,
    supervisor: Arc<Supervisor>,
    runtime: Runtime,
    levels: Levels,
    last_good: Option<LastGood>,
    /// There, if component files are watched.
    watcher: Option<Watcher>,
    on_critical: Mutex<OnCritical>,
    in_force: tokio::sync::Mutex<InForce>,
}

/// What is in force.
struct InForce {
    settings: Settings,
    components: BTreeMap<ServiceId, InUse>,
    server: ServerHandle,
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
}

/// What a deployment is made of.
pub(crate) struct Parts {
    pub(crate) inputs: Inputs,
    pub(crate) settings: Settings,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) runtime: Runtime,
    pub(crate) levels: Levels,
    pub(crate) last_good: Option<LastGood>,
    pub(crate) watcher: Option<Watcher>,
    pub(crate) server: ServerHandle,
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

/// A swap of one service, as an operator wants it.
pub(crate) struct Wanted {
    pub(crate) service: ServiceId,
    /// Another file than the configured one.
    pub(crate) path: Option<std::path::PathBuf>,
    pub(crate) force: bool,
    pub(crate) discard_state: bool,
}

impl Deployment {
    /// Starts what `parts.settings` say. It waits for no service.
    pub(crate) fn start(
        parts: Parts,
        loaded: BTreeMap<ServiceId, Loaded>,
    ) -> Result<Self, Failure> {
        let Parts { inputs, settings, supervisor, runtime, levels, last_good, watcher, server } =
            parts;
        let plan = &settings.plan;
        let kernel = supervisor.kernel().clone();
        let version = kernel.config().apply(&kernel.config().propose(plan.config()));
        kernel.metrics().observe(&Observation::ConfigApplied { version });
        supervisor.set_groups(plan.groups());
        for (id, Loaded { component, .. }) in &loaded {
            add(&supervisor, &runtime, id, &plan.services[id], component)?;
        }
        let on_critical = Mutex::new(plan.on_critical);
        let mut in_force = InForce { settings, components: BTreeMap::new(), server };
        in_force.use_components(loaded);
        let this = Self {
            on_critical,
            in_force: tokio::sync::Mutex::new(in_force),
            inputs,
            supervisor,
            runtime,
            levels,
            last_good,
            watcher,
        };
        if let Ok(state) = this.in_force.try_lock() {
            this.keep(&state.settings);
            this.watch(&state);
        }
        Ok(this)
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

    /// Ends the admin listener.
    pub(crate) async fn close(self: Arc<Self>) {
        // Whoever reloads or swaps at this moment holds it for the last time.
        if let Some(this) = Arc::into_inner(self) {
            this.in_force.into_inner().server.shutdown().await;
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
            let (changes, _) = self.changes(&state, &new.plan).await?;
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
        Ok((changes, loaded))
    }

    async fn apply(&self, state: &mut InForce, new: Settings) -> Result<Applied, Failure> {
        let kernel = self.kernel().clone();
        let (changes, loaded) = self.changes(state, &new.plan).await?;
        if changes.is_empty() {
            state.use_components(loaded);
            state.settings = new;
            return Ok(Applied { version: kernel.config().version(), changes });
        }
        let rebound = match changes.host.contains(&HostChange::Admin) {
            true => Some(kernel.metrics().serve(new.plan.admin).await.map_err(|error| {
                let origin = new.origin("admin");
                Failure::config(format!(
                    "admin {} ({origin}): cannot be listened on: {error}",
                    new.plan.admin
                ))
            })?),
            false => None,
        };
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
                        && let Err(failure) =
                            add(&self.supervisor, &self.runtime, id, service, component)
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
                let make = make(service, component.clone());
                self.supervisor.scale_on(self.runtime.handle(), &spec, make).await;
            }
        }
        if let Some((address, server)) = rebound {
            tracing::info!(%address, "the admin listener has moved");
            let old = std::mem::replace(&mut state.server, server);
            stopping.spawn(async move {
                old.shutdown().await;
                true
            });
        }
        self.levels.set(new.plan.log.level);
        *self.on_critical.lock() = new.plan.on_critical;
        kernel.bus().publish(KernelEvent::ConfigUpdated { version });
        self.keep(&new);
        state.settings = new;
        self.watch(state);
        while stopping.join_next().await.is_some() {}
        Ok(Applied { version, changes })
    }

    /// Has every new version start, all at the same time. With one failure none
    /// is left.
    async fn prepare_all(
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
            preparing.spawn(async move { prepare(&this, &id, &service, component, options).await });
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
    async fn cut_all(&self, prepared: Vec<Prepared>) -> Result<(), Failure> {
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
        let options = SwapOptions { force, discard_state, ..SwapOptions::default() };
        let swapped = async {
            prepare(&self.supervisor, &id, &service, component.clone(), options).await?.cut().await
        };
        let cut = swapped.await.map_err(|error| Failure::Swaps(vec![error]))?;
        let digest = component.digest();
        state.components.insert(id.clone(), InUse { component, stamp });
        if let Some(planned) = state.settings.plan.services.get_mut(&id) {
            planned.component = service.component;
        }
        self.watch(&state);
        Ok((digest, cut))
    }

    /// A component's file has another content: swaps every service that runs
    /// it.
    pub(crate) async fn component_changed(&self, path: &std::path::Path, digest: Digest) {
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

    fn keep(&self, settings: &Settings) {
        if let (Some(last_good), Some(file)) = (&self.last_good, &settings.file)
            && let Err(error) = last_good.write(file)
        {
            tracing::error!("the last good configuration could not be kept: {}", chain(&error));
        }
    }

    /// Watches the files of the components that are in use.
    fn watch(&self, state: &InForce) {
        let Some(watcher) = &self.watcher else { return };
        let used = state.settings.plan.services.iter().filter_map(|(id, service)| {
            let digest = state.components.get(id)?.component.digest();
            Some((service.component.clone(), digest))
        });
        watcher.only(used.collect());
    }
}

fn add(
    supervisor: &Supervisor,
    runtime: &Runtime,
    id: &ServiceId,
    service: &PlannedService,
    component: &Component,
) -> Result<(), Failure> {
    let spec = service.spec(id, component.digest());
    supervisor
        .add_on(runtime.handle(), spec, make(service, component.clone()))
        .map_err(|error| Failure::config(chain(&error)))
}

fn make(
    service: &PlannedService,
    component: Component,
) -> impl FnMut() -> ComponentService + Send + 'static {
    let limits = service.limits.clone();
    move || ComponentService::new(component.clone(), limits.clone())
}

async fn prepare(
    supervisor: &Supervisor,
    id: &ServiceId,
    service: &PlannedService,
    component: Component,
    options: SwapOptions,
) -> Result<Prepared, SwapError> {
    let spec = service.spec(id, component.digest());
    let version = Arc::clone(&spec.version);
    let options = SwapOptions { spec: Some(Box::new(spec)), ..options };
    supervisor.prepare(id, version, make(service, component), options).await
}

/// Waits for the end of a probation, and says what was bad.
pub(crate) async fn verdict(cut: Cut) -> Result<(), String> {
    match cut.verdict().await {
        Verdict::Committed => Ok(()),
        Verdict::PutBack { why } => Err(why),
    }
}
