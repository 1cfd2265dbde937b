//! One request that has its turn, and its answer.
//!
//! The answer's head and body come while the call is under way, so whoever polls the
//! call polls them with it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use ron_kernel::CrashReason;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::Unanswered;
use super::body::{Taking, relay};
use super::common::Common;
use super::queue::Said;

type Head = Result<http::Response<WasiBody>, ErrorCode>;

pub(crate) struct Exchange {
    /// Whoever waits for the answer's head.
    reply: Option<oneshot::Sender<Said>>,
    head: Option<oneshot::Receiver<Head>>,
    body: Option<Taking>,
    /// Until when a client is waited for.
    pub(crate) until: Instant,
    common: Common,
}

impl Exchange {
    /// One for which a client is waited half of `limit`; and the end that the
    /// answer's head comes from.
    pub(crate) fn new(
        reply: oneshot::Sender<Said>,
        limit: Duration,
        common: Common,
    ) -> (Self, oneshot::Sender<Head>) {
        let (sender, head) = oneshot::channel();
        let until = Instant::now() + limit / 2;
        (Self { reply: Some(reply), head: Some(head), body: None, until, common }, sender)
    }

    /// Awaits the call, and passes on what it answers meanwhile.
    pub(crate) async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|cx| {
            let called = call.as_mut().poll(cx);
            self.poll(cx);
            called
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(head) = &mut self.head
            && let Poll::Ready(head) = Pin::new(head).poll(cx)
        {
            self.head = None;
            // One that was dropped is told of when the call ends.
            if let Ok(head) = head {
                self.begin(head);
            }
        }
        if let Some(body) = &mut self.body {
            body.poll(cx);
        }
    }

    fn begin(&mut self, head: Head) {
        match head {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let (taking, giving) = relay(body, self.until, &self.common);
                self.body = Some(taking);
                let response = http::Response::from_parts(parts, UnsyncBoxBody::new(giving));
                self.say(Ok(response));
            }
            Err(code) => {
                self.say(Err(Unanswered::Failed(format!("its answer is an error: {code:?}"))));
            }
        }
    }

    /// The call has returned.
    pub(crate) fn returned(mut self) {
        // A poll finds nothing in a task that has used up its turn on its thread.
        if let Some(Ok(head)) = self.head.take().map(|mut head| head.try_recv()) {
            self.begin(head);
        }
        self.say(Err(Unanswered::Failed("it ended without an answer".into())));
        if let Some(body) = self.body.take() {
            body.leave();
        }
    }

    /// The service crashed over it. A body that is on its way is cut.
    pub(crate) fn crashed(mut self, reason: &CrashReason) {
        let why = reason.to_string();
        self.say(Err(match reason {
            CrashReason::Deadline { .. } => Unanswered::Late(why),
            _ => Unanswered::Crashed(why),
        }));
    }

    /// The request could not be given to the instance.
    pub(crate) fn refused(mut self, error: &wasmtime::Error) {
        self.say(Err(Unanswered::Failed(format!("it cannot be handed over: {error:#}"))));
    }

    /// Tells whoever waits, unless it was told something.
    fn say(&mut self, answer: Result<super::Response, Unanswered>) {
        if let Some(reply) = self.reply.take() {
            // The client may have gone.
            let _ = reply.send(Said::Answered(answer));
        }
    }
}
