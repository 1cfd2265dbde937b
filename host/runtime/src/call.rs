//! A call with a time limit whose timer is set only when the call has to wait.
//!
//! Most calls return from their first poll, and a timer, even one that is
//! dropped at once, costs a fifth of such a call.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::ending::Failed;

/// A guest that computes is stopped at its limit by the engine, with a
/// backtrace. This is for one that waits in a host call, so it comes later.
const GRACE: Duration = Duration::from_millis(250);

/// A call that is polled after `look`, each time.
pub(crate) async fn watched<T>(call: impl Future<Output = T>, mut look: impl FnMut()) -> T {
    let mut call = pin!(call);
    poll_fn(|cx| {
        look();
        call.as_mut().poll(cx)
    })
    .await
}

/// Awaits `call`, up to `limit`.
pub(crate) async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, Failed> {
    let mut call = pin!(call);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(result) = call.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(Failed::Call));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(limit.saturating_add(GRACE))));
        timer.as_mut().poll(cx).map(|()| Err(Failed::Late))
    })
    .await
}
