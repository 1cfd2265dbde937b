//! Services behind listeners of byte streams: what a connection is to them, and what is
//! told of it.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use ron_kernel::http::reply::request_id;
use ron_kernel::metrics::{Family, RejectReason, Sample};
use ron_kernel::{Metrics, ServiceId};
use ron_runtime::{Connection, Gate, How, Refused, Tls, Traffic};

use crate::gates::Gates;
use crate::listener::{Connect, ConnectionInfo, Socket};

/// What is behind a gate, as a listener connects to it.
pub(super) struct Connecting {
    pub(super) gate: Gate,
    pub(super) service: ServiceId,
}

impl Connect for Connecting {
    fn connect(
        &self,
        socket: Box<dyn Socket>,
        listener: &str,
        info: ConnectionInfo,
        idle: Duration,
    ) -> BoxFuture<'static, Result<(), RejectReason>> {
        let (gate, service) = (self.gate.clone(), self.service.clone());
        let connection = connection(listener, info, idle);
        Box::pin(async move {
            let (id, peer, began) = (connection.id.clone(), connection.peer, Instant::now());
            let ended = match gate.connect(socket, connection).await {
                Ok(ended) => ended,
                Err(refused) => {
                    tracing::warn!(%service, %peer, connection = id, "refused a connection: {refused}");
                    return Err(match refused {
                        Refused::Full(_) => RejectReason::Overloaded,
                        Refused::NotRunning => RejectReason::NoResponder,
                    });
                }
            };
            if let How::Failed(why) = &ended.how {
                tracing::warn!(%service, %peer, connection = id, "gave up on a connection: {why}");
            }
            // Any client can have this.
            if let How::Broken(why) = &ended.how {
                tracing::debug!(%service, %peer, connection = id, "a connection broke: {why}");
            }
            let (received, sent) = (ended.received, ended.sent);
            let took_ms = began.elapsed().as_millis() as u64;
            let how = match ended.how {
                How::Done => "done",
                How::Failed(_) => "failed",
                How::Broken(_) => "broken",
                How::Crashed(_) => "crashed",
                How::Idle => "idle",
                How::Cut => "cut",
            };
            tracing::debug!(
                %service, %peer, connection = id, received, sent, took_ms, how,
                "a connection ended"
            );
            Ok(())
        })
    }
}

/// A connection as the service is told of it. Its id is made as those of requests are,
/// and no other has it.
fn connection(listener: &str, info: ConnectionInfo, idle: Duration) -> Connection {
    let ConnectionInfo { peer, local, tls } = info;
    let id = request_id(&HeaderMap::new());
    Connection {
        id: id.to_str().unwrap_or_default().to_owned(),
        listener: listener.to_owned(),
        peer,
        local,
        tls: tls.map(|tls| Tls {
            sni: tls.sni,
            alpn: tls.alpn,
            client_subject: tls.client_subject,
        }),
        idle_timeout: idle,
    }
}

const TRAFFIC: &[Family] = &[
    Family::gauge(
        "ron_stream_connections",
        "Connections of byte streams that are open.",
        &["service"],
    ),
    Family::counter(
        "ron_stream_bytes_total",
        "Bytes that a service's connections took from clients (in) and gave them (out).",
        &["service", "direction"],
    ),
    Family::counter(
        "ron_instances_abandoned_total",
        "Instances that ended in a trap after their client had gone or broken off, which is no \
         crash of the service.",
        &["service"],
    ),
];

/// Has these metrics tell what goes through gates of services of byte streams, and what
/// clients cost services of either kind.
pub(crate) fn show_traffic(gates: &Gates, metrics: &Metrics) {
    // A gate has an incarnation that has the metrics.
    let gates = gates.weak();
    metrics.pull(TRAFFIC, move |out| {
        for (service, Traffic { open, received, sent }) in gates.traffic() {
            let service = service.as_str();
            let mut sample = |family: usize, labels: &[&str], value: f64| {
                out(Sample { name: TRAFFIC[family].name, labels, value });
            };
            sample(0, &[service], open as f64);
            sample(1, &[service, "in"], received as f64);
            sample(1, &[service, "out"], sent as f64);
        }
        for (service, count) in gates.abandoned() {
            let (labels, value) = (&[service.as_str()], count as f64);
            out(Sample { name: TRAFFIC[2].name, labels, value });
        }
    });
}
