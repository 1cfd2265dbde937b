//! The host put together: kernel, supervisor, runtime and admin listener.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ron_kernel::http::ServerHandle;
use ron_kernel::metrics::{Family, Observation, Sample};
use ron_kernel::{CrashReason, Kernel, ServiceId, Supervisor};
use ron_runtime::{CompileCache, Component, ComponentService, LoadError, Runtime, RuntimeConfig};
use tokio::task::JoinSet;

use crate::control::{Control, Operator, Socket, SocketError};
use crate::exit::{Failure, chain};
use crate::logging::{Format, Logging};
use crate::plan::Plan;
use crate::report;
use crate::settings::Settings;

/// How long draining may take in all.
const DRAIN: Duration = Duration::from_secs(25);
/// Instances that the engine has room for besides one for each service: what
/// replaces a service overlaps with it.
const SPARE_INSTANCES: usize = 64;

/// A running host.
pub(crate) struct Host {
    supervisor: Arc<Supervisor>,
    server: ServerHandle,
    control: Option<Control>,
    format: Format,
    services: usize,
    began: Instant,
}

/// A critical service that gave up.
pub(crate) struct Ended {
    pub(crate) service: ServiceId,
    pub(crate) reason: CrashReason,
}

/// A component, and what loading it was like.
struct Loaded {
    component: Component,
    took: Duration,
}

impl Host {
    /// Binds the admin listener, loads every component, and starts them when
    /// all are loaded. It does not wait for any: from here on there is
    /// something to drain.
    pub(crate) async fn start(settings: &Settings, logging: &Logging) -> Result<Self, Failure> {
        let began = Instant::now();
        let plan = &settings.plan;
        let format = plan.log.format;
        let kernel = Kernel::new();
        logging.expose(kernel.metrics());
        kernel.health().gate("config", false);
        let supervisor = Arc::new(Supervisor::new(kernel.clone()));
        let (address, server) = kernel.metrics().serve(plan.admin).await.map_err(|error| {
            let what = match settings.origin("admin") {
                flag if flag.starts_with("--") => format!("{flag} {}", plan.admin),
                origin => format!("admin {} ({origin})", plan.admin),
            };
            Failure::config(format!("{what}: cannot be listened on: {error}"))
        })?;
        report::admin(format, address);
        let control = bind_control(plan).await?.map(|socket| {
            report::control(format, socket.path());
            let operator = Operator::new(Arc::clone(&supervisor));
            Control::serve(socket, operator, logging.recent().clone())
        });
        let (runtime, loaded) = load(plan).await?;
        let version = kernel.config().replace(plan.config()).version;
        kernel.metrics().observe(&Observation::ConfigApplied { version });
        for (id, loaded) in plan.services.keys().zip(&loaded) {
            let component = &loaded.component;
            let (digest, cached) = (component.digest(), component.from_cache());
            report::service(format, id.as_str(), digest, loaded.took, cached);
        }
        supervisor.set_groups(plan.groups());
        for ((id, service), loaded) in plan.services.iter().zip(loaded) {
            let (component, limits) = (loaded.component, service.limits.clone());
            let spec = service.spec(id, component.digest());
            let make = move || ComponentService::new(component.clone(), limits.clone());
            supervisor
                .add_on(runtime.handle(), spec, make)
                .map_err(|error| Failure::config(chain(&error)))?;
        }
        kernel.health().gate("config", true);
        Ok(Self { supervisor, server, control, format, services: plan.services.len(), began })
    }

    /// Tells when everything that must be ready is, which may be never, and
    /// waits until a critical service gives up.
    pub(crate) async fn critical_failure(&self) -> Ended {
        let ready = async {
            self.supervisor.kernel().health().until_ready().await;
            let address = self.server.addr();
            report::ready(self.format, self.services, address, self.began.elapsed());
            std::future::pending().await
        };
        tokio::select! {
            (service, reason) = self.supervisor.critical_failure() => Ended { service, reason },
            ended = ready => ended,
        }
    }

    /// Stops every service, then the listeners.
    pub(crate) async fn drain(self) {
        let began = Instant::now();
        let drained = self.supervisor.shut_down(DRAIN).await;
        for service in &drained.abandoned {
            tracing::warn!(%service, "did not stop in time and was cut short");
        }
        self.server.shutdown().await;
        if let Some(control) = self.control {
            control.shutdown().await;
        }
        tracing::info!(took_ms = began.elapsed().as_millis() as u64, "drained");
    }
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

/// Loads every component as a start does, says which they are, and starts none.
pub(crate) async fn check(settings: &Settings) -> Result<(), Failure> {
    let plan = &settings.plan;
    let (_, loaded) = load(plan).await?;
    for ((id, service), loaded) in plan.services.iter().zip(&loaded) {
        let digest = loaded.component.digest();
        report::checked(plan.log.format, id.as_str(), digest, &service.component);
    }
    let file = settings.file.as_ref().map(|file| file.path.as_path());
    report::good(plan.log.format, file, loaded.len());
    Ok(())
}

/// Loads every component of a plan, in its order, off the host's threads. Tells
/// every failure.
async fn load(plan: &Plan) -> Result<(Runtime, Vec<Loaded>), Failure> {
    let count = plan.services.len();
    let runtime = Runtime::new(RuntimeConfig {
        instances: count + SPARE_INSTANCES,
        components: count + SPARE_INSTANCES,
        workers: None,
        cache: open_cache(plan),
    })?;
    let mut loading = JoinSet::new();
    for (index, service) in plan.services.values().enumerate() {
        let (runtime, path, pin) = (runtime.clone(), service.component.clone(), service.digest);
        loading.spawn_blocking(move || {
            let began = Instant::now();
            let component = Component::load_pinned(&runtime, &path, pin.as_ref());
            (index, component.map(|component| Loaded { component, took: began.elapsed() }))
        });
    }
    let mut loaded: Vec<Option<Loaded>> = plan.services.iter().map(|_| None).collect();
    let mut failed: BTreeMap<usize, LoadError> = BTreeMap::new();
    while let Some(joined) = loading.join_next().await {
        match joined.map_err(|error| Failure::host("a component's loading ended early", error))? {
            (index, Ok(one)) => loaded[index] = Some(one),
            (index, Err(error)) => drop(failed.insert(index, error)),
        }
    }
    if failed.is_empty() {
        return Ok((runtime, loaded.into_iter().flatten().collect()));
    }
    let names: Vec<&ServiceId> = plan.services.keys().collect();
    Err(Failure::Components(
        failed.into_iter().map(|(index, error)| (names[index].to_string(), error)).collect(),
    ))
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
