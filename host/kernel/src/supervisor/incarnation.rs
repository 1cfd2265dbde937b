//! One incarnation: a future that owns the service, its context and its lease,
//! and the handles that its supervisor keeps.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::swap::Version;
use crate::crash::CrashReason;
use crate::message::SeatId;
use crate::service::{Context, Crash, Service};
use crate::turn::{Pin as ConfigPin, Turn};

type Running = Pin<Box<dyn Future<Output = Result<(), Crash>> + Send>>;

/// How to make an incarnation of one version.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) version: Version,
    make: Arc<Mutex<dyn FnMut(Context) -> Running + Send>>,
    /// The configuration of this version, where it is not the newest.
    pub(super) pin: Option<ConfigPin>,
}

impl Recipe {
    pub(super) fn new<S: Service>(
        version: Version,
        mut make: impl FnMut() -> S + Send + 'static,
    ) -> Self {
        let make = Arc::new(Mutex::new(move |mut context: Context| {
            let mut service = make();
            let running: Running = Box::pin(async move {
                let ended = AssertUnwindSafe(service.run(&mut context)).catch_unwind().await;
                let ended = ended.unwrap_or_else(|panic| Err(panicked(&*panic)));
                // The instance goes before its successor is made: one at a time.
                drop(service);
                let failed = ended.as_ref().err().map(|crash| crash.reason.to_string());
                context.lease.end(failed.as_deref());
                ended
            });
            running
        }));
        Self { version, make, pin: None }
    }

    /// Makes an incarnation. Nothing of it runs before it is polled.
    pub(super) fn make(&self, context: Context) -> Result<Incarnation, Crash> {
        let (turn, seat) = (Arc::clone(&context.handle.turn), context.lease.seat());
        let mut make = self.make.lock();
        let running = catch_unwind(AssertUnwindSafe(|| (*make)(context)));
        let running = running.map_err(|panic| panicked(&*panic))?;
        Ok(Incarnation { running, turn, seat, seen_started: false })
    }
}

impl std::fmt::Debug for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipe").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Dropping it ends it at once. What it had taken goes back to the mailbox.
pub(super) struct Incarnation {
    running: Running,
    pub(super) turn: Arc<Turn>,
    pub(super) seat: SeatId,
    seen_started: bool,
}

/// What became of an incarnation when it was let run.
pub(super) enum Became {
    /// Its `start` is over. Told once.
    Started,
    Ended(Result<(), Crash>),
}

impl Incarnation {
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Became> {
        let polled = self.running.as_mut().poll(cx);
        // It may have started and ended within one poll: that is told first,
        // and its end when it is looked at again.
        match polled {
            Poll::Ready(ended) if self.just_started() => {
                self.running = Box::pin(std::future::ready(ended));
                Poll::Ready(Became::Started)
            }
            Poll::Ready(ended) => Poll::Ready(Became::Ended(ended)),
            Poll::Pending if self.just_started() => Poll::Ready(Became::Started),
            Poll::Pending => Poll::Pending,
        }
    }

    fn just_started(&mut self) -> bool {
        let new = !self.seen_started && self.turn.has_started();
        self.seen_started |= new;
        new
    }
}

pub(super) fn panicked(panic: &(dyn Any + Send)) -> Crash {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    CrashReason::panic(text).into()
}
