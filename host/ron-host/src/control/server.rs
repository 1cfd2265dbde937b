//! The control listener: an accept loop on a unix socket, as the kernel's admin
//! listener is one on TCP.
//!
//! It differs in what it may assume: who connects is the host's own user, so
//! there is no answer for the connection over the limit, and a connection may
//! live for as long as somebody looks on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::operator::Operator;
use super::routes::{self, State};
use super::socket::{Place, Socket};
use crate::logging::Recent;

/// Connections that are served at the same time; one more waits.
const CONNECTIONS: usize = 64;
/// Those among them that may look on: taps, and followers of logs.
const LOOKERS: usize = 32;
/// Longest time for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests in flight may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running control listener. Dropping it ends it at once, and every
/// connection with it.
#[derive(Debug)]
pub(crate) struct Control {
    stop: CancellationToken,
    task: JoinSet<()>,
    /// Here and not in the task: an aborted task ends when it gets to it, which
    /// may be after the process.
    place: Place,
}

impl Control {
    /// Serves the control API on `socket`.
    pub(crate) fn serve(socket: Socket, operator: Operator, recent: Recent) -> Self {
        let stop = CancellationToken::new();
        let lookers = Arc::new(Semaphore::new(LOOKERS));
        let operator = Arc::new(operator);
        let state = State { operator, recent, stop: stop.clone(), lookers };
        let Socket { listener, place } = socket;
        let mut task = JoinSet::new();
        task.spawn(run(listener, routes::router(state), stop.clone()));
        Self { stop, task, place }
    }

    /// Removes the socket, accepts nothing more, ends streams, and lets requests
    /// in flight end.
    pub(crate) async fn shutdown(mut self) {
        drop(self.place);
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            report(ended);
        }
    }
}

async fn run(listener: UnixListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        let _place = place;
                        connection(stream, router, stop).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

async fn connection(stream: UnixStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        // An error is the client's: gone, late, or not speaking HTTP.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(GRACE, connection).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the control listener panicked");
    }
}
