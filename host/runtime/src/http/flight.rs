//! One request at a component behind HTTP: its answer on the way to the client, and what
//! the client does to both.
//!
//! A component is not to blame for its client. A client that goes away, or whose body
//! breaks, fails a stream of the instance, and many libraries make a trap of that. So a
//! flight knows what became of its client, and a trap that may follow from it is no crash
//! of the service.
//!
//! Nor is one client to cost another its answer. Where an instance answers several
//! requests, an answer whose client has gone is held, and not taken any further, until
//! nobody else is answered there. And what is left of an answer when its instance ends has
//! no good end, whatever its body says: `wasmtime_wasi_http` ends a body that was dropped
//! with its instance as one that was finished.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{BodyError, Place, Unanswered};
use crate::state::{Progress, Witness};

/// Frames that an instance may have written and that nobody took: its end of a body holds
/// one or two. A body with more is not the instance's: it passes a request's on.
const WRITTEN: usize = 8;

/// One request, as the instance that answers it and whoever waits see it.
pub(super) struct Flight {
    pub(super) corr_id: String,
    /// Whether its client came over TLS.
    pub(super) https: bool,
    /// Whether the head of the answer is there, and how long the client was waited for.
    pub(super) progress: Arc<Progress>,
    /// The client's body was read to its end.
    uploaded: AtomicBool,
    /// Told once how it ended, if it was without an answer.
    ended: Mutex<Option<oneshot::Sender<Unanswered>>>,
    state: Mutex<State>,
    /// What its client has taken up: given back when it is served, or when the instance is
    /// no more that it left at work.
    place: Mutex<Option<Place>>,
    /// Taken before `state`, where both are: the answer may be the client's own body, which
    /// tells `state` what becomes of it.
    answer: Mutex<Answer>,
}

struct State {
    client: Client,
    /// When it was there no more.
    left: Option<Instant>,
    /// There from the moment that an instance took it.
    began: Option<Began>,
    /// Since when the instance waits for more of the client's body.
    waits: Option<Instant>,
    /// When it is late, but for what the client takes, and who is to be told then.
    due: Option<(Instant, Waker)>,
    /// The client's body ended before its end.
    broke: bool,
}

/// Where a request is answered.
#[derive(Clone)]
pub(super) struct Began {
    pub(super) witness: Witness,
    pub(super) instance: Arc<Aboard>,
}

/// What became of the client, as far as the instance is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// It waits for its answer, or takes it.
    There,
    /// It has its answer to the end, or was told that there is none.
    Served,
    /// It has gone, and what it left is held: the instance does not notice.
    Gone,
    /// It has gone or its body broke, and the instance may notice.
    Noticed,
}

/// The answer's body.
enum Answer {
    /// Its head is not there yet.
    Awaited,
    Open(Box<Open>),
    /// There is nothing more of it.
    Over,
}

struct Open {
    body: WasiBody,
    /// What was taken of it, and not given yet.
    frames: VecDeque<Frame<Bytes>>,
    end: Option<End>,
    /// Its instance has ended, and this had not: why it is cut, and whether the client's
    /// body had been read to its end then.
    orphaned: Option<(&'static str, bool)>,
    client: Option<Waker>,
}

/// How a body ended.
enum End {
    Whole,
    Failed(BodyError),
}

impl Flight {
    /// One whose client waits; and the end that is told of it when there is no answer.
    pub(super) fn new(
        corr_id: &str,
        https: bool,
        place: Option<Place>,
    ) -> (Arc<Self>, oneshot::Receiver<Unanswered>) {
        let (ended, end) = oneshot::channel();
        let state = State {
            client: Client::There,
            left: None,
            began: None,
            waits: None,
            due: None,
            broke: false,
        };
        let flight = Self {
            corr_id: corr_id.to_owned(),
            https,
            progress: Arc::default(),
            uploaded: AtomicBool::new(false),
            ended: Mutex::new(Some(ended)),
            state: Mutex::new(state),
            place: Mutex::new(place),
            answer: Mutex::new(Answer::Awaited),
        };
        (Arc::new(flight), end)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.progress.is_answered()
    }

    /// Whether somebody waits for the answer or takes it.
    pub(super) fn is_there(&self) -> bool {
        self.state.lock().client == Client::There
    }

    fn is_served(&self) -> bool {
        self.state.lock().client == Client::Served
    }

    /// Whether the client has gone before the end, or its body broke.
    fn is_abandoned(&self) -> bool {
        matches!(self.state.lock().client, Client::Gone | Client::Noticed)
    }

    /// Whether the instance may fail for what the client did.
    pub(super) fn is_noticed(&self) -> bool {
        self.state.lock().client == Client::Noticed
    }

    /// Whether its client's body broke.
    pub(super) fn is_broken(&self) -> bool {
        self.state.lock().broke
    }

    /// How long the instance has waited for more of the client's body.
    pub(super) fn waited(&self) -> Duration {
        let since = self.state.lock().waits;
        self.progress.waited() + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn began(&self) -> Option<Began> {
        self.state.lock().began.clone()
    }

    /// An instance takes it.
    pub(super) fn begins(self: &Arc<Self>, instance: &Arc<Aboard>, witness: Witness) {
        let began = Began { witness, instance: Arc::clone(instance) };
        self.state.lock().began = Some(began);
        instance.begins(Arc::clone(self));
    }

    /// Who is to be told that there is no answer; once.
    pub(super) fn ended(&self) -> Option<oneshot::Sender<Unanswered>> {
        self.ended.lock().take()
    }

    /// There is no answer, and whoever waited is told so.
    pub(super) fn unanswered(&self) {
        self.becomes(Client::Served);
    }

    /// The client has gone before its answer was there.
    pub(super) fn left(&self) {
        self.becomes(Client::Gone);
    }

    fn becomes(&self, client: Client) {
        let mut state = self.state.lock();
        let new = state.client == Client::There;
        if new {
            state.client = client;
            state.left = Some(Instant::now());
        }
        drop(state);
        if new && client == Client::Served {
            drop(self.place.lock().take());
        }
        self.settle(client == Client::Gone);
    }

    /// The client's body broke, which the instance is told.
    fn breaks(&self) {
        let mut state = self.state.lock();
        state.broke = true;
        if state.client != Client::Served {
            state.client = Client::Noticed;
        }
        if let Some(began) = &state.began {
            began.instance.spoil();
        }
    }

    /// Some of the body is there, or nobody waits for it any more.
    fn waits_no_more(&self) {
        if let Some(since) = self.state.lock().waits.take() {
            self.progress.wait(since.elapsed());
        }
    }

    fn settle(&self, spoils: bool) {
        let began = self.state.lock().began.as_ref().map(|began| Arc::clone(&began.instance));
        if let Some(instance) = began {
            instance.settle(spoils);
        }
    }

    /// Has `waker` woken when the time is over that it has, and what its client took
    /// besides; says whether it is over.
    pub(super) fn is_late(&self, due: Instant, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        // Until it is woken for that, it is not late, and nobody asks the clock.
        if let Some((_, known)) = &mut state.due {
            known.clone_from(waker);
            return false;
        }
        let waited = state.waits.map_or(Duration::ZERO, |since| since.elapsed());
        if Instant::now() >= due + self.progress.waited() + waited {
            if let Some(Began { instance, .. }) = &state.began {
                instance.late.store(true, Ordering::Release);
                instance.spoil();
            }
            return true;
        }
        state.due = Some((due, waker.clone()));
        false
    }

    /// Wakes whoever waits for it to be late, if it is; else says when it will be.
    fn remind(&self, now: Instant) -> Option<Instant> {
        let waited = self.waited();
        let mut state = self.state.lock();
        let due = state.due.as_ref().map(|(due, _)| *due + waited)?;
        if due > now {
            return Some(due);
        }
        let late = state.due.take();
        drop(state);
        if let Some((_, waker)) = late {
            waker.wake();
        }
        None
    }

    /// What is held of it is let go, which the instance notices.
    fn let_go(&self) -> Option<Answer> {
        let mut state = self.state.lock();
        let gone = state.client == Client::Gone;
        if gone {
            state.client = Client::Noticed;
        }
        drop(state);
        gone.then(|| self.take_answer())
    }

    /// What there is of the answer, to be dropped without a lock.
    fn take_answer(&self) -> Answer {
        let mut answer = self.answer.lock();
        match &*answer {
            Answer::Awaited => Answer::Awaited,
            Answer::Open(_) | Answer::Over => std::mem::replace(&mut answer, Answer::Over),
        }
    }

    /// The head of the answer is there, and this is the body as the client has it.
    pub(super) fn answers(
        self: &Arc<Self>,
        response: http::Response<WasiBody>,
    ) -> http::Response<Giving> {
        self.progress.answer();
        response.map(|body| {
            let open =
                Open { body, frames: VecDeque::new(), end: None, orphaned: None, client: None };
            *self.answer.lock() = Answer::Open(Box::new(open));
            Giving(Arc::clone(self))
        })
    }

    /// Its instance is about to end, for that reason: what it wrote is still to be had.
    pub(super) fn orphan(&self, why: &'static str) {
        if let Answer::Open(open) = &mut *self.answer.lock() {
            open.take_written();
            if open.end.is_none() {
                open.orphaned = Some((why, self.uploaded.load(Ordering::Acquire)));
            }
        }
    }

    /// Its instance has ended: whoever takes the answer looks at what is left of it.
    pub(super) fn wake(&self) {
        let client = match &mut *self.answer.lock() {
            Answer::Open(open) => open.client.take(),
            Answer::Awaited | Answer::Over => None,
        };
        if let Some(client) = client {
            client.wake();
        }
    }
}

impl Open {
    /// Takes what the instance has written, as long as there is an instance.
    fn take_written(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.end.is_none() && self.frames.len() < WRITTEN {
            match Pin::new(&mut self.body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => self.frames.push_back(frame),
                Poll::Ready(Some(Err(error))) => self.end = Some(End::Failed(error.into())),
                Poll::Ready(None) => self.end = Some(End::Whole),
                Poll::Pending => return,
            }
        }
    }

    /// The next frame, for the client; `uploaded` says whether its own body was read to
    /// its end.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        uploaded: &AtomicBool,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.end.take() {
            Some(End::Whole) => return Poll::Ready(None),
            Some(End::Failed(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.client = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(match (frame, self.orphaned) {
            // Only the client's own body, passed on as the answer, goes on without the
            // instance; and then its end is the answer's.
            (None, Some((why, before))) if before || !uploaded.load(Ordering::Acquire) => {
                Some(Err(why.into()))
            }
            (frame, _) => frame.map(|frame| frame.map_err(BodyError::from)),
        })
    }

    fn is_over(&self) -> bool {
        self.frames.is_empty()
            && match &self.end {
                Some(end) => matches!(end, End::Whole),
                None => self.orphaned.is_none() && self.body.is_end_stream(),
            }
    }
}

/// An answer's body, as the client has it. Whoever drops it before its end has gone.
pub(super) struct Giving(Arc<Flight>);

impl Body for Giving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let flight = &self.0;
        let mut answer = flight.answer.lock();
        let Answer::Open(open) = &mut *answer else { return Poll::Ready(None) };
        let frame = ready!(open.poll(cx, &flight.uploaded));
        drop(answer);
        if !matches!(frame, Some(Ok(_))) {
            drop(flight.take_answer());
            flight.becomes(Client::Served);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &*self.0.answer.lock() {
            Answer::Open(open) => open.is_over(),
            Answer::Awaited | Answer::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.0.answer.lock() {
            // What was taken ahead is no part of its own account.
            Answer::Open(open) if open.frames.is_empty() => open.body.size_hint(),
            Answer::Open(_) => SizeHint::default(),
            Answer::Awaited | Answer::Over => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        let flight = &self.0;
        let over = match &mut *flight.answer.lock() {
            Answer::Open(open) => {
                // It may have been written to its end, and that not been taken.
                open.take_written();
                open.end.is_some() || open.is_over()
            }
            Answer::Awaited | Answer::Over => true,
        };
        flight.becomes(if over { Client::Served } else { Client::Gone });
        if over || flight.is_noticed() {
            drop(flight.take_answer());
        }
    }
}

/// A client's body, as the instance has it.
pub(super) struct Upload {
    body: WasiBody,
    flight: Arc<Flight>,
}

impl Upload {
    pub(super) fn new(body: WasiBody, flight: &Arc<Flight>) -> Self {
        if body.is_end_stream() {
            flight.uploaded.store(true, Ordering::Release);
        }
        Self { body, flight: Arc::clone(flight) }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let flight = &this.flight;
        if polled.is_pending() {
            flight.state.lock().waits.get_or_insert_with(Instant::now);
            return polled;
        }
        flight.waits_no_more();
        match &polled {
            Poll::Ready(None) => flight.uploaded.store(true, Ordering::Release),
            Poll::Ready(Some(Err(_))) => flight.breaks(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.flight.waits_no_more();
    }
}

/// What one instance answers.
#[derive(Default)]
pub(super) struct Aboard {
    /// Those that are not served yet, and the last. Taken when the instance ends.
    flights: Mutex<Vec<Arc<Flight>>>,
    /// Its end was reported: whatever it costs, it is one crash.
    pub(super) reported: AtomicBool,
    /// A client has gone, or its body broke, or a request was late: no other may come.
    spoiled: AtomicBool,
    /// How many instances of the service became so.
    spoils: Arc<AtomicU64>,
    /// A request was late there, and may be at it still.
    late: AtomicBool,
    /// Since when nobody is answered there any more, because who was has gone.
    deserted: Mutex<Option<Instant>>,
    /// The instance's task.
    task: Mutex<Option<Waker>>,
}

impl Aboard {
    /// One more that counts with those of its service that are spoiled.
    pub(super) fn new(spoils: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { spoils: Arc::clone(spoils), ..Self::default() })
    }

    fn spoil(&self) {
        if !self.spoiled.swap(true, Ordering::AcqRel) {
            self.spoils.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn begins(&self, flight: Arc<Flight>) {
        let gone = flight.is_abandoned();
        if !gone {
            *self.deserted.lock() = None;
        }
        let mut flights = self.flights.lock();
        flights.retain(|other| !other.is_served());
        flights.push(flight);
        drop(flights);
        if gone {
            self.settle(true);
        }
    }

    /// A client has gone or is served: what is held for those that are there is let go
    /// with the last of them. One that has gone spoils the instance.
    fn settle(&self, spoils: bool) {
        let flights = self.flights.lock();
        if spoils {
            self.spoil();
        }
        // With all clients there or served, nothing is held.
        if self.is_inviting() {
            return;
        }
        if flights.iter().any(|flight| flight.is_there()) {
            return;
        }
        let held: Vec<_> = flights.iter().filter_map(|flight| flight.let_go()).collect();
        let deserted = flights.iter().any(|flight| flight.is_noticed()) || self.is_late();
        drop(flights);
        drop(held);
        if deserted {
            self.deserted.lock().get_or_insert_with(Instant::now);
            self.wake();
        }
    }

    /// Whether another request may come to the instance: not where a client has gone. The
    /// instance may fail for it, or holds what it left.
    pub(super) fn is_inviting(&self) -> bool {
        !self.spoiled.load(Ordering::Acquire)
    }

    /// Wakes those who wait for a request that is late by now; says when the next one is.
    pub(super) fn remind(&self, now: Instant) -> Option<Instant> {
        let flights = self.flights.lock();
        flights.iter().filter_map(|flight| flight.remind(now)).min()
    }

    /// Whether a request was late there: when nobody is answered, it has nothing more to do.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Acquire)
    }

    /// Since when nobody is answered there, if it was somebody before.
    pub(super) fn unused(&self) -> Option<Instant> {
        let flights = self.flights.lock();
        if flights.iter().any(|flight| flight.is_there()) {
            return None;
        }
        flights.iter().filter_map(|flight| flight.state.lock().left).max()
    }

    /// How long a client was waited for, at the most.
    pub(super) fn waited(&self) -> Duration {
        let flights = self.flights.lock();
        flights.iter().map(|flight| flight.waited()).max().unwrap_or_default()
    }

    pub(super) fn all_answered(&self) -> bool {
        self.flights.lock().iter().all(|flight| flight.is_answered())
    }

    /// Whether the instance may fail for what a client did.
    pub(super) fn may_fail(&self) -> bool {
        self.flights.lock().iter().any(|flight| flight.is_noticed())
    }

    /// Since when nobody is answered there, because who was has gone.
    pub(super) fn deserted(&self) -> Option<Instant> {
        *self.deserted.lock()
    }

    /// The ids of those whose answer the instance's end costs, that of `flight` first.
    pub(super) fn ids(&self, flight: &Flight) -> String {
        let flights = self.flights.lock();
        let others = flights
            .iter()
            .filter(|other| other.is_there() && !std::ptr::eq(&raw const ***other, flight));
        others.fold(flight.corr_id.clone(), |ids, other| format!("{ids}, {}", other.corr_id))
    }

    /// All that are there or held, and the last.
    pub(super) fn flights(&self) -> Vec<Arc<Flight>> {
        self.flights.lock().clone()
    }

    /// The instance is no more.
    pub(super) fn ended(&self) {
        let flights = std::mem::take(&mut *self.flights.lock());
        // What is held of them is dropped without the lock.
        drop(flights);
    }

    /// The instance's task is to be woken by that.
    pub(super) fn watched_by(&self, waker: &Waker) {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Has the instance's task look at what has changed.
    pub(super) fn wake(&self) {
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}
