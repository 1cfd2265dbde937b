//! The host put together: kernel, supervisor, runtime, listeners, and what makes
//! it change while it runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ron_kernel::metrics::{Family, Observation, ReloadOutcome, Sample};
use ron_kernel::{CrashReason, Kernel, ServiceId, Supervisor};
use ron_runtime::{CompileCache, Digest, Runtime, RuntimeConfig};
use tokio::sync::mpsc;

use crate::admin;
use crate::author::Workshop;
use crate::cli::OnCritical;
use crate::components;
use crate::control::{Control, Operator, Socket, SocketError};
use crate::deployment::{Deployment, Parts};
use crate::descriptors;
use crate::exit::{Failure, chain};
use crate::front::{self, Expiries, Front, Own, show_traffic};
use crate::gates::Gates;
use crate::last_good::LastGood;
use crate::logging::{Format, Logging};
use crate::plan::Plan;
use crate::report;
use crate::settings::{Inputs, Settings};
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
    /// The configuration file.
    file: Option<(Watcher, mpsc::Receiver<Settled>)>,
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

impl Host {
    /// Binds the admin listener, loads every component, and starts them when
    /// all are loaded. It does not wait for any: from here on there is
    /// something to drain.
    pub(crate) async fn start(start: Start, logging: &Logging) -> Result<Self, Failure> {
        let Start { inputs, settings, fallback } = start;
        let began = Instant::now();
        let plan = settings.plan.clone();
        let format = plan.log.format;
        let kernel = Kernel::new();
        logging.expose(kernel.metrics());
        kernel.health().gate("config", false);
        let supervisor = Arc::new(Supervisor::new(kernel.clone()));
        // Before anybody can ask: whoever waits while components are loaded is told for whom.
        for (id, service) in &plan.services {
            supervisor.expect(id.clone(), service.critical);
        }
        let origins = |key: &str| settings.origin(key);
        let mut own = Own::default();
        let admin =
            admin::Staged::new(&plan, None, &mut own, &origins)?.commit(kernel.metrics())?;
        report::admin(format, &admin.url());
        let deployed = Arc::new(Mutex::new(Weak::new()));
        let control = bind_control(&plan).await?.map(|socket| {
            report::control(format, socket.path());
            let operator = Operator::new(Arc::clone(&supervisor), Arc::clone(&deployed));
            Control::serve(socket, operator, logging.recent().clone())
        });
        if plan.tls_self_signed && plan.http.is_none() {
            let what =
                "--tls-self-signed: there is nothing to serve over TLS; say where with --http";
            return Err(Failure::config(what.to_owned()));
        }
        let listeners = plan.all_listeners();
        let connections = listeners.values().map(|own| own.limits.connections as u64).sum();
        descriptors::compare(descriptors::raise(), connections);
        let expiries = Expiries::of(kernel.metrics());
        let gates = Gates::default();
        show_traffic(&gates, kernel.metrics());
        let mut front = Front::new(gates.clone(), kernel.metrics().clone(), expiries.clone());
        let staged = front.stage(&plan, &mut own, &origins)?;
        if let Some(sha256) = own.fingerprint() {
            report::fingerprint(format, &sha256);
        }
        let runtime = runtime(&plan)?;
        let loaded = components::load(&runtime, &plan.services, vec![]).await?;
        let kinds = loaded.iter().map(|(id, one)| (id.clone(), one.component.kind())).collect();
        let ways = front::ways(&plan, &kinds, &origins)?;
        // There is nobody yet to be drained.
        drop(front.commit(staged, &ways));
        for (id, protocol, url) in front.urls() {
            let services: BTreeSet<&str> =
                ways.get(id).into_iter().flatten().map(|way| way.service.as_str()).collect();
            let services: Vec<&str> = services.into_iter().collect();
            report::listener(format, protocol, id.as_str(), &url, &services);
        }
        for (id, loaded) in &loaded {
            let component = &loaded.component;
            let (digest, cached) = (component.digest(), component.from_cache());
            report::service(format, id.as_str(), digest, loaded.took, cached);
        }
        let (certificates, settled) = Watcher::new();
        let mut changes = Changes { file: None, components: None, certificates: settled };
        if let Some(path) = inputs.file() {
            let (watcher, settled) = Watcher::new();
            // What is there now is known, be it good or bad.
            let known = match &fallback {
                Some(Failure::Settings(wrong)) => wrong.file.as_ref(),
                _ => settings.file.as_ref(),
            };
            watcher.add(path, known.map(|file| Digest::of(file.text.as_bytes())));
            changes.file = Some((watcher, settled));
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
            last_good: last_good.filter(|_| fallback.is_none()),
            watcher,
            certificates,
            expiries,
            admin,
            own,
        };
        let services = plan.services.len();
        let deployment = Arc::new(Deployment::start(parts, loaded)?);
        *deployed.lock() = Arc::downgrade(&deployment);
        if let Some(fallback) = fallback {
            let first = fallback.lines().into_iter().next().unwrap_or_default();
            let note = format!("started with the last good configuration, because: {first}");
            kernel.health().note("config", Some(note));
            let outcome = ReloadOutcome::Refused;
            kernel.metrics().observe(&Observation::ConfigRead { outcome });
        }
        kernel.health().gate("config", true);
        Ok(Self { deployment, control, format, services, url, began, changes, workshop: None })
    }

    /// Has components made from sources that change.
    pub(crate) fn with_workshop(self, workshop: Workshop) -> Self {
        Self { workshop: Some(workshop), ..self }
    }

    /// What to do now when a critical service gives up.
    pub(crate) fn on_critical(&self) -> OnCritical {
        self.deployment.on_critical()
    }

    /// Runs: tells when everything that must be ready is, and follows changes of
    /// files and SIGHUP, until a critical service gives up.
    pub(crate) async fn run(&mut self) -> Ended {
        let Self { deployment, format, services, url, began, changes, workshop, .. } = self;
        let made_anew = async {
            match workshop {
                Some(workshop) => workshop.follow(deployment).await,
                None => std::future::pending().await,
            }
        };
        let ready = async {
            deployment.supervisor().kernel().health().until_ready().await;
            report::ready(*format, *services, url, began.elapsed());
            std::future::pending().await
        };
        tokio::select! {
            (service, reason) = deployment.supervisor().critical_failure() => {
                Ended { service, reason }
            }
            ended = ready => ended,
            ended = changes.follow(deployment) => ended,
            ended = made_anew => ended,
        }
    }

    /// Stops every service, then the listeners.
    pub(crate) async fn drain(self) {
        let began = Instant::now();
        let supervisor = self.deployment.supervisor();
        // Whoever leads clients here is told first, and has as long as they do.
        supervisor.kernel().health().drain();
        self.deployment.close_front().await;
        let drained = supervisor.shut_down(DRAIN.saturating_sub(began.elapsed())).await;
        for service in &drained.abandoned {
            tracing::warn!(%service, "did not stop in time and was cut short");
        }
        if let Some(control) = self.control {
            control.shutdown().await;
        }
        self.deployment.close().await;
        tracing::info!(took_ms = began.elapsed().as_millis() as u64, "drained");
    }
}

impl Changes {
    /// Never ends.
    async fn follow<T>(&mut self, deployment: &Deployment) -> T {
        let mut hangup = Hangup::install();
        loop {
            let file = async {
                match &mut self.file {
                    Some((_, settled)) => settled.recv().await,
                    None => None,
                }
            };
            let component = async {
                match &mut self.components {
                    Some(settled) => settled.recv().await,
                    None => None,
                }
            };
            // What came of it was logged and counted where it was decided.
            tokio::select! {
                Some(settled) = file => {
                    let _ = deployment.reload("the file changed", Some(settled.bytes), None).await;
                }
                Some(settled) = component => {
                    deployment.component_changed(&settled.path, settled.digest).await;
                }
                Some(settled) = self.certificates.recv() => {
                    deployment.certificate_changed(&settled.path).await;
                }
                () = hangup.next() => {
                    let _ = deployment.reload("SIGHUP", None, None).await;
                }
            }
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

/// Loads every component as a start does, says which they are, and starts none.
pub(crate) async fn check(settings: &Settings) -> Result<(), Failure> {
    let plan = &settings.plan;
    let loaded = components::load(&runtime(plan)?, &plan.services, vec![]).await?;
    for (id, loaded) in &loaded {
        let digest = loaded.component.digest();
        report::checked(plan.log.format, id.as_str(), digest, &plan.services[id].component);
    }
    let kinds = loaded.iter().map(|(id, one)| (id.clone(), one.component.kind())).collect();
    let origins = |key: &str| settings.origin(key);
    front::ways(plan, &kinds, &origins)?;
    front::certificates(plan, &origins)?;
    let file = settings.file.as_ref().map(|file| file.path.as_path());
    report::good(plan.log.format, file, loaded.len());
    Ok(())
}

pub(crate) fn runtime(plan: &Plan) -> Result<Runtime, Failure> {
    let instances: usize =
        plan.services.values().map(|service| service.replicas as usize * INSTANCES_EACH).sum();
    Ok(Runtime::new(RuntimeConfig {
        instances: instances + SPARE_INSTANCES,
        components: plan.services.len() * INSTANCES_EACH + SPARE_INSTANCES,
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
    let directory = plan.cache_dir.clone()?;
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
