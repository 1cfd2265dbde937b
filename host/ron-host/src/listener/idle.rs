//! Whom a connection waits for, and since when.
//!
//! hyper has one time-out for the headers of HTTP/1, which runs while a connection
//! idles too, and none for HTTP/2 nor for a client that does not read its answer. So
//! each connection keeps its own account, and [`Pulse::due`] says what to do by it, and
//! when to ask again, which is seldom: no request arms a timer.
//!
//! An answer counts as taken while anything of one is: a line may be thin, and a stream
//! of HTTP/2 may wait for the others of its connection. So a client that takes one
//! answer drop by drop holds its other streams as long, up to those of a connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What is written of several pieces and is no more than that, is written as one: a small
/// answer is copied sooner than the system takes a list of its pieces.
const ONE_PIECE: usize = 1024;

/// Bytes of HTTP/2's pings and the like, which are written while nothing is taken.
const SIGN_OF_LIFE: usize = 32;

/// How long a client may keep a connection waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the rest of a request's headers.
    pub(super) head: Duration,
    /// For a request, and for taking some of an answer.
    pub(super) idle: Duration,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before then; ask again.
    Wait(Instant),
    /// It had no request for too long: close it in order.
    Idle,
    /// Its client is too slow: cut it.
    Slow,
}

/// One connection's account. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    waits: Waits,
    /// Bytes that come do not have to be a request's: there are pings and windows.
    http2: bool,
    /// Answers of which the client has something to take.
    untaken: usize,
    /// Since when there are such and nothing was taken.
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Waits {
    /// For the rest of a head.
    Head(Instant),
    /// For a request.
    Request(Instant),
    /// For nobody: that many requests are being answered.
    Not(usize),
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    pulse: Pulse,
    /// Whether it is one of those.
    untaken: bool,
}

impl Pulse {
    /// Of a connection that is there since `now`. Its first request is awaited as the
    /// rest of one is.
    pub(super) fn new(now: Instant) -> Self {
        let waits = Waits::Head(now);
        Self(Arc::new(Mutex::new(State { waits, http2: false, untaken: 0, since: now })))
    }

    /// Bytes came.
    fn read(&self, now: Instant) {
        let mut state = self.0.lock();
        if let Waits::Request(_) = state.waits
            && !state.http2
        {
            state.waits = Waits::Head(now);
        }
    }

    /// So many bytes were taken.
    fn wrote(&self, bytes: usize, now: Instant) {
        if bytes <= SIGN_OF_LIFE {
            return;
        }
        let mut state = self.0.lock();
        state.since = now;
        // What is left of an answer that hyper has to its end.
        if let Waits::Request(since) = &mut state.waits {
            *since = now;
        }
    }

    /// A request is there.
    pub(super) fn begin(&self, http2: bool) -> InFlight {
        let mut state = self.0.lock();
        state.http2 = http2;
        state.waits = match state.waits {
            Waits::Not(count) => Waits::Not(count + 1),
            Waits::Head(_) | Waits::Request(_) => Waits::Not(1),
        };
        InFlight { pulse: self.clone(), untaken: false }
    }

    /// Whether the rest of a head is awaited, or the first of one.
    pub(super) fn awaits_head(&self) -> bool {
        matches!(self.0.lock().waits, Waits::Head(_))
    }

    /// What to do at `now`.
    pub(super) fn due(&self, now: Instant, patience: Patience) -> Due {
        let state = self.0.lock();
        let (until, past) = match state.waits {
            Waits::Head(since) => (since + patience.head, Due::Slow),
            Waits::Request(since) => (since + patience.idle, Due::Idle),
            Waits::Not(_) if state.untaken > 0 => (state.since + patience.idle, Due::Slow),
            Waits::Not(_) => (now + patience.idle, Due::Slow),
        };
        if until <= now {
            return past;
        }
        // Whatever begins after now is due no earlier than this.
        Due::Wait(until.min(now + patience.head.min(patience.idle)))
    }
}

impl InFlight {
    /// Some of the answer was given to the connection, at `now`.
    pub(super) fn given(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.untaken, true) {
            let mut state = self.pulse.0.lock();
            if state.untaken == 0 {
                state.since = now;
            }
            state.untaken += 1;
        }
    }

    /// The connection asks for more of the answer: it has room for it.
    pub(super) fn taken(&mut self) {
        if std::mem::take(&mut self.untaken) {
            self.pulse.0.lock().untaken -= 1;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.taken();
        let mut state = self.pulse.0.lock();
        if let Waits::Not(count) = state.waits {
            state.waits = match count {
                0 | 1 => Waits::Request(Instant::now()),
                count => Waits::Not(count - 1),
            };
        }
    }
}

/// A stream that tells a pulse what is read.
#[derive(Debug)]
pub(super) struct Felt<S> {
    pub(super) stream: S,
    pub(super) pulse: Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Felt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pulse.read(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Felt<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.pulse.wrote(written, Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().map(|slice| slice.len()).sum::<usize>() <= ONE_PIECE {
            let mut piece = [0; ONE_PIECE];
            let mut filled = 0;
            for slice in slices {
                piece[filled..][..slice.len()].copy_from_slice(slice);
                filled += slice.len();
            }
            return self.poll_write(cx, &piece[..filled]);
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.pulse.wrote(written, Instant::now());
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(10), idle: Duration::from_secs(60) };

    /// Asks as a connection does, until something is to be done.
    async fn ends(pulse: &Pulse) -> (Due, Duration) {
        let start = Instant::now();
        loop {
            match pulse.due(Instant::now(), PATIENCE) {
                Due::Wait(until) => {
                    let wait = until - Instant::now();
                    assert!(wait > Duration::ZERO && wait <= PATIENCE.head);
                    assert!(start.elapsed() < 100 * PATIENCE.idle, "it would be for ever");
                    advance(wait).await;
                }
                due => return (due, Instant::now() - start),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_and_the_rest_of_one_are_awaited_for_a_short_time() {
        let pulse = Pulse::new(Instant::now());
        assert_eq!(ends(&pulse).await, (Due::Slow, PATIENCE.head));
        let pulse = Pulse::new(Instant::now());
        drop(pulse.begin(false));
        advance(Duration::from_secs(30)).await;
        pulse.read(Instant::now());
        advance(Duration::from_secs(3)).await;
        pulse.read(Instant::now());
        assert_eq!(ends(&pulse).await, (Due::Slow, Duration::from_secs(7)), "from its first byte");
    }

    #[tokio::test(start_paused = true)]
    async fn another_request_is_awaited_for_longer() {
        for http2 in [false, true] {
            let pulse = Pulse::new(Instant::now());
            let (one, other) = (pulse.begin(http2), pulse.begin(http2));
            drop(one);
            advance(Duration::from_secs(600)).await;
            assert!(matches!(pulse.due(Instant::now(), PATIENCE), Due::Wait(_)), "it is busy");
            drop(other);
            if http2 {
                pulse.read(Instant::now());
            }
            assert_eq!(ends(&pulse).await, (Due::Idle, PATIENCE.idle));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_to_be_taken() {
        let pulse = Pulse::new(Instant::now());
        let (mut quick, mut slow) = (pulse.begin(true), pulse.begin(true));
        slow.given(Instant::now());
        advance(Duration::from_secs(20)).await;
        quick.given(Instant::now());
        quick.taken();
        pulse.wrote(SIGN_OF_LIFE, Instant::now());
        assert_eq!(ends(&pulse).await, (Due::Slow, Duration::from_secs(40)));
        // However slowly: a line may be thin, and a part of the answer large.
        pulse.wrote(SIGN_OF_LIFE + 1, Instant::now());
        assert_eq!(ends(&pulse).await, (Due::Slow, PATIENCE.idle));
        slow.taken();
        assert!(matches!(pulse.due(Instant::now(), PATIENCE), Due::Wait(_)), "it is the service's");
        slow.given(Instant::now());
        drop(slow);
        advance(Duration::from_secs(600)).await;
        assert!(matches!(pulse.due(Instant::now(), PATIENCE), Due::Wait(_)), "it is gone");
        drop(quick);
        advance(Duration::from_secs(50)).await;
        pulse.wrote(SIGN_OF_LIFE + 1, Instant::now());
        assert_eq!(ends(&pulse).await, (Due::Idle, PATIENCE.idle), "from the answer's end");
    }
}
