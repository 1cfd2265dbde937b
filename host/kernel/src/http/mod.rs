//! The admin listener: an accept loop with a limit on everything, and
//! [`Metrics::serve`].
//!
//! Not `axum::serve`: it sets no timeouts and no limit of connections, so that a
//! hundred thousand half-open connections to a metrics port would take the host
//! down. Here a connection has a time for its headers, which is also how long it
//! may idle, an age, and a place among 256. No request body is ever read. Over
//! the limit a connection is still answered, with 503 and `overloaded`, while
//! there is a place among 32 more; past those it is closed at once, since
//! answering without bound is no refusal.
//!
//! All tasks are in one `JoinSet` that the loop owns, and the loop is owned by
//! the [`ServerHandle`]: when that is dropped nothing is left running.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Observation};

pub mod reply;
mod routes;
#[cfg(test)]
mod tests;

/// Connections that are served at the same time.
const CONNECTIONS: usize = 256;
/// Connections over the limit that are told so at the same time.
const REFUSALS: usize = 32;
/// Longest time from a connection's start, or its last answer, to the end of
/// the next request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a connection that is only to be told 503.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection is closed after its current request when it is this old: what
/// bounds a client that does not read its answers.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long requests in flight may take to end when their connection is to be
/// closed, by age or by shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes of a request's line and headers; hyper answers 431 past it.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Metrics {
    /// Serve `/metrics`, `/healthz`, `/livez`, `/readyz` and
    /// `/readyz/{service}` on `addr`, until the handle is shut down or dropped.
    ///
    /// Returns the address that was bound, which tells the port when `addr` had
    /// port 0. HTTP/1.1 without TLS, for loopback or a scraper's network: at
    /// most 256 connections, 10 s for a request's headers, no request bodies.
    ///
    /// # Errors
    ///
    /// When `addr` does not resolve or cannot be bound.
    pub async fn serve(&self, addr: impl ToSocketAddrs) -> io::Result<(SocketAddr, ServerHandle)> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let server = Server {
            metrics: self.clone(),
            serving: Lane::new(routes::router(self.clone()), CONNECTIONS, HEADER_TIMEOUT),
            refusing: Lane::new(routes::overloaded(), REFUSALS, REFUSAL_TIMEOUT),
            stop: stop.clone(),
        };
        let task = Some(tokio::spawn(server.run(listener)));
        Ok((addr, ServerHandle { addr, stop, task }))
    }
}

/// A running HTTP server. Dropping it ends the server at once, and every
/// connection with it.
#[derive(Debug)]
#[must_use = "the server ends when its handle is dropped"]
pub struct ServerHandle {
    addr: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl ServerHandle {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accept nothing more, let requests in flight end, and return when all
    /// connections are closed: at the latest after 5 s, when those that are
    /// left are cut.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = &mut self.task
            && let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(%error, "the HTTP server's accept loop panicked");
        }
        self.task = None;
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
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

struct Server {
    metrics: Metrics,
    serving: Lane,
    refusing: Lane,
    stop: CancellationToken,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.accept(stream, &mut connections),
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
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            connections.shutdown().await;
        }
    }

    fn accept(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        let lane = self.serving.place().or_else(|| {
            self.metrics.observe(&Observation::ConnectionRefused);
            self.refusing.place()
        });
        let Some((lane, place)) = lane else { return };
        let (router, header_timeout) = (lane.router.clone(), lane.header_timeout);
        let stop = self.stop.clone();
        connections.spawn(async move {
            let _place = place;
            connection(stream, router, header_timeout, stop).await;
        });
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

async fn connection(
    stream: TcpStream,
    router: Router,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    // Answers are small and written at once; a failure costs only delay.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        // An error is the client's: gone, late, or not speaking HTTP.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(GRACE, connection).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an HTTP connection's task panicked");
    }
}
