//! What is to be run, validated: what flags, environment and file say together.
//!
//! A plan holds values and not where they come from, so that two of them are
//! equal exactly when nothing is to be done; see [`change`](crate::change).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use ron_kernel::message::{MailboxBounds, TopicGrants};
use ron_kernel::service::Deadlines;
use ron_kernel::supervisor::swap::PROBATION;
use ron_kernel::supervisor::{Group, Restart, Strategy};
use ron_kernel::topic::TopicFilter;
use ron_kernel::{ServiceId, ServiceSpec};
use ron_runtime::{Digest, EngineConfig, Limits, Peer, Schedule};

use crate::cli::{MetricsDetail, OnCritical};
use crate::logging::{Format, Written};

mod build;
mod listener;
mod path;

pub(crate) use build::{Build, BuildCommand, SourcePath, Tool};
pub(crate) use listener::{
    Alpn, ListenerId, PlannedListener, PlannedPair, PlannedRoute, PlannedStream, PlannedTls, Tls,
};
pub(crate) use path::FilePath;

/// All that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) admin: SocketAddr,
    /// Where HTTP requests are answered, if anywhere.
    pub(crate) http: Option<SocketAddr>,
    /// Whether that is over TLS, with a certificate that is made for it.
    pub(crate) tls_self_signed: bool,
    /// TLS of the admin listener, if it has any.
    pub(crate) admin_tls: PlannedTls,
    /// The public listeners, besides that of `http`.
    pub(crate) listeners: BTreeMap<ListenerId, PlannedListener>,
    pub(crate) log: Log,
    pub(crate) on_critical: OnCritical,
    pub(crate) metrics_detail: MetricsDetail,
    /// The control socket, where it is not the default one.
    pub(crate) control: Option<FilePath>,
    /// Where compiled components are kept, if anywhere.
    pub(crate) cache_dir: Option<FilePath>,
    pub(crate) engine: PlannedEngine,
    pub(crate) services: Services,
}

/// What is to be run, by name. A copy shares with the plan before what is the same in
/// both, and what is another is found without a look at the rest.
pub(crate) type Services = OrdMap<ServiceId, Arc<PlannedService>>;

impl Default for Plan {
    fn default() -> Self {
        Self {
            admin: (Ipv4Addr::LOCALHOST, 9600).into(),
            http: None,
            tls_self_signed: false,
            admin_tls: PlannedTls::default(),
            listeners: BTreeMap::new(),
            log: Log::default(),
            on_critical: OnCritical::default(),
            metrics_detail: MetricsDetail::default(),
            control: None,
            cache_dir: None,
            engine: PlannedEngine::default(),
            services: Services::new(),
        }
    }
}

/// How log records are written, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) written: Written,
}

/// How components are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedEngine {
    /// Services, each replica counted, that room is made for, at least.
    pub(crate) max_services: usize,
    pub(crate) config: EngineConfig,
}

/// One service to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedService {
    pub(crate) component: FilePath,
    /// What the component's file must be, if that is said.
    pub(crate) digest: Option<Digest>,
    /// When it is run, for a job that is not run at once.
    pub(crate) schedule: Option<Schedule>,
    pub(crate) args: Vec<Argument>,
    pub(crate) replicas: u32,
    pub(crate) critical: bool,
    pub(crate) depends_on: Vec<ServiceId>,
    /// What a crash of this service means for those that it is connected to by
    /// `depends_on`.
    pub(crate) strategy: Strategy,
    /// Besides what it subscribes to itself.
    pub(crate) subscribe: Vec<TopicFilter>,
    pub(crate) restart: Restart,
    pub(crate) mailbox: MailboxBounds,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) deadlines: Deadlines,
    pub(crate) probation: Duration,
    /// The requests that are for it.
    pub(crate) http: Vec<PlannedRoute>,
    /// The connections that are for it.
    pub(crate) stream: Vec<PlannedStream>,
    pub(crate) config: BTreeMap<String, Entry>,
    /// How its component is made, where that is said.
    pub(crate) build: Option<Build>,
}

impl Default for PlannedService {
    fn default() -> Self {
        Self {
            component: FilePath::default(),
            digest: None,
            schedule: None,
            args: vec![],
            replicas: 1,
            critical: true,
            depends_on: vec![],
            strategy: Strategy::default(),
            subscribe: vec![],
            restart: Restart::default(),
            mailbox: MailboxBounds::default(),
            grants: Grants::default(),
            limits: Limits::default(),
            deadlines: Deadlines::default(),
            probation: PROBATION,
            http: vec![],
            stream: vec![],
            config: BTreeMap::new(),
            build: None,
        }
    }
}

/// What a service may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    pub(crate) topics: TopicGrants,
    pub(crate) dirs: Vec<Directory>,
    pub(crate) env: Vec<Variable>,
    pub(crate) outbound: Vec<Peer>,
    pub(crate) buckets: Vec<Bucket>,
}

impl Grants {
    /// What the runtime is told of them.
    pub(crate) fn reach(&self) -> ron_runtime::Grants {
        let variable = |one: &Variable| {
            (
                one.name.clone(),
                one.value.as_ref().map(Secret::reveal).unwrap_or_default().to_owned(),
            )
        };
        let directory = |one: &Directory| ron_runtime::Directory {
            host: one.host.to_path_buf(),
            guest: one.guest.clone(),
            writable: one.writable,
        };
        ron_runtime::Grants {
            env: self.env.iter().map(variable).collect(),
            dirs: self.dirs.iter().map(directory).collect(),
            outbound: self.outbound.clone(),
            buckets: self.buckets.iter().map(|Bucket(name)| name.clone()).collect(),
            ..ron_runtime::Grants::default()
        }
    }
}

/// An argument of a program's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument(pub(crate) String);

/// A directory of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// As it was said: `HOST`, `HOST::GUEST`, either with `:rw`.
    pub(crate) said: String,
    pub(crate) host: FilePath,
    /// What the service calls it.
    pub(crate) guest: String,
    pub(crate) writable: bool,
}

/// A bucket of keys and values, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket(pub(crate) String);

/// A variable of a service's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// None for one of the host's that was not looked up yet.
    pub(crate) value: Option<Secret>,
    /// How it is shown: its name, and that it has a value of its own.
    pub(crate) shown: String,
}

/// One value of a service's configuration, as the service reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Open(String),
    Secret(Secret),
}

impl Entry {
    /// What the service reads.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Open(text) => text,
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

/// A text that is neither logged nor shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// For the service that it is meant for, and nobody else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Plan {
    /// Its services, each replica counted.
    pub(crate) fn replicas(&self) -> usize {
        self.services.values().map(|service| service.replicas as usize).sum()
    }

    /// The configuration of every service, as the kernel holds it.
    pub(crate) fn config(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.services.iter().map(|(id, service)| (id.to_string(), service.table())).collect()
    }

    /// Who shares a fate: for each service whose crash takes others along, a
    /// group that is a star around it. In one group of them all, the strategy of
    /// one would be everybody's.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut dependents: BTreeMap<&ServiceId, Vec<&ServiceId>> = BTreeMap::new();
        for (id, service) in &self.services {
            for on in &service.depends_on {
                dependents.entry(on).or_default().push(id);
            }
        }
        let up = |id: &ServiceId| dependents.get(id).into_iter().flatten().copied();
        let mut groups = Vec::new();
        for (id, service) in &self.services {
            let mut others: BTreeSet<&ServiceId> = BTreeSet::new();
            let mut open = vec![id];
            while let Some(one) = open.pop() {
                let down = self.services.get(one).into_iter().flat_map(|one| &one.depends_on);
                let next: Vec<&ServiceId> = match service.strategy {
                    Strategy::OneForOne => vec![],
                    Strategy::OneForAll => up(one).chain(down).collect(),
                    Strategy::RestForOne => up(one).collect(),
                };
                open.extend(next.into_iter().filter(|other| *other != id && others.insert(other)));
            }
            if !others.is_empty() {
                let others = others.into_iter().map(|other| (other.clone(), vec![id.clone()]));
                let members = std::iter::once((id.clone(), vec![])).chain(others).collect();
                groups.push(Group { strategy: Strategy::RestForOne, members });
            }
        }
        groups
    }
}

impl Plan {
    /// The services of which it is said what they run, which is all of them unless
    /// something is wrong.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&ServiceId, &Arc<PlannedService>)> {
        self.services.iter().filter(|(_, service)| !service.component.as_os_str().is_empty())
    }

    /// Every public listener, that of `http` among them.
    pub(crate) fn all_listeners(&self) -> BTreeMap<ListenerId, PlannedListener> {
        let http = self.http.map(|address| {
            let tls = PlannedTls { self_signed: self.tls_self_signed, ..PlannedTls::default() };
            let own = PlannedListener { bind: Some(address), tls, ..PlannedListener::default() };
            (ListenerId::http(), own)
        });
        self.listeners.clone().into_iter().chain(http).collect()
    }

    /// Whether that listener is for byte streams, which the routes from it say.
    pub(crate) fn is_for_streams(&self, listener: &ListenerId) -> bool {
        let mut routes = self.services.values().flat_map(|service| &service.stream);
        routes.any(|route| route.listener.as_ref() == Some(listener))
    }

    /// Whether requests lead from that listener anywhere.
    pub(crate) fn is_for_http(&self, listener: &ListenerId) -> bool {
        let mut routes = self.services.values().flat_map(|service| &service.http);
        let own = self.http.is_some() && *listener == ListenerId::http();
        own || routes.any(|route| route.listener.as_ref() == Some(listener))
    }
}

impl PlannedService {
    /// What the runtime is told that it may reach.
    pub(crate) fn reach(&self) -> ron_runtime::Grants {
        let args = self.args.iter().map(|argument| argument.0.clone()).collect();
        ron_runtime::Grants { args, ..self.grants.reach() }
    }

    /// Its configuration, as the kernel holds it.
    pub(crate) fn table(&self) -> BTreeMap<String, String> {
        let entries = self.config.iter();
        entries.map(|(key, entry)| (key.clone(), entry.text().to_owned())).collect()
    }

    /// What the supervisor is told of it, when that component runs.
    pub(crate) fn spec(&self, id: &ServiceId, digest: Digest) -> ServiceSpec {
        ServiceSpec {
            id: id.clone(),
            critical: self.critical,
            restart: self.restart,
            mailbox: self.mailbox,
            grants: self.grants.topics.clone().into(),
            subscribe: self.subscribe.clone(),
            deadlines: self.deadlines,
            version: digest.to_string().into(),
            replicas: self.replicas as usize,
            probation: self.probation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).expect("a name")
    }

    /// `web -> api -> db`, `job -> db`, and `cron` alone.
    fn plan(strategies: &[(&str, Strategy)]) -> Plan {
        let mut plan = Plan::default();
        for (name, on) in
            [("web", &["api"][..]), ("api", &["db"]), ("job", &["db"]), ("db", &[]), ("cron", &[])]
        {
            let strategy = strategies.iter().find(|(of, _)| *of == name);
            let service = PlannedService {
                depends_on: on.iter().map(|name| id(name)).collect(),
                strategy: strategy.map_or(Strategy::OneForOne, |(_, strategy)| *strategy),
                ..PlannedService::default()
            };
            plan.services.insert(id(name), Arc::new(service));
        }
        plan
    }

    #[test]
    fn a_strategy_is_of_the_service_that_crashes() {
        #[track_caller]
        fn check(strategies: &[(&str, Strategy)], crashed: &str, expected: &[&str]) {
            let groups = plan(strategies).groups();
            let affected: Vec<ServiceId> =
                groups.iter().flat_map(|group| group.affected(&id(crashed))).collect();
            assert_eq!(affected.iter().map(ServiceId::as_str).collect::<Vec<_>>(), expected);
        }
        use Strategy::{OneForAll, RestForOne};
        check(&[], "db", &[]);
        check(&[("db", RestForOne)], "db", &["api", "job", "web"]);
        check(&[("db", RestForOne)], "api", &[]);
        check(&[("api", RestForOne)], "api", &["web"]);
        check(&[("job", OneForAll)], "job", &["api", "db", "web"]);
        check(&[("job", OneForAll)], "db", &[]);
        check(&[("cron", OneForAll)], "cron", &[]);
        check(&[("db", RestForOne), ("web", OneForAll)], "web", &["api", "db", "job"]);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let entry = Entry::Secret(Secret::new("hunter2".into()));
        assert_eq!(entry.text(), "hunter2");
        assert!(!format!("{entry:?}").contains("hunter2"));
    }
}
