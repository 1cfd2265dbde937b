//! The endpoints. Each is a question to [`Metrics`] or to its health registry,
//! and none changes anything.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::time::Instant;

use super::reply::{Failure, finish, json};
use crate::health::{Readiness, ServiceHealth};
use crate::metrics::Metrics;

const INDEX: &str = "\
ron-host

/metrics           Prometheus text format
/healthz           whether the host's own loop moves, and every service's state
/livez             the same
/readyz            whether to send work here, and what is missing; ?verbose for every service
/readyz/{service}  the same for one service
";

/// Seconds after which to ask `/readyz` again.
const RETRY_AFTER: &str = "3";

pub(super) fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(text))
        .route("/healthz", get(live))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/readyz/{service}", get(service_ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(finish))
        .with_state(metrics)
}

/// What a connection over the limit sees, whatever it asks.
pub(super) fn overloaded() -> Router {
    Router::new().fallback(refuse).layer(middleware::from_fn(finish))
}

async fn refuse() -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let failure = Failure::new(status, "overloaded", "too many connections; try again later");
    let headers = [(header::CONNECTION, "close"), (header::RETRY_AFTER, RETRY_AFTER)];
    (headers, failure).into_response()
}

async fn index() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], INDEX).into_response()
}

async fn text(State(metrics): State<Metrics>) -> Response {
    // Ten thousand services are some milliseconds of work, and what was given
    // to `Metrics::pull` is foreign code that may panic: neither belongs on a
    // worker that others share.
    match tokio::task::spawn_blocking(move || metrics.encode()).await {
        Ok(text) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics were not collected");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Failure::new(status, "internal", "metrics could not be collected").into_response()
        }
    }
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
    services: BTreeMap<String, ServiceHealth>,
}

async fn live(State(metrics): State<Metrics>) -> Response {
    let health = metrics.health();
    let services = health.snapshot();
    if health.heartbeat().alive(Instant::now()) {
        return json(StatusCode::OK, &Live { status: "ok", services });
    }
    let message = "the host's own loop has not moved for more than 5 s";
    let mut failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stalled", message);
    failure.body.insert("status".into(), "stalled".into());
    failure.body.insert("services".into(), serde_json::to_value(&services).unwrap_or_default());
    failure.into_response()
}

#[derive(Serialize)]
struct Ready {
    #[serde(flatten)]
    readiness: Readiness,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<BTreeMap<&'static str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<BTreeMap<String, ServiceHealth>>,
}

async fn ready(State(metrics): State<Metrics>, RawQuery(query): RawQuery) -> Response {
    let mut parameters = query.as_deref().unwrap_or_default().split('&');
    let verbose =
        parameters.any(|p| matches!(p, "verbose" | "verbose=" | "verbose=1" | "verbose=true"));
    let services = verbose.then(|| metrics.health().snapshot());
    let notes = verbose.then(|| metrics.health().notes()).filter(|notes| !notes.is_empty());
    readiness(&Ready { readiness: metrics.health().readiness(), notes, services })
}

async fn service_ready(
    State(metrics): State<Metrics>,
    service: Result<Path<String>, PathRejection>,
) -> Response {
    // A path that is no text names no service.
    let found = service.ok().and_then(|Path(service)| metrics.health().readiness_of(&service));
    match found {
        Some(found) => readiness(&Ready { readiness: found, notes: None, services: None }),
        None => {
            Failure::new(StatusCode::NOT_FOUND, "unknown-service", "this host has no such service")
                .into_response()
        }
    }
}

/// 200, or 503 in the shape of readiness rather than of an error: not being
/// ready is the answer to the question.
fn readiness(ready: &Ready) -> Response {
    if ready.readiness.ready {
        json(StatusCode::OK, ready)
    } else {
        let headers = [(header::RETRY_AFTER, RETRY_AFTER)];
        (headers, json(StatusCode::SERVICE_UNAVAILABLE, ready)).into_response()
    }
}

async fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not-found", "no such path; / lists those there are")
}

async fn method_not_allowed() -> Failure {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Failure::new(status, "method-not-allowed", "this path is read with GET or HEAD")
}
