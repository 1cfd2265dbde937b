//! Every key of `ron.toml`: its name, what it is for, what it may be, and the
//! field it sets. The one place for that: checking, `config show`, the schema and
//! the names of environment variables are made from these tables, and defaults
//! are those of the fields.

use std::time::Duration;

use super::kind::{Key, Kind};
use crate::plan::{
    Build, Plan, PlannedListener, PlannedPair, PlannedRoute, PlannedService, PlannedStream,
};

const MS: Duration = Duration::from_millis(1);
const TENTH: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const CERT: &str = "a certificate";
const CERTS: &str = "certificates";
const KEY: &str = "a key";

/// The keys of a table about TLS.
macro_rules! tls {
    (|$of:ident| $tls:expr) => {
        &[
            Key {
                name: "cert",
                about: "Its certificate and those that lead to a root, in PEM",
                kind: Kind::MaybeFile(|$of| &mut $tls.pair.cert, CERT),
            },
            Key {
                name: "key",
                about: "The certificate's key, in PEM and not encrypted",
                kind: Kind::MaybeFile(|$of| &mut $tls.pair.key, KEY),
            },
            Key {
                name: "client_ca",
                about: "Who signs the certificates that clients must show; without it none is asked \
                        for",
                kind: Kind::MaybeFile(|$of| &mut $tls.client_ca, CERTS),
            },
            Key {
                name: "self_signed",
                about: "Whether the host makes a certificate at each start, for development",
                kind: Kind::Bool(|$of| &mut $tls.self_signed),
            },
        ]
    };
}

/// The tables that are not in [`HOST`], with what they are for.
pub(super) const DEFAULTS: (&str, &str) = ("defaults", "What services have that say nothing else");
pub(super) const SERVICE: (&str, &str) = ("service", "A table for each service, by its name");
pub(super) const LISTENER: (&str, &str) =
    ("listener", "A table for each public listener, by its name");
/// A listener's certificates by name.
pub(super) const SNI: (&str, &str) =
    ("sni", "The certificate for each name that a client may ask for, \"*.example\" among them");
/// A service's routes.
pub(super) const HTTP: (&str, &str) = ("http", "The requests that are for this service");
/// A service's routes of byte streams.
pub(super) const STREAM: (&str, &str) = ("stream", "The connections that are for this service");
/// How a service's component is made.
pub(super) const BUILD: (&str, &str) =
    ("build", "How its component is made, for ron-host build and ron-host dev");
/// A service's free-form values.
pub(super) const CONFIG: (&str, &str) = (
    "config",
    "What the service reads: a string as it stands, anything else as JSON. { file = \"...\" } and \
     { env = \"...\" } are secrets, and never shown",
);

/// Keys of the host, at the root.
pub(super) const HOST: &[Key<Plan>] = &[
    Key {
        name: "admin",
        about: "Where /metrics, /healthz and /readyz are served; port 0 picks a free one",
        kind: Kind::Address(|plan| &mut plan.admin),
    },
    Key {
        name: "http",
        about: "Where the one service that answers HTTP requests does so; port 0 picks a free one",
        kind: Kind::MaybeAddress(|plan| &mut plan.http),
    },
    Key {
        name: "admin_tls",
        about: "TLS of the admin listener",
        kind: Kind::Table(tls!(|plan| plan.admin_tls)),
    },
    Key {
        name: "log",
        about: "Log records, on standard error",
        kind: Kind::Table(&[
            Key {
                name: "format",
                about: "How they are written",
                kind: Kind::Choice(|plan| &mut plan.log.format),
            },
            Key {
                name: "level",
                about: "The least severe that are written",
                kind: Kind::Choice(|plan| &mut plan.log.written.level),
            },
            Key {
                name: "access",
                about: "Whether there is one for each HTTP request: method, path, status, bytes, \
                        duration, service, peer and id",
                kind: Kind::Bool(|plan| &mut plan.log.written.access),
            },
        ]),
    },
    Key {
        name: "on_critical",
        about: "What to do when a critical service gives up",
        kind: Kind::Choice(|plan| &mut plan.on_critical),
    },
    Key {
        name: "metrics_detail",
        about: "What /metrics shows of services: the series of each, or the sums over all of \
                them, without the label service",
        kind: Kind::Choice(|plan| &mut plan.metrics_detail),
    },
    Key {
        name: "control",
        about: "The socket on which ron-host ctl reaches the host; \
                $XDG_RUNTIME_DIR/ron-host/control.sock when not said, or \
                ron-host-UID/control.sock in the temporary directory",
        kind: Kind::Directory(|plan| &mut plan.control),
    },
    Key {
        name: "cache_dir",
        about: "Where compiled components are kept; $XDG_CACHE_HOME/ron-host or \
                ~/.cache/ron-host when not said",
        kind: Kind::Directory(|plan| &mut plan.cache_dir),
    },
    Key {
        name: "engine",
        about: "How components are run. The defaults are for many small services on Linux; a \
                change takes effect with the next start of the host",
        kind: Kind::Table(ENGINE),
    },
];

const ENGINE: &[Key<Plan>] = &[
    Key {
        name: "max_services",
        about: "The services, each replica counted, that the host makes room for at its start, \
                where there are to be more later than there are then. Each has room for a second \
                instance, which a swap takes",
        kind: Kind::Count(|plan| &mut plan.engine.max_services, 0, 1_000_000),
    },
    Key {
        name: "allocation",
        about: "Where instances are: in a pool, which is made at the start and quick; each for \
                itself; or in a pool if there is address space for one",
        kind: Kind::Choice(|plan| &mut plan.engine.config.allocation),
    },
    Key {
        name: "memory_reservation",
        about: "Address space for each linear memory. Below 4 GiB work on memory takes about twice \
                as long, and no memory grows past it",
        kind: Kind::Size(|plan| &mut plan.engine.config.memory_reservation, MIB, 4 * GIB),
    },
    Key {
        name: "copy_on_write",
        about: "Whether memories begin as images of their component that are copied where they are \
                written, which takes memory mappings and saves memory and time",
        kind: Kind::Bool(|plan| &mut plan.engine.config.copy_on_write),
    },
    Key {
        name: "keep_resident",
        about: "What of an instance's memory stays resident in the pool for the next one, where \
                Linux can tell what was written",
        kind: Kind::Size(|plan| &mut plan.engine.config.keep_resident, 0, GIB),
    },
    Key {
        name: "stack",
        about: "The stack of a guest's own code",
        kind: Kind::Size(|plan| &mut plan.engine.config.stack, 64 * KIB, 64 * MIB),
    },
    Key {
        name: "tick",
        about: "How often a guest that computes is looked at, for its deadline and to let others \
                run; in whole milliseconds",
        kind: Kind::Time(|plan| &mut plan.engine.config.tick, MS, TENTH),
    },
    Key {
        name: "workers",
        about: "Threads for guests and for clients of the public listeners; 0 is one for each \
                processor, and at least 2",
        kind: Kind::Count(|plan| &mut plan.engine.config.workers, 0, 1024),
    },
    Key {
        name: "request_instances",
        about: "Instances that answer HTTP requests, of all services together; one service has \
                three quarters at most",
        kind: Kind::Count(|plan| &mut plan.engine.config.request_instances, 1, 1_000_000),
    },
    Key {
        name: "connection_instances",
        about: "Instances for connections of byte streams, of all services together: one for each \
                connection, and one more is refused",
        kind: Kind::Count(|plan| &mut plan.engine.config.connection_instances, 1, 1_000_000),
    },
];

/// Keys of a public listener.
pub(super) const LISTENERS: &[Key<PlannedListener>] = &[
    Key {
        name: "bind",
        about: "Where it listens; port 0 picks a free one",
        kind: Kind::MaybeAddress(|listener| &mut listener.bind),
    },
    Key {
        name: "tls",
        about: "TLS; without it the listener speaks in clear",
        kind: Kind::Table(tls!(|listener| listener.tls)),
    },
    Key {
        name: "alpn",
        about: "The protocols that a TLS handshake offers to clients of byte streams; HTTP has its \
                own",
        kind: Kind::List(|listener| &mut listener.alpn),
    },
    Key {
        name: "limits",
        about: "What clients may do",
        kind: Kind::Table(&[
            Key {
                name: "connections",
                about: "Most connections; one more waits to be accepted",
                kind: Kind::Count(|listener| &mut listener.limits.connections, 1, 1_000_000),
            },
            Key {
                name: "per_ip",
                about: "Most of them of one client, an IPv4 address or the /64 of an IPv6 address; \
                        one more is closed",
                kind: Kind::Count(|listener| &mut listener.limits.per_ip, 1, 1_000_000),
            },
            Key {
                name: "requests",
                about: "Most requests that are being answered; one more is told 503",
                kind: Kind::Count(|listener| &mut listener.limits.requests, 1, 1_000_000),
            },
            Key {
                name: "requests_per_ip",
                about: "Most of them of one client, over all its connections; one more is told 429",
                kind: Kind::Count(|listener| &mut listener.limits.requests_per_ip, 1, 1_000_000),
            },
            Key {
                name: "rate",
                about: "Requests a second of one client, as many of them at once; one more is told \
                        429; 0 is no limit",
                kind: Kind::Count(|listener| &mut listener.limits.rate, 0, 1_000_000),
            },
            Key {
                name: "header_timeout",
                about: "For a request's headers, from the connection's start or their first byte",
                kind: Kind::Time(|listener| &mut listener.limits.header_timeout, MS, HOUR),
            },
            Key {
                name: "handshake_timeout",
                about: "For a TLS handshake",
                kind: Kind::Time(|listener| &mut listener.limits.handshake_timeout, MS, HOUR),
            },
            Key {
                name: "idle_timeout",
                about: "How long a connection may be without a request, a body without more of it, \
                        an answer without the client's taking more of it, and a byte stream \
                        without a byte either way",
                kind: Kind::Time(|listener| &mut listener.limits.idle_timeout, MS, HOUR),
            },
            Key {
                name: "body",
                about: "Most bytes of a request's body; more is told 413",
                kind: Kind::Size(|listener| &mut listener.limits.body, 0, 64 * GIB),
            },
            Key {
                name: "body_rate",
                about: "Bytes a second that a request's body has to come with, on average over \
                        the time that it is waited for beyond idle_timeout; what is slower is \
                        told 408; 0 is no limit",
                kind: Kind::Size(|listener| &mut listener.limits.body_rate, 0, GIB),
            },
        ]),
    },
];

/// Keys of a certificate in `sni`.
pub(super) const PAIR: &[Key<PlannedPair>] = &[
    Key {
        name: "cert",
        about: "The certificate and those that lead to a root, in PEM",
        kind: Kind::MaybeFile(|pair| &mut pair.cert, CERT),
    },
    Key {
        name: "key",
        about: "The certificate's key, in PEM and not encrypted",
        kind: Kind::MaybeFile(|pair| &mut pair.key, KEY),
    },
];

/// Keys of a service's route.
pub(super) const ROUTE: &[Key<PlannedRoute>] = &[
    Key {
        name: "listener",
        about: "The listener that they come to",
        kind: Kind::Text(|route| &mut route.listener),
    },
    Key {
        name: "host",
        about: "The host that they are for; any, when it is not said",
        kind: Kind::Text(|route| &mut route.host),
    },
    Key {
        name: "path",
        about: "What their path begins with, in whole segments; the service sees all of it",
        kind: Kind::Text(|route| &mut route.path),
    },
];

/// Keys of a service's route of byte streams.
pub(super) const STREAM_ROUTE: &[Key<PlannedStream>] = &[
    Key {
        name: "listener",
        about: "The listener that they come to, which is for byte streams then and not for HTTP",
        kind: Kind::Text(|route| &mut route.listener),
    },
    Key {
        name: "host",
        about: "The name that clients ask for in their TLS handshake; any or none, when it is not \
                said",
        kind: Kind::Text(|route| &mut route.host),
    },
];

/// Keys of how a component is made.
pub(super) const BUILDS: &[Key<Build>] = &[
    Key {
        name: "command",
        about: "What makes the component's file; run in this file's directory, where $RON_HOST is \
                the program ron-host",
        kind: Kind::Text(|build| &mut build.command),
    },
    Key {
        name: "watch",
        about: "What it is made from: a change of one is followed by a build in ron-host dev. A file; a \
                directory, of which everything counts but hidden files and what tools leave; or \
                \"*.EXT\", every file of that ending in a directory and below it",
        kind: Kind::List(|build| &mut build.watch),
    },
    Key {
        name: "tools",
        about: "What the command needs. A name is looked for on PATH, and the command that installs \
                it is told; a path is the project's own, and is installed by that command",
        kind: Kind::Tools(|build| &mut build.tools),
    },
];

/// Keys of one service alone.
pub(super) const OWN: &[Key<PlannedService>] = &[
    Key {
        name: "component",
        about: "The component's file, relative to this one",
        kind: Kind::File(|service| &mut service.component),
    },
    Key {
        name: "digest",
        about: "What the component's file must be; another is not loaded",
        kind: Kind::Digest(|service| &mut service.digest),
    },
    Key {
        name: "schedule",
        about: "When a job is run, as cron has it and in UTC; at once, and once, when not said",
        kind: Kind::Text(|service| &mut service.schedule),
    },
    Key {
        name: "args",
        about: "The arguments of its command line, after its name",
        kind: Kind::List(|service| &mut service.args),
    },
    Key {
        name: "replicas",
        about: "How many run at a time. They share the mailbox",
        kind: Kind::Count(|service| &mut service.replicas, 1, 64),
    },
    Key {
        name: "partition_by",
        about: "Which messages go to the same replica: none in particular, each to whichever is \
                free; or those to one topic, which wait for it while it is away. Another number of \
                replicas moves them",
        kind: Kind::Choice(|service| &mut service.mailbox.partition_by),
    },
    Key {
        name: "depends_on",
        about: "The services whose crash may take this one along; see strategy",
        kind: Kind::List(|service| &mut service.depends_on),
    },
    Key {
        name: "subscribe",
        about: "Topics that are delivered to it besides those that it subscribes to itself",
        kind: Kind::List(|service| &mut service.subscribe),
    },
    Key {
        name: "grants",
        about: "What it may reach",
        kind: Kind::Table(&[
            Key {
                name: "publish",
                about: "Topics it may publish to",
                kind: Kind::List(|service| &mut service.grants.topics.publish),
            },
            Key {
                name: "subscribe",
                about: "Topics it may subscribe to",
                kind: Kind::List(|service| &mut service.grants.topics.subscribe),
            },
            Key {
                name: "dirs",
                about: "Directories, relative to this file: HOST or HOST::GUEST, which is what \
                        the service calls it, read-only unless :rw follows",
                kind: Kind::List(|service| &mut service.grants.dirs),
            },
            Key {
                name: "env",
                about: "Its environment: NAME for a variable of the host's, or NAME=value, whose \
                        value is not shown",
                kind: Kind::List(|service| &mut service.grants.env),
            },
            Key {
                name: "outbound",
                about: "Whom on the network it may speak to: \"api.example:443\", \"10.0.0.5:8080\", \
                        \"[::1]:9000\"; without a port, at all. \"*.example.com\" and \"*\" are for \
                        public addresses alone",
                kind: Kind::List(|service| &mut service.grants.outbound),
            },
            Key {
                name: "buckets",
                about: "Buckets of wasi:keyvalue, by name, that it shares with whom they are \
                        granted too. In memory: each has at most 16 MiB, and goes with the host",
                kind: Kind::List(|service| &mut service.grants.buckets),
            },
        ]),
    },
];

/// Keys of a service that `[defaults]` has too.
pub(super) const SHARED: &[Key<PlannedService>] = &[
    Key {
        name: "critical",
        about: "Whether the host is not ready without it, and fails when it gives up",
        kind: Kind::Bool(|service| &mut service.critical),
    },
    Key {
        name: "strategy",
        about: "What its crash means for those that depends_on connects it to: nothing, a restart \
                of them all, or a restart of those that depend on it",
        kind: Kind::Choice(|service| &mut service.strategy),
    },
    Key {
        name: "restart",
        about: "When it is started again, and when no more",
        kind: Kind::Table(&[
            Key {
                name: "policy",
                about: "Which endings are followed by a new start",
                kind: Kind::Choice(|service| &mut service.restart.policy),
            },
            Key {
                name: "budget",
                about: "Most restarts within the period, and in a row; the next crash quarantines \
                        it",
                kind: Kind::Count(|service| &mut service.restart.budget, 0, 10_000),
            },
            Key {
                name: "within",
                about: "The period",
                kind: Kind::Time(|service| &mut service.restart.within, MS, DAY),
            },
            Key {
                name: "first_delay",
                about: "The delay before the second restart in a row; the first has none, and the \
                        others double it",
                kind: Kind::Time(|service| &mut service.restart.first_delay, MS, HOUR),
            },
            Key {
                name: "max_delay",
                about: "Where the doubling ends",
                kind: Kind::Time(|service| &mut service.restart.max_delay, MS, HOUR),
            },
            Key {
                name: "reset_after",
                about: "Running for so long makes the next crash the first in a row",
                kind: Kind::Time(|service| &mut service.restart.reset_after, MS, DAY),
            },
        ]),
    },
    Key {
        name: "mailbox",
        about: "What waits for it",
        kind: Kind::Table(&[
            Key {
                name: "messages",
                about: "Most messages",
                kind: Kind::Count(|service| &mut service.mailbox.messages, 1, 10_000_000),
            },
            Key {
                name: "bytes",
                about: "Most bytes of payload; one payload may have 1 MiB",
                kind: Kind::Size(|service| &mut service.mailbox.bytes, MIB, 64 * GIB),
            },
            Key {
                name: "overflow",
                about: "What goes when it is full, or that the publisher is refused",
                kind: Kind::Choice(|service| &mut service.mailbox.overflow),
            },
            Key {
                name: "max_deliveries",
                about: "How often a message is delivered before it is a dead letter",
                kind: Kind::Count(|service| &mut service.mailbox.max_deliveries, 1, 1000),
            },
            Key {
                name: "dead_letters",
                about: "Most dead letters that are kept",
                kind: Kind::Count(|service| &mut service.mailbox.dead_letters, 0, 1_000_000),
            },
        ]),
    },
    Key {
        name: "memory",
        about: "All its linear memories together",
        kind: Kind::Size(|service| &mut service.limits.memory, 64 * KIB, 4 * GIB),
    },
    Key {
        name: "table_elements",
        about: "Elements of all its tables together",
        kind: Kind::Count(|service| &mut service.limits.table_elements, 0, 20_000),
    },
    Key {
        name: "start_deadline",
        about: "How long it may take to start",
        kind: Kind::Time(|service| &mut service.deadlines.start, MS, HOUR),
    },
    Key {
        name: "handler_deadline",
        about: "How long it may take over a message, a batch or an event",
        kind: Kind::Time(|service| &mut service.limits.handler_deadline, MS, HOUR),
    },
    Key {
        name: "stop_deadline",
        about: "How long it may take to stop",
        kind: Kind::Time(|service| &mut service.deadlines.stop, MS, HOUR),
    },
    Key {
        name: "handover_deadline",
        about: "In a hot swap: how long it may take to finish what is in flight and save its \
                state, and again to read it",
        kind: Kind::Time(|service| &mut service.deadlines.handover, MS, HOUR),
    },
    Key {
        name: "probation",
        about: "How long a crash of a version that took over brings the one before back",
        kind: Kind::Time(|service| &mut service.probation, MS, DAY),
    },
    Key {
        name: "state_bytes",
        about: "The state that it may hand over in a hot swap",
        kind: Kind::Size(|service| &mut service.limits.state_bytes, 0, GIB),
    },
    Key {
        name: "resources",
        about: "Streams, pollables and other resources of the host that it may hold at a time",
        kind: Kind::Count(|service| &mut service.limits.resources, 1, 1_000_000),
    },
    Key {
        name: "hostcall_bytes",
        about: "What one call may have the host allocate for its arguments",
        kind: Kind::Size(|service| &mut service.limits.hostcall_bytes, MIB, GIB),
    },
    Key {
        name: "log_records",
        about: "Log records a second; ten times as many in a burst",
        kind: Kind::Count(|service| &mut service.limits.log_records, 0, 1_000_000),
    },
    Key {
        name: "log_bytes",
        about: "One log record; the rest is cut",
        kind: Kind::Size(|service| &mut service.limits.log_bytes, 64, MIB),
    },
    Key {
        name: "metric_series",
        about: "Series of its own metrics",
        kind: Kind::Count(|service| &mut service.limits.metric_series, 0, 100_000),
    },
    Key {
        name: "publish_rate",
        about: "Messages it may publish a second; a tenth of that in a burst",
        kind: Kind::Count(|service| &mut service.limits.publish_rate, 0, 1_000_000_000),
    },
    Key {
        name: "outgoing_requests",
        about: "HTTP requests that it may have under way to others at a time",
        kind: Kind::Count(|service| &mut service.limits.outgoing_requests, 0, 100_000),
    },
];
