//! Connections of byte streams: which service one goes to, and what became of it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Shared;
use super::connection::ConnectionInfo;
use super::routes::{Route, RouteTable};

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

    /// Where a connection goes that asks for this name; one that leads nowhere is told and
    /// counted here.
    pub(super) fn route(
        &self,
        asked: Option<&str>,
        peer: SocketAddr,
        shared: &Shared,
    ) -> Option<Way> {
        // Without a name there is a route of any host, or none.
        let host = asked.unwrap_or_default().to_ascii_lowercase();
        let route = self.routes.current().find(&host, "/");
        if route.is_none() {
            tracing::debug!(%peer, host, "a connection that no route leads anywhere is closed");
            let reason = RejectReason::NoRoute;
            shared.metrics.observe(&Observation::Rejected { reason });
        }
        route.map(Way)
    }

    /// Serves a connection whose handshake is over, until it ends. That the listener
    /// ends is no reason: it waits, and cuts what is left then.
    pub(super) async fn serve(
        &self,
        socket: impl Socket,
        Way(route): Way,
        info: ConnectionInfo,
        shared: &Shared,
    ) {
        let (listener, idle) = (&self.listener, shared.limits.idle_timeout);
        let answer = Arc::clone(&route.answer);
        if let Err(reason) = answer.connect(Box::new(socket), listener, info, idle).await {
            shared.metrics.observe(&Observation::Rejected { reason });
        }
    }

    /// Serves a connection in clear.
    pub(super) async fn serve_clear(
        &self,
        stream: TcpStream,
        info: ConnectionInfo,
        shared: &Shared,
    ) {
        let socket = Clear { stream, ended: false };
        if let Some(way) = self.route(None, info.peer, shared) {
            self.serve(socket, way, info, shared).await;
        }
    }
}

/// Where one connection goes.
pub(super) struct Way(Arc<Route<dyn Connect>>);

/// A connection in clear. One that is dropped before it was shut down is reset: an end in
/// order is all that tells a client that nothing is missing. TLS has a word for that.
struct Clear {
    stream: TcpStream,
    /// It was shut down.
    ended: bool,
}

impl Drop for Clear {
    fn drop(&mut self) {
        if !self.ended {
            // One that is gone already is not reset.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Clear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Clear {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}
