//! The two bodies of a request, with what the listener has to know of them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use ron_kernel::Metrics;
use ron_kernel::http::Watch;
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::time::{Instant, Sleep, sleep_until};

use super::RequestPlace;
use super::access::Access;
use super::answer::{BoxError, ResponseBody};
use super::idle::InFlight;
use super::pace::{Pace, Patience};

/// Why a client's body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is over the limit.
    TooLarge,
    /// Nothing more of it came in time.
    Late,
    /// It is not in HTTP, or the client is gone.
    Broken,
}

/// What became of a client's body. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate(Arc<AtomicU8>);

impl Fate {
    const ALL: [Fault; 3] = [Fault::TooLarge, Fault::Late, Fault::Broken];

    fn is(&self, fault: Fault) {
        self.0.store(fault as u8 + 1, Ordering::Relaxed);
    }

    /// What is wrong with it so far.
    pub(super) fn fault(&self) -> Option<Fault> {
        let number = self.0.load(Ordering::Relaxed);
        Self::ALL.into_iter().find(|fault| *fault as u8 + 1 == number)
    }
}

/// A client's body, up to its limit.
pub(super) struct Receiving {
    body: Incoming,
    /// How much more of it there may be.
    left: u64,
    pace: Pace,
    /// Runs while it is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    fate: Fate,
    metrics: Metrics,
    /// Told when this is dropped before the body's end.
    watch: Watch,
    ended: bool,
}

impl Receiving {
    pub(super) fn new(
        body: Incoming,
        most: u64,
        patience: Patience,
        metrics: Metrics,
        watch: Watch,
    ) -> Self {
        let (ended, pace) = (body.is_end_stream(), Pace::new(patience));
        let fate = Fate::default();
        Self { body, left: most, pace, timer: None, fate, metrics, watch, ended }
    }

    pub(super) fn fate(&self) -> Fate {
        self.fate.clone()
    }

    /// Counted here, because the answer may have begun.
    fn fails(&mut self, fault: Fault, error: impl Into<BoxError>) -> BoxError {
        self.fate.is(fault);
        let reason = match fault {
            Fault::TooLarge => Some(RejectReason::BodyTooLarge),
            Fault::Late => Some(RejectReason::Timeout),
            // A client that is gone is refused nothing.
            Fault::Broken => None,
        };
        if let Some(reason) = reason {
            self.metrics.observe(&Observation::Rejected { reason });
        }
        error.into()
    }
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if this.timer.is_none() {
                    let until = this.pace.waits(Instant::now());
                    this.timer = until.map(|until| Box::pin(sleep_until(until)));
                }
                let timer = this.timer.as_mut();
                if timer.is_none_or(|timer| timer.as_mut().poll(cx).is_pending()) {
                    return Poll::Pending;
                }
                let error = io::Error::new(io::ErrorKind::TimedOut, "the client sends no more");
                return Poll::Ready(Some(Err(this.fails(Fault::Late, error))));
            }
        };
        this.timer = None;
        Poll::Ready(match frame {
            None => {
                this.ended = true;
                None
            }
            Some(Err(error)) => Some(Err(this.fails(Fault::Broken, error))),
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.pace.came(size, Instant::now());
                match this.left.checked_sub(size) {
                    Some(left) => {
                        this.left = left;
                        Some(Ok(frame))
                    }
                    None => Some(Err(this.fails(Fault::TooLarge, "the body is over its limit"))),
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.watch.unread();
        }
    }
}

/// A service's answer on its way to the client. What it holds is given back when it is
/// dropped, sent or not.
pub(super) struct Sending {
    pub(super) body: ResponseBody,
    pub(super) in_flight: InFlight,
    pub(super) access: Access,
    /// Whether only its head is asked for, and hyper would send the body all the same.
    pub(super) head_only: bool,
    /// Somebody was told that there is no more of it, and may not ask again.
    pub(super) ended: Cell<bool>,
    /// The request's place among those of the listener.
    pub(super) _place: Option<Arc<RequestPlace>>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.head_only {
            return Poll::Ready(None);
        }
        self.in_flight.taken();
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.access.sent(frame.data_ref().map_or(0, Bytes::len));
            self.in_flight.given(Instant::now());
        }
        if matches!(frame, Poll::Ready(None)) {
            self.ended.set(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let ends = self.head_only || self.body.is_end_stream();
        // The service may have ended it since the last frame.
        self.ended.set(self.ended.get() || ends);
        ends
    }

    fn size_hint(&self) -> SizeHint {
        if self.head_only { SizeHint::with_exact(0) } else { self.body.size_hint() }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.ended.get() || self.body.is_end_stream() {
            self.access.whole();
        }
    }
}
