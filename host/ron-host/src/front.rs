//! The public listener of a deployment, and the service that it is for.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use ron_kernel::metrics::Observation;
use ron_kernel::{Metrics, ServiceId};
use ron_runtime::{Gate, Kind};
use tokio::net::TcpListener;

use crate::exit::Failure;
use crate::gates::Gates;
use crate::listener::{
    Answer, Certificates, Limits, Listener, PathPrefix, RequestBody, ResponseBody, Route,
    RouteTable, Routes, Running, Unanswered,
};

/// How long requests under way may take when their listener goes.
const GRACE: Duration = Duration::from_secs(10);

/// What the listener is for: the one service that answers requests.
pub(crate) struct Front {
    gates: Gates,
    routes: RouteTable,
    running: Option<Running>,
    metrics: Metrics,
    /// With these it is over TLS.
    certificates: Option<Certificates>,
}

impl Front {
    /// One that listens nowhere yet.
    pub(crate) fn new(gates: Gates, metrics: Metrics, certificates: Option<Certificates>) -> Self {
        Self { gates, routes: RouteTable::default(), running: None, metrics, certificates }
    }

    /// Where a listener would be: bound, and serving nobody yet.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    /// Listens at `socket` from now on; gives the listener before.
    pub(crate) fn listen(&mut self, socket: TcpListener) -> io::Result<Option<Running>> {
        let (routes, metrics) = (self.routes.clone(), self.metrics.clone());
        let listener = Listener::new(Limits::default(), routes, self.certificates.clone(), metrics);
        let running = listener.serve(socket)?;
        Ok(self.running.replace(running))
    }

    /// Listens nowhere from now on; gives the listener before.
    pub(crate) fn close(&mut self) -> Option<Running> {
        self.running.take()
    }

    /// Where it listens, as a client names it.
    pub(crate) fn url(&self) -> Option<String> {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        self.running.as_ref().map(|running| format!("{scheme}://{}", running.addr()))
    }

    /// Requests are for `service`, or for nobody.
    pub(crate) fn is_for(&self, service: Option<ServiceId>) {
        let route = service.map(|service| {
            let (gate, metrics) = (self.gates.of(&service), self.metrics.clone());
            let answer = Arc::new(Behind { gate, service: service.clone(), metrics });
            Route { host: None, path: PathPrefix::default(), service, answer }
        });
        // One route cannot be there twice.
        if let Ok(routes) = Routes::new(route) {
            self.routes.replace(routes);
        }
    }
}

/// The service that requests are for, of those of a plan, if they are listened
/// for at all.
///
/// # Errors
///
/// None of them answers requests, or several do.
pub(crate) fn service(
    origin: &str,
    kinds: &BTreeMap<ServiceId, Kind>,
) -> Result<ServiceId, Failure> {
    let answers = |(id, kind): (&ServiceId, &Kind)| (*kind == Kind::Http).then(|| id.clone());
    let mut services: Vec<ServiceId> = kinds.iter().filter_map(answers).collect();
    match services.len() {
        1 => Ok(services.remove(0)),
        0 => Err(Failure::config(format!(
            "{origin}: no service answers HTTP requests; expected one whose component exports \
             wasi:http/incoming-handler"
        ))),
        _ => {
            let names: Vec<&str> = services.iter().map(ServiceId::as_str).collect();
            Err(Failure::config(format!(
                "{origin}: {} services answer HTTP requests, {}; expected one",
                names.len(),
                names.join(" and ")
            )))
        }
    }
}

/// Lets a listener's requests end.
pub(crate) async fn drain(running: Option<Running>) {
    if let Some(running) = running {
        let address = running.addr();
        let cut = running.shutdown(GRACE).await;
        if cut > 0 {
            tracing::warn!(%address, connections = cut, "requests did not end in time and were cut");
        }
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
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, Unanswered>> {
        let (gate, service) = (self.gate.clone(), self.service.clone());
        let (metrics, asked) = (self.metrics.clone(), Instant::now());
        Box::pin(async move {
            // The listener has put it there.
            let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
            let id = id.unwrap_or_default().to_owned();
            let answered = gate.handle(request, &id).await;
            let (service, latency) = (service.as_str(), asked.elapsed());
            metrics.observe(&Observation::RequestAnswered { service, latency });
            match answered {
                Ok(response) => Ok(response),
                Err(error) => Err(match error {
                    ron_runtime::Unanswered::Unavailable(why) => Unanswered::Unavailable(why),
                    ron_runtime::Unanswered::Crashed(_) => Unanswered::Crashed(id),
                    ron_runtime::Unanswered::Late(_) => Unanswered::Late,
                    ron_runtime::Unanswered::Failed(why) => Unanswered::Bad(why),
                }),
            }
        })
    }
}
