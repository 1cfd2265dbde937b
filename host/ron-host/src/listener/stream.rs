//! Connections of byte streams: which service one goes to, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Shared;
use super::connection::ConnectionInfo;
use super::routes::RouteTable;

/// What the service reads and writes.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for S {}

/// What handles the connections of one service.
pub(crate) trait Connect: Send + Sync + 'static {
    /// Handles one until it has ended, or has been without a byte for `idle`. Answers why
    /// it was not let in, if it was not. When the future is dropped, it is cut.
    fn connect(
        &self,
        socket: Box<dyn Socket>,
        listener: &str,
        info: ConnectionInfo,
        idle: Duration,
    ) -> BoxFuture<'static, Result<(), RejectReason>>;
}

/// Where the connections of a listener go.
#[derive(Clone)]
pub(crate) struct Streams {
    /// The listener's name, for the service.
    pub(crate) listener: String,
    /// The protocols that a TLS handshake offers; none, if it is empty.
    pub(crate) alpn: Vec<String>,
    pub(crate) routes: RouteTable<dyn Connect>,
}

impl Streams {
    pub(super) fn alpn(&self) -> &[String] {
        &self.alpn
    }

    /// Serves a connection whose handshake is over, until it ends. That the listener
    /// ends is no reason: it waits, and cuts what is left then.
    pub(super) async fn serve(&self, socket: impl Socket, info: ConnectionInfo, shared: &Shared) {
        let asked = info.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        // Without a name there is a route of any host, or none.
        let host = asked.unwrap_or_default().to_ascii_lowercase();
        let peer = info.peer;
        let done = match self.routes.current().find(&host, "/") {
            Some(route) => {
                let (listener, idle) = (&self.listener, shared.limits.idle_timeout);
                let answer = Arc::clone(&route.answer);
                answer.connect(Box::new(socket), listener, info, idle).await
            }
            None => {
                tracing::debug!(%peer, host, "a connection that no route leads anywhere is closed");
                Err(RejectReason::NoRoute)
            }
        };
        if let Err(reason) = done {
            shared.metrics.observe(&Observation::Rejected { reason });
        }
    }
}
