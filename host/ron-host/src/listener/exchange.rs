//! One request: whether it gets to a service, and what the client is answered.
//!
//! What comes from outside is not believed. `forwarded`, `x-forwarded-...` and
//! `x-real-ip` say what a proxy saw, and anybody can send them: they are taken off, and
//! `x-forwarded-for` and `x-forwarded-proto` are set to what the listener itself saw.
//! (There is no list of proxies to trust; it would be a setting of the listener.)
//! `x-request-id` is taken over where it is fit to be logged, and made otherwise;
//! `traceparent`, as every other header, passes. What is said of a connection, as in
//! `connection` and `keep-alive`, is hyper's business in both directions.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ron_kernel::http::Watch;
use ron_kernel::http::reply::{REQUEST_ID, request_id};
use ron_kernel::metrics::{Observation, RejectReason};
use tokio::time::{Instant, timeout};

use super::access::Access;
use super::answer::{Refusal, ResponseBody, Unanswered};
use super::body::{Fate, Fault, Receiving, Sending};
use super::connection::ConnectionInfo;
use super::idle::Pulse;
use super::limits::Client;
use super::pace::Patience;
use super::routes::Route;
use super::{RequestPlace, Shared};

/// An answer that is not sent is taken from the service all the same, up to so many bytes
/// and for so long: many libraries crash when they cannot write one. It is nothing that the
/// client waits for besides.
const UNSENT: usize = 1 << 20;
const UNSENT_FOR: Duration = Duration::from_secs(1);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the requests of one connection have in common.
pub(super) struct Exchange {
    pub(super) shared: Arc<Shared>,
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) client: Client,
    /// The peer's address, as a header.
    pub(super) forwarded_for: HeaderValue,
    pub(super) pulse: Pulse,
    pub(super) watch: Watch,
}

/// A request that may be asked of a service.
struct Admitted {
    route: Arc<Route>,
    /// For whom it is, unless it does not say.
    authority: Option<Authority>,
    place: RequestPlace,
}

impl Exchange {
    /// The answer to `request`, whoever gives it.
    pub(super) async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Response<Sending> {
        let http2 = request.version() == Version::HTTP_2;
        let in_flight = self.pulse.begin(http2);
        let id = request_id(request.headers());
        let mut access = Access::begin(&request, self.info.peer, &id);
        let head_only = request.method() == Method::HEAD;

        let admitted = self.admit(&request);
        let limits = &self.shared.limits;
        let patience = Patience { idle: limits.idle_timeout, rate: limits.body_rate };
        let receiving = |body| {
            let (metrics, watch) = (self.shared.metrics.clone(), self.watch.clone());
            Receiving::new(body, limits.body, patience, metrics, watch)
        };
        let admitted = admitted.map(|Admitted { route, authority, place }| {
            self.mark(&mut request, &id, authority);
            (route, Arc::new(place))
        });
        if let Ok((_, place)) = &admitted {
            request.extensions_mut().insert(Arc::clone(place));
        }
        let request = request.map(receiving);
        let (answer, place) = match admitted {
            Ok((route, place)) => {
                access.service(&route.service);
                let fate = request.body().fate();
                let answering = route.answer.answer(request.map(|body| body.boxed_unsync()));
                (self.concluded(answering.await, &fate), Some(place))
            }
            Err(refusal) => (Err(refusal), None),
        };
        let mut response = answer.unwrap_or_else(|refusal| refusal.response(&id));
        // A 5xx keeps the request's own id here: `corr_id` is in the body.
        response.headers_mut().insert(REQUEST_ID, id);
        access.status(response.status());
        if head_only && let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        if head_only || has_no_body(response.status()) {
            take(response.body_mut()).await;
        }
        // HTTP/1's answers to HEAD are cut by hyper, HTTP/2's are not.
        let head_only = head_only && http2;
        if head_only || response.body().is_end_stream() {
            access.whole();
        }
        response.map(|body| Sending {
            body,
            in_flight,
            access,
            head_only,
            ended: Cell::new(false),
            _place: place,
        })
    }

    /// Where the request goes, if it goes anywhere.
    fn admit(&self, request: &Request<Incoming>) -> Result<Admitted, Box<Refusal>> {
        let Shared { limits, rates, requests, under_way, routes, .. } = &*self.shared;
        // First what costs least to find out, and is to keep costs down.
        if let Some(rates) = rates
            && let Err(wait) = rates.ask(self.client, Instant::now())
        {
            let refusal = Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "this client asks faster than it may; try again later",
            );
            return Err(self.counted(RejectReason::RateLimited, refusal.retry_after(seconds(wait))));
        }
        let Some(own) = under_way.take(self.client) else {
            let refusal = Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "this client has too many requests under way; try again later",
            );
            return Err(self.counted(RejectReason::RateLimited, refusal.retry_after(1)));
        };
        let Ok(place) = Arc::clone(requests).try_acquire_owned() else {
            let refusal = Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many requests are being answered; try again later",
            );
            return Err(self.counted(RejectReason::ListenerOverloaded, refusal.retry_after(1)));
        };
        if request.method() == Method::CONNECT {
            let message = "this is no proxy: CONNECT leads nowhere";
            let refusal =
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message);
            return Err(self.counted(RejectReason::BadRequest, refusal));
        }
        let authority = authority(request).map_err(|message| {
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, "bad-request", message);
            self.counted(RejectReason::BadRequest, refusal)
        })?;
        let host = authority.as_ref().map(name).unwrap_or_default();
        let Some(route) = routes.current().find(&host, request.uri().path()) else {
            let refusal = Refusal::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "no service answers to this host and path",
            );
            return Err(self.counted(RejectReason::NoRoute, refusal));
        };
        // What says so itself is not even begun.
        if request.body().size_hint().lower() > limits.body {
            return Err(self.counted(RejectReason::BodyTooLarge, self.faulty(Fault::TooLarge)));
        }
        Ok(Admitted { route, authority, place: (place, own) })
    }

    /// Puts on the request what the listener knows, and takes off what it does not
    /// believe.
    fn mark(
        &self,
        request: &mut Request<Incoming>,
        id: &HeaderValue,
        authority: Option<Authority>,
    ) {
        request.extensions_mut().insert(Arc::clone(&self.info));
        request.extensions_mut().insert(ron_runtime::Client::from(self.client));
        let headers = request.headers_mut();
        strip(headers);
        headers.insert(FORWARDED_FOR, self.forwarded_for.clone());
        let (scheme, proto) = match self.info.tls {
            Some(_) => (Scheme::HTTPS, "https"),
            None => (Scheme::HTTP, "http"),
        };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
        headers.insert(REQUEST_ID, id.clone());
        if let Some(uri) = whole(request, scheme, authority) {
            *request.uri_mut() = uri;
        }
    }

    /// What the client is told of what the service said.
    fn concluded(
        &self,
        answered: Result<Response<ResponseBody>, Unanswered>,
        fate: &Fate,
    ) -> Result<Response<ResponseBody>, Box<Refusal>> {
        // A service that could not read the body cannot know why.
        if let Some(fault) = fate.fault() {
            let refusal = self.faulty(fault);
            return Err(Box::new(refusal));
        }
        let response = answered.map_err(|why| {
            if matches!(why, Unanswered::Unavailable(_)) {
                let reason = RejectReason::Unavailable;
                self.shared.metrics.observe(&Observation::Rejected { reason });
            }
            Box::new(why.into())
        })?;
        if response.status().is_informational() {
            let message =
                format!("the service answered {}, which is no last answer", response.status());
            return Err(Box::new(Unanswered::Bad(message).into()));
        }
        Ok(response)
    }

    /// What a client is told of its body. That one is too large or late is counted where it
    /// is read, since the answer may have begun. One that breaks is most often of a client
    /// that has gone, which is refused nothing.
    fn faulty(&self, fault: Fault) -> Refusal {
        match fault {
            Fault::TooLarge => {
                let message = format!("the body is over {} bytes", self.shared.limits.body);
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message)
            }
            Fault::Late => {
                let message = "the body took too long to come";
                Refusal::new(StatusCode::REQUEST_TIMEOUT, "body-late", message)
            }
            Fault::Broken => {
                let message = "the body is not one in HTTP, or not whole";
                Refusal::new(StatusCode::BAD_REQUEST, "bad-request", message)
            }
        }
    }

    fn counted(&self, reason: RejectReason, refusal: Refusal) -> Box<Refusal> {
        self.shared.metrics.observe(&Observation::Rejected { reason });
        Box::new(refusal)
    }
}

/// Whether an answer of that status is its head alone.
fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Takes what a service writes and what is not sent.
async fn take(body: &mut ResponseBody) {
    let all = async {
        let mut taken = 0;
        while taken < UNSENT
            && !body.is_end_stream()
            && let Some(Ok(frame)) = body.frame().await
        {
            taken += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // What goes on for longer is broken off.
    let _ = timeout(UNSENT_FOR, all).await;
}

/// The request's target with the scheme that it came with and its host, which only HTTP/2
/// sends, and a component is told. One that is no path has none.
fn whole<B>(request: &Request<B>, scheme: Scheme, authority: Option<Authority>) -> Option<Uri> {
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query.as_ref().filter(|path| path.as_str().starts_with('/'))?;
    // HTTP/1.0 knew none, and what has none is for this machine.
    let authority = authority.unwrap_or_else(|| Authority::from_static("localhost"));
    parts.authority.get_or_insert(authority);
    parts.scheme = Some(scheme);
    Uri::from_parts(parts).ok()
}

/// For `Retry-After`, which has whole seconds; never 0, which would be now.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0).max(u64::from(wait.is_zero()))
}

/// Takes off what a proxy would have said.
fn strip(headers: &mut HeaderMap) {
    let said = |name: &HeaderName| {
        let name = name.as_str();
        name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
    };
    let names: Vec<_> = headers.keys().filter(|name| said(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The name of a host, in lower case, without port and last dot.
fn name(authority: &Authority) -> String {
    let host = authority.host();
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// For whom a request is; nobody in particular, where it is of HTTP/1.0 and does not say.
///
/// # Errors
///
/// What is wrong with it: a request says exactly once for whom it is, as RFC 9112 and RFC
/// 9113 have it, and where a target says it too the two agree. There this is stricter than
/// RFC 9112, which has a server take the target's and ignore the header: a service behind
/// a route sees both, and would see another host than the route was found by.
fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, &'static str> {
    const NONE: &str = "the request does not say for which host it is";
    let mut headers = request.headers().get_all(header::HOST).iter();
    let header = match headers.next() {
        Some(value) => {
            let authority = Authority::try_from(value.as_bytes());
            // RFC 9112 has an empty one for a target without a host.
            let empty = value.is_empty();
            Some(authority.ok().ok_or(if empty { NONE } else { "the host header is no host" })?)
        }
        None => None,
    };
    if headers.next().is_some() {
        return Err("the request has two host headers");
    }
    let authority = match (request.uri().authority(), header) {
        (Some(target), Some(header)) if *target != header => {
            return Err("the request's target and its host header are for two hosts");
        }
        (_, Some(header)) => header,
        (Some(target), None) => target.clone(),
        // HTTP/1.0 knew none: such a request takes the routes of any host.
        (None, None) if request.version() <= Version::HTTP_10 => return Ok(None),
        (None, None) => return Err(NONE),
    };
    if authority.as_str().contains('@') {
        return Err("the request's host has a user");
    }
    Ok(Some(authority))
}
