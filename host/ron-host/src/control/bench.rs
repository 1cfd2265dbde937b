//! `POST /v1/bench`: a load on the bus, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use ron_kernel::http::reply::{Failure, json};
use ron_kernel::topic::Topic;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::routes::{Answered, Shared, bad_request, payload, publisher, refused};
use super::wire::{BenchLine, Count, Error};
use super::{LONGEST_WAIT, stream};
use crate::load::{Bench, Load};

/// Most tasks that send.
const TASKS: u64 = 1024;
/// Most messages a second that can be asked for: more than a bus takes.
const RATE: f64 = 1e9;

/// The load that is there, if there is one: two would measure each other.
pub(super) type Running = Arc<parking_lot::Mutex<Option<CancellationToken>>>;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct BenchQuery {
    /// Where to
    topic: String,
    /// Whether answers are asked for
    #[serde(default = "yes")]
    answers: bool,
    /// How long an answer is waited for; an hour at most
    #[serde(default = "five_seconds")]
    timeout_ms: u64,
    /// How many send beside each other, each when the message before is done; 1024 at most
    #[serde(default = "one")]
    tasks: u64,
    /// Messages a second, of all together; as fast as they are done, unless it is given
    rate: Option<f64>,
    /// Nothing counts before; an hour at most
    #[serde(default)]
    warm_up_ms: u64,
    /// An hour at most
    #[serde(default = "ten_seconds")]
    duration_ms: u64,
}

fn yes() -> bool {
    true
}

fn one() -> u64 {
    1
}

fn five_seconds() -> u64 {
    5_000
}

fn ten_seconds() -> u64 {
    10_000
}

impl BenchQuery {
    fn load(self, payload: Bytes) -> Result<Load, Failure> {
        let topic = Topic::parse(&self.topic).map_err(|error| refused(error.into()))?;
        if topic.is_hosts() {
            let why = "topics that begin with 'ron.' are the host's";
            return Err(Failure::new(StatusCode::FORBIDDEN, "denied", format!("{topic}: {why}")));
        }
        if !(1..=TASKS).contains(&self.tasks) {
            return Err(bad_request(format!("tasks: expected 1 to {TASKS}")));
        }
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate <= RATE)
        {
            return Err(bad_request(format!("rate: expected more than 0, and {RATE} at most")));
        }
        let time = |key: &str, ms: u64| match Duration::from_millis(ms) {
            time if time <= LONGEST_WAIT => Ok(time),
            _ => Err(bad_request(format!("{key}: expected an hour at most, 3600000"))),
        };
        let timeout = time("timeout_ms", self.timeout_ms)?;
        Ok(Load {
            topic: self.topic,
            payload,
            answer: self.answers.then_some(timeout),
            tasks: self.tasks as usize,
            rate: self.rate,
            warm_up: time("warm_up_ms", self.warm_up_ms)?,
            duration: time("duration_ms", self.duration_ms)?,
        })
    }
}

/// Publishes the body again and again, and measures; one at a time
#[utoipa::path(
    post, path = "/v1/bench", params(BenchQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 200, body = BenchLine, content_type = "application/x-ndjson",
            description = "how it goes, in a line each second, and in the last what came of it"),
        (status = 400, body = Error), (status = 403, body = Error), (status = 409, body = Error),
        (status = 413, body = Error), (status = 503, body = Error),
    ),
)]
pub(super) async fn bench(
    state: Shared,
    query: Result<Query<BenchQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answered {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let load = query.load(payload(body)?)?;
    let threads = state.operator.threads()?;
    let looker = state.looker()?;
    let stop = looker.stop.child_token();
    let held = Held::take(&state.bench, &stop)?;
    let router = state.operator.kernel().router();
    let bench = Bench::start(load, router, || publisher(&state), &threads, stop);
    let lines = unfold((bench, held, looker), |(mut bench, held, looker)| async move {
        let line = bench.next().await?;
        let mut piece = Vec::new();
        stream::line(&mut piece, &line);
        Some((Ok(piece.into()), (bench, held, looker)))
    });
    Ok(stream::lines(lines))
}

/// Has the load end now; its answer goes on to what came of it
#[utoipa::path(
    post, path = "/v1/bench/stop", responses((status = 200, body = Count)),
)]
pub(super) async fn stop_bench(state: Shared) -> Response {
    let running = state.bench.lock().clone();
    let count = u64::from(running.is_some());
    if let Some(running) = running {
        running.cancel();
    }
    json(StatusCode::OK, &Count { count })
}

/// The place of the one that runs.
struct Held(Running);

impl Held {
    fn take(running: &Running, stop: &CancellationToken) -> Result<Self, Failure> {
        let mut place = running.lock();
        if place.is_some() {
            let message = "a load is on the bus already, and two would measure each other; \
                           wait for its end";
            return Err(Failure::new(StatusCode::CONFLICT, "conflict", message));
        }
        *place = Some(stop.clone());
        Ok(Self(Arc::clone(running)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}
