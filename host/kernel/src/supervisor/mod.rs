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

mod group;
pub mod machine;
mod run;
mod standing;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use group::{Group, Strategy};
pub use machine::{Restart, RestartPolicy};
pub use standing::{CrashReport, Standing};
pub use status::ServiceStatus;

use crate::crash::CrashReason;
use crate::event::KernelEvent;
use crate::kernel::Kernel;
use crate::message::{BusError, Inbox, MailboxBounds, TopicGrants};
use crate::service::{Deadlines, Generation, Service, ServiceId};
use crate::topic::TopicFilter;

/// Commands that wait for one service's task; one more is not taken.
const COMMANDS: usize = 16;

/// What a supervisor is told of a service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub id: ServiceId,
    /// Whether the host is not ready without it, and fails when it gives up.
    pub critical: bool,
    /// When it is started again.
    pub restart: Restart,
    /// How much waits for it.
    pub mailbox: MailboxBounds,
    /// Which topics it may use.
    pub grants: TopicGrants,
    /// What is delivered to it besides what it subscribes to itself.
    pub subscribe: Vec<TopicFilter>,
    /// How long it may take to start and to stop.
    pub deadlines: Deadlines,
}

impl ServiceSpec {
    /// A service with the defaults of each field, not critical.
    #[must_use]
    pub fn new(id: ServiceId) -> Self {
        Self {
            id,
            critical: false,
            restart: Restart::default(),
            mailbox: MailboxBounds::default(),
            grants: TopicGrants::default(),
            subscribe: vec![],
            deadlines: Deadlines::default(),
        }
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Start,
    Stop,
    Restart,
    /// Stop, and end the task.
    End,
}

#[derive(Debug)]
struct Entry {
    commands: mpsc::Sender<Command>,
    standing: Arc<Standing>,
    inbox: Arc<Inbox>,
}

impl Entry {
    fn status(&self) -> ServiceStatus {
        self.standing.status(Instant::now().into_std(), self.inbox.stats())
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
    /// The kernel's own loop.
    _loop: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<ServiceId, Entry>>,
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
            self.tell(&sibling, Command::Restart);
        }
    }

    fn tell(&self, id: &ServiceId, command: Command) -> bool {
        let entries = self.entries.lock();
        // A full queue holds sixteen wishes that were not looked at yet.
        entries.get(id).is_some_and(|entry| entry.commands.try_send(command).is_ok())
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
        let events = kernel.bus().subscribe_as("services");
        kernel_loop.spawn(async move { running.run(events).await });
        Self { kernel, shared: Arc::default(), tasks: Mutex::default(), _loop: kernel_loop }
    }

    /// The kernel that services run on.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
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
        let standing = Arc::new(Standing::new(
            spec.id.clone(),
            spec.critical,
            self.kernel.bus().clone(),
            self.kernel.metrics().clone(),
            self.kernel.health().clone(),
        ));
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let id = spec.id.clone();
        let task = run::Task {
            kernel: self.kernel.clone(),
            shared: Arc::clone(&self.shared),
            spec,
            inbox: Arc::clone(&inbox),
            standing: Arc::clone(&standing),
            commands: receiver,
            decided: Instant::now(),
        };
        entries.insert(id, Entry { commands, standing, inbox });
        drop(entries);
        let mut tasks = self.tasks.lock();
        // Ended tasks of services that were removed are not kept.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task.run_guarded(make), runtime);
        Ok(())
    }

    /// Services that share a fate. A service may be in several groups.
    pub fn group(&self, group: Group) {
        self.shared.groups.lock().push(group);
    }

    /// Starts a stopped or quarantined service, and forgets its crashes. Says
    /// whether there is such a service and it takes commands.
    pub fn start(&self, id: &ServiceId) -> bool {
        self.shared.tell(id, Command::Start)
    }

    /// Stops a service until it is started. It keeps its mailbox.
    pub fn stop(&self, id: &ServiceId) -> bool {
        self.shared.tell(id, Command::Stop)
    }

    /// Replaces the running incarnation of a service by a new one.
    pub fn restart(&self, id: &ServiceId) -> bool {
        self.shared.tell(id, Command::Restart)
    }

    /// How a service stands.
    #[must_use]
    pub fn status(&self, id: &ServiceId) -> Option<ServiceStatus> {
        self.shared.entries.lock().get(id).map(Entry::status)
    }

    /// How every service stands, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<ServiceStatus> {
        self.shared.entries.lock().values().map(Entry::status).collect()
    }

    /// The crashes of a service that are kept, oldest first.
    #[must_use]
    pub fn crashes(&self, id: &ServiceId) -> Vec<CrashReport> {
        let entries = self.shared.entries.lock();
        entries.get(id).map(|entry| entry.standing.reports()).unwrap_or_default()
    }

    /// The current incarnation of a service.
    #[must_use]
    pub fn generation(&self, id: &ServiceId) -> Option<Generation> {
        self.shared.entries.lock().get(id).map(|entry| entry.standing.generation())
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
            entries.values().map(|entry| entry.commands.clone()).collect()
        };
        for commands in &commands {
            // A full queue is emptied by its task; a task that is gone has ended.
            let _ = tokio::time::timeout_at(deadline, commands.send(Command::End)).await;
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let mut left: Vec<ServiceId> = self.shared.entries.lock().keys().cloned().collect();
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
            if let Ok(id) = ended {
                left.retain(|name| *name != id);
            }
        }
        tasks.abort_all();
        Drained { abandoned: left }
    }

    /// Stops one service and takes it off the host. Its mailbox goes with it.
    pub async fn remove(&self, id: &ServiceId) -> bool {
        let Some(entry) = self.shared.entries.lock().remove(id) else { return false };
        let _ = entry.commands.send(Command::End).await;
        entry.commands.closed().await;
        self.kernel.router().remove(id);
        entry.standing.forget();
        true
    }
}

#[cfg(test)]
mod tests;
