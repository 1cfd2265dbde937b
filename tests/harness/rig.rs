//! A host in this process.

use std::sync::Arc;

use bytes::Bytes;
use ron_kernel::http::ServerHandle;
use ron_kernel::message::{Answer, Inbox, Message, Publisher};
use ron_kernel::service::{Crash, Generation, Service};
use ron_kernel::supervisor::CrashReport;
use ron_kernel::{
    Context, CrashReason, Incoming, Kernel, KernelEvent, ServiceId, ServiceSpec, Subscription,
    Supervisor,
};
use ron_runtime::{
    AnyService, CompileCache, Component, ComponentService, Gate, Grants, Limits, Runtime,
    RuntimeConfig,
};
use tokio::sync::mpsc;

use super::{HUNG, Page, Scrape, cache, component, get};

/// A name that is known to be one.
pub(crate) fn id(name: &str) -> ServiceId {
    ServiceId::parse(name).expect("a service's name")
}

/// A service with all defaults.
pub(crate) fn spec(name: &str) -> ServiceSpec {
    ServiceSpec::new(id(name))
}

/// Awaits what happens soon, unless something hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, future).await.expect("it hangs")
}

/// A kernel, its supervisor, and a runtime for components. Dropping it ends all.
pub(crate) struct Rig {
    pub(crate) kernel: Kernel,
    pub(crate) supervisor: Supervisor,
    pub(crate) runtime: Runtime,
}

impl Rig {
    /// On the current tokio runtime, which must have more than one thread.
    pub(crate) fn new() -> Self {
        Self::trusting(vec![])
    }

    /// One whose services trust these authorities too.
    pub(crate) fn trusting(trusted: Vec<Vec<u8>>) -> Self {
        let kernel = Kernel::new();
        let supervisor = Supervisor::new(kernel.clone());
        let runtime = Runtime::new(RuntimeConfig {
            instances: 16,
            cache: Some(CompileCache::open(cache()).expect("a private cache")),
            trusted,
            ..RuntimeConfig::default()
        })
        .expect("a runtime");
        Self { kernel, supervisor, runtime }
    }

    pub(crate) fn load(&self, name: &str) -> Component {
        let loaded = Component::load(&self.runtime, &component(name));
        loaded.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Adds a component as a service; it need not be ready when this returns.
    pub(crate) fn add(&self, spec: ServiceSpec, limits: Limits, component: &str) {
        self.add_loaded(spec, limits, self.load(component));
    }

    pub(crate) fn add_loaded(&self, spec: ServiceSpec, limits: Limits, component: Component) {
        let make = move || ComponentService::new(component.clone(), limits.clone(), Arc::default());
        self.supervisor.add_on(self.runtime.handle(), spec, make).expect("a new service");
    }

    /// Adds a component of any kind but one that answers requests, with grants.
    pub(crate) fn add_granted(
        &self,
        spec: ServiceSpec,
        limits: Limits,
        grants: Grants,
        component: Component,
    ) {
        let grants = Arc::new(grants);
        let make = move || {
            let (limits, grants) = (limits.clone(), Arc::clone(&grants));
            AnyService::new(component.clone(), limits, grants, &Gate::new())
        };
        self.supervisor.add_on(self.runtime.handle(), spec, make).expect("a new service");
    }

    /// Runs a component under its own name with all defaults, and waits until
    /// it is ready.
    pub(crate) async fn run(&self, name: &str) {
        self.add(spec(name), Limits::default(), name);
        self.until(name, "running").await;
    }

    /// Waits until a service is in a state.
    pub(crate) async fn until(&self, name: &str, state: &str) {
        self.until_health(|| {
            self.kernel.health().get(name).is_some_and(|health| health.state == state)
        })
        .await;
    }

    /// Waits until `holds`, which is asked at each change of anybody's health.
    pub(crate) async fn until_health(&self, mut holds: impl FnMut() -> bool) {
        let mut changes = self.kernel.health().subscribe();
        within(async {
            while !holds() {
                changes.changed().await.expect("the registry lives as long as the rig");
            }
        })
        .await;
    }

    pub(crate) fn state(&self, name: &str) -> &'static str {
        self.kernel.health().get(name).expect("a service").state
    }

    pub(crate) fn inbox(&self, name: &str) -> Arc<Inbox> {
        self.supervisor.inbox(&id(name)).expect("a service")
    }

    pub(crate) fn generation(&self, name: &str) -> u64 {
        let Generation(generation) = self.supervisor.generation(&id(name)).expect("a service");
        generation
    }

    /// The crashes of a service, with everything that is found of them.
    pub(crate) async fn crashes(&self, name: &str) -> Vec<CrashReport> {
        within(self.supervisor.crashes_written()).await;
        self.supervisor.crashes(&id(name))
    }

    pub(crate) fn publisher(&self, source: &str) -> Publisher {
        self.kernel.router().publisher(source, Arc::default())
    }

    /// How many mailboxes took it.
    pub(crate) fn publish(&self, topic: &str, payload: &str) -> u32 {
        self.publisher("test").publish(topic, Bytes::from(payload.to_owned())).expect("published")
    }

    pub(crate) async fn request(&self, topic: &str, payload: &str) -> Answer {
        let payload = Bytes::from(payload.to_owned());
        let answer = self.publisher("test").request(topic, payload)?;
        within(answer).await.expect("an answer or an error")
    }

    /// The text of an answer that must come.
    pub(crate) async fn ask(&self, topic: &str, payload: &str) -> String {
        let answer = self.request(topic, payload).await;
        let answer = answer.unwrap_or_else(|error| panic!("{topic} {payload}: {error:?}"));
        String::from_utf8(answer.to_vec()).expect("text")
    }

    /// Collects what is published to `filter` from now on.
    pub(crate) async fn collect(&self, name: &str, filter: &'static str) -> Collected {
        let (sender, messages) = mpsc::unbounded_channel();
        let mut own = spec(name);
        own.mailbox.messages = 100_000;
        let make = move || Collector { filter, sender: sender.clone() };
        self.supervisor.add(own, make).expect("a new service");
        self.until(name, "running").await;
        Collected(messages)
    }

    pub(crate) fn metrics(&self) -> Scrape {
        Scrape(self.kernel.metrics().encode())
    }

    /// Opens the admin listener.
    pub(crate) async fn serve(&self) -> Server {
        let (address, handle) =
            self.kernel.metrics().serve("127.0.0.1:0").await.expect("a free port");
        Server { url: format!("http://{address}"), _handle: handle }
    }
}

/// An admin listener.
pub(crate) struct Server {
    url: String,
    _handle: ServerHandle,
}

impl Server {
    pub(crate) async fn get(&self, path: &str) -> Page {
        let url = format!("{}{path}", self.url);
        tokio::task::spawn_blocking(move || get(&url)).await.expect("it does not panic")
    }
}

/// A native service that passes on what it gets.
struct Collector {
    filter: &'static str,
    sender: mpsc::UnboundedSender<Message>,
}

impl Service for Collector {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        context.subscribe(self.filter).expect("a filter");
        context.started();
        loop {
            match context.next().await {
                Incoming::Stop => return Ok(()),
                Incoming::Event(_) => {}
                // The test may have ended.
                Incoming::Message(message) => drop(self.sender.send(message)),
            }
        }
    }
}

/// What a collector got.
pub(crate) struct Collected(mpsc::UnboundedReceiver<Message>);

impl Collected {
    /// The next message.
    pub(crate) async fn message(&mut self) -> Message {
        within(self.0.recv()).await.expect("the collector lives")
    }

    /// The next message's payload.
    pub(crate) async fn next(&mut self) -> String {
        String::from_utf8(self.message().await.payload.to_vec()).expect("text")
    }

    /// What is there now.
    pub(crate) fn rest(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// The next crash of a service.
pub(crate) async fn crash_of(events: &mut Subscription, name: &str) -> CrashReason {
    let crashed = events.recv_matching(
        |event| matches!(event, KernelEvent::ServiceCrashed { service, .. } if service == name),
    );
    match within(crashed).await {
        Ok(KernelEvent::ServiceCrashed { reason, .. }) => reason,
        other => panic!("the bus lives as long as the rig: {other:?}"),
    }
}
