//! The bodies of a request that has its turn at a service with a state.
//!
//! The instance does nothing else while it handles a request, so it must not wait
//! for a client. What a client sends is read ahead before its turn, and what the
//! instance answers is taken ahead of the client: up to [`AHEAD`] bytes of each body, and
//! up to 16 MiB as long as there is room in the service's spool, which is in
//! `common.rs`. Beyond that the two go hand in hand, for half of the handler's deadline, or
//! for a moment as soon as somebody else waits: a client that is slower than that loses its
//! request, where it would otherwise cost the service a crash, and the others their turn.
//! One that has gone is not noticed by an instance that has no more to say than [`AHEAD`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

use super::BodyError;
use super::common::{AHEAD, Common, Patience, Room};

/// What a frame costs besides its bytes, about: one may have a single byte.
const EACH: usize = 128;
/// Shorter frames of a client are joined: one is a part of the buffer that it was read
/// into, and would keep all of that.
const JOINED: usize = 32 << 10;

fn cost(frame: &Frame<Bytes>) -> usize {
    EACH + frame.data_ref().map_or(0, Bytes::len)
}

/// The frames of a client's body that are held.
#[derive(Default)]
struct Frames {
    all: VecDeque<Frame<Bytes>>,
    /// What is joined with what comes next.
    open: BytesMut,
    /// What those in `all` cost.
    bytes: usize,
}

impl Frames {
    fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.len() < JOINED => {
                self.open.extend_from_slice(&data);
                if self.open.len() >= JOINED {
                    self.join();
                }
            }
            Ok(data) => self.push_whole(Frame::data(data)),
            Err(frame) => self.push_whole(frame),
        }
    }

    fn push_whole(&mut self, frame: Frame<Bytes>) {
        self.join();
        self.bytes += cost(&frame);
        self.all.push_back(frame);
    }

    /// What is open is a frame.
    fn join(&mut self) {
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            self.bytes += EACH + open.capacity();
            self.all.push_back(Frame::data(open.freeze()));
        }
    }

    /// What is held, about.
    fn bytes(&self) -> usize {
        self.bytes + self.open.capacity()
    }

    /// All of them.
    fn closed(mut self) -> VecDeque<Frame<Bytes>> {
        self.join();
        self.all
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

impl Ahead {
    /// Reads what there is room for, for as long as the listener lets the client take. What
    /// there is no room for comes in its turn.
    ///
    /// # Errors
    ///
    /// It ended before its end: the service need not hear of it at all.
    pub(super) async fn read(mut body: WasiBody, common: &Common) -> Result<Self, Error> {
        let (mut frames, mut room) = (Frames::default(), Room::of(common));
        let mut rest = None;
        loop {
            if !room.has_more_than(frames.bytes()) {
                rest = Some(body);
                break;
            }
            let Some(frame) = body.frame().await else { break };
            frames.push(frame?);
        }
        Ok(Self { frames: frames.closed(), rest, patience: None, _room: Some(room) })
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
                    self.cut();
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

    /// The client is waited for no more. What is held is nothing to it without the rest,
    /// and room to others.
    fn cut(&mut self) {
        {
            let mut held = self.held.lock();
            held.frames = VecDeque::new();
            held.bytes = 0;
            held.room.clear();
        }
        self.end(Source::Cut("the client took its answer too slowly"));
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
        held.room.clear();
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::super::common::{Shared, UNKNOWN};
    use super::*;

    /// A frame of a few bytes keeps nothing but them, and the rest stays in its order.
    #[tokio::test]
    async fn what_is_held_of_a_body_is_what_it_has() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().expect("a value"))]);
        let crumb = |n: u32| Bytes::from(vec![n as u8; 64 << 10]).slice(..1);
        let mut all: Vec<Frame<Bytes>> = (0..20_000).map(|n| Frame::data(crumb(n))).collect();
        all.insert(10_000, Frame::data(Bytes::from(vec![7; JOINED])));
        all.push(Frame::trailers(trailers.clone()));
        let mut frames = Frames::default();
        for frame in all {
            frames.push(frame);
        }
        let data = 20_000 + JOINED;
        assert!((data..2 * data).contains(&frames.bytes()), "{}", frames.bytes());
        let frames = frames.closed();
        assert!(frames.len() < 8, "{}", frames.len());
        let frames = frames.into_iter().map(Ok::<_, Infallible>);
        let Ok(body) = StreamBody::new(stream::iter(frames)).collect().await;
        assert_eq!(body.trailers(), Some(&trailers));
        let bytes = body.to_bytes();
        assert_eq!(bytes.len(), data);
        assert_eq!((bytes[9_999], bytes[10_000], bytes[data - 1]), (15, 7, 31));
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_read_in_its_turn() {
        let size = 20 << 20;
        let chunks = (0..size >> 20).map(|_| Ok(Frame::data(Bytes::from(vec![0; 1 << 20]))));
        let body = StreamBody::new(stream::iter(chunks));
        let common = Common::new(&Arc::new(Shared::default()), UNKNOWN);
        let ahead = Ahead::read(WasiBody::new(body), &common).await.expect("it is whole");
        assert!(ahead.rest.is_some() && ahead.frames.len() < 20);
        let read = ahead.by(Instant::now(), &common).collect().await.expect("it is there");
        assert_eq!(read.to_bytes().len(), size);
    }
}
