//! What every answer has in common: its correlation id, and the shape of an
//! error.
//!
//! A handler that fails returns a [`Failure`] and knows nothing of ids; one
//! layer around all routes turns it into `{code,message,retryable,corr_id}`.
//! That layer sees the answers that no handler made too (404, 405), so there is
//! one place to be right. What never gets to a route is in `malformed.rs`, which
//! writes the same.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The header of a request's id, its own and its answer's.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Why a request was not answered as asked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Of the answer.
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What the error's object begins with, for an endpoint whose answers have
    /// a shape of their own.
    pub body: serde_json::Map<String, serde_json::Value>,
}

impl Failure {
    /// A failure that is retryable when the service is unavailable, and alone in
    /// its object.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let retryable = status == StatusCode::SERVICE_UNAVAILABLE;
        let body = serde_json::Map::new();
        Self { status, code, message: message.into(), retryable, body }
    }

    /// The whole answer that says so, for whoever answers without axum.
    #[must_use]
    pub fn answer(&self, corr_id: &HeaderValue) -> Response<Bytes> {
        // Its values are text and a flag.
        let body = serde_json::to_vec(&self.envelope(corr_id)).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, corr_id.clone());
        response
    }

    /// What the client reads of it.
    pub(super) fn envelope<'a>(&'a self, corr_id: &'a HeaderValue) -> Envelope<'a> {
        let Self { code, message, retryable, body, .. } = self;
        Envelope { body, code, message, retryable: *retryable, corr_id: id_text(corr_id) }
    }
}

/// The status, with the failure itself for [`finish`] to write.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The shape of every error.
#[derive(Serialize)]
pub(super) struct Envelope<'a> {
    #[serde(flatten)]
    body: &'a serde_json::Map<String, serde_json::Value>,
    code: &'a str,
    message: &'a str,
    retryable: bool,
    corr_id: &'a str,
}

/// The layer around all routes: writes errors, and sets the headers that every
/// answer has.
pub async fn finish(request: Request, next: Next) -> Response {
    let corr_id = request_id(request.headers());
    let mut response = next.run(request).await;
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        let (mut parts, _) = response.into_parts();
        // Of the body that is replaced.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_TYPE);
        response = (parts, json(failure.status, &failure.envelope(&corr_id))).into_response();
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, corr_id);
    response
}

/// `value` as the body.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::to_string(value) {
        Ok(body) => (status, content_type, body).into_response(),
        // Only for maps whose keys are no strings, and there are none.
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The id of the request with these headers: the client's own where it is fit to be
/// logged, a new one otherwise.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    requested_id(headers).unwrap_or_else(new_id)
}

/// The client's own id, if it sent one that is fit to be logged: 1 to 128 of
/// letters, digits and `-_.:/+=@`. Anything else is as if there were none.
fn requested_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let id = values.next()?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    let good = (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(plain);
    // Two of them are ambiguous.
    (good && values.next().is_none()).then(|| id.clone())
}

/// An id that no other request of this process has, and by all odds none of any
/// other process: a random number of the process, and a count.
pub(super) fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:016x}-{count:x}", *PROCESS);
    HeaderValue::try_from(id).expect("hex digits and a dash are a header value")
}

fn id_text(id: &HeaderValue) -> &str {
    id.to_str().expect("an id is plain ASCII, made or checked here")
}
