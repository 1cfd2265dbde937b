//! HTTP: the admin listener, [`Metrics::serve`], and the server it runs on.
//!
//! A connection to the admin listener has a time for its headers, which is also
//! how long it may idle, an age, and a place among 256. No request body is ever
//! read. Over the limit a connection is still answered, with 503 and
//! `overloaded`, while there is a place among 32 more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::tls::TlsSource;

mod held;
mod malformed;
pub mod reply;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use held::Held;
pub use malformed::{Watch, Watched};
pub use server::{Limits, Listener, Server, ServerHandle};

const LIMITS: Limits = Limits {
    connections: 256,
    header_timeout: Duration::from_secs(10),
    max_head_bytes: 16 * 1024,
    max_age: Some(Duration::from_secs(300)),
    grace: Duration::from_secs(5),
};
/// Connections over the limit that are told so at the same time.
const REFUSALS: usize = 32;
/// The time for the headers of one that is only to be told 503.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

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
        Ok((addr, self.serve_on(listener, None)))
    }

    /// The same on a socket that listens already, over TLS where there is any. A
    /// handshake has 5 s, and a client's certificate is asked for if the
    /// configuration says so.
    pub fn serve_on(&self, listener: TcpListener, tls: Option<TlsSource>) -> ServerHandle {
        Server::new(routes::router(self.clone()), LIMITS, CancellationToken::new())
            .refusing(routes::overloaded(), REFUSALS, REFUSAL_TIMEOUT, self.clone())
            .over(tls)
            .serve(listener)
    }
}
