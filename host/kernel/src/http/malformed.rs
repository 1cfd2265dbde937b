//! Answers to what is no request, in the shape of every other error.
//!
//! hyper answers by itself what it cannot read (400, 414, 431), with an empty body
//! and no hook to give it one. So each connection's stream is wrapped, and what
//! hyper writes without having been asked by a handler is replaced.
//!
//! Which answer that is shows by counting, not by looking: a handler's answer may
//! hold the same bytes. A request counts when it gets to the routes, and its
//! answer when hyper has taken all of it and has then flushed, which it does with
//! nothing left to write. As hyper serves one request after the other, whatever
//! is written while the counts are equal is hyper's own, and the last that the
//! connection sees. Where a client sends a body and then no request, and does not
//! read the answer in between, the two are flushed together and stay as they are.
//! HTTP/2 has frames of its own for what it cannot read, and is left alone.
//!
//! Such a client is often still sending, a head that is too large above all. To
//! close with bytes unread resets the connection, and may take the answer away
//! from who has not read it: so for a moment more is read, for nothing.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode};
use hyper::body::{Body, Buf};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::held::Held;
use super::reply::{Failure, REQUEST_ID, new_id};

/// Longest time, and most bytes, for which a client is listened to after the
/// answer to what is no request.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// A connection's requests. Its tasks take turns, so nothing is ordered.
#[derive(Debug, Default)]
struct Exchange {
    /// Those that got to the routes.
    seen: AtomicU64,
    /// Those whose answer hyper has taken to its end.
    answered: AtomicU64,
    /// Whether something was answered that the client may still be sending.
    unread: AtomicBool,
}

/// A request that got to the routes; dropped with its answer's body.
#[derive(Debug)]
struct Seen(Arc<Exchange>);

impl Seen {
    fn new(exchange: &Arc<Exchange>) -> Self {
        exchange.seen.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(exchange))
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// What sees to it that a connection's client can read why it was refused. A
/// connection's stream and its service both go through it before hyper has them.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Exchange>);

impl Watch {
    /// `stream`, on which what is no HTTP/1 request is answered with
    /// `{code,message,retryable,corr_id}`. HTTP/2 passes as it is.
    #[must_use]
    pub fn stream<S>(&self, stream: S) -> Watched<S> {
        Watched::new(stream, Arc::clone(&self.0))
    }

    /// `service`, whose requests count as seen.
    pub fn service<S, R, B>(
        &self,
        service: S,
    ) -> impl Service<
        Request<R>,
        Response = Response<impl Body<Data = B::Data, Error = B::Error> + use<S, R, B>>,
        Error = Infallible,
        Future: Send + 'static,
    > + use<S, R, B>
    where
        S: Service<Request<R>, Response = Response<B>, Error = Infallible, Future: Send + 'static>,
        R: Body,
        B: Body + Unpin + 'static,
    {
        let exchange = Arc::clone(&self.0);
        service_fn(move |request| {
            let seen = Seen::new(&exchange);
            let answering = service.call(request);
            async move { answering.await.map(|response| response.map(|body| Held::new(body, seen))) }
        })
    }

    /// A request was answered whose body the client may still be sending: when the
    /// connection is closed, listen for a moment more, so that the answer arrives.
    pub fn unread(&self) {
        self.0.unread.store(true, Ordering::Relaxed);
    }
}

/// A stream on which hyper's own answer is replaced.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    exchange: Arc<Exchange>,
    /// Whether it is HTTP/1 that is spoken; nobody knows before the first write.
    http1: Option<bool>,
    /// How many requests were answered and the answer written.
    passed: u64,
    /// What hyper wrote by itself since it last flushed.
    own: Vec<u8>,
    /// What is still to be written in its place.
    instead: Bytes,
    /// How long to go on reading after that, and how many bytes.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    /// Whether the stream's own end was shut down.
    ended: bool,
}

impl<S> Watched<S> {
    fn new(stream: S, exchange: Arc<Exchange>) -> Self {
        let (own, instead) = (Vec::new(), Bytes::new());
        let (http1, linger) = (None, None);
        Self { stream, exchange, http1, passed: 0, own, instead, linger, ended: false }
    }

    /// Whether what is about to be written is hyper's own.
    fn is_own(&mut self, slices: &[IoSlice<'_>]) -> bool {
        // An answer begins with its version, and HTTP/2 with its settings.
        let mut bytes = slices.iter().flat_map(|slice| slice.iter());
        let http1 = || bytes.by_ref().take(5).eq(b"HTTP/");
        *self.http1.get_or_insert_with(http1)
            && self.exchange.seen.load(Ordering::Relaxed) == self.passed
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.is_own(slices) {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        let before = self.own.len();
        slices.iter().for_each(|slice| self.own.extend_from_slice(slice));
        Poll::Ready(Ok(self.own.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.own.is_empty() {
            let own = std::mem::take(&mut this.own);
            this.instead = replacement(&own, &new_id()).unwrap_or(own).into();
            this.exchange.unread.store(true, Ordering::Relaxed);
        }
        while !this.instead.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &this.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.instead.advance(written);
        }
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        // Whatever hyper took of an answer is written by now.
        this.passed = this.exchange.answered.load(Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        let this = &mut *self;
        if !this.ended {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.ended = true;
            if this.exchange.unread.load(Ordering::Relaxed) {
                this.linger = Some((Box::pin(sleep(LINGER)), LINGER_BYTES));
            }
        }
        let Some((time, left)) = &mut this.linger else { return Poll::Ready(Ok(())) };
        while *left > 0 && time.as_mut().poll(cx).is_pending() {
            let mut chunk = [0; 4096];
            let mut buffer = ReadBuf::new(&mut chunk);
            // One that is gone needs nothing more.
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer));
            match buffer.filled().len() {
                count @ 1.. if read.is_ok() => *left = left.saturating_sub(count),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What is to be written in place of hyper's own answer; `None` where that is no
/// client's error.
fn replacement(own: &[u8], corr_id: &HeaderValue) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(own).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().filter(|line| line.starts_with("HTTP/1."))?;
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error)?;
    let (code, message) = match status {
        StatusCode::URI_TOO_LONG => ("uri-too-long", "the request's target is too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("headers-too-large", "the request's headers are too large, or too many")
        }
        _ => ("bad-request", "this is not a request in HTTP/1.1"),
    };
    let failure = Failure::new(status, code, message);
    let body = serde_json::to_string(&failure.envelope(corr_id)).ok()?;
    let corr_id = corr_id.to_str().ok()?;
    let length = body.len();
    // The date, and what else does not speak of the body.
    let kept = lines.filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !["connection", "content-length"].iter().any(|own| name.eq_ignore_ascii_case(own))
    });
    let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
    let answer = format!(
        "{status_line}\r\n{kept}content-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\ncache-control: no-store\r\n{REQUEST_ID}: {corr_id}\r\n\r\n{body}"
    );
    Some(answer.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::time::advance;

    const ID: HeaderValue = HeaderValue::from_static("r-1");
    const OWN: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                       date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    #[test]
    fn a_clients_error_gets_a_body_and_nothing_else_does() {
        let check = |status: &str, code: Option<&str>| {
            let own = OWN.replace("400 Bad Request", status);
            let answer = replacement(own.as_bytes(), &ID).map(|bytes| {
                let text = String::from_utf8(bytes).expect("text");
                let (head, body) = text.split_once("\r\n\r\n").expect("a head");
                let mut lines: Vec<_> = head.split("\r\n").collect();
                assert_eq!(lines.remove(0), format!("HTTP/1.1 {status}"));
                let length = format!("content-length: {}", body.len());
                let expected = [
                    "date: Thu, 01 Jan 1970 00:00:00 GMT",
                    "content-type: application/json",
                    &length,
                    "connection: close",
                    "cache-control: no-store",
                    "x-request-id: r-1",
                ];
                assert_eq!(lines, expected);
                let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
                assert_eq!((&body["retryable"], &body["corr_id"]), (&false.into(), &"r-1".into()));
                assert!(body["message"].is_string());
                body["code"].as_str().expect("a code").to_owned()
            });
            assert_eq!(answer.as_deref(), code, "{status}");
        };
        check("400 Bad Request", Some("bad-request"));
        check("414 URI Too Long", Some("uri-too-long"));
        check("431 Request Header Fields Too Large", Some("headers-too-large"));
        check("418 I'm a teapot", Some("bad-request"));
        check("500 Internal Server Error", None);
        check("200 OK", None);
        for own in ["", "HTTP/1.1", "HTTP/1.1 400 Bad Request\r\n", "HTTP/1.1 x y\r\n\r\n"] {
            assert_eq!(replacement(own.as_bytes(), &ID), None, "{own:?}");
        }
    }

    /// Takes `most` bytes at every second attempt, and gives zeros for ever.
    #[derive(Default)]
    struct Pipe {
        most: usize,
        attempts: usize,
        written: Vec<u8>,
        shut: bool,
    }

    impl AsyncRead for Pipe {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.most == 0 {
                return Poll::Pending;
            }
            buffer.put_slice(&[0; 100]);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.attempts += 1;
            if self.attempts.is_multiple_of(2) {
                return Poll::Pending;
            }
            let count = bytes.len().min(self.most);
            self.written.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            assert!(!self.shut, "once");
            self.shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn pipe(most: usize) -> (Watched<Pipe>, Arc<Exchange>) {
        let exchange = Arc::<Exchange>::default();
        (Watched::new(Pipe { most, ..Pipe::default() }, Arc::clone(&exchange)), exchange)
    }

    /// Until it is ready, as hyper would.
    fn drive<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> T {
        loop {
            if let Poll::Ready(done) = poll(&mut Context::from_waker(Waker::noop())) {
                return done.expect("it takes all");
            }
        }
    }

    fn write(watched: &mut Watched<Pipe>, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // In pieces and two at a time, as hyper may.
            let (first, second) = rest.split_at(rest.len().min(50));
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let count = drive(|cx| Pin::new(&mut *watched).poll_write_vectored(cx, &slices));
            rest = &rest[count..];
        }
    }

    fn flush(watched: &mut Watched<Pipe>) {
        drive(|cx| Pin::new(&mut *watched).poll_flush(cx));
    }

    fn take(watched: &mut Watched<Pipe>) -> String {
        String::from_utf8(std::mem::take(&mut watched.stream.written)).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_request_asked_for_is_replaced_and_nothing_else_is() {
        for most in [1, 7, 10_000] {
            let (mut watched, exchange) = pipe(most);
            for _ in 0..2 {
                let seen = Seen::new(&exchange);
                // Flushed while more is to come, as a stream's parts are.
                for _ in 0..2 {
                    write(&mut watched, OWN.as_bytes());
                    flush(&mut watched);
                    assert_eq!(take(&mut watched), OWN, "a handler may say the same");
                }
                write(&mut watched, OWN.as_bytes());
                drop(seen);
                write(&mut watched, OWN.as_bytes());
                flush(&mut watched);
                assert_eq!(take(&mut watched), OWN.repeat(2), "still a handler's");
                flush(&mut watched);
            }
            write(&mut watched, OWN.as_bytes());
            assert_eq!(take(&mut watched), "", "not before all of it is there");
            flush(&mut watched);
            let answer = take(&mut watched);
            assert!(answer.ends_with('}') && answer.contains("bad-request"), "{answer}");
            flush(&mut watched);
            assert_eq!(take(&mut watched), "", "once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_left_alone() {
        // An empty SETTINGS, and what would be replaced otherwise.
        let text = format!("\0\0\0\u{4}\0\0\0\0\0{OWN}");
        let (mut watched, _exchange) = pipe(10_000);
        write(&mut watched, text.as_bytes());
        assert_eq!(take(&mut watched), text, "at once");
        flush(&mut watched);
        drive(|cx| Pin::new(&mut watched).poll_shutdown(cx));
        assert_eq!(take(&mut watched), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_body_was_not_read_is_listened_to_as_well() {
        let watch = Watch::default();
        let mut watched = watch.stream(Pipe { most: 10_000, ..Pipe::default() });
        watch.unread();
        watched.stream.most = 0;
        let mut shut = || {
            let mut cx = Context::from_waker(Waker::noop());
            Pin::new(&mut watched).poll_shutdown(&mut cx).is_ready()
        };
        assert!(!shut());
        advance(LINGER).await;
        assert!(shut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_listened_to_for_a_moment_after_it() {
        let shutdown = |watched: &mut Watched<Pipe>| {
            let mut cx = Context::from_waker(Waker::noop());
            Pin::new(watched).poll_shutdown(&mut cx).map(|ended| ended.expect("it ends"))
        };
        let (mut asked, _exchange) = pipe(0);
        assert!(shutdown(&mut asked).is_ready(), "with no such answer it closes at once");
        let (mut endless, _exchange) = pipe(10_000);
        write(&mut endless, OWN.as_bytes());
        drive(|cx| Pin::new(&mut endless).poll_shutdown(cx));
        assert!(endless.stream.shut && take(&mut endless).contains("bad-request"));

        let (mut silent, _exchange) = pipe(10_000);
        write(&mut silent, OWN.as_bytes());
        flush(&mut silent);
        silent.stream.most = 0;
        assert!(shutdown(&mut silent).is_pending());
        assert!(silent.stream.shut, "the client sees the end");
        advance(LINGER - Duration::from_millis(1)).await;
        assert!(shutdown(&mut silent).is_pending());
        advance(Duration::from_millis(1)).await;
        assert!(shutdown(&mut silent).is_ready());
    }
}
