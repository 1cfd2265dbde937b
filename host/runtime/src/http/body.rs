//! The bodies of a request that has its turn at a service with a state.
//!
//! The instance does nothing else while it handles a request, so it must not wait
//! for a client. What a client sends is read ahead before its turn, and what the
//! instance answers is taken ahead of the client, both up to [`AHEAD`] bytes. Beyond
//! that the two go hand in hand, for half of the handler's deadline: a client that
//! is slower than that loses its request, where it would otherwise cost the service
//! a crash. One that has gone is not noticed by an instance that
//! has no more to say than that.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::BodyError;

/// Bytes of a body that the host holds for one of the two ends, about.
const AHEAD: usize = 256 << 10;

/// What a frame costs besides its bytes, about: one may have a single byte.
const EACH: usize = 128;

fn cost(frame: &Frame<Bytes>) -> usize {
    EACH + frame.data_ref().map_or(0, Bytes::len)
}

/// What a client sends, read ahead.
pub(crate) struct Ahead {
    frames: VecDeque<Frame<Bytes>>,
    rest: Option<WasiBody>,
    /// Until when the rest is waited for.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Ahead {
    /// Reads up to [`AHEAD`] bytes, for as long as the listener lets the client take.
    ///
    /// # Errors
    ///
    /// When the body ends before its end: the service need not hear of it at all.
    pub(super) async fn read(mut body: WasiBody) -> Result<Self, Error> {
        let (mut frames, mut bytes) = (VecDeque::new(), 0);
        while bytes < AHEAD {
            let Some(frame) = body.frame().await else {
                return Ok(Self { frames, rest: None, patience: None });
            };
            let frame = frame?;
            bytes += cost(&frame);
            frames.push_back(frame);
        }
        Ok(Self { frames, rest: Some(body), patience: None })
    }

    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self { frames: VecDeque::new(), rest: None, patience: None }
    }

    /// Its turn has come: what is not there by `until` does not come.
    pub(crate) fn by(mut self, until: Instant) -> Self {
        self.patience = self.rest.is_some().then(|| Box::pin(sleep_until(until)));
        self
    }
}

impl Body for Ahead {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(rest).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let late = self.patience.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if !late {
            return Poll::Pending;
        }
        self.rest = None;
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// What an instance answers, on its way to the client.
#[derive(Default)]
struct Held {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    source: Source,
    /// The client has gone.
    gone: bool,
    client: Option<Waker>,
    call: Option<Waker>,
}

/// Where frames come from when those that are held are gone.
#[derive(Default)]
enum Source {
    /// The call that is under way.
    #[default]
    Call,
    /// The call has returned, and left this.
    Left(WasiBody),
    End,
    Cut(&'static str),
}

/// The instance's end of an answer's body: takes what it writes for as long as its
/// call goes on.
pub(super) struct Taking {
    body: Option<WasiBody>,
    held: Arc<Mutex<Held>>,
    until: Instant,
    patience: Option<Pin<Box<Sleep>>>,
}

/// The client's end.
pub(super) struct Giving(Arc<Mutex<Held>>);

/// Both ends of `body`; the client is waited for until then.
pub(super) fn relay(body: WasiBody, until: Instant) -> (Taking, Giving) {
    let held = Arc::<Mutex<Held>>::default();
    let taking = Taking { body: Some(body), held: Arc::clone(&held), until, patience: None };
    (taking, Giving(held))
}

impl Taking {
    /// Takes what is there. Whoever polls the call polls this with it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Some(body) = &mut self.body {
            let mut held = self.held.lock();
            // For a client who has gone as much is taken and dropped: many libraries make a
            // trap of a stream that fails, and that would be the end of a state that is
            // everybody's.
            if held.gone && held.bytes >= AHEAD {
                return self.body = None;
            }
            if held.bytes >= AHEAD {
                held.call = Some(cx.waker().clone());
                drop(held);
                let until = self.until;
                let timer = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if timer.as_mut().poll(cx).is_ready() {
                    self.end(Source::Cut("the client took its answer too slowly"));
                }
                return;
            }
            drop(held);
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    let mut held = self.held.lock();
                    held.bytes += cost(&frame);
                    if held.gone {
                        continue;
                    }
                    held.frames.push_back(frame);
                    let client = held.client.take();
                    drop(held);
                    wake(client);
                }
                Poll::Ready(Some(Err(_))) => self.end(Source::Cut("the service gave up on it")),
                Poll::Ready(None) => self.end(Source::End),
            }
        }
    }

    /// The call has returned: what it left is the client's to fetch.
    pub(super) fn leave(mut self) {
        if let Some(body) = self.body.take() {
            self.end(Source::Left(body));
        }
    }

    fn end(&mut self, source: Source) {
        self.body = None;
        let mut held = self.held.lock();
        held.source = source;
        let client = held.client.take();
        drop(held);
        wake(client);
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.end(Source::Cut("the service crashed over it"));
        }
    }
}

impl Body for Giving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut held = self.0.lock();
        if let Some(frame) = held.frames.pop_front() {
            held.bytes -= cost(&frame);
            let call = held.call.take();
            drop(held);
            wake(call);
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut held.source {
            Source::Call => {
                held.client = Some(cx.waker().clone());
                Poll::Pending
            }
            Source::Left(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Source::End => Poll::Ready(None),
            Source::Cut(why) => Poll::Ready(Some(Err((*why).into()))),
        }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        let mut held = self.0.lock();
        held.gone = true;
        held.frames = VecDeque::new();
        held.bytes = 0;
        let call = held.call.take();
        drop(held);
        wake(call);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
