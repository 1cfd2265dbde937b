//! What the endpoints answer, over real connections, read byte by byte: a
//! client library would hide half of it.

mod malformed;

use super::*;
use crate::health::{Heartbeat, ServiceHealth, Status};
use crate::metrics::{Family, Sample};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::net::TcpStream;
use tokio::time::Instant;

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    /// The error's shape and code, and that its id is the header's.
    fn error(&self, status: u16, code: &str, retryable: bool) {
        let body = self.json();
        assert_eq!(self.status, status);
        assert_eq!((&body["code"], &body["retryable"]), (&json!(code), &json!(retryable)));
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(body["corr_id"], self.header("x-request-id"));
    }
}

/// A running server, and where it listens.
struct Listening(SocketAddr, ServerHandle);

impl Listening {
    async fn shutdown(self) {
        self.1.shutdown().await;
    }
}

async fn start() -> (Metrics, Listening) {
    let metrics = Metrics::new();
    let (addr, server) = metrics.serve("127.0.0.1:0").await.expect("bound");
    assert_ne!(addr.port(), 0);
    (metrics, Listening(addr, server))
}

async fn write(stream: &TcpStream, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        stream.writable().await.expect("writable");
        match stream.try_write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// Read what is there, or wait for some; `Ok(0)` is the end.
async fn read(stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                return Ok(count);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn read_to_end(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while read(stream, &mut bytes).await? > 0 {}
    Ok(bytes)
}

async fn send(server: &Listening, request: &str) -> TcpStream {
    let stream = TcpStream::connect(server.0).await.expect("connected");
    write(&stream, request).await;
    stream
}

/// Read one answer with its body, as far as its length says.
async fn receive(stream: &TcpStream, head_only: bool) -> Answer {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        assert_ne!(read(stream, &mut bytes).await.expect("read"), 0, "closed: {bytes:?}");
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head of text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let headers: BTreeMap<_, _> = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes.split_off(end + 4);
    let length = headers.get("content-length").expect("a length").parse().expect("a number");
    if !head_only {
        while body.len() < length {
            assert_ne!(read(stream, &mut body).await.expect("read"), 0, "cut off");
        }
    }
    let body = String::from_utf8(body).expect("a body of text");
    assert_eq!(body.len(), if head_only { 0 } else { length });
    Answer { status: status.parse().expect("a number"), headers, body }
}

async fn ask(server: &Listening, method: &str, path: &str, headers: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let answer = receive(&send(server, &request).await, method == "HEAD").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.header("x-request-id").is_empty());
    answer
}

async fn get(server: &Listening, path: &str) -> Answer {
    ask(server, "GET", path, "").await
}

fn health(ok: bool, required: bool) -> ServiceHealth {
    ServiceHealth { state: "running", ok, required, status: Status::Ok, detail: None }
}

#[tokio::test]
async fn metrics_are_shown_as_text() {
    let (metrics, server) = start().await;
    metrics.register_service("shop");
    let answer = get(&server, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.body.contains("\nservice_restarts_total{service=\"shop\"} 0\n"));
    let head = ask(&server, "HEAD", "/metrics", "").await;
    assert_eq!((head.status, head.header("content-type")), (200, answer.header("content-type")));
    metrics.pull(&[], |_| panic!("a source that fails"));
    get(&server, "/metrics").await.error(500, "internal", false);
    let index = get(&server, "/").await;
    assert_eq!((index.status, index.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert!(index.body.contains("/readyz/{service}"));
    server.shutdown().await;
}

#[tokio::test]
async fn liveness_is_the_loops_and_not_a_services() {
    let (metrics, server) = start().await;
    let detail = Some("no database".to_owned());
    let sick =
        ServiceHealth { state: "backoff", status: Status::Failing, detail, ..health(false, true) };
    metrics.health().update("shop", sick);
    metrics.health().update("cart", health(true, false));
    let services = json!({
        "cart": {"state": "running", "ok": true, "required": false, "status": "ok"},
        "shop": {"state": "backoff", "ok": false, "required": true, "status": "failing",
                 "detail": "no database"},
    });
    for path in ["/healthz", "/livez"] {
        let answer = get(&server, path).await;
        assert_eq!(answer.status, 200, "nobody ever beat");
        assert_eq!(answer.json(), json!({"status": "ok", "services": services}));
    }
    let now = Instant::now();
    metrics.health().heartbeat().beat(now);
    assert_eq!(get(&server, "/livez").await.status, 200);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_still_is_not_live() {
    // Through the router, as time is paused and sockets do not wait for it.
    let metrics = Metrics::new();
    let service = TowerToHyperService::new(routes::router(metrics.clone()));
    let ask = async |path: &str| {
        let request = hyper::Request::get(path).body(axum::body::Body::empty()).expect("valid");
        let response = hyper::service::Service::call(&service, request).await.expect("infallible");
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    metrics.health().heartbeat().beat(Instant::now());
    tokio::time::advance(Heartbeat::LIMIT).await;
    assert_eq!(ask("/livez").await.0, 200);
    tokio::time::advance(Duration::from_millis(1)).await;
    for path in ["/livez", "/healthz"] {
        let (status, body) = ask(path).await;
        assert_eq!((status, &body["status"]), (503, &json!("stalled")));
        assert_eq!(body["services"], json!({}));
        assert_eq!((&body["code"], &body["retryable"]), (&json!("stalled"), &json!(true)));
        assert!(body["corr_id"].is_string() && body["message"].is_string());
    }
    metrics.health().heartbeat().beat(Instant::now());
    assert_eq!(ask("/livez").await.0, 200);
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let (metrics, server) = start().await;
    let check = async |path: &str, status: u16, body: Value| {
        let answer = get(&server, path).await;
        assert_eq!((answer.status, answer.json()), (status, body));
        let retry = answer.headers.get("retry-after").map(String::as_str);
        assert_eq!(retry, (status == 503).then_some("3"));
    };
    check("/readyz", 503, json!({"ready": false, "missing": ["services"]})).await;
    metrics.health().gate("config", false);
    metrics.health().update("shop", health(false, true));
    metrics.health().update("cart", health(false, false));
    check("/readyz", 503, json!({"ready": false, "missing": ["config", "shop"]})).await;
    check("/readyz/cart", 503, json!({"ready": false, "missing": ["cart"]})).await;
    metrics.health().gate("config", true);
    metrics.health().update("shop", health(true, true));
    check("/readyz", 200, json!({"ready": true})).await;
    check("/readyz/sh%6Fp", 200, json!({"ready": true})).await;
    for query in ["?verbose", "?x=1&verbose=true"] {
        let answer = get(&server, &format!("/readyz{query}")).await.json();
        assert_eq!(answer["ready"], true);
        assert_eq!(answer["services"]["cart"]["ok"], false);
    }
    check("/readyz?verbose=false", 200, json!({"ready": true})).await;
    metrics.health().drain();
    check("/readyz", 503, json!({"ready": false, "missing": ["draining"]})).await;
    check("/readyz/shop", 503, json!({"ready": false, "missing": ["draining"]})).await;
    let verbose = get(&server, "/readyz?verbose").await.json();
    assert_eq!(verbose["services"]["shop"]["ok"], true);
    server.shutdown().await;
}

#[tokio::test]
async fn every_error_has_the_same_shape() {
    let (_metrics, server) = start().await;
    get(&server, "/nothing").await.error(404, "not-found", false);
    get(&server, "/readyz/nobody").await.error(404, "unknown-service", false);
    get(&server, "/readyz/%FF").await.error(404, "unknown-service", false);
    get(&server, "/readyz/").await.error(404, "not-found", false);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = ask(&server, method, "/readyz", "content-length: 9999999\r\n").await;
        answer.error(405, "method-not-allowed", false);
        assert_eq!(answer.header("allow"), "GET,HEAD");
    }
    let head = ask(&server, "HEAD", "/nothing", "").await;
    assert_eq!((head.status, head.header("content-type")), (404, "application/json"));
    server.shutdown().await;
}

#[tokio::test]
async fn the_correlation_id_is_the_clients_if_it_is_sane() {
    let (_metrics, server) = start().await;
    let longest = "a".repeat(128);
    for id in ["r-1", "Root=1-5759e988/a:b_c.d+e@f", &longest] {
        let answer = ask(&server, "GET", "/nothing", &format!("X-Request-Id: {id}\r\n")).await;
        assert_eq!(answer.header("x-request-id"), id);
        answer.error(404, "not-found", false);
    }
    let mut made = std::collections::BTreeSet::new();
    let twice = "x-request-id: a\r\nx-request-id: b\r\n".to_owned();
    let bad =
        ["", "a b", "a\"b", "ä", &"a".repeat(129)].map(|id| format!("x-request-id: {id}\r\n"));
    for headers in bad.into_iter().chain([twice, String::new(), String::new()]) {
        let answer = ask(&server, "GET", "/nothing", &headers).await;
        answer.error(404, "not-found", false);
        let id = answer.header("x-request-id").to_owned();
        assert!(!headers.contains(&id) && made.insert(id), "made anew: {headers}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let (_metrics, server) = start().await;
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let stream = send(&server, request).await;
    assert_eq!(receive(&stream, false).await.status, 200);
    write(&stream, request).await;
    assert_eq!(receive(&stream, false).await.status, 200);
    server.shutdown().await;
}

/// Time moves when all wait, from here on. Not before: a paused clock runs
/// ahead of bytes that are still on their way through the kernel.
async fn paused<T>(waiting: impl Future<Output = T>) -> (T, Duration) {
    tokio::time::pause();
    let start = Instant::now();
    let result = waiting.await;
    let waited = start.elapsed();
    tokio::time::resume();
    (result, waited)
}

fn about(waited: Duration, expected: Duration) {
    assert!(waited.abs_diff(expected) <= Duration::from_secs(1), "{waited:?}, not {expected:?}");
}

#[tokio::test]
async fn slow_headers_and_idle_connections_are_closed() {
    let (_metrics, server) = start().await;
    for request in ["", "GET /livez HTTP/1.1\r\nhost:", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let stream = send(&server, request).await;
        if request.ends_with("\r\n\r\n") {
            assert_eq!(receive(&stream, false).await.status, 200);
        }
        // A reset closes as well.
        let (_, waited) = paused(read_to_end(&stream)).await;
        about(waited, LIMITS.header_timeout);
    }
    server.shutdown().await;
}

/// A connection whose answer fills every buffer on its way, and is not read.
async fn stuck(metrics: &Metrics, server: &Listening) -> TcpStream {
    const FAMILIES: &[Family] = &[Family::gauge("ron_large", "Large.", &["text"])];
    metrics.pull(FAMILIES, |give| {
        give(Sample { name: "ron_large", labels: &[&"x".repeat(LARGE)], value: 0.0 });
    });
    let stream = send(server, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    stream.readable().await.expect("the answer began");
    stream
}

const LARGE: usize = 64 << 20;

#[tokio::test]
async fn an_old_connection_is_closed_even_if_its_client_does_not_read() {
    let (metrics, server) = start().await;
    let stream = stuck(&metrics, &server).await;
    let max_age = LIMITS.max_age.expect("it has one");
    paused(tokio::time::sleep(max_age + LIMITS.grace + Duration::from_secs(1))).await;
    let received = read_to_end(&stream).await.map_or(0, |bytes| bytes.len());
    assert!(received < LARGE, "the answer went on");
    server.shutdown().await;
}

#[tokio::test]
async fn shutdown_is_bounded() {
    let (metrics, server) = start().await;
    let _stream = stuck(&metrics, &server).await;
    let ((), waited) = paused(server.shutdown()).await;
    about(waited, LIMITS.grace);
}

#[tokio::test]
async fn over_the_limit_connections_are_refused_and_counted() {
    let (metrics, server) = start().await;
    let mut idle = Vec::new();
    for _ in 0..LIMITS.connections {
        let stream = send(&server, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(receive(&stream, false).await.status, 200);
        idle.push(stream);
    }
    let refused = get(&server, "/livez").await;
    refused.error(503, "overloaded", true);
    assert_eq!(refused.header("connection"), "close");
    assert_eq!(refused.header("retry-after"), "3");
    assert!(metrics.encode().contains("\nron_http_refused_total 1\n"));
    drop(idle.pop());
    // Its place comes back when the server has noticed; until then 503.
    let again = async { while get(&server, "/livez").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("the place came back");
    server.shutdown().await;
}

#[tokio::test]
async fn shutdown_lets_a_request_end_and_closes_the_rest() {
    let (metrics, server) = start().await;
    let (entered, wait_entered) = std::sync::mpsc::channel();
    let (release, wait_release) = std::sync::mpsc::channel::<()>();
    let wait_release = parking_lot::Mutex::new(wait_release);
    metrics.pull(&[], move |_| {
        entered.send(()).expect("the test waits");
        wait_release.lock().recv().expect("the test lives");
    });
    let idle = send(&server, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(receive(&idle, false).await.status, 200);
    let addr = server.0;
    let busy = send(&server, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::task::spawn_blocking(move || wait_entered.recv()).await.expect("ran").expect("entered");
    let shutdown = tokio::spawn(server.shutdown());
    assert_eq!(read_to_end(&idle).await.expect("closed in order"), b"");
    assert!(TcpStream::connect(addr).await.is_err(), "accepts nothing more");
    assert!(!shutdown.is_finished());
    release.send(()).expect("it waits");
    let answer = receive(&busy, false).await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    shutdown.await.expect("ended");
}

#[tokio::test]
async fn a_dropped_handle_leaves_nothing_running() {
    let (_metrics, server) = start().await;
    let addr = server.0;
    let idle = send(&server, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(receive(&idle, false).await.status, 200);
    drop(server);
    // Reset or end: it is closed.
    assert!(read_to_end(&idle).await.is_ok_and(|rest| rest.is_empty()));
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn where_nothing_is_refused_a_connection_waits_for_its_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = listener.local_addr().expect("it has one");
    let limits = Limits { connections: 1, ..LIMITS };
    let routes = routes::router(Metrics::new());
    let server = Server::new(routes, limits, CancellationToken::new());
    let server = Listening(addr, server.serve(listener));
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let first = send(&server, request).await;
    assert_eq!(receive(&first, false).await.status, 200);
    let second = send(&server, request).await;
    // By the second of these it would have been answered too.
    for _ in 0..2 {
        write(&first, request).await;
        assert_eq!(receive(&first, false).await.status, 200);
    }
    let early = second.try_read(&mut [0; 1]);
    assert_eq!(early.expect_err("it waits").kind(), io::ErrorKind::WouldBlock);
    drop(first);
    assert_eq!(receive(&second, false).await.status, 200);
    server.shutdown().await;
}
