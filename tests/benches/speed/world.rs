//! A host in this process, and the components it runs.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ron_kernel::message::{Inbox, MailboxBounds};
use ron_kernel::supervisor::Restart;
use ron_kernel::{Kernel, ServiceId, ServiceSpec, Supervisor};
use ron_runtime::{
    CompileCache, Component, ComponentService, EngineConfig, Limits, Runtime, RuntimeConfig,
};

/// Where cargo puts what it builds: this runs as `target/PROFILE/deps/NAME`.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a bench has a path");
    own.ancestors().nth(3).expect("it lies in the target directory").to_owned()
}

/// Where `cargo xtask guests` puts a component.
pub(crate) fn component(name: &str) -> PathBuf {
    let path = target().join("components").join(name).with_extension("wasm");
    assert!(path.exists(), "{} is missing: run `cargo xtask guests` first", path.display());
    path
}

/// A kernel, its supervisor and an engine, with a runtime for the host's side.
pub(crate) struct World {
    pub(crate) host: tokio::runtime::Runtime,
    pub(crate) kernel: Kernel,
    pub(crate) supervisor: Supervisor,
    pub(crate) runtime: Runtime,
}

impl World {
    /// With a guests' thread for each processor, as the host has.
    pub(crate) fn new(instances: usize) -> Self {
        Self::with_workers(instances, None)
    }

    /// With so many guests' threads. One, where a time is compared with that of
    /// one thread.
    pub(crate) fn with_workers(instances: usize, workers: Option<u32>) -> Self {
        Self::with_cache(instances, workers, None)
    }

    /// [`with_workers`](Self::with_workers), and compiled components are kept there.
    pub(crate) fn with_cache(
        instances: usize,
        workers: Option<u32>,
        cache: Option<CompileCache>,
    ) -> Self {
        let host = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let kernel = Kernel::new();
        let supervisor = {
            let _inside = host.enter();
            Supervisor::new(kernel.clone())
        };
        let config = RuntimeConfig {
            instances,
            components: 16,
            engine: EngineConfig {
                workers: workers.and_then(NonZero::new),
                ..EngineConfig::default()
            },
            cache,
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::new(config).expect("an engine can be made");
        Self { host, kernel, supervisor, runtime }
    }

    pub(crate) fn load(&self, name: &str) -> Component {
        self.load_from(&component(name))
    }

    pub(crate) fn load_from(&self, path: &Path) -> Component {
        Component::load(&self.runtime, path).expect("a test component loads")
    }

    /// Configures every service, before any is added.
    pub(crate) fn configure(
        &self,
        services: impl IntoIterator<Item = (String, Vec<(String, String)>)>,
    ) {
        let config: BTreeMap<_, _> = services
            .into_iter()
            .map(|(name, entries)| (name, entries.into_iter().collect()))
            .collect();
        self.kernel.config().replace(config);
    }

    /// Adds a service whose mailbox and restarts have no bound that a bench
    /// would reach.
    pub(crate) fn add(&self, name: &str, component: &Component) -> Arc<Inbox> {
        self.add_with(name, component, Limits::default())
    }

    /// [`add`](Self::add), within other limits.
    pub(crate) fn add_with(&self, name: &str, component: &Component, limits: Limits) -> Arc<Inbox> {
        let id = ServiceId::parse(name).expect("a name");
        let spec = ServiceSpec {
            mailbox: MailboxBounds {
                messages: 1 << 20,
                bytes: usize::MAX,
                max_deliveries: 1,
                ..MailboxBounds::default()
            },
            restart: Restart {
                budget: u32::MAX,
                first_delay: Duration::ZERO,
                max_delay: Duration::ZERO,
                ..Restart::default()
            },
            critical: true,
            ..ServiceSpec::new(id.clone())
        };
        let component = component.clone();
        self.supervisor
            .add_on(self.runtime.handle(), spec, move || {
                ComponentService::new(component.clone(), limits.clone(), Arc::default())
            })
            .expect("the name is free");
        self.supervisor.inbox(&id).expect("it was added")
    }

    pub(crate) fn until_ready(&self) {
        self.host.block_on(self.kernel.health().until_ready());
    }
}
