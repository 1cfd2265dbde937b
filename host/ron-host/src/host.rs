//! The host put together: kernel, supervisor, runtime and admin listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ron_kernel::http::ServerHandle;
use ron_kernel::metrics::{Family, Observation, Sample};
use ron_kernel::{CrashReason, Kernel, ServiceId, ServiceSpec, Supervisor};
use ron_runtime::{
    CompileCache, Component, ComponentService, Limits, LoadError, Runtime, RuntimeConfig,
};
use tokio::task::JoinSet;

use crate::control::{Control, Operator, Socket, SocketError};
use crate::exit::{Failure, chain};
use crate::logging::{Format, Logging};
use crate::plan::{Plan, PlannedService};
use crate::report;

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
    pub(crate) async fn start(
        plan: &Plan,
        logging: &Logging,
        format: Format,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let kernel = Kernel::new();
        logging.expose(kernel.metrics());
        kernel.health().gate("config", false);
        let supervisor = Arc::new(Supervisor::new(kernel.clone()));
        let (address, server) = kernel.metrics().serve(plan.admin).await.map_err(|error| {
            Failure::config(format!("--admin {}: cannot be listened on: {error}", plan.admin))
        })?;
        report::admin(format, address);
        let control = bind_control(plan).await?.map(|socket| {
            report::control(format, socket.path());
            let operator = Operator::new(Arc::clone(&supervisor));
            Control::serve(socket, operator, logging.recent().clone())
        });
        let runtime = Runtime::new(RuntimeConfig {
            instances: plan.services.len() + SPARE_INSTANCES,
            components: plan.services.len() + SPARE_INSTANCES,
            workers: None,
            cache: open_cache(plan),
        })?;
        let loaded = load_all(&runtime, &plan.services).await?;
        let version = kernel.config().replace(plan.config.clone()).version;
        kernel.metrics().observe(&Observation::ConfigApplied { version });
        for (service, loaded) in plan.services.iter().zip(&loaded) {
            report::service(
                format,
                service.id.as_str(),
                loaded.component.digest(),
                loaded.took,
                loaded.component.from_cache(),
            );
        }
        for (service, loaded) in plan.services.iter().zip(loaded) {
            let spec =
                ServiceSpec { critical: service.critical, ..ServiceSpec::new(service.id.clone()) };
            let component = loaded.component;
            let make = move || ComponentService::new(component.clone(), Limits::default());
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
    let directory = plan.cache.clone()?;
    CompileCache::open(directory)
        .inspect_err(|error| {
            tracing::warn!("components are compiled at each start: {}", chain(error));
        })
        .ok()
}

/// Loads every component, off the host's threads, and tells every failure.
async fn load_all(runtime: &Runtime, services: &[PlannedService]) -> Result<Vec<Loaded>, Failure> {
    let mut loading = JoinSet::new();
    for (index, service) in services.iter().enumerate() {
        let (runtime, path) = (runtime.clone(), service.path.clone());
        loading.spawn_blocking(move || {
            let began = Instant::now();
            let component = Component::load(&runtime, &path);
            (index, component.map(|component| Loaded { component, took: began.elapsed() }))
        });
    }
    let mut loaded: Vec<Option<Loaded>> = services.iter().map(|_| None).collect();
    let mut failed: Vec<(usize, LoadError)> = Vec::new();
    while let Some(joined) = loading.join_next().await {
        match joined.map_err(|error| Failure::host("a component's loading ended early", error))? {
            (index, Ok(one)) => loaded[index] = Some(one),
            (index, Err(error)) => failed.push((index, error)),
        }
    }
    if failed.is_empty() {
        return Ok(loaded.into_iter().flatten().collect());
    }
    failed.sort_by_key(|(index, _)| *index);
    let name = |index: usize| services[index].id.to_string();
    Err(Failure::Components(
        failed.into_iter().map(|(index, error)| (name(index), error)).collect(),
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
