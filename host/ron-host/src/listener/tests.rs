//! The listener over real sockets. HTTP/1.1 is written and read as text, since a client
//! library would hide half of it; HTTP/2 is hyper's client.

mod access;
mod answers;
mod drain;
mod limits;
mod routes;
mod tls;

use super::*;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use ron_kernel::ServiceId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any test takes, where time is real.
const LONG: Duration = Duration::from_secs(3600);

/// A service of these tests: what it does is in the path.
#[derive(Clone, Default)]
struct Service {
    /// What `/hold` waits for.
    gate: Arc<Notify>,
    /// Told when `/hold` was asked.
    held: Arc<Notify>,
    seen: Arc<Mutex<Vec<http::request::Parts>>>,
}

impl Answer for Service {
    fn answer(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, Unanswered>> {
        let service = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // What is kept of it is nobody at work.
            let place = parts.extensions.remove::<Arc<RequestPlace>>();
            assert!(place.is_some(), "it is there for whoever goes on without its client");
            let path = parts.uri.path().to_owned();
            service.seen.lock().push(parts);
            match path.as_str() {
                "/hold" => {
                    service.held.notify_one();
                    service.gate.notified().await;
                    Ok(Response::new(answer::whole("held")))
                }
                "/endless" => {
                    let part = || Ok::<_, BoxError>(http_body::Frame::data(vec![0; 65_536].into()));
                    let parts = futures_util::stream::repeat_with(part);
                    Ok(Response::new(http_body_util::StreamBody::new(parts).boxed_unsync()))
                }
                "/trailers" => {
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("checked", "yes".parse().expect("a value"));
                    let parts = [
                        http_body::Frame::data("part".into()),
                        http_body::Frame::trailers(trailers),
                    ];
                    let parts = futures_util::stream::iter(parts.map(Ok::<_, BoxError>));
                    let body = http_body_util::StreamBody::new(parts).boxed_unsync();
                    let response = Response::builder().header("trailer", "checked").body(body);
                    Ok(response.expect("good headers"))
                }
                // As a service that cannot go on when it cannot write.
                "/noted" => {
                    let part = Ok::<_, BoxError>(http_body::Frame::data("part".into()));
                    let parts = futures_util::stream::iter([part]);
                    let held = Arc::clone(&service.held);
                    let last = futures_util::stream::once(async move {
                        held.notify_one();
                        Ok(http_body::Frame::data("last".into()))
                    });
                    let parts = futures_util::StreamExt::chain(parts, last);
                    Ok(Response::new(http_body_util::StreamBody::new(parts).boxed_unsync()))
                }
                "/through" => Ok(Response::new(body)),
                "/unread" => Ok(Response::new(answer::whole("unread"))),
                "/unavailable" => Err(Unanswered::Unavailable("it is being restarted".to_owned())),
                "/crashed" => Err(Unanswered::Crashed("crash-7".to_owned())),
                "/late" => Err(Unanswered::Late),
                "/bad" => Err(Unanswered::Bad("its headers are none".to_owned())),
                "/continue" => {
                    let response = Response::builder().status(StatusCode::PROCESSING);
                    Ok(response.body(answer::whole("")).expect("good"))
                }
                _ => match body.collect().await {
                    Ok(body) => Ok(Response::new(answer::whole(body.to_bytes()))),
                    // As a component would that cannot read.
                    Err(error) => Err(Unanswered::Bad(error.to_string())),
                },
            }
        })
    }
}

/// A running listener before one service.
struct Server {
    running: Running,
    routes: RouteTable,
    metrics: Metrics,
    service: Service,
}

fn route(host: Option<&str>, path: &str, service: &str, answer: &Service) -> Route {
    Route {
        host: host.map(|host| host.parse().expect("a host")),
        path: path.parse().expect("a path"),
        service: ServiceId::parse(service).expect("a name"),
        answer: Arc::new(answer.clone()),
    }
}

async fn start(limits: Limits) -> Server {
    start_with(limits, None).await
}

async fn start_with(limits: Limits, tls: Option<Certificates>) -> Server {
    let (routes, metrics, service) = (RouteTable::default(), Metrics::new(), Service::default());
    routes.replace(Routes::new([route(None, "/", "api", &service)]).expect("one of a kind"));
    let listener = Listener::new(limits, routes.clone(), tls, metrics.clone());
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let running = listener.serve(socket).expect("it has an address");
    Server { running, routes, metrics, service }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.running.addr()).await.expect("connected")
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    /// The answer to this, alone on a connection.
    async fn ask(&self, request: &str) -> Reply {
        receive(&mut self.send(request).await).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(&get(path)).await
    }

    async fn http2(&self) -> Http2 {
        http2(self.connect().await).await
    }

    /// How often that was counted.
    fn rejected(&self, reason: &str) -> u64 {
        let line = format!("rejected_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.encode();
        let value = text.lines().find_map(|own| own.strip_prefix(&line)).expect("a known reason");
        value.parse().expect("a number")
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A client of HTTP/2, whose connection runs by itself.
async fn http2(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Http2 {
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (sender, connection) = handshake.await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("http://x{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).expect("a request")
}

/// One answer, whatever it came over.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The error's status, code and shape.
    #[track_caller]
    fn error(&self, status: u16, code: &str, retryable: bool) {
        let body = self.json();
        assert_eq!((self.status, &body["code"]), (status, &json!(code)), "{body}");
        assert_eq!(body["retryable"], json!(retryable));
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(body["corr_id"].is_string());
        assert!(!self.header("x-request-id").is_empty());
        assert_eq!(self.header("cache-control"), "no-store");
    }

    async fn of(response: Response<hyper::body::Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let headers = headers.collect();
        let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
        Self { status: parts.status.as_u16(), headers, body }
    }
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await;
        bytes.push(
            byte.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&bytes))
            }),
        );
    }
    let text = String::from_utf8(bytes).expect("a head of text");
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let headers = lines.map(|line| line.split_once(": ").expect("a header"));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers = headers.collect();
    Reply { status: status.parse().expect("a number"), headers, body: Vec::new() }
}

/// One answer with its body, as far as its length says.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    let mut reply = head(stream).await;
    let length = reply.header("content-length").parse().expect("a number");
    reply.body = vec![0; length];
    stream.read_exact(&mut reply.body).await.expect("a whole body");
    reply
}

/// Whether the connection is closed, in order or not, with nothing more on it.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    stream.read_u8().await.is_err()
}
