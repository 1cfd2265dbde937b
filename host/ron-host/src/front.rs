//! The public listeners of a deployment, and the services that they lead to.
//!
//! What can fail is staged first: sockets are bound, certificates are read, and it is
//! found which services answer. What is committed then cannot fail. A listener whose
//! limits change, or that gets TLS, keeps its socket: who accepts is replaced, and the
//! connections of the one before are drained.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use ron_kernel::metrics::{HttpMethod, Observation, StatusClass};
use ron_kernel::{Metrics, ServiceId};
use ron_runtime::{Gate, Kind};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::exit::Failure;
use crate::gates::Gates;
use crate::listener::{
    Answer, Connect, Host, Listener, PathPrefix, RequestBody, RequestPlace, ResponseBody, Route,
    RouteTable, Routes, Running, Streams, Unanswered,
};
use crate::plan::{ListenerId, Plan, PlannedListener, Tls};
use crate::settings::Unfit;

mod bound;
mod certified;
mod streams;

pub(crate) use bound::{Bound, unbound};
pub(crate) use certified::{Certified, Expiries, Own, Said, Staged as StagedTls};
use streams::Connecting;
pub(crate) use streams::show_traffic;

/// How long requests under way may take when their listener goes.
const GRACE: Duration = Duration::from_secs(10);

/// See this module's header.
pub(crate) struct Front {
    /// Where connections are served: on the threads of those that answer, since each
    /// request that went from one set of threads to another and back would wait twice for
    /// a thread to wake.
    threads: Handle,
    gates: Gates,
    metrics: Metrics,
    open: BTreeMap<ListenerId, Open>,
    certified: Expiries,
    /// The host ends: what is opened no more stays closed.
    closed: bool,
}

/// A listener that accepts.
struct Open {
    planned: PlannedListener,
    bound: Bound,
    certified: Certified,
    routes: Table,
    running: Running,
}

/// Where a listener leads, which is for HTTP or for byte streams.
#[derive(Clone)]
enum Table {
    Http(RouteTable),
    Streams(RouteTable<dyn Connect>),
}

impl Table {
    /// One that leads nowhere yet.
    fn new(for_streams: bool) -> Self {
        match for_streams {
            true => Self::Streams(RouteTable::default()),
            false => Self::Http(RouteTable::default()),
        }
    }

    fn is_for_streams(&self) -> bool {
        matches!(self, Self::Streams(_))
    }
}

/// Listeners that can be opened, or changed.
#[derive(Default)]
pub(crate) struct Staged(BTreeMap<ListenerId, StagedListener>);

struct StagedListener {
    planned: PlannedListener,
    bound: Bound,
    tls: StagedTls,
    /// It is for byte streams, and not for HTTP.
    for_streams: bool,
    /// For whoever replaces who accepts for it now; there, if anybody does.
    socket: Option<TcpListener>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// Bytes as they come.
    Stream,
}

/// Where a listener leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    host: Option<Host>,
    path: PathPrefix,
    pub(crate) service: ServiceId,
}

impl Way {
    /// The same, with what answers at its end.
    fn to<A: ?Sized>(&self, answer: Arc<A>) -> Route<A> {
        let (host, path) = (self.host.clone(), self.path.clone());
        Route { host, path, service: self.service.clone(), answer }
    }
}

/// The ways from each listener.
pub(crate) type Ways = BTreeMap<ListenerId, Vec<Way>>;

impl Staged {
    /// Whether a listener is opened.
    pub(crate) fn is_new(&self) -> bool {
        self.0.values().any(|staged| staged.socket.is_some())
    }
}

impl Front {
    /// One that listens nowhere yet, and serves on those threads.
    pub(crate) fn new(
        threads: Handle,
        gates: Gates,
        metrics: Metrics,
        certified: Expiries,
    ) -> Self {
        Self { threads, gates, metrics, open: BTreeMap::new(), certified, closed: false }
    }

    /// Whether that listener has certificates from there.
    pub(crate) fn knows(&self, listener: &str, source: &Tls) -> bool {
        let open = self.open.iter().find(|(id, _)| id.as_str() == listener);
        open.is_some_and(|(_, open)| open.certified.is_from(source))
    }

    /// Everything that may fail of having these listeners, and no others: an address that
    /// cannot be listened on and a file of TLS that is wrong are `unfit`, and not staged.
    ///
    /// # Errors
    ///
    /// When the host has no certificate of its own.
    pub(crate) fn stage(
        &self,
        plan: &Plan,
        own: &mut Own,
        unfit: &mut Vec<Unfit>,
    ) -> Result<Staged, Failure> {
        // Who accepts is registered there.
        let _threads = self.threads.enter();
        let mut staged = Staged::default();
        for (id, planned) in plan.all_listeners() {
            let own_table = format!("listener.{id}");
            let (table, bind) = match plan.listeners.contains_key(&id) {
                true => (own_table.as_str(), format!("{own_table}.bind")),
                // That of `--http`.
                false => ("http", "http".to_owned()),
            };
            let Some(address) = planned.bind else { continue };
            let before = self.open.get(&id);
            let same = before.filter(|before| before.planned.bind == planned.bind);
            let (bound, moved) = match same {
                Some(before) => (before.bound.again(), false),
                None => (self.bind(address), true),
            };
            let bound = match bound {
                Ok(bound) => Some(bound),
                Err(error) => {
                    unfit.push(unbound(&bind, address, &error));
                    None
                }
            };
            let for_streams = plan.is_for_streams(&id);
            let other = before.is_some_and(|before| {
                before.routes.is_for_streams() != for_streams || before.planned.alpn != planned.alpn
            });
            let before = before.map(|before| (&before.certified, &before.planned.limits));
            let certified = before.map(|(certified, _)| certified);
            let said = Said { listener: id.as_str(), table, tls: "tls" };
            let tls = StagedTls::read(planned.source(), certified, own, &said, unfit)?;
            let (Some(bound), Some(tls)) = (bound, tls) else { continue };
            let anew = moved
                || other
                || before.is_none_or(|(certified, limits)| {
                    !tls.replaces(certified) || *limits != planned.limits
                });
            let socket = anew.then(|| bound.listener()).transpose();
            match socket {
                Ok(socket) => {
                    let listener = StagedListener { planned, bound, tls, for_streams, socket };
                    staged.0.insert(id, listener);
                }
                Err(error) => unfit.push(unbound(&bind, address, &error)),
            }
        }
        Ok(staged)
    }

    /// The socket at that address. Another listener may have it, and lose it.
    fn bind(&self, address: SocketAddr) -> std::io::Result<Bound> {
        let mut all = self.open.values();
        let there = all.find(|open| address.port() != 0 && open.planned.bind == Some(address));
        there.map_or_else(|| Bound::at(address), |open| open.bound.again())
    }

    /// Listens so from now on; gives the listeners that are no more, to be drained. There
    /// are `ways`, unless they are what they were and no listener is [new](Staged::is_new).
    pub(crate) fn commit(&mut self, staged: Staged, ways: Option<&Ways>) -> Vec<Running> {
        if self.closed {
            return vec![];
        }
        let threads = self.threads.clone();
        let _threads = threads.enter();
        let mut before = std::mem::take(&mut self.open);
        let mut left = Vec::new();
        for (id, StagedListener { planned, bound, tls, for_streams, socket }) in staged.0 {
            let certified = tls.commit(id.as_str());
            let open = match (before.remove(&id), socket) {
                (Some(open), None) => Open { planned, certified, ..open },
                (before, socket) => {
                    let routes = Table::new(for_streams);
                    let (limits, metrics) = (planned.limits.clone(), self.metrics.clone());
                    let certificates = certified.certificates().cloned();
                    self.fill(&routes, ways.and_then(|ways| ways.get(&id)));
                    let listener = match routes.clone() {
                        Table::Http(routes) => Listener::new(limits, routes, certificates, metrics),
                        Table::Streams(routes) => {
                            let alpn = planned.alpn.iter().map(|alpn| alpn.0.clone()).collect();
                            let streams = Streams { listener: id.to_string(), alpn, routes };
                            Listener::of_streams(limits, streams, certificates, metrics)
                        }
                    };
                    let socket = socket.map_or_else(|| bound.listener(), Ok);
                    let running = socket.and_then(|socket| listener.serve(socket));
                    left.extend(before.map(|before| before.running));
                    match running {
                        Ok(running) => Open { planned, bound, certified, routes, running },
                        Err(error) => {
                            // It was staged a moment ago, and has no address any more.
                            tracing::error!(listener = %id, %error, "cannot be listened on");
                            continue;
                        }
                    }
                }
            };
            self.open.insert(id, open);
        }
        left.extend(before.into_values().map(|open| open.running));
        if let Some(ways) = ways {
            self.lead(ways);
        }
        let open = self.open.iter().map(|(id, open)| (id.clone(), open.certified.clone()));
        self.certified.replace(open);
        self.note();
        left
    }

    /// Has `/readyz?verbose` say which listeners show a certificate that is not the one in
    /// their files.
    fn note(&self) {
        let refused = self.refused();
        let note = (!refused.is_empty()).then(|| refused.join("; "));
        self.metrics.health().note("certificates", note);
    }

    /// The listeners that show a certificate that is not the one in their files, and why.
    pub(crate) fn refused(&self) -> Vec<String> {
        let refused = self.open.iter().filter_map(|(id, open)| {
            open.certified.refused().map(|why| format!("{id} keeps the one before: {why}"))
        });
        refused.collect()
    }

    /// Requests go these ways from now on.
    pub(crate) fn lead(&self, ways: &Ways) {
        for (id, open) in &self.open {
            self.fill(&open.routes, ways.get(id));
        }
    }

    fn fill(&self, table: &Table, ways: Option<&Vec<Way>>) {
        let ways = ways.into_iter().flatten();
        let filled = match table {
            Table::Http(table) => Routes::new(ways.map(|way| {
                let (gate, metrics) = (self.gates.of(&way.service), self.metrics.clone());
                way.to::<dyn Answer>(Arc::new(Behind {
                    gate,
                    service: way.service.clone(),
                    metrics,
                }))
            }))
            .map(|routes| table.replace(routes)),
            Table::Streams(table) => Routes::new(ways.map(|way| {
                let (gate, service) = (self.gates.of(&way.service), way.service.clone());
                way.to::<dyn Connect>(Arc::new(Connecting { gate, service }))
            }))
            .map(|routes| table.replace(routes)),
        };
        if let Err(twice) = filled {
            // The settings have looked for it.
            tracing::error!("routes stay as they were: {twice}");
        }
    }

    /// Listens nowhere from now on; gives what there was.
    pub(crate) fn close(&mut self) -> Vec<Running> {
        self.closed = true;
        std::mem::take(&mut self.open).into_values().map(|open| open.running).collect()
    }

    /// Where each listens, as a client names it, and what it is for.
    pub(crate) fn urls(&self) -> Vec<(&ListenerId, Protocol, String)> {
        let url = |(id, open): (_, &Open)| {
            let protocol = match open.routes {
                Table::Http(_) => Protocol::Http,
                Table::Streams(_) => Protocol::Stream,
            };
            let scheme = match (protocol, open.certified.certificates()) {
                (Protocol::Http, None) => "http",
                (Protocol::Http, Some(_)) => "https",
                (Protocol::Stream, None) => "tcp",
                (Protocol::Stream, Some(_)) => "tls",
            };
            (id, protocol, format!("{scheme}://{}", open.running.addr()))
        };
        self.open.iter().map(url).collect()
    }

    /// The certificates that it has.
    pub(crate) fn certified(&self) -> impl Iterator<Item = &Certified> {
        self.open.values().map(|open| &open.certified)
    }

    /// A file has another content: reads the certificates that are from it.
    pub(crate) fn file_changed(&self, path: &Path) {
        for (id, open) in &self.open {
            if open.certified.files().any(|own| own == path) {
                open.certified.renew(id.as_str());
            }
        }
        self.note();
    }
}

/// Where each listener of a plan leads, when its services are of those kinds. It is
/// `unfit` that a service that does not answer requests is to have some, or one that does
/// not handle connections; or that `http` is for the one service that answers, and there is
/// none, or several.
pub(crate) fn ways(
    plan: &Plan,
    kind: impl Fn(&ServiceId) -> Option<Kind>,
    unfit: &mut Vec<Unfit>,
) -> Ways {
    let mut ways = Ways::new();
    for (id, service) in &plan.services {
        if !service.http.is_empty() && kind(id).is_some_and(|kind| !kind.answers_http()) {
            unfit.push(Unfit {
                key: format!("service.{id}.http"),
                wrong: format!("the component of {id} does not answer HTTP requests"),
                expected: "expected one that exports wasi:http/incoming-handler".to_owned(),
            });
        }
        for route in &service.http {
            let Some(listener) = &route.listener else { continue };
            let (host, path) = (route.host.clone(), route.path.clone());
            let way = Way { host, path, service: id.clone() };
            ways.entry(listener.clone()).or_default().push(way);
        }
        if !service.stream.is_empty() && kind(id).is_some_and(|kind| kind != Kind::Stream) {
            unfit.push(Unfit {
                key: format!("service.{id}.stream"),
                wrong: format!("the component of {id} does not handle connections"),
                expected: "expected one that exports ron:stream/connection-handler".to_owned(),
            });
        }
        for route in &service.stream {
            let Some(listener) = &route.listener else { continue };
            let (host, path) = (route.host.clone(), PathPrefix::default());
            let way = Way { host, path, service: id.clone() };
            ways.entry(listener.clone()).or_default().push(way);
        }
    }
    if plan.http.is_some()
        && let Entry::Vacant(none) = ways.entry(ListenerId::http())
    {
        let known = plan.services.keys().map(|id| Some((id, kind(id)?)));
        match known.collect::<Option<Vec<_>>>().map(|kinds| the_one(&kinds)) {
            // One that is not known yet may be it.
            None => {}
            Some(Ok(service)) => {
                none.insert(vec![Way { host: None, path: PathPrefix::default(), service }]);
            }
            Some(Err(why)) => unfit.push(why),
        }
    }
    ways
}

/// What is reached by nobody, or leads nowhere: services for requests or connections,
/// listeners, and messages to a service that takes none. It is no mistake, since a service may be made ready before it is led to.
pub(crate) fn hints(plan: &Plan, kinds: &BTreeMap<ServiceId, Kind>, ways: &Ways) -> Vec<String> {
    let led: BTreeSet<&ServiceId> = ways.values().flatten().map(|way| &way.service).collect();
    let services = kinds.iter().filter(|(id, _)| !led.contains(id));
    let services = services.filter_map(|(id, kind)| match kind {
        // One that has a mailbox is of use without.
        Kind::Http => Some(format!(
            "no listener leads to {id}, which answers HTTP requests: expected \
             [[service.{id}.http]], or --http ADDRESS"
        )),
        Kind::Stream => Some(format!(
            "no listener leads to {id}, which handles connections: expected \
             [[service.{id}.stream]]"
        )),
        Kind::ServiceWithHttp | Kind::Service | Kind::Job | Kind::Messaging => None,
    });
    let listeners = plan.listeners.keys().filter(|id| !ways.contains_key(id));
    let listeners = listeners.map(|id| {
        format!("listener {id} leads to no service: expected listener = \"{id}\" in a route")
    });
    let takes_none = |id| kinds.get(id).is_some_and(|kind| !kind.takes_messages());
    let deaf = plan.services.iter().filter(|(_, service)| !service.subscribe.is_empty());
    let deaf = deaf.filter(|(id, _)| takes_none(*id)).map(|(id, _)| {
        format!(
            "service.{id}.subscribe: the component takes no messages, and what comes is rejected"
        )
    });
    services.chain(listeners).chain(deaf).collect()
}

/// The one service that answers requests.
fn the_one(kinds: &[(&ServiceId, Kind)]) -> Result<ServiceId, Unfit> {
    let key = "http".to_owned();
    let answers = kinds.iter().filter(|(_, kind)| kind.answers_http());
    let services: Vec<&ServiceId> = answers.map(|(id, _)| *id).collect();
    match &services[..] {
        [one] => Ok((*one).clone()),
        [] => Err(Unfit {
            key,
            wrong: "no service answers HTTP requests".to_owned(),
            expected: "expected one whose component exports wasi:http/incoming-handler".to_owned(),
        }),
        _ => {
            let names: Vec<&str> = services.iter().map(|id| id.as_str()).collect();
            let (count, names) = (names.len(), names.join(" and "));
            Err(Unfit {
                key,
                wrong: format!("{count} services answer HTTP requests, {names}"),
                expected: "expected one, or [listener.NAME] and [[service.NAME.http]] for each"
                    .to_owned(),
            })
        }
    }
}

/// Reads every certificate of a plan, and uses none. What is `known`, by its listener, is
/// not read: should its files be wrong by now, it stays.
///
/// # Errors
///
/// When the host has no certificate of its own.
pub(crate) fn certificates(
    plan: &Plan,
    known: impl Fn(&str, &Tls) -> bool,
    unfit: &mut Vec<Unfit>,
) -> Result<(), Failure> {
    let mut own = Own::default();
    let mut read = |source, said: &Said<'_>| -> Result<(), Failure> {
        if known(said.listener, &source) {
            return Ok(());
        }
        if let Some(staged) = StagedTls::read(source, None, &mut own, said, unfit)? {
            staged.warn(said.listener);
        }
        Ok(())
    };
    read(plan.admin_tls.source(&BTreeMap::new()), &Said::ADMIN)?;
    for (id, planned) in &plan.listeners {
        let table = format!("listener.{id}");
        let said = Said { listener: id.as_str(), table: &table, tls: "tls" };
        read(planned.source(), &said)?;
    }
    Ok(())
}

/// Lets a listener's requests end.
pub(crate) async fn drain(running: Running) {
    let address = running.addr();
    let cut = running.shutdown(GRACE).await;
    if cut > 0 {
        tracing::warn!(%address, connections = cut, "requests did not end in time and were cut");
    }
}

/// What is behind a gate, as a listener asks it.
struct Behind {
    gate: Gate,
    service: ServiceId,
    metrics: Metrics,
}

impl Answer for Behind {
    fn answer(
        &self,
        mut request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, Unanswered>> {
        let (gate, service) = (self.gate.clone(), self.service.clone());
        let (metrics, asked) = (self.metrics.clone(), Instant::now());
        let method = HttpMethod::of(request.method().as_str());
        if let Some(place) = request.extensions_mut().remove::<Arc<RequestPlace>>() {
            request.extensions_mut().insert(ron_runtime::Place(place));
        }
        Box::pin(async move {
            // The listener has put it there.
            let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
            let id = id.unwrap_or_default().to_owned();
            let answered = gate.handle(request, &id).await.map_err(|error| match error {
                ron_runtime::Unanswered::Unavailable(why) => Unanswered::Unavailable(why),
                ron_runtime::Unanswered::Crashed(_) => Unanswered::Crashed(id),
                ron_runtime::Unanswered::Late(_) => Unanswered::Late,
                ron_runtime::Unanswered::Failed(why) => Unanswered::Bad(why),
            });
            let status = match &answered {
                Ok(response) => response.status(),
                Err(unanswered) => unanswered.status(),
            };
            metrics.observe(&Observation::HttpAnswered {
                service: service.as_str(),
                method,
                status: StatusClass::of(status.as_u16()),
                latency: asked.elapsed(),
            });
            answered
        })
    }
}
