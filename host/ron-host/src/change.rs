//! What it takes to get from one plan to another. Pure: it says what is to be
//! done and does nothing.
//!
//! Plans are taken apart field by field and without `..`, so that a field more
//! does not compile before somebody says here what its change means.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use imbl::ordmap::DiffItem;
use ron_kernel::ServiceId;
use ron_kernel::message::MailboxBounds;
use serde::Serialize;

use crate::plan::{Log, Plan, PlannedService};

/// All that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    /// The host's own keys, in the order of the file.
    pub(crate) host: Vec<HostChange>,
    /// The services that do not just stay.
    pub(crate) services: BTreeMap<ServiceName, Change>,
    /// How many do.
    pub(crate) stay: usize,
    /// Those of which the last swap was put back, though it is still wanted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) put_back: BTreeMap<ServiceName, Again>,
}

/// A swap that was put back, and is to be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Again {
    /// Why it was put back.
    pub(crate) why: String,
    /// The keys that it changes.
    pub(crate) because: Vec<&'static str>,
    /// In how many seconds it is made without being forced; now, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) again_in_s: Option<u64>,
}

/// A service, which is written by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceName(pub(crate) ServiceId);

impl Borrow<ServiceId> for ServiceName {
    fn borrow(&self) -> &ServiceId {
        &self.0
    }
}

impl Serialize for ServiceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// A change of the host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostChange {
    /// The admin listener is bound to another address.
    Admin,
    /// HTTP requests are listened for at another address, or no more.
    Http,
    /// The admin listener's TLS is another.
    AdminTls,
    /// Public listeners come, go or change.
    Listeners,
    /// Another set of log records is written.
    LogLevel,
    /// What happens when a critical service gives up.
    OnCritical,
    /// Metrics show more or less of services.
    MetricsDetail,
    /// Log records look different, from the next start of the host on.
    LogFormat,
    /// The control socket is elsewhere, from the next start of the host on.
    Control,
    /// Compiled components are kept elsewhere, from the next start of the host on.
    CacheDir,
    /// The engine is set in another way, from the next start of the host on.
    Engine,
}

/// What becomes of one service; of one that stays, nothing is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub(crate) enum Change {
    /// It is new.
    Start,
    /// It is no more.
    Stop,
    /// Values of its configuration alone: it is told, and reads anew.
    Configure,
    /// Around the instance, which does not notice but for values of its
    /// configuration that change along.
    InPlace {
        /// The keys that changed.
        because: Vec<&'static str>,
    },
    /// A new instance takes over; all else that changed comes with it.
    Swap {
        /// The keys that changed.
        because: Vec<&'static str>,
    },
}

/// What the change of a key asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Configure,
    InPlace,
    Swap,
}

impl Change {
    /// Whether one of these keys is another than it was.
    pub(crate) fn concerns(&self, keys: &[&str]) -> bool {
        match self {
            Self::Start | Self::Stop => true,
            Self::Configure => keys.contains(&"config"),
            Self::InPlace { because } | Self::Swap { because } => {
                because.iter().any(|key| keys.contains(key))
            }
        }
    }
}

impl Changes {
    /// What it takes to get from `old` to `new`.
    pub(crate) fn between(old: &Plan, new: &Plan) -> Self {
        let Plan {
            admin,
            http,
            // A flag, which does not change.
            tls_self_signed: _,
            admin_tls,
            listeners,
            log: Log { format, written },
            on_critical,
            metrics_detail,
            control,
            cache_dir,
            engine,
            services,
        } = old;
        let host = [
            (HostChange::Admin, *admin != new.admin),
            (HostChange::Http, *http != new.http),
            (HostChange::AdminTls, *admin_tls != new.admin_tls),
            (HostChange::Listeners, *listeners != new.listeners),
            (HostChange::LogLevel, *written != new.log.written),
            (HostChange::OnCritical, *on_critical != new.on_critical),
            (HostChange::MetricsDetail, *metrics_detail != new.metrics_detail),
            (HostChange::LogFormat, *format != new.log.format),
            (HostChange::Control, *control != new.control),
            (HostChange::CacheDir, *cache_dir != new.cache_dir),
            (HostChange::Engine, *engine != new.engine),
        ];
        let host = host.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what);
        let mut changes = Self {
            host: host.collect(),
            services: BTreeMap::new(),
            stay: new.services.len(),
            put_back: BTreeMap::new(),
        };
        for differs in services.diff(&new.services) {
            match differs {
                DiffItem::Add(id, _) => changes.insert(id, Change::Start),
                DiffItem::Remove(id, _) => {
                    changes.services.insert(ServiceName(id.clone()), Change::Stop);
                }
                DiffItem::Update { old: (_, old), new: (id, new) } => {
                    if let Some(change) = service(old, new) {
                        changes.insert(id, change);
                    }
                }
            }
        }
        changes
    }

    /// What becomes of a service, if it does not just stay.
    pub(crate) fn of(&self, id: &ServiceId) -> Option<&Change> {
        self.services.get(id)
    }

    /// A service of the new plan is to be changed.
    pub(crate) fn insert(&mut self, id: &ServiceId, change: Change) {
        if self.services.insert(ServiceName(id.clone()), change).is_none() {
            self.stay -= 1;
        }
    }

    /// The services that do not just stay.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.keys().map(|ServiceName(id)| id)
    }

    /// Whether nothing is to be done, now.
    pub(crate) fn is_empty(&self) -> bool {
        self.host.is_empty() && self.services.is_empty()
    }
}

/// The keys in which they differ.
pub(crate) fn differs(old: &PlannedService, new: &PlannedService) -> Vec<&'static str> {
    match service(old, new) {
        Some(Change::InPlace { because } | Change::Swap { because }) => because,
        Some(Change::Configure) => vec!["config"],
        Some(Change::Start | Change::Stop) | None => vec![],
    }
}

/// What became of `onto` where `later` changed what was `base`: each key as `later` has
/// it where that is another than in `base`, and as `onto` has it elsewhere.
pub(crate) fn rebase(
    base: &PlannedService,
    onto: &PlannedService,
    later: &PlannedService,
) -> PlannedService {
    macro_rules! each {
        ($($key:ident),* $(,)?) => {
            PlannedService {
                $($key: if later.$key == base.$key { &onto.$key } else { &later.$key }.clone(),)*
            }
        };
    }
    each! {
        component, digest, schedule, args, replicas, critical, depends_on, strategy, subscribe,
        restart, mailbox, grants, limits, deadlines, probation, http, stream, config, build,
    }
}

fn service(old: &PlannedService, new: &PlannedService) -> Option<Change> {
    let PlannedService {
        component,
        digest,
        schedule,
        args,
        replicas,
        critical,
        depends_on,
        strategy,
        subscribe,
        restart,
        mailbox,
        grants,
        limits,
        deadlines,
        probation,
        http,
        stream,
        config,
        // What made the component is not what runs.
        build: _,
    } = old;
    let keys = [
        ("component", Reach::Swap, *component != new.component),
        ("digest", Reach::Swap, *digest != new.digest),
        ("schedule", Reach::Swap, *schedule != new.schedule),
        ("args", Reach::Swap, *args != new.args),
        ("limits", Reach::Swap, *limits != new.limits),
        ("deadlines", Reach::Swap, *deadlines != new.deadlines),
        ("grants", Reach::Swap, *grants != new.grants),
        ("http", Reach::InPlace, *http != new.http),
        ("stream", Reach::InPlace, *stream != new.stream),
        ("replicas", Reach::InPlace, *replicas != new.replicas),
        ("probation", Reach::InPlace, *probation != new.probation),
        ("critical", Reach::InPlace, *critical != new.critical),
        ("depends_on", Reach::InPlace, *depends_on != new.depends_on),
        ("strategy", Reach::InPlace, *strategy != new.strategy),
        ("subscribe", Reach::InPlace, *subscribe != new.subscribe),
        ("restart", Reach::InPlace, *restart != new.restart),
        (
            "mailbox",
            Reach::InPlace,
            MailboxBounds { partition_by: new.mailbox.partition_by, ..*mailbox } != new.mailbox,
        ),
        ("partition_by", Reach::InPlace, mailbox.partition_by != new.mailbox.partition_by),
        ("config", Reach::Configure, *config != new.config),
    ];
    let changed = || keys.iter().filter(|(_, _, changed)| *changed);
    let because = || changed().map(|(key, _, _)| *key).collect();
    let reach = changed().map(|(_, reach, _)| *reach).max()?;
    Some(match reach {
        Reach::Configure => Change::Configure,
        Reach::InPlace => Change::InPlace { because: because() },
        Reach::Swap => Change::Swap { because: because() },
    })
}

impl fmt::Display for HostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "the admin listener is bound to another address",
            Self::Http => "the HTTP listener is bound to another address",
            Self::AdminTls => "the admin listener's TLS changes",
            Self::Listeners => "the public listeners change",
            Self::LogLevel => "another set of log records is written",
            Self::OnCritical => "on_critical changes",
            Self::MetricsDetail => "metrics_detail changes",
            Self::LogFormat => "log.format changes with the next start of the host",
            Self::Control => "control changes with the next start of the host",
            Self::CacheDir => "cache_dir changes with the next start of the host",
            Self::Engine => "engine changes with the next start of the host",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("starts"),
            Self::Stop => f.write_str("stops"),
            Self::Configure => f.write_str("gets new config"),
            Self::InPlace { because } => write!(f, "changes in place: {}", because.join(", ")),
            Self::Swap { because } => write!(f, "is swapped: {}", because.join(", ")),
        }
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, because, again_in_s } = self;
        write!(f, "was put back: {why}; ")?;
        match again_in_s {
            None => f.write_str("is swapped again")?,
            Some(seconds) => {
                let minutes = seconds.div_ceil(60);
                write!(f, "would be swapped again with --force, or in {minutes} min")?;
            }
        }
        write!(f, ": {}", because.join(", "))
    }
}

/// A line for each change; of services that stay, their number.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.host {
            writeln!(f, "host     {change}")?;
        }
        let held = self.put_back.keys().filter(|name| !self.services.contains_key(*name));
        let stay = self.stay - held.count();
        let names: BTreeSet<_> = self.services.keys().chain(self.put_back.keys()).collect();
        for name @ ServiceName(id) in names {
            let (change, again) = (self.services.get(name), self.put_back.get(name));
            match (change, again) {
                // It says so itself.
                (Some(Change::Swap { .. }), Some(Again { again_in_s: None, .. })) | (None, _) => {}
                (Some(change), _) => writeln!(f, "service  {id} {change}")?,
            }
            if let Some(again) = again {
                writeln!(f, "service  {id} {again}")?;
            }
        }
        write!(f, "{stay} service{}", if stay == 1 { " stays" } else { "s stay" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use ron_kernel::message::PartitionBy;
    use ron_kernel::supervisor::Strategy as GroupStrategy;
    use ron_kernel::topic::TopicFilter;
    use serde_json::json;

    use super::*;
    use crate::cli::{MetricsDetail, OnCritical};
    use crate::logging::{Format, Level};
    use crate::plan::{Argument, Entry, Secret, Variable};

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).expect("a name")
    }

    fn plan(names: &[&str]) -> Plan {
        let own = |name: &&str| (id(name), Arc::new(PlannedService::default()));
        Plan { services: names.iter().map(own).collect(), ..Plan::default() }
    }

    fn own<'p>(plan: &'p mut Plan, name: &str) -> &'p mut PlannedService {
        Arc::make_mut(plan.services.get_mut(&id(name)).expect("it is there"))
    }

    #[test]
    fn a_change_reaches_as_far_as_its_key() {
        #[track_caller]
        fn check(change: impl Fn(&mut PlannedService), expected: &str) {
            let old = plan(&["a"]);
            let mut new = old.clone();
            change(own(&mut new, "a"));
            let changes = Changes::between(&old, &new);
            let told = changes.of(&id("a")).map_or("stays".into(), ToString::to_string);
            assert_eq!(told, expected);
        }
        let set = |entry: Entry| {
            move |one: &mut PlannedService| drop(one.config.insert("k".into(), entry.clone()))
        };
        check(|_| {}, "stays");
        check(|one| one.component = "x.wasm".into(), "is swapped: component");
        check(|one| one.digest = Some(ron_runtime::Digest::of(b"")), "is swapped: digest");
        let schedule = || "* * * * *".parse().expect("a schedule");
        check(|one| one.schedule = Some(schedule()), "is swapped: schedule");
        check(|one| one.args.push(Argument("x".into())), "is swapped: args");
        let variable = |value: &str| Variable {
            name: "A".into(),
            value: Some(Secret::new(value.into())),
            shown: "A=***".into(),
        };
        check(|one| one.grants.env.push(variable("1")), "is swapped: grants");
        check(|one| one.limits.memory += 1, "is swapped: limits");
        check(|one| one.deadlines.start = Duration::ZERO, "is swapped: deadlines");
        check(|one| one.grants.topics.publish.clear(), "is swapped: grants");
        check(|one| one.replicas = 2, "changes in place: replicas");
        check(
            |one| one.mailbox.partition_by = PartitionBy::Topic,
            "changes in place: partition_by",
        );
        check(|one| one.critical = false, "changes in place: critical");
        check(|one| one.depends_on.push(id("b")), "changes in place: depends_on");
        check(|one| one.strategy = GroupStrategy::OneForAll, "changes in place: strategy");
        check(|one| one.subscribe.push(TopicFilter::all()), "changes in place: subscribe");
        check(|one| one.restart.budget += 1, "changes in place: restart");
        check(|one| one.mailbox.messages += 1, "changes in place: mailbox");
        check(set(Entry::Open("v".into())), "gets new config");
        check(set(Entry::Secret(Secret::new("v".into()))), "gets new config");
        check(
            |one| {
                one.mailbox.bytes += 1;
                set(Entry::Open("v".into()))(one);
            },
            "changes in place: mailbox, config",
        );
        check(
            |one| {
                one.limits.resources += 1;
                one.critical = false;
                set(Entry::Open("v".into()))(one);
            },
            "is swapped: limits, critical, config",
        );
    }

    #[test]
    fn services_come_and_go() {
        let mut new = plan(&["b", "c", "d"]);
        own(&mut new, "d").limits.memory += 1;
        new.admin.set_port(1);
        let old = plan(&["a", "b", "d"]);
        let changes = Changes::between(&old, &new);
        assert_eq!(
            changes.to_string(),
            "host     the admin listener is bound to another address\n\
             service  a stops\n\
             service  c starts\n\
             service  d is swapped: limits\n\
             1 service stays"
        );
        assert_eq!(
            serde_json::to_value(&changes).expect("JSON"),
            json!({
                "host": ["admin"],
                "services": {
                    "a": {"action": "stop"},
                    "c": {"action": "start"},
                    "d": {"action": "swap", "because": ["limits"]},
                },
                "stay": 1,
            })
        );
    }

    /// What a swap brought is undone, and what came after it is not.
    #[test]
    fn what_is_put_back_keeps_what_came_after_it() {
        let service = |component: &str, messages: usize, config: &str| {
            let mut one = PlannedService { component: component.into(), ..Default::default() };
            one.mailbox.messages = messages;
            one.config.insert("k".into(), Entry::Open(config.into()));
            one
        };
        let before = service("v1", 10, "one");
        #[track_caller]
        fn check(
            before: &PlannedService,
            tried: &PlannedService,
            now: &PlannedService,
            expected: &PlannedService,
        ) {
            assert_eq!(rebase(tried, before, now), *expected);
        }
        let tried = service("v2", 10, "two");
        check(&before, &tried, &tried, &before);
        check(&before, &tried, &service("v2", 3, "two"), &service("v1", 3, "one"));
        check(&before, &tried, &service("v2", 10, "three"), &service("v1", 10, "three"));
        assert_eq!(differs(&before, &service("v2", 3, "one")), ["component", "mailbox"]);
    }

    #[test]
    fn what_was_put_back_is_told_with_what_becomes_of_it() {
        let mut new = plan(&["a", "b", "c"]);
        let old = new.clone();
        own(&mut new, "b").limits.memory += 1;
        let mut changes = Changes::between(&old, &new);
        let again =
            |again_in_s| Again { why: "it crashed".into(), because: vec!["component"], again_in_s };
        changes.put_back.insert(ServiceName(id("a")), again(Some(61)));
        changes.put_back.insert(ServiceName(id("b")), again(None));
        assert_eq!(
            changes.to_string(),
            "service  a was put back: it crashed; would be swapped again with --force, or in \
             2 min: component\n\
             service  b was put back: it crashed; is swapped again: component\n\
             1 service stays"
        );
        assert_eq!(
            serde_json::to_value(&changes.put_back).expect("JSON"),
            json!({
                "a": {"why": "it crashed", "because": ["component"], "again_in_s": 61},
                "b": {"why": "it crashed", "because": ["component"]},
            })
        );
    }

    #[test]
    fn each_key_of_the_host_is_told() {
        #[track_caller]
        fn check(change: impl Fn(&mut Plan), expected: HostChange) {
            let mut new = Plan::default();
            change(&mut new);
            assert_eq!(Changes::between(&Plan::default(), &new).host, [expected]);
        }
        check(|plan| plan.admin.set_port(1), HostChange::Admin);
        check(|plan| plan.http = Some(([127, 0, 0, 1], 1).into()), HostChange::Http);
        check(|plan| plan.log.written.level = Level::Debug, HostChange::LogLevel);
        check(|plan| plan.log.format = Format::Json, HostChange::LogFormat);
        check(|plan| plan.on_critical = OnCritical::Unready, HostChange::OnCritical);
        let host = MetricsDetail::Host;
        check(|plan| plan.metrics_detail = host, HostChange::MetricsDetail);
        check(|plan| plan.control = Some("x".into()), HostChange::Control);
        check(|plan| plan.cache_dir = Some("x".into()), HostChange::CacheDir);
        check(|plan| plan.engine.max_services = 7, HostChange::Engine);
    }

    prop_compose! {
        fn any_service()(
            memory in 0..3u64,
            messages in 1..3usize,
            critical: bool,
            config in prop::collection::btree_map("[ab]", "[ab]".prop_map(Entry::Open), 0..2),
        ) -> PlannedService {
            let mut service = PlannedService { critical, config, ..PlannedService::default() };
            service.limits.memory = memory;
            service.mailbox.messages = messages;
            service
        }
    }

    prop_compose! {
        fn any_plan()(
            services in prop::collection::btree_map(
                "[a-d]".prop_map(|name| id(&name)), any_service(), 0..4),
            port in 1..3u16,
        ) -> Plan {
            let services = services.into_iter().map(|(id, one)| (id, Arc::new(one))).collect();
            let mut plan = Plan { services, ..Plan::default() };
            plan.admin.set_port(port);
            plan
        }
    }

    proptest! {
        #[test]
        fn equal_plans_are_those_between_which_nothing_changes(old in any_plan(), new in any_plan()) {
            prop_assert!(Changes::between(&old, &old.clone()).is_empty());
            prop_assert_eq!(Changes::between(&old, &new).is_empty(), old == new);
        }

        #[test]
        fn every_service_of_either_plan_changes_or_stays(old in any_plan(), new in any_plan()) {
            let changes = Changes::between(&old, &new);
            for (ServiceName(id), change) in &changes.services {
                let (was, is) = (old.services.get(id), new.services.get(id));
                match change {
                    Change::Start => prop_assert!(was.is_none() && is.is_some()),
                    Change::Stop => prop_assert!(was.is_some() && is.is_none()),
                    Change::Configure | Change::InPlace { .. } | Change::Swap { .. } => {
                        prop_assert!(was.is_some() && is.is_some() && was != is);
                    }
                }
            }
            let stays = |id: &&ServiceId| changes.of(id).is_none();
            let stay: Vec<_> = new.services.keys().filter(stays).collect();
            prop_assert_eq!(changes.stay, stay.len());
            prop_assert!(stay.iter().all(|id| old.services.get(*id) == new.services.get(*id)));
            let gone = |id: &&ServiceId| !new.services.contains_key(*id);
            for id in old.services.keys().filter(gone) {
                prop_assert_eq!(changes.of(id), Some(&Change::Stop));
            }
        }
    }
}
