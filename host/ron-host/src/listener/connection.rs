//! One connection: its handshake, hyper, and whatever ends it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use ron_kernel::http::Watch;
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use super::idle::{Due, Felt, Patience, Pulse};
use super::limits::Limits;
use super::stream::Way;
use super::{Certificates, Shared, tls};

/// Most bytes of a request's line and headers, 431 past it; also how much of a body is
/// read at once.
const HEAD_BYTES: u32 = 32 * 1024;
/// Requests of one HTTP/2 connection at the same time.
const STREAMS: u32 = 128;
/// Bytes of a request's body that a client may send before they are read: of one
/// stream, and of one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait within hyper for the client to take them.
const SEND_BUFFER: usize = 256 * 1024;
/// How often an HTTP/2 client is asked whether it is there, and how long it has to say
/// so. It finds those that are gone without a word while a request runs.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// How long a connection that idled may take to close, and a client to send the rest of a
/// head when the listener ends.
const CLOSING: Duration = Duration::from_secs(2);

/// What is known of a connection. Each request has it as an extension, in an `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionInfo {
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// The listener's own end.
    pub(crate) local: SocketAddr,
    /// Of the handshake, where there was one.
    pub(crate) tls: Option<TlsInfo>,
}

/// What a TLS handshake told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsInfo {
    /// The name that the client asked for.
    pub(crate) sni: Option<String>,
    /// The protocol that was agreed on: `h2`, `http/1.1`.
    pub(crate) alpn: Option<String>,
    /// Whom the client's certificate is for, as in `CN=ci, O=Example`. It was checked.
    pub(crate) client_subject: Option<String>,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    /// The client's first bytes tell.
    Either,
}

/// Serves `stream` until it ends, `stop` included.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    // Answers are small and written at once; a failure costs only delay.
    drop(stream.set_nodelay(true));
    // A connection that has no address any more is gone.
    let Ok(local) = stream.local_addr() else { return };
    let info = ConnectionInfo { peer, local, tls: None };
    let Some(certificates) = &shared.tls else {
        return match &shared.streams {
            Some(streams) => streams.serve_clear(stream, info, &shared).await,
            None => http(stream, info, Protocol::Either, shared, stop).await,
        };
    };
    let handshake = handshake(stream, certificates, peer, &shared);
    let handshake = timeout(shared.limits.handshake_timeout, handshake);
    let (stream, way) = tokio::select! {
        () = stop.cancelled() => return,
        accepted = handshake => match accepted {
            Ok(Ok(Some(accepted))) => accepted,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return refused(&shared, peer, &error),
            Err(_) => return refused(&shared, peer, &"it took too long"),
        },
    };
    let tls = tls::info(&stream);
    let protocol =
        if tls.alpn.as_deref() == Some("h2") { Protocol::Http2 } else { Protocol::Http1 };
    let info = ConnectionInfo { tls: Some(tls), ..info };
    if let (Some(streams), Some(way)) = (&shared.streams, way) {
        return streams.serve(stream, way, info, &shared).await;
    }
    // Its first request has as much time as without a handshake.
    http(stream, info, protocol, shared, stop).await;
}

/// A handshake came to nothing. Anybody may begin one: it is counted, and told of to who
/// looks closely.
fn refused(shared: &Shared, peer: SocketAddr, why: &dyn fmt::Display) {
    shared.metrics.observe(&Observation::Rejected { reason: RejectReason::Handshake });
    tracing::debug!(%peer, error = %why, "a TLS handshake failed");
}

/// A TLS handshake, and where a connection of byte streams goes. One that leads nowhere is
/// told so while there is a word for it.
async fn handshake(
    stream: TcpStream,
    certificates: &Certificates,
    peer: SocketAddr,
    shared: &Shared,
) -> io::Result<Option<(tls::Stream, Option<Way>)>> {
    let Some(streams) = &shared.streams else {
        return Ok(Some((certificates.accept(stream).await?, None)));
    };
    let asked = tls::hello(stream).await?;
    match streams.route(asked.client_hello().server_name(), peer, shared) {
        Some(way) => Ok(Some((certificates.accept_for(asked, streams.alpn()).await?, Some(way)))),
        None => tls::refuse_name(asked).await.map(|()| None),
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    info: ConnectionInfo,
    protocol: Protocol,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let Limits { header_timeout, idle_timeout, .. } = shared.limits;
    let patience = Patience { head: header_timeout, idle: idle_timeout };
    let (pulse, watch) = (Pulse::new(Instant::now()), Watch::default());
    let tasks = OwnTasks::default();
    let ip = info.peer.ip().to_canonical();
    let exchange = Arc::new(Exchange {
        shared,
        client: ip.into(),
        forwarded_for: HeaderValue::try_from(ip.to_string()).expect("an address is plain text"),
        info: Arc::new(info),
        pulse: pulse.clone(),
        watch: watch.clone(),
    });
    let service = watch.service(service_fn(move |request| {
        let exchange = Arc::clone(&exchange);
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    }));
    let stream = TokioIo::new(watch.stream(Felt { stream, pulse: pulse.clone() }));
    let builder = builder(protocol, patience, tasks.0.clone());
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut stopping: Option<Instant> = None;
    let mut closing = None;
    loop {
        let now = Instant::now();
        let headless = stopping.filter(|_| pulse.awaits_head());
        if headless.is_some_and(|until| until <= now) {
            break;
        }
        let wake = match (pulse.due(now, patience), closing) {
            (Due::Slow, _) => break,
            (Due::Wait(wake), _) => wake,
            (Due::Idle, None) => {
                connection.as_mut().graceful_shutdown();
                *closing.insert(now + CLOSING)
            }
            (Due::Idle, Some(until)) if until <= now => break,
            (Due::Idle, Some(until)) => until,
        };
        let wake = headless.map_or(wake, |until| until.min(wake));
        tokio::select! {
            // An error is the client's: gone, late, or not speaking HTTP.
            _ = connection.as_mut() => break,
            () = stop.cancelled(), if stopping.is_none() => {
                stopping = Some(Instant::now() + CLOSING);
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(wake) => {}
        }
    }
}

fn builder(protocol: Protocol, patience: Patience, tasks: Tasks) -> Builder<Tasks> {
    let mut builder = Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        // It runs while a connection idles, too: `idle.rs` tells the two apart, and this
        // is what both come to.
        .header_read_timeout(patience.idle + patience.head)
        .max_buf_size(HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
        Protocol::Either => builder,
    }
}

/// The tasks of one connection's HTTP/2 requests, which end with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock();
        // Those that have ended are collected here, so that no more are kept than ran at
        // the same time.
        while let Some(ended) = tasks.try_join_next() {
            super::report(ended);
        }
        tasks.spawn(task);
    }
}

/// Ends them when it is dropped. Each of them has the set, and so would keep it.
#[derive(Default)]
struct OwnTasks(Tasks);

impl Drop for OwnTasks {
    fn drop(&mut self) {
        self.0.0.lock().abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_with_their_connection() {
        let (own, held) = (OwnTasks::default(), Arc::new(()));
        let (tasks, inside) = (own.0.clone(), Arc::clone(&held));
        own.0.execute(async move {
            let _both = (tasks, inside);
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 2);
        drop(own);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
