//! One request over one connection, to an address that was looked at before.
//!
//! The client that `wasmtime_wasi_http` brings connects by name, and would look the
//! name up anew; so this is hyper itself, on a stream that is already there. It is
//! the one place outside of the listeners that speaks HTTP.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto::aws_lc_rs};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, WasiBody};

use super::within;
use crate::peer::Target;
use crate::share::Place;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// What is to be trusted is no certificate of an authority.
    #[error("certificate {0} of those to be trusted cannot be used")]
    Certificate(usize, #[source] rustls::Error),
    /// The cryptography refuses its settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// What makes connections; shared by all services.
pub(crate) struct Client {
    tls: TlsConnector,
}

/// Something to read from and write to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

impl Client {
    /// A client that trusts Mozilla's authorities, and those of these certificates
    /// (DER).
    pub(crate) fn new(trusted: &[Vec<u8>]) -> Result<Self, ClientError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for (index, certificate) in trusted.iter().enumerate() {
            let added = roots.add(CertificateDer::from(certificate.as_slice()));
            added.map_err(|error| ClientError::Certificate(index, error))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ClientError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects to the first of the addresses that answers.
    pub(super) async fn connect(
        &self,
        target: &Target,
        addresses: &[IpAddr],
        port: u16,
        secure: bool,
        until: Instant,
    ) -> Result<Box<dyn Stream>, Error> {
        let stream = dial(addresses, port, until).await?;
        // Requests are written whole; waiting for more to send gains nothing.
        stream.set_nodelay(true).map_err(Error::Connect)?;
        if !secure {
            return Ok(Box::new(stream));
        }
        let name = match target {
            Target::Address(address) => ServerName::from(*address),
            Target::Name(name) => {
                ServerName::try_from(name.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?
            }
        };
        match timeout_at(until, self.tls.connect(name, stream)).await {
            Err(_) => Err(Error::ConnectionTimeout),
            Ok(Err(error)) => Err(tls_error(&error)),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
        }
    }
}

/// Tries one address after the other. Each has an equal part of the time that is
/// left: one that says nothing does not use up the others'.
async fn dial(addresses: &[IpAddr], port: u16, until: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationNotFound;
    for (index, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let connecting = async {
            TcpStream::connect((*address, port)).await.map_err(|error| connect_error(&error))
        };
        match within(left / others, Error::ConnectionTimeout, connecting).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_error(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

fn tls_error(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

/// What hyper says, in the words of `wasi:http`.
fn http_error(error: &hyper::Error) -> Error {
    if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else {
        // Not `Error::Hyper`, of which the host's log would have a line each time.
        Error::HttpProtocolError
    }
}

/// Sends a request and awaits the head of its answer. The body comes as long as
/// the connection, which is returned with it, is polled; the request has its place until
/// the body has ended, or both are no more.
pub(super) async fn exchange(
    stream: Box<dyn Stream>,
    mut request: Request<WasiBody>,
    first_byte: Duration,
    between_bytes: Duration,
    place: Place,
) -> Result<(Response<WasiBody>, impl Future<Output = Result<(), Error>> + Send + use<>), Error> {
    let handshake = Builder::new().handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| http_error(&error))?;
    // Scheme and authority are for a proxy; a server is told path and query, and
    // the authority as `host`.
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connection = Some(Box::pin(connection));
    let response = {
        let sending =
            async { sender.send_request(request).await.map_err(|error| http_error(&error)) };
        let sending = within(first_byte, Error::ConnectionReadTimeout, sending);
        let mut sending = pin!(sending);
        poll_fn(|cx| {
            if let Poll::Ready(response) = sending.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            let Some(own) = connection.as_mut() else { return Poll::Pending };
            let ended = ready!(own.as_mut().poll(cx));
            connection = None;
            match ended {
                // The answer may have come with its end.
                Ok(()) => sending.as_mut().poll(cx),
                Err(error) => Poll::Ready(Err(http_error(&error))),
            }
        })
        .await?
    };
    let place = Arc::new(Mutex::new(Some(place)));
    let own = Arc::clone(&place);
    let response = response.map(|body| {
        let paced = Paced { body, limit: between_bytes, timer: None, place };
        if paced.body.is_end_stream() {
            paced.has_ended();
        }
        paced.boxed_unsync()
    });
    Ok((response, async move {
        let _place = own;
        if let Some(connection) = connection {
            // What ends it early is told by the body.
            let _ = connection.await;
        }
        Ok(())
    }))
}

/// A body each of whose pieces has to come in time.
struct Paced {
    body: Incoming,
    limit: Duration,
    /// Set when a piece is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Given back at the end: who has all of an answer may ask again, and not only when the
    /// connection is closed.
    place: Arc<Mutex<Option<Place>>>,
}

impl Paced {
    fn has_ended(&self) {
        drop(self.place.lock().take());
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
                self.has_ended();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| http_error(&error))));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
