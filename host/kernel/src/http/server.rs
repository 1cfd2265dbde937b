//! An HTTP server: an accept loop with a limit on everything, for the admin
//! listener and whoever else answers over HTTP.
//!
//! Not `axum::serve`: it sets no timeouts and no limit of connections, so that a
//! hundred thousand half-open connections to a metrics port would take the host
//! down. Over the limit a connection waits to be accepted, or is told 503 while
//! there is a place for that; past those places it is closed at once, since
//! answering without bound is no refusal.
//!
//! All tasks are in one `JoinSet` that the loop owns, and the loop is owned by
//! the [`ServerHandle`]: when that is dropped nothing is left running.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::malformed::Watch;
use crate::metrics::{Metrics, Observation};
use crate::tls::TlsSource;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that are served at the same time.
    pub connections: usize,
    /// Longest time from a connection's start, or its last answer, to the end of
    /// the next request's headers.
    pub header_timeout: Duration,
    /// Most bytes of a request's line and headers, at least 8 KiB; 431 past it.
    pub max_head_bytes: usize,
    /// A connection is closed after its current request when it is this old: what
    /// bounds a client that does not read its answers.
    pub max_age: Option<Duration>,
    /// How long requests in flight may take to end when their connection is to be
    /// closed, by age or by shutdown.
    pub grace: Duration,
}

/// What connections come from.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // Answers are small and written at once; a failure costs only delay.
        drop(stream.set_nodelay(true));
        Ok(stream)
    }
}

#[cfg(unix)]
impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// A running HTTP server. Dropping it ends the server at once, and every
/// connection with it.
#[derive(Debug)]
#[must_use = "the server ends when its handle is dropped"]
pub struct ServerHandle {
    stop: CancellationToken,
    /// The accept loop.
    task: JoinSet<()>,
}

impl ServerHandle {
    /// Accept nothing more, let requests in flight end, and return when all
    /// connections are closed: at the latest after the grace period, when those
    /// that are left are cut.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            report(ended);
        }
    }
}

/// What becomes of a connection: the routes it sees, and how many there may be.
struct Lane {
    router: Router,
    places: Arc<Semaphore>,
    header_timeout: Duration,
}

impl Lane {
    fn new(router: Router, places: usize, header_timeout: Duration) -> Self {
        Self { router, places: Arc::new(Semaphore::new(places)), header_timeout }
    }

    fn place(&self) -> Option<(&Self, OwnedSemaphorePermit)> {
        Some((self, Arc::clone(&self.places).try_acquire_owned().ok()?))
    }
}

/// Where connections over the limit go, and where they are counted.
struct Refusing {
    lane: Lane,
    metrics: Metrics,
}

/// An HTTP/1.1 server that does not run yet.
pub struct Server {
    limits: Limits,
    serving: Lane,
    refusing: Option<Refusing>,
    tls: Option<TlsSource>,
    stop: CancellationToken,
}

impl Server {
    /// A server of these routes, which shuts down when `stop` is cancelled. A
    /// connection over the limit waits to be accepted.
    #[must_use]
    pub fn new(router: Router, limits: Limits, stop: CancellationToken) -> Self {
        let serving = Lane::new(router, limits.connections, limits.header_timeout);
        Self { limits, serving, refusing: None, tls: None, stop }
    }

    /// One that ends TLS, where there is any.
    pub(super) fn over(mut self, tls: Option<TlsSource>) -> Self {
        self.tls = tls;
        self
    }

    /// One that shows connections over the limit these routes, as many as there
    /// are places, and counts them.
    pub(super) fn refusing(
        mut self,
        router: Router,
        places: usize,
        header_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let lane = Lane::new(router, places, header_timeout);
        self.refusing = Some(Refusing { lane, metrics });
        self
    }

    /// Serve what comes from `listener`, until the handle is shut down or dropped.
    /// Must be called within a tokio runtime.
    pub fn serve(self, listener: impl Listener) -> ServerHandle {
        let stop = self.stop.clone();
        let mut task = JoinSet::new();
        task.spawn(self.run(listener));
        ServerHandle { stop, task }
    }

    async fn run(self, listener: impl Listener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = self.accept(&listener) => match accepted {
                    Ok((stream, Some((lane, place)))) => {
                        let (router, header_timeout) = (lane.router.clone(), lane.header_timeout);
                        let limits = Limits { header_timeout, ..self.limits };
                        let (stop, tls) = (self.stop.clone(), self.tls.clone());
                        connections.spawn(async move {
                            let _place = place;
                            match tls {
                                None => connection(stream, router, limits, stop).await,
                                Some(tls) => over_tls(stream, &tls, router, limits, stop).await,
                            }
                        });
                    }
                    Ok((_, None)) => {}
                    Err(error) => self.pause(&error).await,
                },
            }
        }
        drop(listener);
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        // Each connection ends itself within its grace; this is the same bound
        // once more, for one that is stuck in a handler.
        if tokio::time::timeout(self.limits.grace, ended).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// The next connection, and its place; without one it is to be closed.
    async fn accept<L: Listener>(
        &self,
        listener: &L,
    ) -> io::Result<(L::Stream, Option<(&Lane, OwnedSemaphorePermit)>)> {
        let Some(Refusing { lane, metrics }) = &self.refusing else {
            // Before the connection is taken, so that it waits where it is.
            let place = Arc::clone(&self.serving.places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            return Ok((listener.accept().await?, Some((&self.serving, place))));
        };
        let stream = listener.accept().await?;
        let place = self.serving.place().or_else(|| {
            metrics.observe(&Observation::ConnectionRefused);
            lane.place()
        });
        Ok((stream, place))
    }

    /// After an error that is not the connection's own, wait for what is
    /// missing to come back instead of spinning.
    async fn pause(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        let its_own = [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted];
        if its_own.contains(&error.kind()) {
            return;
        }
        tracing::warn!(%error, "cannot accept a connection; trying again");
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
        }
    }
}

/// A connection that begins with a handshake. Who does not finish it is not answered:
/// there is nothing yet to answer in.
async fn over_tls(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    tls: &TlsSource,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.http1(stream));
    let stream = tokio::select! {
        done = handshake => done,
        () = stop.cancelled() => return,
    };
    if let Ok(Ok(stream)) = stream {
        connection(stream, router, limits, stop).await;
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let watch = Watch::default();
    let service = watch.service(TowerToHyperService::new(router));
    let stream = watch.stream(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_head_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let old = async {
        match limits.max_age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // An error is the client's: gone, late, or not speaking HTTP.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = old => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(limits.grace, connection).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of an HTTP server panicked");
    }
}
