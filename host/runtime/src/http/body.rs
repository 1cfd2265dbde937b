//! The bodies of a request that has its turn at a service with a state.
//!
//! The instance does nothing else while it handles a request, so it must not wait
//! for a client. What a client sends is read ahead before its turn, and what the
//! instance answers is taken ahead of the client: up to [`AHEAD`] bytes of each body, and
//! up to [`LONGEST`] as long as there is room in the service's [`Spool`]. Beyond that the
//! two go hand in hand, for half of the handler's deadline, or for [`CROWDED`] as soon as
//! somebody else waits: a client that is slower than that loses its request, where it would
//! otherwise cost the service a crash, and the others their turn. One that has gone is not
//! noticed by an instance that has no more to say than [`AHEAD`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::BodyError;

/// Bytes of a body that the host holds for one of the two ends, about, whatever others do.
const AHEAD: usize = 256 << 10;
/// The same, as long as there is room in the spool: twice what a listener lets a body have
/// by default.
const LONGEST: usize = 16 << 20;
/// KiB that all bodies of a service have in the spool together.
const SPOOL: usize = 64 << 10;
/// KiB in which room is taken.
const STEP: usize = 256;
/// How long a client is waited for when somebody else waits for a turn.
const CROWDED: Duration = Duration::from_millis(250);

/// What a frame costs besides its bytes, about: one may have a single byte.
const EACH: usize = 128;

fn cost(frame: &Frame<Bytes>) -> usize {
    EACH + frame.data_ref().map_or(0, Bytes::len)
}

/// What requests to one service have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    spool: Spool,
    crowd: Crowd,
}

impl Common {
    /// So many wait for a turn now.
    pub(super) fn waiting(&self, count: usize) {
        self.crowd.0.store(count, Ordering::Relaxed);
    }
}

/// Room for bodies, in KiB.
#[derive(Clone, Debug)]
struct Spool(Arc<Semaphore>);

impl Default for Spool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SPOOL)))
    }
}

/// How many wait for a turn.
#[derive(Clone, Debug, Default)]
struct Crowd(Arc<AtomicUsize>);

/// What one body has of the spool.
#[derive(Debug)]
struct Room {
    spool: Spool,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn of(common: &Common) -> Self {
        Self { spool: common.spool.clone(), taken: None }
    }

    /// Whether more may be held of a body than these bytes.
    fn has_more_than(&mut self, bytes: usize) -> bool {
        if bytes < AHEAD {
            return true;
        }
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes >= LONGEST {
            return false;
        }
        if bytes - AHEAD < held << 10 {
            return true;
        }
        let Ok(more) = Arc::clone(&self.spool.0).try_acquire_many_owned(STEP as u32) else {
            return false;
        };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

/// How long a client is waited for in a turn.
struct Patience {
    until: Instant,
    crowd: Crowd,
    /// There as long as it is waited for, from the first time on.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(until: Instant, common: &Common) -> Self {
        Self { until, crowd: common.crowd.clone(), timer: None }
    }

    /// Ready when the client is waited for no more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = || sleep_until((Instant::now() + CROWDED).min(self.until));
            ready!(self.timer.get_or_insert_with(|| Box::pin(next())).as_mut().poll(cx));
            if Instant::now() >= self.until || self.crowd.0.load(Ordering::Relaxed) > 0 {
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }
}

/// What a client sends, read ahead.
pub(crate) struct Ahead {
    frames: VecDeque<Frame<Bytes>>,
    rest: Option<WasiBody>,
    /// How long the rest is waited for.
    patience: Option<Patience>,
    _room: Option<Room>,
}

/// Why a body is not read ahead.
#[derive(Debug)]
pub(super) enum Unread {
    /// It ended before its end: the service need not hear of it at all.
    Broken(Error),
    /// There is no room for it now.
    Full,
}

impl Ahead {
    /// Reads what there is room for, for as long as the listener lets the client take.
    pub(super) async fn read(mut body: WasiBody, common: &Common) -> Result<Self, Unread> {
        let (mut frames, mut bytes) = (VecDeque::new(), 0);
        let mut room = Room::of(common);
        while bytes < LONGEST {
            if !room.has_more_than(bytes) {
                return Err(Unread::Full);
            }
            let Some(frame) = body.frame().await else {
                return Ok(Self { frames, rest: None, patience: None, _room: Some(room) });
            };
            let frame = frame.map_err(Unread::Broken)?;
            bytes += cost(&frame);
            frames.push_back(frame);
        }
        Ok(Self { frames, rest: Some(body), patience: None, _room: Some(room) })
    }

    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self { frames: VecDeque::new(), rest: None, patience: None, _room: None }
    }

    /// Its turn has come: what is not there by `until` does not come.
    pub(crate) fn by(mut self, until: Instant, common: &Common) -> Self {
        self.patience = self.rest.is_some().then(|| Patience::new(until, common));
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
        let late = self.patience.as_mut().is_some_and(|patience| patience.poll(cx).is_ready());
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
struct Held {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    room: Room,
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
    patience: Patience,
}

/// The client's end.
pub(super) struct Giving(Arc<Mutex<Held>>);

/// Both ends of `body`; the client is waited for until then.
pub(super) fn relay(body: WasiBody, until: Instant, common: &Common) -> (Taking, Giving) {
    let held = Held {
        frames: VecDeque::new(),
        bytes: 0,
        room: Room::of(common),
        source: Source::default(),
        gone: false,
        client: None,
        call: None,
    };
    let held = Arc::new(Mutex::new(held));
    let patience = Patience::new(until, common);
    (Taking { body: Some(body), held: Arc::clone(&held), patience }, Giving(held))
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
            let bytes = held.bytes;
            if !held.room.has_more_than(bytes) {
                held.call = Some(cx.waker().clone());
                drop(held);
                if self.patience.poll(cx).is_ready() {
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
        held.room.taken = None;
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
