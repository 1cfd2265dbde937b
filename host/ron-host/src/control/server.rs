//! The control listener: the kernel's HTTP server on a unix socket.
//!
//! It differs from the admin listener in what it may assume: who connects is the
//! host's own user, so there is no answer for the connection over the limit, and a
//! connection may live for as long as somebody looks on.

use std::sync::Arc;
use std::time::Duration;

use ron_kernel::http::{Limits, Server, ServerHandle};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::operator::Operator;
use super::routes::{self, State};
use super::socket::{Place, Socket};
use crate::logging::Recent;

const LIMITS: Limits = Limits {
    connections: 128,
    header_timeout: Duration::from_secs(10),
    // Also how much of a body is read at once.
    max_head_bytes: 128 * 1024,
    max_age: None,
    grace: Duration::from_secs(2),
};
/// Connections that may look on: taps, followers of logs, a load.
const LOOKERS: usize = 32;
/// Connections that may wait for as long as they like: requests, and ends of probations.
/// With those who look on they leave a quarter to commands, so that one finds a place.
const WAITERS: usize = 64;

/// A running control listener. Dropping it ends it at once, and every
/// connection with it.
#[derive(Debug)]
pub(crate) struct Control {
    server: ServerHandle,
    /// Here and not in the server's task: an aborted task ends when it gets to it,
    /// which may be after the process.
    place: Place,
}

impl Control {
    /// Serves the control API on `socket`.
    pub(crate) fn serve(socket: Socket, operator: Operator, recent: Recent) -> Self {
        let stop = CancellationToken::new();
        let places = |count| Arc::new(Semaphore::new(count));
        let (lookers, waiters) = (places(LOOKERS), places(WAITERS));
        let operator = Arc::new(operator);
        let bench = Arc::default();
        let state = State { operator, recent, stop: stop.clone(), lookers, waiters, bench };
        let Socket { listener, place } = socket;
        let server = Server::new(routes::router(state), LIMITS, stop).serve(listener);
        Self { server, place }
    }

    /// Removes the socket, accepts nothing more, ends streams, and lets requests
    /// in flight end.
    pub(crate) async fn shutdown(self) {
        drop(self.place);
        self.server.shutdown().await;
    }
}
