//! What runs, and the one path from it to something else: read, validate all,
//! plan, apply; or keep all and say why.
//!
//! The watcher, SIGHUP, `ron-host ctl` and the control API all come here. Whatever
//! can fail comes first and leaves everything as it was: the file, the components, a
//! listener's address, the start of each new version. Then the services that are
//! swapped are cut over; when one of them is refused, those before it are put back
//! with what they handled meanwhile. What comes after that cannot fail.
//!
//! What takes long waits for as little as it can. A change is planned with a copy of
//! what is in force, and its components are loaded and started while everybody else
//! goes on; it has the turn of each service that it changes, so what it saw of those
//! holds until it is done. Only from the first cut to what is in force after it, others
//! wait. Who just looks waits for nothing.

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use ron_kernel::metrics::{Observation, ReloadOutcome};
use ron_kernel::{Kernel, ServiceId, Supervisor};
use ron_runtime::{AnyService, Component, Digest, Gate, Runtime};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::in_force::InForce;
use crate::admin::Admin;
use crate::change::Changes;
use crate::cli::OnCritical;
use crate::components::{self, Components, Loaded};
use crate::exit::{Failure, chain};
use crate::front::{self, Expiries, Front, Own};
use crate::gates::Gates;
use crate::last_good::LastGood;
use crate::logging::Levels;
use crate::plan::{PlannedService, Tls};
use crate::settings::{self, Inputs, Settings};
use crate::watch::Watcher;

mod apply;
mod in_force;
mod put_back;
mod swap;
mod turns;

pub(crate) use swap::Wanted;
pub(crate) use turns::Turns;

/// Under which name the host's notes speak of the configuration.
const NOTE: &str = "config";

/// See this module's header.
pub(crate) struct Deployment {
    /// For what goes on after whoever began it has its answer.
    this: Weak<Self>,
    inputs: Inputs,
    supervisor: Arc<Supervisor>,
    runtime: Runtime,
    gates: Gates,
    /// No lock of it is held across an `await`: a drain takes it at any time.
    front: Mutex<Front>,
    /// Nor of this one: a certificate is renewed at any time.
    admin: Mutex<Admin>,
    levels: Levels,
    last_good: Option<LastGood>,
    /// There, if component files are watched.
    watcher: Option<Watcher>,
    /// Watches the files of certificates.
    certificates: Watcher,
    /// Watches the configuration file and those of secrets.
    files: Option<Watcher>,
    expiries: Expiries,
    /// Probations that are under way.
    trials: AtomicUsize,
    /// What somebody wanted, and is under way.
    wishes: Mutex<JoinSet<()>>,
    on_critical: Mutex<OnCritical>,
    /// Nor of this one: who looks at what is in force waits for no change.
    in_force: Mutex<InForce>,
    /// What was read last and is right in itself, be it in force or not: of what is read
    /// next, only what is another need be looked at.
    last: Mutex<Arc<Settings>>,
    /// Why it is not what was read last, if that was refused.
    refused: Mutex<Option<String>>,
    /// Reloads come one after the other. What they have for themselves is the
    /// certificate that the host makes, if a listener asks for it.
    reloading: tokio::sync::Mutex<Own>,
    turns: Turns,
    /// Held from the first cut of a change until what is in force says so.
    cutting: tokio::sync::Mutex<()>,
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
    /// `settings` are what was kept there, because the file is broken.
    pub(crate) fallen_back: bool,
    pub(crate) watcher: Option<Watcher>,
    pub(crate) certificates: Watcher,
    /// There, if there is a configuration file, which it watches.
    pub(crate) files: Option<Watcher>,
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

/// How a reload is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct How {
    /// The version in force, if that matters.
    pub(crate) expected: Option<u64>,
    /// Though a component was put back a short while ago.
    pub(crate) force: bool,
    /// Though it leaves no service.
    pub(crate) stop_all: bool,
    /// Hand no state over to what is swapped.
    pub(crate) discard_state: bool,
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What was to be changed is another by now than the one that was meant.
    Stale {
        /// The configuration's version, or a service's generation.
        what: String,
        current: u64,
        expected: u64,
    },
    /// All that is wrong.
    Wrong(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

impl Deployment {
    /// Starts what `parts.settings` say. It waits for no service.
    pub(crate) fn start(parts: Parts, loaded: Components) -> Result<Arc<Self>, Failure> {
        let Parts {
            inputs,
            settings,
            supervisor,
            runtime,
            gates,
            front,
            levels,
            last_good,
            fallen_back,
            watcher,
            certificates,
            files,
            expiries,
            admin,
            own,
        } = parts;
        let plan = &settings.plan;
        let kernel = supervisor.kernel().clone();
        let version = kernel.config().apply(&kernel.config().propose(plan.config()));
        kernel.metrics().observe(&Observation::ConfigApplied { version });
        kernel.metrics().set_detail(plan.metrics_detail.into());
        supervisor.set_groups(plan.groups());
        for (id, Loaded { component, .. }) in &loaded {
            add(&supervisor, &runtime, id, &plan.services[id], component, gates.of(id))?;
        }
        let on_critical = Mutex::new(plan.on_critical);
        // What was read from there is there.
        keep(last_good.as_ref().filter(|_| !fallen_back), &settings);
        let last = Mutex::new(Arc::new(settings.clone()));
        let in_force = InForce::new(settings, loaded);
        in_force.watch(watcher.as_ref());
        in_force.watch_secrets(files.as_ref(), inputs.file());
        watch_certificates(&certificates, &front, &admin);
        expiries.admin(admin.certified().clone());
        Ok(Arc::new_cyclic(|this| Self {
            this: this.clone(),
            refused: Mutex::default(),
            on_critical,
            in_force: Mutex::new(in_force),
            last,
            inputs,
            supervisor,
            runtime,
            gates,
            front: Mutex::new(front),
            admin: Mutex::new(admin),
            levels,
            last_good,
            watcher,
            certificates,
            files,
            expiries,
            trials: AtomicUsize::default(),
            wishes: Mutex::default(),
            reloading: tokio::sync::Mutex::new(own),
            turns: Turns::default(),
            cutting: tokio::sync::Mutex::default(),
        }))
    }

    /// Does something to its end, though whoever wants it may go away: half of a reload
    /// is none. Nothing comes of it when the host ends.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        doing: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, told) = oneshot::channel();
        self.begin(async move {
            // Who wanted it may be gone.
            let _ = done.send(doing.await);
        });
        told.await.ok()
    }

    /// Does something that nobody waits for.
    pub(crate) fn begin(&self, doing: impl Future<Output = ()> + Send + 'static) {
        let mut wishes = self.wishes.lock();
        while wishes.try_join_next().is_some() {}
        wishes.spawn(doing);
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    fn kernel(&self) -> &Kernel {
        self.supervisor.kernel()
    }

    /// Listeners that show a certificate that is not the one in their files, and why.
    pub(crate) fn refused_certificates(&self) -> Vec<String> {
        let admin = self.admin.lock().certified().refused();
        let admin = admin.map(|why| format!("admin keeps the one before: {why}"));
        let front = self.front.lock().refused();
        admin.into_iter().chain(front).collect()
    }

    /// What is in force, and its version.
    pub(crate) fn settings(&self) -> (u64, Arc<Settings>) {
        let state = self.in_force.lock();
        (self.kernel().config().version(), Arc::clone(&state.settings))
    }

    /// What was read last, and is right in itself.
    pub(crate) fn said(&self) -> Arc<Settings> {
        Arc::clone(&self.last.lock())
    }

    /// The threads that services run on.
    pub(crate) fn threads(&self) -> &Handle {
        self.runtime.handle()
    }

    /// What to do now when a critical service gives up.
    pub(crate) fn on_critical(&self) -> OnCritical {
        *self.on_critical.lock()
    }

    /// What is in force at this moment.
    fn in_force(&self) -> InForce {
        self.in_force.lock().clone()
    }

    /// Ends the public listeners: nobody is let in, and who is inside is let finish.
    pub(crate) async fn close_front(&self) {
        let running = self.front.lock().close();
        let mut draining: JoinSet<()> = running.into_iter().map(front::drain).collect();
        while draining.join_next().await.is_some() {}
    }

    /// A certificate's file has another content.
    pub(crate) fn certificate_changed(&self, path: &Path) {
        self.admin.lock().file_changed(path);
        self.front.lock().file_changed(path);
    }

    /// Ends the admin listener.
    pub(crate) async fn close(self: Arc<Self>) {
        // Whoever reloads or swaps at this moment holds it too.
        let mut wishes = std::mem::take(&mut *self.wishes.lock());
        wishes.shutdown().await;
        if let Some(this) = Arc::into_inner(self) {
            this.admin.into_inner().shutdown().await;
        }
    }

    /// Reads everything anew and applies it. `text` is the file's, where it was read
    /// already.
    pub(crate) async fn reload(
        &self,
        cause: &'static str,
        text: Option<Bytes>,
        how: How,
    ) -> Result<Applied, Refusal> {
        let mut own = self.reloading.lock().await;
        self.check(how.expected)?;
        let text = match text {
            Some(text) => Some(text),
            None => self.text().await,
        };
        let taken = text.as_deref().map(Digest::of);
        let done = async {
            let new = self.read(text).await?;
            self.leaves_something(&new, how.stop_all)?;
            self.apply(&mut own, new, how).await
        };
        let done = done.await;
        // Whoever watches the file has seen another content, or will: what is there from now
        // on is news when it is not what was taken here.
        if let (Some(files), Some(path)) = (&self.files, self.inputs.file()) {
            files.taken(path, taken);
        }
        if let Err(Failure::Settings(wrong)) = &done {
            let state = self.in_force.lock();
            state.watch_files(self.files.as_ref(), self.inputs.file(), Some(&wrong.said));
        }
        let metrics = self.kernel().metrics();
        let outcome = match &done {
            Ok(Applied { version, changes }) => {
                let text = changes.to_string();
                if !changes.is_empty() {
                    tracing::info!(cause, version, changes = text, "applied the configuration");
                    metrics.observe(&Observation::ConfigApplied { version: *version });
                } else if changes.put_back.is_empty() {
                    tracing::info!(cause, version, "the configuration is in force already");
                } else {
                    tracing::warn!(
                        cause,
                        version,
                        changes = text,
                        "the configuration is in force already, but for what was put back"
                    );
                }
                match changes.is_empty() {
                    true => ReloadOutcome::Unchanged,
                    false => ReloadOutcome::Applied,
                }
            }
            Err(failure) => {
                let version = self.kernel().config().version();
                let lines = failure.lines();
                for line in &lines {
                    tracing::error!(cause, "{line}");
                }
                tracing::error!(cause, "refused the configuration: kept version {version}");
                ReloadOutcome::Refused
            }
        };
        metrics.observe(&Observation::ConfigRead { outcome });
        *self.refused.lock() = done.as_ref().err().map(|failure| {
            let lines = failure.lines();
            let first = lines.first().map(String::as_str).unwrap_or_default();
            let more = match lines.len() {
                0 | 1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            format!("refused, version {} is kept: {first}{more}", self.kernel().config().version())
        });
        self.tell();
        done.map_err(Refusal::Wrong)
    }

    /// The last good configuration is in force, and not the one that is there.
    pub(crate) fn has_fallen_back(&self, why: String) {
        *self.refused.lock() = Some(why);
        let outcome = ReloadOutcome::Refused;
        self.kernel().metrics().observe(&Observation::ConfigRead { outcome });
        self.tell();
    }

    /// What [`reload`](Self::reload) would do.
    pub(crate) async fn plan(&self) -> Result<Applied, Refusal> {
        let planned = async {
            let new = self.read(self.text().await).await?;
            self.leaves_something(&new, false)?;
            let seen = self.in_force();
            let steps = self.steps(&seen, &new, false).await?;
            // What a reload refuses, but for addresses, which are not tried.
            let mut unfit = Vec::new();
            seen.ways(&steps.plan, |id| steps.kind(id), &mut unfit);
            let known = |listener: &str, source: &Tls| match listener {
                "admin" => self.admin.lock().certified().is_from(source),
                _ => self.front.lock().knows(listener, source),
            };
            front::certificates(&new.plan, known, &mut unfit)?;
            new.fits(unfit)?;
            Ok(Applied { version: self.kernel().config().version(), changes: steps.changes })
        };
        planned.await.map_err(Refusal::Wrong)
    }

    fn check(&self, expected: Option<u64>) -> Result<(), Refusal> {
        let current = self.kernel().config().version();
        match expected {
            Some(expected) if expected != current => {
                let what = "the configuration's version".to_owned();
                Err(Refusal::Stale { what, current, expected })
            }
            _ => Ok(()),
        }
    }

    /// From some services to none is what a full disk leaves of a file, or somebody who
    /// writes it in two steps.
    fn leaves_something(&self, new: &Settings, stop_all: bool) -> Result<(), Failure> {
        let running = self.in_force.lock().settings.plan.services.len();
        if stop_all || running == 0 || !new.plan.services.is_empty() {
            return Ok(());
        }
        let file = new.file.as_ref().map(|file| format!("{}: ", file.path.display()));
        let (file, s) = (file.unwrap_or_default(), if running == 1 { " runs" } else { "s run" });
        Err(Failure::config(format!(
            "{file}there is no service in it, and {running} service{s}; expected one at least, or \
             `ron-host ctl reload --stop-all`"
        )))
    }

    /// What the file holds. Nothing, where it cannot be read; whoever reads it then says why.
    async fn text(&self) -> Option<Bytes> {
        let path = self.inputs.file()?.to_owned();
        let read = tokio::task::spawn_blocking(move || settings::bytes(&path));
        read.await.ok()?.ok().map(Bytes::from)
    }

    async fn read(&self, text: Option<Bytes>) -> Result<Settings, Failure> {
        let (inputs, before) = (self.inputs.clone(), Arc::clone(&self.last.lock()));
        let read = tokio::task::spawn_blocking(move || match text {
            Some(text) => inputs.check_text(&text, &before),
            None => inputs.read(),
        });
        let read = read.await.map_err(|error| Failure::host("reading ended early", error))?;
        let wrong = match read {
            Ok(settings) => {
                *self.last.lock() = Arc::new(settings.clone());
                return Ok(settings);
            }
            Err(wrong) => wrong,
        };
        // What is wrong with the components is told along with it.
        let seen = self.in_force();
        let named = wrong.said.plan.named();
        let needed = named.filter(|(id, service)| seen.runs_another(id, service));
        let loading = components::load(&self.runtime, needed, || seen.known()).await?;
        let more = wrong.said.mistakes_of(&loading);
        Err(Failure::Settings(wrong.and(more)))
    }
}

/// Has the files of all certificates watched. What is in them now may be news: they
/// are read without harm.
fn watch_certificates(watcher: &Watcher, front: &Front, admin: &Admin) {
    let all = || front.certified().chain([admin.certified()]);
    let files = all().flat_map(|certified| certified.files().map(Path::to_owned));
    watcher.only(files.map(|path| (path, None)).collect());
    // Of those that were refused, what was there a while ago is news when it comes back.
    for certified in all().filter(|certified| certified.refused().is_some()) {
        certified.files().for_each(|path| watcher.taken(path, None));
    }
}

/// Keeps a configuration that was applied.
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
