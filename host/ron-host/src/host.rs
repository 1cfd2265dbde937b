//! The host put together: kernel, supervisor, runtime, listeners, and what makes
//! it change while it runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use ron_kernel::metrics::{Family, Sample};
use ron_kernel::{CrashReason, Kernel, ServiceId, Supervisor};
use ron_runtime::{CompileCache, Digest, Runtime, RuntimeConfig};
use tokio::sync::mpsc;

use crate::admin::{self, Admin};
use crate::author::Workshop;
use crate::cli::OnCritical;
use crate::components::{self, Components};
use crate::control::{Control, Operator, Socket, SocketError};
use crate::deployment::{Deployment, How, Parts};
use crate::descriptors;
use crate::exit::{Failure, chain};
use crate::front::{self, Expiries, Front, Own, Ways, show_traffic};
use crate::gates::Gates;
use crate::last_good::{self, LastGood};
use crate::logging::{Format, Logging, Recent};
use crate::plan::{FilePath, Plan};
use crate::report;
use crate::settings::{Inputs, Settings, Wrong};
use crate::systemd::Systemd;
use crate::watch::{Settled, Watcher};

/// How long draining may take in all.
const DRAIN: Duration = Duration::from_secs(25);
/// Instances that the engine has room for: so many for each service, because
/// what replaces one overlaps with it, and some for services to come.
const INSTANCES_EACH: usize = 2;
const SPARE_INSTANCES: usize = 256;

/// A running host.
pub(crate) struct Host {
    deployment: Arc<Deployment>,
    control: Option<Control>,
    format: Format,
    services: usize,
    /// The admin listener's.
    url: String,
    began: Instant,
    changes: Changes,
    /// What makes components while it runs, if anything does.
    workshop: Option<Workshop>,
}

/// Where changes come from.
struct Changes {
    /// The configuration file, and those of secrets.
    file: Option<(PathBuf, mpsc::Receiver<Settled>)>,
    /// The components' files.
    components: Option<mpsc::Receiver<Settled>>,
    /// The certificates' files.
    certificates: mpsc::Receiver<Settled>,
}

/// A critical service that gave up.
pub(crate) struct Ended {
    pub(crate) service: ServiceId,
    pub(crate) reason: CrashReason,
}

/// What a host starts with.
pub(crate) struct Start {
    pub(crate) inputs: Inputs,
    pub(crate) settings: Settings,
    /// Why it is the last good configuration and not the file that is there.
    pub(crate) fallback: Option<Failure>,
}

/// What a host has before it knows whether its configuration can be used.
struct Ground {
    kernel: Kernel,
    supervisor: Arc<Supervisor>,
    deployed: Arc<Mutex<Weak<Deployment>>>,
    gates: Gates,
    expiries: Expiries,
    own: Own,
    recent: Recent,
    admin: Option<Admin>,
    /// The control listener, and where it was said to be.
    control: Option<(Option<Control>, Option<FilePath>)>,
}

/// A configuration that can be used: all that might have failed has not.
struct Ready {
    runtime: Runtime,
    loaded: Components,
    front: Front,
    staged: front::Staged,
    ways: Ways,
    /// What may not be as it was meant.
    hints: Vec<String>,
}

impl Ground {
    fn new(logging: &Logging) -> Self {
        let kernel = Kernel::new();
        logging.expose(kernel.metrics());
        kernel.health().gate("config", false);
        let gates = Gates::default();
        show_traffic(&gates, kernel.metrics());
        Self {
            supervisor: Arc::new(Supervisor::new(kernel.clone())),
            deployed: Arc::new(Mutex::new(Weak::new())),
            gates,
            expiries: Expiries::of(kernel.metrics()),
            own: Own::default(),
            recent: logging.recent().clone(),
            admin: None,
            control: None,
            kernel,
        }
    }

    /// Nobody waits for what is not run after all.
    async fn expects_no_more(&self, plan: &Plan) {
        for id in plan.services.keys() {
            self.supervisor.remove(id).await;
        }
    }

    /// Binds the admin listener and the control socket, so that somebody can look while
    /// every component is loaded, and does all else that may fail.
    async fn ready(&mut self, settings: &Settings) -> Result<Ready, Failure> {
        let plan = &settings.plan;
        // Before anybody can ask: whoever waits while components are loaded is told for whom.
        for (id, service) in &plan.services {
            self.supervisor.expect(id.clone(), service.critical);
        }
        self.open(settings).await?;
        if plan.tls_self_signed && plan.http.is_none() {
            let what =
                "--tls-self-signed: there is nothing to serve over TLS; say where with --http";
            return Err(Failure::config(what.to_owned()));
        }
        let listeners = plan.all_listeners();
        let connections = listeners.values().map(|own| own.limits.connections as u64).sum();
        descriptors::compare(descriptors::raise(), connections);
        let metrics = self.kernel.metrics().clone();
        let runtime = runtime(plan)?;
        let threads = runtime.handle().clone();
        let front = Front::new(threads, self.gates.clone(), metrics, self.expiries.clone());
        let mut unfit = Vec::new();
        let staged = front.stage(plan, &mut self.own, &mut unfit)?;
        settings.fits(std::mem::take(&mut unfit))?;
        if let Some(sha256) = self.own.fingerprint() {
            report::fingerprint(plan.log.format, &sha256);
        }
        let loading = components::load(&runtime, &plan.services, Vec::new).await?;
        let kinds = loading.kinds();
        let ways = front::ways(plan, |id| kinds.get(id).copied(), &mut unfit);
        let loaded = settings.whole(loading, unfit)?;
        let hints = front::hints(plan, &kinds, &ways);
        Ok(Ready { runtime, loaded, front, staged, ways, hints })
    }

    /// Opens the admin listener and the control socket where `plan` wants them; one that
    /// is there already stays.
    async fn open(&mut self, settings: &Settings) -> Result<(), Failure> {
        let plan = &settings.plan;
        let (format, mut unfit) = (plan.log.format, Vec::new());
        let admin = self.admin.as_ref();
        let Some(staged) = admin::Staged::new(plan, admin, &mut self.own, &mut unfit)? else {
            return Err(settings.unfit(unfit));
        };
        // Of a host that cannot be there nothing is said.
        let mut opened = None;
        if self.control.as_ref().is_none_or(|(_, said)| *said != plan.control) {
            if let Some((Some(control), _)) = self.control.take() {
                control.shutdown().await;
            }
            opened = bind_control(plan).await?;
            self.control = Some((None, plan.control.clone()));
        }
        match &mut self.admin {
            None => {
                let admin = staged.commit(self.kernel.metrics())?;
                report::admin(format, &admin.url());
                self.admin = Some(admin);
            }
            Some(admin) => {
                if let Some(server) = admin.replace(staged) {
                    server.shutdown().await;
                    report::admin(format, &admin.url());
                }
            }
        }
        if let Some(socket) = opened {
            report::control(format, socket.path());
            let (supervisor, deployed) = (Arc::clone(&self.supervisor), Arc::clone(&self.deployed));
            let operator = Operator::new(supervisor, deployed);
            let control = Control::serve(socket, operator, self.recent.clone());
            self.control = Some((Some(control), plan.control.clone()));
        }
        Ok(())
    }
}

impl Host {
    /// Binds the admin listener, loads every component, and starts them when
    /// all are loaded. It does not wait for any: from here on there is
    /// something to drain. A configuration that cannot be used is replaced by the
    /// last good one, if that is wanted.
    pub(crate) async fn start(start: Start, logging: &Logging) -> Result<Self, Failure> {
        let Start { inputs, mut settings, mut fallback } = start;
        let began = Instant::now();
        // What is there now is known, be it good or bad.
        let there = match &fallback {
            Some(Failure::Settings(wrong)) => wrong.file(),
            _ => settings.file.as_deref(),
        };
        let there = there.map(|file| Digest::of(file.text.as_bytes()));
        let mut ground = Ground::new(logging);
        let ready = match ground.ready(&settings).await {
            Err(broken) if fallback.is_none() => {
                let instead = last_good::instead(&inputs, &broken, settings.plan.log.format)?;
                let Some(instead) = instead else { return Err(broken) };
                ground.expects_no_more(&settings.plan).await;
                (settings, fallback) = (instead, Some(broken));
                ground.ready(&settings).await?
            }
            ready => ready?,
        };
        let Ready { runtime, loaded, mut front, staged, ways, hints } = ready;
        let Ground { kernel, supervisor, deployed, gates, expiries, own, admin, control, .. } =
            ground;
        let admin = admin.expect("it was opened before anything was ready");
        let control = control.and_then(|(control, _)| control);
        let plan = settings.plan.clone();
        let format = plan.log.format;
        // There is nobody yet to be drained.
        drop(front.commit(staged, Some(&ways)));
        for (id, protocol, url) in front.urls() {
            let services: BTreeSet<&str> =
                ways.get(id).into_iter().flatten().map(|way| way.service.as_str()).collect();
            let services: Vec<&str> = services.into_iter().collect();
            report::listener(format, protocol, id.as_str(), &url, &services);
        }
        for hint in &hints {
            report::hint(format, hint);
        }
        for (id, loaded) in &loaded {
            let component = &loaded.component;
            let (digest, cached) = (component.digest(), component.from_cache());
            report::service(format, id.as_str(), digest, loaded.took, cached);
        }
        let (certificates, settled) = Watcher::new();
        let mut changes = Changes { file: None, components: None, certificates: settled };
        let mut files = None;
        if let Some(path) = inputs.file() {
            let (own, settled) = Watcher::new();
            own.add(path, there);
            files = Some(own);
            changes.file = Some((path.to_owned(), settled));
        }
        let mut watcher = None;
        if inputs.watches() {
            let (own, settled) = Watcher::new();
            watcher = Some(own);
            changes.components = Some(settled);
        }
        let last_good = inputs.last_good().map(|path| LastGood::new(path.to_owned()));
        let url = admin.url();
        let parts = Parts {
            inputs,
            settings,
            supervisor,
            runtime,
            gates,
            front,
            levels: logging.levels().clone(),
            last_good,
            fallen_back: fallback.is_some(),
            watcher,
            certificates,
            files,
            expiries,
            admin,
            own,
        };
        let services = plan.services.len();
        let deployment = Deployment::start(parts, loaded)?;
        *deployed.lock() = Arc::downgrade(&deployment);
        if let Some(fallback) = fallback {
            let lines = fallback.lines();
            for line in &lines {
                tracing::error!("{line}");
            }
            tracing::warn!("started with the last good configuration");
            let first = lines.first().map(String::as_str).unwrap_or_default();
            let why = format!("started with the last good configuration, because: {first}");
            deployment.has_fallen_back(why);
        }
        kernel.health().gate("config", true);
        Ok(Self { deployment, control, format, services, url, began, changes, workshop: None })
    }

    /// Has components made from sources that change.
    pub(crate) fn with_workshop(self, workshop: Workshop) -> Self {
        Self { workshop: Some(workshop), ..self }
    }

    /// Whether a critical service gave up, and that counts: an author is about to mend it.
    pub(crate) fn gave_up(&self) -> bool {
        self.workshop.is_none()
            && self.deployment.supervisor().critical_failure().now_or_never().is_some()
    }

    /// Runs: tells when everything that must be ready is, and follows changes of
    /// files and SIGHUP, until a critical service gives up and that is to be the end.
    pub(crate) async fn run(&mut self) -> Ended {
        let Self { deployment, format, services, url, began, changes, workshop, .. } = self;
        let (mends, systemd) = (workshop.is_some(), Systemd::default());
        let given_up = async {
            let (service, reason) = deployment.supervisor().critical_failure().await;
            if mends {
                tracing::error!(%service, "gave up: waiting for a change; {reason}");
            } else if deployment.on_critical() == OnCritical::Exit {
                return Ended { service, reason };
            } else {
                tracing::error!(%service, "a critical service gave up: not ready; {reason}");
            }
            std::future::pending().await
        };
        let made_anew = async {
            match workshop {
                Some(workshop) => workshop.follow(deployment).await,
                None => std::future::pending().await,
            }
        };
        let ready = async {
            let supervisor = deployment.supervisor();
            supervisor.kernel().health().until_ready().await;
            let all = supervisor.statuses();
            let not_ready = all.iter().filter(|own| !own.ok).count();
            report::ready(*format, *services, not_ready, url, began.elapsed());
            systemd.ready(*services);
            std::future::pending().await
        };
        let health = deployment.supervisor().kernel().health();
        tokio::select! {
            ended = given_up => ended,
            ended = ready => ended,
            ended = changes.follow(deployment, &systemd) => ended,
            ended = made_anew => ended,
            ended = Systemd::watch(health.heartbeat()) => ended,
        }
    }

    /// Stops every service, then the listeners.
    pub(crate) async fn drain(self) {
        let began = Instant::now();
        Systemd::stopping();
        let supervisor = self.deployment.supervisor();
        // Whoever leads clients here is told first, and has as long as they do.
        supervisor.kernel().health().drain();
        self.deployment.close_front().await;
        let drained = supervisor.shut_down(DRAIN.saturating_sub(began.elapsed())).await;
        for service in &drained.abandoned {
            tracing::warn!(%service, "did not stop in time and was cut short");
        }
        for (service, stats) in supervisor.kernel().router().stats() {
            if stats.queued > 0 {
                tracing::warn!(
                    %service,
                    messages = stats.queued,
                    "ended before it had handled what waited in its mailbox, which is lost"
                );
            }
        }
        if let Some(control) = self.control {
            control.shutdown().await;
        }
        self.deployment.close().await;
        tracing::info!(took_ms = began.elapsed().as_millis() as u64, "drained");
    }
}

impl Changes {
    /// Never ends. What is slow to change holds up none of the others.
    async fn follow<T>(&mut self, deployment: &Arc<Deployment>, systemd: &Systemd) -> T {
        let Self { file, components, certificates } = self;
        let mut hangup = Hangup::install();
        // What came of it was logged and counted where it was decided.
        let reloads = async {
            loop {
                let file = async {
                    let (path, settled) = file.as_mut()?;
                    let Settled { path: own, bytes, .. } = settled.recv().await?;
                    Some(match own == *path {
                        true => ("the file changed", Some(bytes)),
                        false => ("the file of a secret changed", None),
                    })
                };
                tokio::select! {
                    Some((cause, text)) = file => {
                        let _reloading = systemd.reloading();
                        let _ = deployment.reload(cause, text, How::default()).await;
                    }
                    () = hangup.next() => {
                        let _reloading = systemd.reloading();
                        let _ = deployment.reload("SIGHUP", None, How::default()).await;
                    }
                }
            }
        };
        let swaps = async {
            if let Some(settled) = components {
                while let Some(Settled { path, digest, .. }) = settled.recv().await {
                    let own = Arc::clone(deployment);
                    deployment.begin(async move { own.component_changed(&path, digest).await });
                }
            }
            std::future::pending().await
        };
        let renewals = async {
            while let Some(settled) = certificates.recv().await {
                deployment.certificate_changed(&settled.path);
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = reloads => ended,
            ended = swaps => ended,
            ended = renewals => ended,
        }
    }
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    fn install() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signal = signal(SignalKind::hangup())
                .inspect_err(|error| tracing::warn!("SIGHUP cannot be waited for: {error}"))
                .ok();
            Self { signal }
        }
        #[cfg(not(unix))]
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Loads every component as a start does, says which they are, and starts none. With
/// mistakes in the settings it loads those that are named all the same, so that what is
/// wrong with them is told too.
pub(crate) async fn check(read: Result<Settings, Wrong>) -> Result<(), Failure> {
    let said = read.as_ref().unwrap_or_else(|wrong| &wrong.said);
    let loading = components::load(&runtime(&said.plan)?, said.plan.named(), Vec::new).await?;
    let (kinds, mut unfit) = (loading.kinds(), Vec::new());
    let ways = front::ways(&said.plan, |id| kinds.get(id).copied(), &mut unfit);
    front::certificates(&said.plan, |_, _| false, &mut unfit)?;
    let settings = match read {
        Ok(settings) => settings,
        Err(wrong) => {
            let more = [wrong.said.mistakes_of(&loading), wrong.said.mistakes(unfit)].concat();
            return Err(Failure::Settings(wrong.and(more)));
        }
    };
    let plan = &settings.plan;
    let loaded = settings.whole(loading, unfit)?;
    for hint in front::hints(plan, &kinds, &ways) {
        report::hint(plan.log.format, &hint);
    }
    for (id, loaded) in &loaded {
        let digest = loaded.component.digest();
        report::checked(plan.log.format, id.as_str(), digest, &plan.services[id].component);
    }
    let file = settings.file.as_ref().map(|file| file.path.as_path());
    report::good(plan.log.format, file, loaded.len());
    Ok(())
}

pub(crate) fn runtime(plan: &Plan) -> Result<Runtime, Failure> {
    let replicas = plan.replicas();
    let services = replicas.max(plan.engine.max_services);
    let files: BTreeSet<&Path> = plan.services.values().map(|own| &*own.component).collect();
    // Those to come may each be of another component.
    let components = files.len() + (services - replicas);
    Ok(Runtime::new(RuntimeConfig {
        instances: services * INSTANCES_EACH + SPARE_INSTANCES,
        components: components * INSTANCES_EACH + SPARE_INSTANCES,
        engine: plan.engine.config,
        cache: open_cache(plan),
        ..RuntimeConfig::default()
    })?)
}

/// A host whose default control socket cannot be made runs without; one that was
/// asked for, or is another host's, is not run past.
async fn bind_control(plan: &Plan) -> Result<Option<Socket>, Failure> {
    let bound = match &plan.control {
        Some(path) => Socket::bind(path).await,
        None => Socket::bind_default().await,
    };
    match bound {
        Ok(socket) => Ok(Some(socket)),
        Err(error @ SocketError::Io { .. }) if plan.control.is_none() => {
            tracing::warn!("ron-host ctl cannot reach this host: {}", chain(&error));
            Ok(None)
        }
        Err(error) => Err(Failure::config(format!("control socket {}", chain(&error)))),
    }
}

/// A cache that cannot be used costs time and nothing else.
fn open_cache(plan: &Plan) -> Option<CompileCache> {
    let directory = plan.cache_dir.as_ref()?.to_path_buf();
    CompileCache::open(directory)
        .inspect_err(|error| {
            tracing::warn!("components are compiled at each start: {}", chain(error));
        })
        .ok()
}

/// Log lines that standard error was too slow for.
pub(crate) const LOST_LINES: &[Family] = &[Family::counter(
    "ron_log_lines_lost_total",
    "Log lines lost because standard error was not read fast enough.",
    &[],
)];

/// The one sample of [`LOST_LINES`].
pub(crate) fn lost_lines(count: usize, out: &mut dyn FnMut(Sample<'_>)) {
    out(Sample { name: "ron_log_lines_lost_total", labels: &[], value: count as f64 });
}
