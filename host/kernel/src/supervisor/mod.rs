//! Supervision: the shell around [`machine`].
//!
//! Each service is one task for as long as the host knows it. The task holds
//! the service's machine, makes its incarnations, drives them, and waits out
//! back-offs; an incarnation is a future inside it, so a restart spawns nothing
//! and crosses no thread. Ending a task ends the incarnation: all tasks are in
//! one set, and dropping the [`Supervisor`] drops the set.
//!
//! Rejected: one supervisor task that owns every machine. It reads well, but a
//! restart then takes two hops between threads, several times what making an
//! instance costs.

mod alarm;
mod candidate;
mod crash_log;
mod cutover;
mod group;
mod incarnation;
pub mod machine;
mod prepared;
mod probation;
mod run;
mod spec;
mod standing;
mod status;
pub mod swap;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::incarnation::Recipe;
use self::prepared::{Reply, Wanted};
use self::probation::Onlooker;
pub use group::{Group, Strategy};
pub use machine::{Restart, RestartPolicy};
pub use prepared::{Cut, Prepared, SwapError, SwapOptions, Verdict};
pub use probation::EndedBy;
use spec::Amendment;
pub use spec::ServiceSpec;
pub use standing::{CrashReport, Standing};
pub use status::{ReplicaStatus, ServiceStatus};
pub use swap::Version;

use self::crash_log::CrashLog;
use crate::crash::CrashReason;
use crate::event::KernelEvent;
use crate::kernel::{Kernel, SERVICES};
use crate::message::{BusError, Inbox, Stats, TopicGrants};
use crate::metrics::{Family, Sample};
use crate::service::{Generation, Service, ServiceId};
use crate::topic::TopicFilter;

/// Commands that wait for one service's task; one more is not taken.
const COMMANDS: usize = 16;

/// Why a service was not taken in.
#[derive(Debug, Error)]
pub enum AddError {
    /// The name is taken.
    #[error("there is already a service named {0}")]
    Duplicate(ServiceId),
    /// One of [`ServiceSpec::subscribe`] was refused.
    #[error("{service} cannot be subscribed to {filter}: {source}")]
    Subscribe {
        /// Whose.
        service: ServiceId,
        /// Which.
        filter: TopicFilter,
        /// Why.
        source: BusError,
    },
}

/// What a service's task is told.
#[derive(Debug)]
enum Command {
    Start,
    Stop,
    Restart,
    Prepare(Box<Wanted>),
    /// Have a stopped service start as this when it is started.
    Exchange(Box<Wanted>, Reply),
    PutBack(String),
    Amend(Arc<Amendment>),
    /// Stop, and end the task.
    End(EndedBy),
}

#[derive(Debug)]
struct Entry {
    /// What was last said of it. A replica whose version was put back has other
    /// rules, so it is told what changes in these.
    spec: ServiceSpec,
    /// That of the last swap.
    probation: Option<Onlooker>,
    /// At least one.
    replicas: Vec<Replica>,
    inbox: Arc<Inbox>,
}

#[derive(Clone, Debug)]
struct Replica {
    commands: mpsc::Sender<Command>,
    standing: Arc<Standing>,
}

impl Entry {
    fn status(&self) -> ServiceStatus {
        let now = Instant::now().into_std();
        let status = |replica: &Replica| replica.standing.status(now);
        let replicas = self.replicas.iter().map(status).collect();
        self.replicas[0].standing.service_status(replicas, self.inbox.stats())
    }
}

/// Runs services, restarts them, and gives up on them.
///
/// Dropping it ends every service at once, without their `stop`;
/// [`shut_down`](Self::shut_down) is the orderly way.
#[derive(Debug)]
pub struct Supervisor {
    kernel: Kernel,
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<ServiceId>>,
    crash_log: Arc<CrashLog>,
    /// The kernel's own loop, and the crash log's.
    _loop: JoinSet<()>,
}

/// Read at each scrape: a service that grows pays for no metric.
const FAMILIES: &[Family] =
    &[Family::gauge("ron_service_memory_bytes", "Linear memory of a service.", &["service"])];

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<ServiceId, Entry>>,
    /// Services that are to be added. Locked after `entries`, where both are.
    expected: Mutex<BTreeMap<ServiceId, Arc<Standing>>>,
    groups: Mutex<Vec<Group>>,
    /// The first critical service that gave up.
    failed: watch::Sender<Option<(ServiceId, CrashReason)>>,
}

impl Shared {
    /// Restarts the siblings that share the fate of `crashed`.
    fn take_along(&self, crashed: &ServiceId) {
        let affected: Vec<ServiceId> =
            self.groups.lock().iter().flat_map(|group| group.affected(crashed)).collect();
        for sibling in affected {
            tracing::info!(service = %sibling, because_of = %crashed, "restarting with its group");
            self.tell(&sibling, || Command::Restart);
        }
    }

    /// What the replicas of each service have in use, unless none is alive.
    fn read_memory(&self, give: &mut dyn FnMut(Sample<'_>)) {
        for (service, entry) in &*self.entries.lock() {
            let used = entry.replicas.iter().filter_map(|replica| replica.standing.memory());
            if let Some(bytes) = used.reduce(|a, b| a + b) {
                let labels = &[service.as_str()];
                give(Sample { name: FAMILIES[0].name, labels, value: bytes as f64 });
            }
        }
    }

    /// Tells every replica; says whether all take it.
    fn tell(&self, id: &ServiceId, command: impl Fn() -> Command) -> bool {
        let entries = self.entries.lock();
        // A full queue holds sixteen wishes that were not looked at yet.
        entries.get(id).is_some_and(|entry| {
            entry.replicas.iter().all(|replica| replica.commands.try_send(command()).is_ok())
        })
    }
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Services that had not stopped when the time was over.
    pub abandoned: Vec<ServiceId>,
}

impl Supervisor {
    /// A supervisor for `kernel`, whose loop it runs on the current runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        let mut kernel_loop = JoinSet::new();
        let running = kernel.clone();
        let events = kernel.bus().subscribe_as(SERVICES);
        kernel_loop.spawn(async move { running.run(events).await });
        let crash_log = Arc::<CrashLog>::default();
        let writing = Arc::clone(&crash_log);
        kernel_loop.spawn(async move { writing.run().await });
        let (shared, tasks) = (Arc::<Shared>::default(), Mutex::default());
        let services = Arc::downgrade(&shared);
        kernel.metrics().pull(FAMILIES, move |give| {
            let Some(services) = services.upgrade() else { return };
            services.read_memory(give);
        });
        Self { kernel, shared, tasks, crash_log, _loop: kernel_loop }
    }

    /// The kernel that services run on.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Says of a service that it will be added, once what it runs is loaded. Until then
    /// it is `loading`: it has a health and a status, and takes no commands. A service
    /// that is there already is left as it is.
    pub fn expect(&self, id: ServiceId, critical: bool) {
        let entries = self.shared.entries.lock();
        if entries.contains_key(&id) {
            return;
        }
        let [standing] = &self.standings(&id, 1, critical)[..] else { return };
        self.shared.expected.lock().insert(id, Arc::clone(standing));
    }

    fn standings(&self, id: &ServiceId, replicas: usize, critical: bool) -> Vec<Arc<Standing>> {
        Standing::new(
            id.clone(),
            replicas,
            critical,
            self.kernel.bus().clone(),
            self.kernel.metrics().clone(),
            self.kernel.health().clone(),
            Arc::clone(&self.crash_log),
        )
    }

    /// Takes a service in and starts it on the current runtime. `make` makes
    /// the value for each incarnation.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; nothing is changed then.
    pub fn add<S: Service>(
        &self,
        spec: ServiceSpec,
        make: impl FnMut() -> S + Send + 'static,
    ) -> Result<(), AddError> {
        self.add_on(&Handle::current(), spec, make)
    }

    /// [`add`](Self::add), on another runtime.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; nothing is changed then.
    pub fn add_on<S: Service>(
        &self,
        runtime: &Handle,
        spec: ServiceSpec,
        make: impl FnMut() -> S + Send + 'static,
    ) -> Result<(), AddError> {
        let mut entries = self.shared.entries.lock();
        if entries.contains_key(&spec.id) {
            return Err(AddError::Duplicate(spec.id));
        }
        let router = self.kernel.router();
        let inbox = Inbox::new(spec.id.clone(), spec.mailbox);
        inbox.set_replicas(spec.replicas.max(1));
        router.add(Arc::clone(&inbox));
        for filter in &spec.subscribe {
            if let Err(source) = router.subscribe(&spec.id, filter.clone(), &TopicGrants::default())
            {
                router.remove(&spec.id);
                return Err(AddError::Subscribe {
                    service: spec.id,
                    filter: filter.clone(),
                    source,
                });
            }
        }
        let standings = self.standings(&spec.id, spec.replicas.max(1), spec.critical);
        self.shared.expected.lock().remove(&spec.id);
        let replicas = self.spawn(runtime, &spec, &inbox, standings, None, make);
        entries.insert(spec.id.clone(), Entry { spec, probation: None, replicas, inbox });
        Ok(())
    }

    /// A task for each of these replicas.
    fn spawn<S: Service>(
        &self,
        runtime: &Handle,
        spec: &ServiceSpec,
        inbox: &Arc<Inbox>,
        standings: Vec<Arc<Standing>>,
        probation: Option<&Onlooker>,
        make: impl FnMut() -> S + Send + 'static,
    ) -> Vec<Replica> {
        let mut tasks = self.tasks.lock();
        // Ended tasks of services that were removed are not kept.
        while tasks.try_join_next().is_some() {}
        let make = shared(make);
        let mut replicas = Vec::with_capacity(standings.len());
        for standing in standings {
            let (commands, receiver) = mpsc::channel(COMMANDS);
            let mut task = run::Task::new(
                self.kernel.clone(),
                Arc::clone(&self.shared),
                spec.clone(),
                Arc::clone(inbox),
                Arc::clone(&standing),
                receiver,
                Recipe::new(Arc::clone(&spec.version), make.clone()),
            );
            if let Some((seat, before)) = probation.and_then(Onlooker::join) {
                task.join(seat, before);
            }
            replicas.push(Replica { commands, standing });
            tasks.spawn_on(Box::new(task).run_guarded(), runtime);
        }
        replicas
    }

    /// Has a service run with as many replicas as `spec` says: starts the ones
    /// that are missing with `make`, or stops the last ones. Their mailbox is
    /// everybody's, so nothing is lost; where it is partitioned, keys move. Where the service is on probation, `make`
    /// makes the new version, and the ones that are started go back with the rest.
    pub async fn scale_on<S: Service>(
        &self,
        runtime: &Handle,
        spec: &ServiceSpec,
        make: impl FnMut() -> S + Send + 'static,
    ) -> bool {
        let wanted = spec.replicas.max(1);
        let (first, surplus) = {
            let mut entries = self.shared.entries.lock();
            let Some(entry) = entries.get_mut(&spec.id) else { return false };
            let more = entry.replicas[0].standing.more(wanted);
            let inbox = Arc::clone(&entry.inbox);
            let probation = entry.probation.as_ref();
            let more = self.spawn(runtime, spec, &inbox, more, probation, make);
            entry.replicas.extend(more);
            let surplus = entry.replicas.split_off(wanted);
            entry.spec.replicas = wanted;
            // Before any of the surplus is gone that messages may be for.
            entry.inbox.set_replicas(wanted);
            (Arc::clone(&entry.replicas[0].standing), surplus)
        };
        for replica in &surplus {
            let _ = replica.commands.send(Command::End(EndedBy::Stop)).await;
        }
        for replica in &surplus {
            replica.commands.closed().await;
        }
        first.keep(wanted);
        true
    }

    /// Services that share a fate, in place of the groups before. A service may
    /// be in several.
    pub fn set_groups(&self, groups: Vec<Group>) {
        *self.shared.groups.lock() = groups;
    }

    /// Starts a stopped, finished or quarantined service, and forgets its crashes. Says
    /// whether there is such a service and it takes commands.
    pub fn start(&self, id: &ServiceId) -> bool {
        self.shared.tell(id, || Command::Start)
    }

    /// Stops a service until it is started. It keeps its mailbox.
    pub fn stop(&self, id: &ServiceId) -> bool {
        self.shared.tell(id, || Command::Stop)
    }

    /// Replaces the running incarnation of a service by a new one.
    pub fn restart(&self, id: &ServiceId) -> bool {
        self.shared.tell(id, || Command::Restart)
    }

    /// Makes an incarnation of a new version and starts it, beside the one that
    /// runs. Nothing of it is seen before [`Prepared::cut`].
    ///
    /// `version` tells versions apart: one that was put back is not tried again
    /// for a while.
    ///
    /// # Errors
    ///
    /// See [`SwapError`]; the running version goes on.
    pub async fn prepare<S: Service>(
        &self,
        id: &ServiceId,
        version: Version,
        make: impl FnMut() -> S + Send + 'static,
        options: SwapOptions,
    ) -> Result<Prepared, SwapError> {
        let make = shared(make);
        let recipe = || Recipe::new(Arc::clone(&version), make.clone());
        let replicas = self.replicas(id).into_iter().map(|replica| replica.commands).collect();
        let shared = Arc::clone(&self.shared);
        let prepared = prepared::prepare_all(shared, id.clone(), replicas, recipe, options).await?;
        if let Some(entry) = self.shared.entries.lock().get_mut(id) {
            entry.probation = Some(prepared.probation.clone());
        }
        Ok(prepared)
    }

    /// Replaces the running version of a service: [`prepare`](Self::prepare)
    /// and [`Prepared::cut`].
    ///
    /// # Errors
    ///
    /// See [`SwapError`]; the running version goes on.
    pub async fn swap<S: Service>(
        &self,
        id: &ServiceId,
        version: Version,
        make: impl FnMut() -> S + Send + 'static,
        options: SwapOptions,
    ) -> Result<Cut, SwapError> {
        self.prepare(id, version, make, options).await?.cut().await
    }

    /// Has the version before a swap back, while the new one is on probation.
    /// Afterwards, and without a swap, it has no effect.
    pub fn put_back(&self, id: &ServiceId, why: impl Into<String>) -> bool {
        let why = why.into();
        self.shared.tell(id, || Command::PutBack(why.clone()))
    }

    /// Gives a service other rules, mailbox bounds and subscriptions while it
    /// runs. What differs from what was last said of it changes, on probation for
    /// the version that may come back too, and nothing else does. A swap that is
    /// being prepared brings its own. Its grants and deadlines are for incarnations to come; the version
    /// is not changed.
    pub async fn adopt(&self, spec: ServiceSpec) -> bool {
        let (replicas, amendment) = {
            let mut entries = self.shared.entries.lock();
            let Some(entry) = entries.get_mut(&spec.id) else { return false };
            let before = std::mem::replace(&mut entry.spec, spec.clone());
            (entry.replicas.clone(), Arc::new(Amendment { before, after: spec }))
        };
        for replica in &replicas {
            let command = Command::Amend(Arc::clone(&amendment));
            if replica.commands.send(command).await.is_err() {
                return false;
            }
        }
        true
    }

    fn replicas(&self, id: &ServiceId) -> Vec<Replica> {
        let entries = self.shared.entries.lock();
        entries.get(id).map(|entry| entry.replicas.clone()).unwrap_or_default()
    }

    /// How a service stands.
    #[must_use]
    pub fn status(&self, id: &ServiceId) -> Option<ServiceStatus> {
        let entries = self.shared.entries.lock();
        let expected = || self.shared.expected.lock().get(id).map(loading);
        entries.get(id).map(Entry::status).or_else(expected)
    }

    /// How every service stands, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<ServiceStatus> {
        let entries = self.shared.entries.lock();
        let mut all: Vec<ServiceStatus> = entries.values().map(Entry::status).collect();
        all.extend(self.shared.expected.lock().values().map(loading));
        all.sort_by(|a, b| a.service.cmp(&b.service));
        all
    }

    /// The crashes of a service that are kept, oldest first. The backtrace of
    /// one that was just now may not have its places in the source yet; see
    /// [`crashes_written`](Self::crashes_written).
    #[must_use]
    pub fn crashes(&self, id: &ServiceId) -> Vec<CrashReport> {
        let entries = self.shared.entries.lock();
        entries.get(id).map(|entry| entry.replicas[0].standing.reports()).unwrap_or_default()
    }

    /// Waits until the crashes so far, of all services, are in the log and their
    /// reports complete: milliseconds for each place that nothing crashed in
    /// before.
    pub async fn crashes_written(&self) {
        self.crash_log.written().await;
    }

    /// The current incarnation of a service: of its replicas, the newest.
    #[must_use]
    pub fn generation(&self, id: &ServiceId) -> Option<Generation> {
        self.replicas(id).iter().map(|replica| replica.standing.generation()).max()
    }

    /// The inbox of a service.
    #[must_use]
    pub fn inbox(&self, id: &ServiceId) -> Option<Arc<Inbox>> {
        self.shared.entries.lock().get(id).map(|entry| Arc::clone(&entry.inbox))
    }

    /// Waits until a critical service gives up; that may be never.
    pub async fn critical_failure(&self) -> (ServiceId, CrashReason) {
        let mut failed = self.shared.failed.subscribe();
        loop {
            if let Some(failure) = failed.borrow_and_update().clone() {
                return failure;
            }
            if failed.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops every service and waits for them, up to `limit`. What has not
    /// stopped by then is ended and named.
    ///
    /// The host is not ready from here on, and announces
    /// [`KernelEvent::Shutdown`] once.
    pub async fn shut_down(&self, limit: Duration) -> Drained {
        let deadline = Instant::now() + limit;
        self.kernel.health().drain();
        self.kernel.bus().publish(KernelEvent::Shutdown);
        self.kernel.announce(&[Arc::new(KernelEvent::Shutdown)]);
        let commands: Vec<_> = {
            let entries = self.shared.entries.lock();
            let replicas = entries.values().flat_map(|entry| &entry.replicas);
            replicas.map(|replica| replica.commands.clone()).collect()
        };
        for commands in &commands {
            // A full queue is emptied by its task; a task that is gone has ended.
            let _ =
                tokio::time::timeout_at(deadline, commands.send(Command::End(EndedBy::HostEnd)))
                    .await;
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let mut left: BTreeMap<ServiceId, usize> = {
            let entries = self.shared.entries.lock();
            entries.iter().map(|(id, entry)| (id.clone(), entry.replicas.len())).collect()
        };
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
            // One for each replica.
            if let Ok(id) = ended
                && let Some(replicas) = left.get_mut(&id)
            {
                *replicas = replicas.saturating_sub(1);
            }
        }
        tasks.abort_all();
        let _ = tokio::time::timeout_at(deadline, self.crash_log.written()).await;
        self.crash_log.close();
        left.retain(|_, replicas| *replicas > 0);
        Drained { abandoned: left.into_keys().collect() }
    }

    /// Stops one service and takes it off the host. Its mailbox goes with it. One that
    /// was [expected](Self::expect) is expected no more.
    pub async fn remove(&self, id: &ServiceId) -> bool {
        if let Some(expected) = self.shared.expected.lock().remove(id) {
            expected.forget();
        }
        let Some(entry) = self.shared.entries.lock().remove(id) else { return false };
        for replica in &entry.replicas {
            let _ = replica.commands.send(Command::End(EndedBy::Stop)).await;
        }
        for replica in &entry.replicas {
            replica.commands.closed().await;
        }
        self.kernel.router().remove(id);
        entry.replicas[0].standing.forget();
        true
    }
}

/// The status of a service that is to be added.
fn loading(standing: &Arc<Standing>) -> ServiceStatus {
    let replica = standing.status(Instant::now().into_std());
    standing.service_status(vec![replica], Stats::default())
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Its task ends with the supervisor.
        self.crash_log.close();
    }
}

/// One way to make a service's value, for all its replicas.
fn shared<S: Service>(
    make: impl FnMut() -> S + Send + 'static,
) -> impl FnMut() -> S + Clone + Send + 'static {
    let make = Arc::new(Mutex::new(make));
    move || {
        let mut make = make.lock();
        (*make)()
    }
}

#[cfg(test)]
mod tests;
