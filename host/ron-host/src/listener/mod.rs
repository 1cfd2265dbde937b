//! The public listeners: HTTP/1.1 and HTTP/2, or byte streams as they are, over TCP or
//! TLS, before services.
//!
//! A listener accepts, limits, and finds the service; what the service does is behind
//! [`Answer`]. It is hyper's server and not axum's or the kernel's: there are two
//! protocols, a route is a row of a table that is replaced while requests run, and each
//! limit is the deployment's.
//!
//! A connection has its place before it is accepted, so that those over the limit wait
//! in the kernel's queue and cost nothing here. Each is one task, and an HTTP/2 request
//! one more; all are in sets that the accept loop owns, which the [`Running`] owns.
//! One slow client costs one place: its connection is closed when it keeps the host
//! waiting, for a handshake, headers, a body, another request, or its answer's way out.
//!
//! Whatever is refused is answered as everything of this host is, with
//! `{code,message,retryable,corr_id}` and `x-request-id`, and counted. Where there is
//! no request to answer there is no answer: a client over its number of connections,
//! a handshake that fails, and headers that do not come, are closed. What breaks HTTP/2
//! is told in its own frames.
//!
//! A listener of byte streams has the same places and the same handshake, and after that
//! one connection is one call of a service: [`Connect`] is its seam.

mod access;
mod answer;
mod body;
mod connection;
mod exchange;
mod idle;
mod limits;
mod pace;
mod pem;
mod routes;
mod self_signed;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ron_kernel::Metrics;
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use answer::{Answer, RequestBody, ResponseBody, Unanswered};
pub(crate) use connection::ConnectionInfo;
pub(crate) use limits::Limits;
pub(crate) use routes::{Host, PathPrefix, Route, RouteTable, Routes};
pub(crate) use self_signed::SelfSigned;
pub(crate) use stream::{Connect, Socket, Streams};
pub(crate) use tls::{Certificates, Fresh, Pair, Part, Term, TlsError, TlsFiles};

#[cfg(test)]
use {answer::BoxError, connection::TlsInfo, routes::Twice};

use limits::{Client, Place, Places, Rates};

/// A request's place among those of the listener, and among its client's.
pub(crate) type RequestPlace = (OwnedSemaphorePermit, Place);

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a listener share.
struct Shared {
    limits: Limits,
    routes: RouteTable,
    /// There, if it is for byte streams and not for HTTP.
    streams: Option<Streams>,
    tls: Option<Certificates>,
    metrics: Metrics,
    requests: Arc<Semaphore>,
    /// The requests of each client.
    under_way: Places,
    rates: Option<Rates>,
}

/// A listener that does not accept yet.
pub(crate) struct Listener {
    shared: Arc<Shared>,
}

impl Listener {
    /// A listener with these limits that finds services in `routes`. With certificates
    /// it speaks TLS, and nothing else.
    pub(crate) fn new(
        limits: Limits,
        routes: RouteTable,
        tls: Option<Certificates>,
        metrics: Metrics,
    ) -> Self {
        let requests = Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS)));
        let rates = limits.rate.map(Rates::new);
        let streams = None;
        let under_way = Places::new(limits.requests_per_ip);
        let shared = Shared { limits, routes, streams, tls, metrics, requests, under_way, rates };
        Self { shared: Arc::new(shared) }
    }

    /// A listener with these limits whose connections are byte streams, and go where
    /// `streams` says. With certificates it speaks TLS, and nothing else.
    pub(crate) fn of_streams(
        limits: Limits,
        streams: Streams,
        tls: Option<Certificates>,
        metrics: Metrics,
    ) -> Self {
        // Nobody makes requests.
        let (routes, requests) = (RouteTable::default(), Arc::new(Semaphore::new(0)));
        let streams = Some(streams);
        let under_way = Places::new(limits.requests_per_ip);
        let rates = None;
        let shared = Shared { limits, routes, streams, tls, metrics, requests, under_way, rates };
        Self { shared: Arc::new(shared) }
    }

    /// Serves what connects to `socket`, until the answer is shut down or dropped. Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the socket has no address.
    pub(crate) fn serve(self, socket: TcpListener) -> io::Result<Running> {
        let addr = socket.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(self.run(socket, stopped));
        Ok(Running { addr, stop, task })
    }

    async fn run(self, socket: TcpListener, mut stopped: oneshot::Receiver<Duration>) -> usize {
        let Limits { connections, per_ip, .. } = self.shared.limits;
        let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        let per_ip = Places::new(per_ip);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let grace = loop {
            tokio::select! {
                grace = &mut stopped => break grace.unwrap_or_default(),
                Some(ended) = running.join_next() => report(ended),
                accepted = accept(&socket, &places) => match accepted {
                    Ok((stream, peer, place)) => {
                        let Some(own) = per_ip.take(Client::from(peer.ip())) else {
                            let reason = RejectReason::TooManyConnections;
                            self.shared.metrics.observe(&Observation::Rejected { reason });
                            continue;
                        };
                        let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
                        running.spawn(async move {
                            let _places = (place, own);
                            connection::serve(stream, peer, shared, stop).await;
                        });
                    }
                    Err(error) => pause(&error).await,
                },
            }
        };
        drop(socket);
        stop.cancel();
        let ended = async {
            while let Some(ended) = running.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(grace, ended).await.is_ok() {
            return 0;
        }
        let cut = running.len();
        running.shutdown().await;
        cut
    }
}

/// A listener that accepts. Dropping it ends it at once, and every connection with it.
#[derive(Debug)]
#[must_use = "the listener ends when this is dropped"]
pub(crate) struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<Duration>,
    /// The accept loop, which answers how many connections it cut.
    task: JoinSet<usize>,
}

impl Running {
    /// Where it listens, with the port that was bound.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts nothing more, tells clients to go elsewhere (GOAWAY, or
    /// `connection: close` with the answer), and lets requests and streams end. After `grace` what
    /// is left is cut; answers how many connections that were.
    pub(crate) async fn shutdown(self, grace: Duration) -> usize {
        let Self { stop, mut task, .. } = self;
        // Whose loop is gone has nothing to stop.
        let _ = stop.send(grace);
        let mut cut = 0;
        while let Some(ended) = task.join_next().await {
            match ended {
                Ok(count) => cut += count,
                Err(error) => report(Err(error)),
            }
        }
        cut
    }
}

/// The next connection, with the place that it had before it was taken.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.expect("the semaphore is never closed");
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, place))
}

/// After an error that is not the connection's own, wait for what is missing to come
/// back instead of spinning.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    let its_own = [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted];
    if !its_own.contains(&error.kind()) {
        tracing::warn!(%error, "cannot accept a connection; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of a listener panicked");
    }
}
