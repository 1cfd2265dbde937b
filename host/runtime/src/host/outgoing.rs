//! `wasi:http/outgoing-handler`: requests that a component sends.
//!
//! It is linked for every component, because what many languages are built with
//! imports it whether or not the author sends anything. A request goes to whom was
//! granted: its host's name first, then the addresses that the name led to, and the
//! connection is to one of those, so that nothing is looked up twice. A redirect is
//! an answer like any other: if the guest follows it, that is another request, and
//! judged anew.
//!
//! Each request has a connection of its own, HTTP/1.1, over TLS for `https`. What
//! it waits for has a time, which the guest can shorten and not lengthen.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::outbound::{Denied, Outbound};
use crate::peer::Target;

mod client;

pub(crate) use client::Client;
pub use client::ClientError;

/// Looking up a name, connecting and the TLS handshake may take so long together.
const CONNECT: Duration = Duration::from_secs(10);
/// From the request to the head of the answer.
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// From one piece of the answer's body to the next.
const BETWEEN_BYTES: Duration = Duration::from_secs(60);
/// How much of a body that nobody gets is taken in, in bytes, and how long it is waited
/// for.
const UNWANTED: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a component's requests go.
#[derive(Clone)]
pub(crate) struct Outgoing {
    outbound: Outbound,
    client: Arc<Client>,
}

/// What goes on after the head of an answer: the connection.
type Going = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// How long a request may wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Times {
    /// The guest's own, where they are shorter.
    fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let least = |own: Option<Duration>, most: Duration| own.map_or(most, |own| own.min(most));
        Self {
            connect: least(options.connect_timeout, CONNECT),
            first_byte: least(options.first_byte_timeout, FIRST_BYTE),
            between_bytes: least(options.between_bytes_timeout, BETWEEN_BYTES),
        }
    }
}

impl Outgoing {
    pub(crate) fn new(outbound: Outbound, client: Arc<Client>) -> Self {
        Self { outbound, client }
    }

    async fn send(
        self,
        request: Request<WasiBody>,
        times: Times,
    ) -> Result<(Response<WasiBody>, Going), Error> {
        let uri = request.uri().clone();
        let reached = async {
            let secure = uri.scheme() == Some(&Scheme::HTTPS);
            let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let target = Target::parse(host).ok_or(Error::HttpRequestUriInvalid)?;
            let how = self.outbound.named(&target, port).map_err(refusal)?;
            let place = self.outbound.enter().ok_or(Error::ConnectionLimitReached)?;
            let until = Instant::now() + times.connect;
            let found = resolve(&target, port, until).await?;
            let addresses = self.outbound.permitted(&target, how, found, port).map_err(refusal)?;
            let stream = self.client.connect(&target, &addresses, port, secure, until).await?;
            Ok((stream, place))
        };
        let (stream, place) = match reached.await {
            Ok(reached) => reached,
            Err(error) => {
                let_finish(request.into_body()).await;
                return Err(error);
            }
        };
        let Times { first_byte, between_bytes, .. } = times;
        let (response, connection) =
            client::exchange(stream, request, first_byte, between_bytes, place).await?;
        Ok((response, Box::new(connection)))
    }
}

/// Takes in the rest of a body that nobody gets, as far as it is short and comes soon. A
/// guest whose body breaks first is told of that, and not of what was wrong.
async fn let_finish(mut body: WasiBody) {
    let mut left = UNWANTED;
    let taken = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(1, |data| data.len().max(1));
            let Some(rest) = left.checked_sub(bytes) else { break };
            left = rest;
        }
    };
    // What comes later is not worth a wait.
    let _ = timeout(PATIENCE, taken).await;
}

/// What the guest is told.
fn refusal(denied: Denied) -> Error {
    match denied {
        Denied::NotGranted => Error::HttpRequestDenied,
        Denied::Led(..) => Error::DestinationIpProhibited,
    }
}

/// The addresses of a target, in the order in which they are to be tried.
async fn resolve(target: &Target, port: u16, until: Instant) -> Result<Vec<IpAddr>, Error> {
    let name = match target {
        Target::Address(address) => return Ok(vec![*address]),
        Target::Name(name) => name,
    };
    let unknown = |why: String| Error::DnsError { rcode: Some(why), info_code: None };
    match timeout_at(until, tokio::net::lookup_host((&**name, port))).await {
        Err(_) => Err(Error::DnsTimeout),
        Ok(Err(error)) => Err(unknown(error.to_string())),
        Ok(Ok(found)) => {
            let found: Vec<IpAddr> = found.map(|one: SocketAddr| one.ip().to_canonical()).collect();
            match found.is_empty() {
                true => Err(unknown("the name has no address".into())),
                false => Ok(found),
            }
        }
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Going,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Going), Error>> + Send> {
        Box::new(self.clone().send(request, Times::of(options)))
    }
}

/// A time limit of a part of what has one, with an error of its own.
async fn within<T>(
    limit: Duration,
    late: Error,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, future).await.unwrap_or(Err(late))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_shortens_times_and_does_not_lengthen_them() {
        let ours = Times { connect: CONNECT, first_byte: FIRST_BYTE, between_bytes: BETWEEN_BYTES };
        assert_eq!(Times::of(None), ours);
        let own = |time| RequestOptions {
            connect_timeout: Some(time),
            first_byte_timeout: Some(time),
            between_bytes_timeout: Some(time),
        };
        assert_eq!(Times::of(Some(own(Duration::MAX))), ours);
        let ms = Duration::from_millis(3);
        let short = Times { connect: ms, first_byte: ms, between_bytes: ms };
        assert_eq!(Times::of(Some(own(ms))), short);
    }
}
