//! What the listener asks for an answer, and how it says that there is none.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use ron_kernel::http::reply::Failure;

/// Why a body could not be sent to its end.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// What a client sends. It fails where the client stops, is slow, or sends more than
/// it may.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;
/// What a service answers, trailers included.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// What answers the requests of one service.
///
/// A request carries `Arc<ConnectionInfo>` and `Arc<RequestPlace>` as extensions and
/// `x-request-id` as a header. The future is dropped when the client is gone; who goes on
/// with the request then holds on to its place.
pub(crate) trait Answer: Send + Sync + 'static {
    /// Answers `request`.
    fn answer(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, Unanswered>>;
}

/// Why a service has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It does not run, or has too much to do: 503 with `Retry-After`.
    Unavailable(String),
    /// It crashed: 500. The id is the crash report's, and what the client reads as
    /// `corr_id`.
    Crashed(String),
    /// It took too long: 504.
    Late,
    /// What it answered is no answer: 502.
    Bad(String),
}

impl Unanswered {
    /// What the client is told.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Crashed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Bad(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// A request that the host answers in a service's place.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    /// Seconds, for the header of that name.
    pub(super) retry_after: Option<u64>,
    /// The id of the error, where it is not that of the request.
    pub(super) corr_id: Option<HeaderValue>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let failure = Failure::new(status, code, message);
        Self { failure, retry_after: None, corr_id: None }
    }

    /// One that is worth another attempt in so many seconds.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.failure.retryable = true;
        self.retry_after = Some(seconds);
        self
    }

    /// The answer that says so, to the request of this id.
    pub(super) fn response(self, id: &HeaderValue) -> Response<ResponseBody> {
        let corr_id = self.corr_id.as_ref().unwrap_or(id);
        let mut response = self.failure.answer(corr_id).map(whole);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.failure.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, ALLOWED);
        }
        response
    }
}

/// What 405 has to name: the methods that go to a service, of those that are known.
const ALLOWED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

impl From<Unanswered> for Refusal {
    fn from(why: Unanswered) -> Self {
        let status = why.status();
        match why {
            Unanswered::Unavailable(message) => {
                Self::new(status, "unavailable", message).retry_after(1)
            }
            Unanswered::Crashed(corr_id) => {
                let message = "the service crashed while it answered";
                let refusal = Self::new(status, "crashed", message);
                // An id that is no header value would be the host's own mistake.
                let plain = |id: &String| id.bytes().all(|byte| byte.is_ascii_graphic());
                let corr_id = Some(corr_id).filter(plain).and_then(|id| id.try_into().ok());
                Self { corr_id, ..refusal }
            }
            Unanswered::Late => Self::new(status, "timeout", "the service took too long"),
            Unanswered::Bad(message) => Self::new(status, "bad-answer", message),
        }
    }
}

/// A body that is there already.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
