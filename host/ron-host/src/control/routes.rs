//! The endpoints of the control API, with their description in OpenAPI.
//!
//! Each is described where it is written, and routed by its description, so the
//! two cannot drift apart.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Json, Path, Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::LengthLimitError;
use ron_kernel::http::reply::{Failure, finish, json};
use ron_kernel::message::{BusError, MAX_FRAME, Publisher};
use ron_kernel::supervisor::ServiceStatus;
use ron_kernel::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bench::{self, Running};
use super::operator::{Act, Operator, OperatorError, Swap};
use super::stream::{self, Looker};
use super::wire::{
    BenchLine, BenchReport, BenchSecond, Count, Crash, Crashes, DeadLetter, DeadLetters, Error,
    InForce, Latency, Missed, Percentile, Planned, Published, Reloaded, Service, Services,
    SwapRequest, Swapped, TapLine, TapMessage,
};
use super::{LONGEST_WAIT, code};
use crate::deployment::How;
use crate::logging::{HOST, Recent};

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(10);
/// As whom an operator publishes; no service can have the name.
const SOURCE: &str = "host";

/// What every endpoint has.
#[derive(Clone)]
pub(super) struct State {
    pub(super) operator: Arc<Operator>,
    pub(super) recent: Recent,
    pub(super) stop: CancellationToken,
    /// Places for those who look on. Fewer than there are connections, so that
    /// a command always finds one.
    pub(super) lookers: Arc<Semaphore>,
    /// Places for those who wait for as long as they like.
    pub(super) waiters: Arc<Semaphore>,
    /// The load on the bus, if there is one.
    pub(super) bench: Running,
}

impl State {
    pub(super) fn looker(&self) -> Result<Looker, Failure> {
        let place = Arc::clone(&self.lookers).try_acquire_owned().map_err(|_| {
            let message = "too many taps and logs are followed already; end one of them";
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
        })?;
        Ok(Looker { stop: self.stop.clone(), _place: place })
    }

    fn waiter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.waiters).try_acquire_owned().map_err(|_| {
            let message = "too many requests and swaps are waited for already; try again later";
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
        })
    }
}

pub(super) type Shared = axum::extract::State<State>;
pub(super) type Answered = Result<Response, Failure>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ron-host control",
        description = "Operating a running host, over its unix socket. Errors are \
            {code,message,retryable,corr_id}. A service's generation and the configuration's \
            version travel as ETag; what changes something takes If-Match.",
    ),
    components(schemas(
        Error,
        TapLine,
        TapMessage,
        Missed,
        BenchLine,
        BenchSecond,
        BenchReport,
        Latency,
        Percentile
    ))
)]
struct Description;

pub(super) fn router(state: State) -> Router {
    let (router, description) = described();
    let description = description.to_json().unwrap_or_default();
    let description = move || async move {
        ([(header::CONTENT_TYPE, "application/json")], description.clone()).into_response()
    };
    router
        .route("/openapi.json", get(description))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(whole))
        .layer(middleware::from_fn(finish))
        .with_state(state)
}

/// Takes a body in whole, or not at all: one that does not come holds its place for so long
/// and no longer.
async fn whole(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let wrong = match timeout(BODY, to_bytes(body, MAX_FRAME)).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(error)) if error.source().is_some_and(|own| own.is::<LengthLimitError>()) => {
            refused(BusError::PayloadTooLarge { limit: MAX_FRAME as u64 })
        }
        Ok(Err(error)) => bad_request(format!("the body cannot be read: {error}")),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY.as_secs());
            Failure::new(StatusCode::REQUEST_TIMEOUT, "body-late", message)
        }
    };
    wrong.into_response()
}

fn described() -> (Router<State>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(services))
        .routes(routes!(service))
        .routes(routes!(restart))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(swap))
        .routes(routes!(all_crashes))
        .routes(routes!(crashes))
        .routes(routes!(logs))
        .routes(routes!(dead_letters, drop_dead_letters))
        .routes(routes!(replay_dead_letters))
        .routes(routes!(publish))
        .routes(routes!(request))
        .routes(routes!(tap))
        .routes(routes!(bench::bench))
        .routes(routes!(bench::stop_bench))
        .routes(routes!(config))
        .routes(routes!(plan))
        .routes(routes!(reload))
        .split_for_parts()
}

/// Every service, and how it stands
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = Services)))]
async fn services(state: Shared) -> Response {
    let services = state.operator.statuses();
    let services = services.into_iter().map(Service::from).collect();
    let config_version = state.operator.kernel().config().version();
    tagged(config_version, &Services { config_version, services })
}

/// One service, and how it stands
#[utoipa::path(
    get, path = "/v1/services/{name}", params(("name" = String, Path)),
    responses((status = 200, body = Service), (status = 404, body = Error)),
)]
async fn service(state: Shared, Path(name): Path<String>) -> Answered {
    Ok(stands(state.operator.status(&name)?))
}

/// Replaces a service's incarnation; answers when the new one runs, or will not
#[utoipa::path(
    post, path = "/v1/services/{name}/restart",
    params(("name" = String, Path), ("If-Match" = Option<u64>, Header, description = "generation")),
    responses(
        (status = 200, body = Service), (status = 400, body = Error),
        (status = 404, body = Error), (status = 409, body = Error),
        (status = 412, body = Error), (status = 503, body = Error),
        (status = 504, body = Error),
    ),
)]
async fn restart(state: Shared, Path(name): Path<String>, headers: HeaderMap) -> Answered {
    Ok(stands(state.operator.act(Act::Restart, &name, expected(&headers)?).await?))
}

/// Starts a service that is stopped, finished or quarantined; answers when it runs, or will not
#[utoipa::path(
    post, path = "/v1/services/{name}/start",
    params(("name" = String, Path), ("If-Match" = Option<u64>, Header, description = "generation")),
    responses(
        (status = 200, body = Service), (status = 400, body = Error),
        (status = 404, body = Error), (status = 412, body = Error),
        (status = 503, body = Error), (status = 504, body = Error),
    ),
)]
async fn start(state: Shared, Path(name): Path<String>, headers: HeaderMap) -> Answered {
    Ok(stands(state.operator.act(Act::Start, &name, expected(&headers)?).await?))
}

/// Stops a service until it is started; answers when it has stopped. It keeps its mailbox
#[utoipa::path(
    post, path = "/v1/services/{name}/stop",
    params(("name" = String, Path), ("If-Match" = Option<u64>, Header, description = "generation")),
    responses(
        (status = 200, body = Service), (status = 400, body = Error),
        (status = 404, body = Error), (status = 412, body = Error),
        (status = 503, body = Error), (status = 504, body = Error),
    ),
)]
async fn stop(state: Shared, Path(name): Path<String>, headers: HeaderMap) -> Answered {
    Ok(stands(state.operator.act(Act::Stop, &name, expected(&headers)?).await?))
}

/// Swaps what a service runs; answers when the cut is made, or with `wait` when probation is over
#[utoipa::path(
    post, path = "/v1/services/{name}/swap", request_body = SwapRequest,
    params(("name" = String, Path), ("If-Match" = Option<u64>, Header, description = "generation")),
    responses(
        (status = 200, body = Swapped), (status = 400, body = Error),
        (status = 404, body = Error), (status = 409, body = Error),
        (status = 412, body = Error),
    ),
)]
async fn swap(
    state: Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Json<SwapRequest>, JsonRejection>,
) -> Answered {
    let Json(body) = body.map_err(|error| bad_request(error.body_text()))?;
    let _place = if body.wait { Some(state.waiter()?) } else { None };
    let expected = expected(&headers)?;
    let of = state.operator.expect(&name, expected)?;
    let swapped = state.operator.swap(Swap {
        service: of.service,
        path: body.path.map(Into::into),
        wait: body.wait,
        force: body.force,
        discard_state: body.discard_state,
        expected: expected.map(ron_kernel::Generation),
    });
    let swapped = swapped.await?;
    Ok(tagged(swapped.generation, &swapped))
}

/// The crashes of all services that are kept, oldest first
#[utoipa::path(get, path = "/v1/crashes", responses((status = 200, body = Crashes)))]
async fn all_crashes(state: Shared) -> Response {
    let supervisor = state.operator.supervisor();
    let all = supervisor.statuses().into_iter();
    let mut reports: Vec<_> = all.flat_map(|own| supervisor.crashes(&own.service)).collect();
    reports.sort_by_key(|report| report.at);
    let crashes = reports.into_iter().map(Crash::from).collect();
    json(StatusCode::OK, &Crashes { crashes })
}

/// The crashes of a service that are kept, oldest first
#[utoipa::path(
    get, path = "/v1/services/{name}/crashes", params(("name" = String, Path)),
    responses((status = 200, body = Crashes), (status = 404, body = Error)),
)]
async fn crashes(state: Shared, Path(name): Path<String>) -> Answered {
    let of = state.operator.status(&name)?;
    let reports = state.operator.supervisor().crashes(&of.service);
    let crashes = reports.into_iter().map(Crash::from).collect();
    Ok(json(StatusCode::OK, &Crashes { crashes }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
struct LogsQuery {
    /// How many of the newest records
    lines: usize,
    /// Whether to go on with those to come
    follow: bool,
}

impl Default for LogsQuery {
    fn default() -> Self {
        Self { lines: 100, follow: false }
    }
}

/// The newest log records of a service, or with the name `host` of the host itself
#[utoipa::path(
    get, path = "/v1/services/{name}/logs", params(("name" = String, Path), LogsQuery),
    responses(
        (status = 200, content_type = "application/x-ndjson",
            description = "a log record as JSON in each line, or {missed} where some are missing"),
        (status = 400, body = Error), (status = 404, body = Error), (status = 503, body = Error),
    ),
)]
async fn logs(
    state: Shared,
    Path(name): Path<String>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Answered {
    let Query(LogsQuery { lines, follow }) = query.map_err(|e| bad_request(e.body_text()))?;
    if name != HOST {
        state.operator.status(&name)?;
    }
    let looker = state.looker()?;
    let (before, follower) = if follow {
        let (before, follower) = state.recent.follow(&name, lines);
        (before, Some(follower))
    } else {
        (state.recent.newest(&name, lines), None)
    };
    Ok(stream::logs(before, follower, looker))
}

/// The dead letters of a service that are kept, oldest first
#[utoipa::path(
    get, path = "/v1/services/{name}/dead-letters", params(("name" = String, Path)),
    responses((status = 200, body = DeadLetters), (status = 404, body = Error)),
)]
async fn dead_letters(state: Shared, Path(name): Path<String>) -> Answered {
    let inbox = inbox(&state, &name)?;
    let dead_letters = inbox.dead_letters().iter().map(DeadLetter::from).collect();
    Ok(json(StatusCode::OK, &DeadLetters { dead_letters }))
}

/// Forgets the dead letters of a service
#[utoipa::path(
    delete, path = "/v1/services/{name}/dead-letters", params(("name" = String, Path)),
    responses((status = 200, body = Count), (status = 404, body = Error)),
)]
async fn drop_dead_letters(state: Shared, Path(name): Path<String>) -> Answered {
    let count = inbox(&state, &name)?.drop_dead_letters() as u64;
    Ok(json(StatusCode::OK, &Count { count }))
}

/// Delivers the dead letters of a service again, as far as there is room
#[utoipa::path(
    post, path = "/v1/services/{name}/dead-letters/replay", params(("name" = String, Path)),
    responses((status = 200, body = Count), (status = 404, body = Error)),
)]
async fn replay_dead_letters(state: Shared, Path(name): Path<String>) -> Answered {
    let count = inbox(&state, &name)?.replay_dead_letters() as u64;
    Ok(json(StatusCode::OK, &Count { count }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PublishQuery {
    /// Where to
    topic: String,
}

/// Publishes the body
#[utoipa::path(
    post, path = "/v1/publish", params(PublishQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Published), (status = 400, body = Error),
        (status = 413, body = Error), (status = 503, body = Error),
    ),
)]
async fn publish(
    state: Shared,
    query: Result<Query<PublishQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answered {
    let Query(PublishQuery { topic }) = query.map_err(|error| bad_request(error.body_text()))?;
    let delivered = publisher(&state).publish(&topic, payload(body)?).map_err(refused)?;
    Ok(json(StatusCode::OK, &Published { delivered }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct RequestQuery {
    /// Where to
    topic: String,
    /// How long to wait for the answer; an hour at most
    #[serde(default = "default_timeout")]
    timeout_ms: u64,
}

fn default_timeout() -> u64 {
    5000
}

/// Publishes the body, and answers with the first answer as it is
#[utoipa::path(
    post, path = "/v1/request", params(RequestQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 200, content_type = "application/octet-stream"), (status = 400, body = Error),
        (status = 413, body = Error), (status = 502, body = Error), (status = 503, body = Error),
        (status = 504, body = Error),
    ),
)]
async fn request(
    state: Shared,
    query: Result<Query<RequestQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answered {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let limit = Duration::from_millis(query.timeout_ms).min(LONGEST_WAIT);
    let _place = state.waiter()?;
    let answer = publisher(&state).request(&query.topic, payload(body)?).map_err(refused)?;
    let answer = match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.unwrap_or(Err(BusError::NoResponder)),
        Err(_) => Err(BusError::Timeout),
    };
    let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((content_type, answer.map_err(refused)?).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct TapQuery {
    /// Of the topics to look on
    filter: String,
}

/// What is published from now on
#[utoipa::path(
    get, path = "/v1/tap", params(TapQuery),
    responses(
        (status = 200, body = TapLine, content_type = "application/x-ndjson",
            description = "a message in each line, or {missed} where some are missing"),
        (status = 400, body = Error), (status = 503, body = Error),
    ),
)]
async fn tap(state: Shared, query: Result<Query<TapQuery>, QueryRejection>) -> Answered {
    let Query(TapQuery { filter }) = query.map_err(|error| bad_request(error.body_text()))?;
    let filter = TopicFilter::parse(&filter).map_err(|error| refused(error.into()))?;
    let looker = state.looker()?;
    let tap = state.operator.kernel().router().tap(filter);
    Ok(stream::tap(tap, looker))
}

/// The configuration that is in force, where each value is from; secrets are masked
#[utoipa::path(
    get, path = "/v1/config",
    responses((status = 200, body = InForce), (status = 409, body = Error)),
)]
async fn config(state: Shared) -> Answered {
    let in_force = state.operator.config()?;
    Ok(tagged(in_force.version, &in_force))
}

/// What a reload would do
#[utoipa::path(
    get, path = "/v1/plan",
    responses((status = 200, body = Planned), (status = 409, body = Error)),
)]
async fn plan(state: Shared) -> Answered {
    let planned = state.operator.plan().await?;
    Ok(tagged(planned.version, &planned))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
struct ReloadQuery {
    /// Though a component was rolled back lately
    force: bool,
    /// Though it leaves no service
    stop_all: bool,
    /// Hand no state over to what is swapped
    discard_state: bool,
}

/// Reads the configuration anew and applies it
#[utoipa::path(
    post, path = "/v1/reload",
    params(
        ReloadQuery,
        ("If-Match" = Option<u64>, Header, description = "version of the configuration"),
    ),
    responses(
        (status = 200, body = Reloaded), (status = 400, body = Error),
        (status = 409, body = Error), (status = 412, body = Error),
    ),
)]
async fn reload(
    state: Shared,
    query: Result<Query<ReloadQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Answered {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let ReloadQuery { force, stop_all, discard_state } = query;
    let expected = expected(&headers)?;
    let current = state.operator.kernel().config().version();
    if let Some(expected) = expected.filter(|expected| *expected != current) {
        let what = "the configuration's version".to_owned();
        return Err(OperatorError::Stale { what, current, expected }.into());
    }
    let how = How { expected, force, stop_all, discard_state };
    let reloaded = state.operator.reload(how).await?;
    Ok(tagged(reloaded.version, &reloaded))
}

async fn not_found() -> Failure {
    let message = "no such path; /openapi.json describes those there are";
    Failure::new(StatusCode::NOT_FOUND, "not-found", message)
}

async fn method_not_allowed() -> Failure {
    let message = "not with this method; /openapi.json has those of each path";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
}

fn stands(status: ServiceStatus) -> Response {
    tagged(status.generation.0, &Service::from(status))
}

/// An answer with the version of what it shows.
fn tagged(version: u64, body: &impl Serialize) -> Response {
    let mut response = json(StatusCode::OK, body);
    let tag = HeaderValue::try_from(format!("\"{version}\""));
    response.headers_mut().extend(tag.ok().map(|tag| (header::ETAG, tag)));
    response
}

/// The version that the client saw, if it says one.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    match value.to_str().map(|text| text.trim().trim_matches('"')) {
        Ok("*") => Ok(None),
        Ok(text) if let Ok(version) = text.parse() => Ok(Some(version)),
        _ => Err(bad_request("If-Match: expected a version, as an ETag of this API is one")),
    }
}

fn inbox(state: &State, name: &str) -> Result<Arc<ron_kernel::message::Inbox>, OperatorError> {
    let of = state.operator.status(name)?;
    let found = state.operator.supervisor().inbox(&of.service);
    // It may go between the two looks.
    found.ok_or_else(|| OperatorError::UnknownService(format!("{name} is gone")))
}

pub(super) fn publisher(state: &State) -> Publisher {
    state.operator.kernel().router().publisher(SOURCE, Arc::default())
}

pub(super) fn payload(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Failure> {
    body.map_err(|rejection| bad_request(rejection.body_text()))
}

pub(super) fn bad_request(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad-request", message)
}

/// A refusal of the bus, by the labels of `rejected_total`.
#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
pub(super) fn refused(error: BusError) -> Failure {
    let status = match &error {
        BusError::Denied(_) => StatusCode::FORBIDDEN,
        BusError::InvalidTopic(_) => StatusCode::BAD_REQUEST,
        BusError::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BusError::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        BusError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        BusError::NoResponder | BusError::Failed(_) => StatusCode::BAD_GATEWAY,
        BusError::Limit(_) => StatusCode::CONFLICT,
    };
    Failure::new(status, code(&error), error.to_string())
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        let (status, code) = match &error {
            OperatorError::Refused(_) => (StatusCode::CONFLICT, "refused"),
            OperatorError::UnknownService(_) => (StatusCode::NOT_FOUND, "unknown-service"),
            OperatorError::Stale { .. } => (StatusCode::PRECONDITION_FAILED, "stale"),
            OperatorError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            OperatorError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            OperatorError::Late { .. } => (StatusCode::GATEWAY_TIMEOUT, "late"),
        };
        Self::new(status, code, error.to_string())
    }
}
