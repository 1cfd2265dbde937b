//! A service speaks to whom it was granted, and to nobody else: over HTTP, TLS and
//! TCP, whatever a name leads to.
//!
//! Everybody here is on loopback, in this process.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use ron_runtime::{Grants, Limits};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::harness::deployment::{deployment, start};
use crate::harness::{HUNG, Rig, spec};

/// A server of its own, which tells the path of every request.
struct Somebody {
    address: SocketAddr,
    asked: Receiver<String>,
}

impl Somebody {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, asked) = mpsc::channel();
        // Ends with the process; every connection is one request.
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let path = path(&stream);
                let _ = sender.send(path.clone());
                let answer = match &*path {
                    "/" => "200 OK\r\ncontent-length: 6\r\n\r\nhello\n",
                    "/away" => {
                        "302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
                    }
                    "/half" => "200 OK\r\ncontent-length: 6\r\n\r\nhel",
                    _ => "",
                };
                let head = if answer.is_empty() { "" } else { "HTTP/1.1 " };
                write!(stream, "{head}{answer}").expect("it reads");
                match &*path {
                    "/" | "/away" => {}
                    // The client gives up.
                    _ => held.push(stream),
                }
            }
        });
        Self { address, asked }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// The path of the next request.
    fn asked(&self) -> String {
        self.asked.recv_timeout(HUNG).expect("a request")
    }

    fn is_left_alone(&self) -> bool {
        self.asked.try_recv().is_err()
    }
}

/// Reads the head of a request.
fn path(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    for line in lines {
        if line.expect("text").is_empty() {
            break;
        }
    }
    first.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn grants(outbound: &[String]) -> Grants {
    let outbound = outbound.iter().map(|peer| peer.parse().expect(peer)).collect();
    Grants { outbound, ..Grants::default() }
}

/// A rig with a caller that has these grants.
async fn caller(outbound: &[String]) -> Rig {
    let rig = Rig::new();
    add(&rig, outbound, Limits::default()).await;
    rig
}

async fn add(rig: &Rig, outbound: &[String], limits: Limits) {
    rig.add_granted(spec("caller"), limits, grants(outbound), rig.load("caller"));
    rig.until("caller", "running").await;
}

async fn call(rig: &Rig, call: &str) -> String {
    rig.ask("guest.caller.call", call).await
}

async fn check(rig: &Rig, what: &str, expected: &str) {
    assert_eq!(call(rig, what).await, expected, "{what}");
}

/// A refusal says its code.
async fn refused(rig: &Rig, what: &str, code: &str) {
    let answer = call(rig, what).await;
    assert!(answer.starts_with("error: ") && answer.contains(code), "{what}: {answer}");
}

const DENIED: &str = "rejected_total{reason=\"denied\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_whom_was_granted() {
    let (granted, other) = (Somebody::new(), Somebody::new());
    let rig = caller(&[granted.address.to_string()]).await;
    check(&rig, &format!("get {}", granted.url("127.0.0.1", "/")), "200 hello").await;
    assert_eq!(granted.asked(), "/");
    assert_eq!(rig.metrics().value(DENIED), 0.0);

    refused(&rig, &format!("get {}", other.url("127.0.0.1", "/")), "HttpRequestDenied").await;
    // Its name is not granted, and is not even looked up.
    refused(&rig, &format!("get {}", granted.url("localhost", "/")), "HttpRequestDenied").await;
    refused(&rig, "get http://nobody.invalid/", "HttpRequestDenied").await;
    refused(&rig, &format!("get {}", granted.url("127.1", "/")), "HttpRequestUriInvalid").await;
    assert_eq!(rig.metrics().value(DENIED), 3.0);
    assert!(other.is_left_alone() && granted.is_left_alone());
    assert_eq!(rig.generation("caller"), 1, "a refusal is an answer and no crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_leads_to_nobody_near() {
    let somebody = Somebody::new();
    let rig = caller(&["*".into()]).await;
    for host in
        ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"]
    {
        let what = format!("get {}", somebody.url(host, "/"));
        refused(&rig, &what, "DestinationIpProhibited").await;
    }
    assert!(somebody.is_left_alone());
    assert_eq!(rig.metrics().value(DENIED), 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_granted_leads_where_it_leads() {
    let somebody = Somebody::new();
    let rig = caller(&[format!("localhost:{}", somebody.address.port()), "*".into()]).await;
    check(&rig, &format!("get {}", somebody.url("localhost", "/")), "200 hello").await;
    check(&rig, &format!("get {}", somebody.url("LocalHost.", "/")), "200 hello").await;
    // Its address is not its name.
    let what = format!("get {}", somebody.url("127.0.0.1", "/"));
    refused(&rig, &what, "DestinationIpProhibited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_an_answer() {
    let somebody = Somebody::new();
    let rig = caller(&[somebody.address.to_string()]).await;
    let what = format!("get {}", somebody.url("127.0.0.1", "/away"));
    check(&rig, &what, "302 http://127.0.0.1:1/").await;
    refused(&rig, "get http://127.0.0.1:1/", "HttpRequestDenied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_as_long_as_its_guest_says() {
    let somebody = Somebody::new();
    let rig = caller(&[somebody.address.to_string()]).await;
    let never = somebody.url("127.0.0.1", "/never");
    refused(&rig, &format!("get-within 50 {never}"), "ConnectionReadTimeout").await;
    let half = somebody.url("127.0.0.1", "/half");
    refused(&rig, &format!("get-within 50 {half}"), "connection read timeout").await;
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let rig = caller(&[gone.to_string()]).await;
    refused(&rig, &format!("get http://{gone}/"), "ConnectionRefused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_requests_are_under_way_and_no_more() {
    let somebody = Somebody::new();
    let rig = Rig::new();
    let limits = Limits { outgoing_requests: 1, ..Limits::default() };
    add(&rig, &[somebody.address.to_string()], limits).await;
    let never = somebody.url("127.0.0.1", "/never");
    let answer = call(&rig, &format!("both {never} {never}")).await;
    // Which of them is first is nobody's promise.
    let mut answers: Vec<&str> = answer.lines().collect();
    answers.sort_unstable();
    let one = |code| format!("error: ErrorCode::{code}");
    assert_eq!(answers, [one("ConnectionLimitReached"), one("ConnectionReadTimeout")]);
    assert_eq!(rig.metrics().value("rejected_total{reason=\"overloaded\"}"), 1.0);
    // The place is free with the end of what had it.
    let url = somebody.url("127.0.0.1", "/");
    for _ in 0..3 {
        check(&rig, &format!("get {url}"), "200 hello").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_for_whom_an_authority_vouches() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let certificate = own.cert.der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("they match");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust it hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsafe\n\n").await;
            let _ = stream.shutdown().await;
        }
    });
    let granted = [format!("localhost:{port}"), format!("127.0.0.1:{port}")];
    let what = format!("get https://localhost:{port}/");
    let rig = caller(&granted).await;
    refused(&rig, &what, "TlsCertificateError").await;
    drop(rig);
    let rig = Rig::trusting(vec![certificate.to_vec()]);
    add(&rig, &granted, Limits::default()).await;
    check(&rig, &what, "200 safe").await;
    // The certificate is for the name.
    refused(&rig, &format!("get https://127.0.0.1:{port}/"), "TlsCertificateError").await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_connects_to_whom_was_granted() {
    let (granted, other) = (Somebody::new(), Somebody::new());
    let port = other.address.port();
    let rig = caller(&[granted.address.to_string(), format!("localhost:{port}")]).await;
    check(&rig, &format!("tcp {}", granted.address), "HTTP/1.1 200 OK").await;
    assert_eq!(granted.asked(), "/");
    // Not by its address, as long as its name was not looked up.
    check(&rig, &format!("tcp 127.0.0.1:{port}"), "error: PermissionDenied").await;
    assert!(other.is_left_alone());
    check(&rig, &format!("tcp localhost:{port}"), "HTTP/1.1 200 OK").await;
    assert_eq!(other.asked(), "/");
    // What a name led to is for the ports of its grant.
    check(&rig, &format!("tcp localhost:{}", granted.address.port()), "HTTP/1.1 200 OK").await;
    let third = Somebody::new();
    let what = format!("tcp localhost:{}", third.address.port());
    check(&rig, &what, "error: PermissionDenied").await;
    assert!(third.is_left_alone());

    check(&rig, "lookup nobody.invalid", "error: PermissionDenied").await;
    check(&rig, "bind 127.0.0.1:0", "error: PermissionDenied").await;
    check(&rig, "bind 0.0.0.0:0", "error: PermissionDenied").await;
    check(&rig, "udp 127.0.0.1:0", "error: PermissionDenied").await;
}

/// The whole way from `ron.toml`, and what is said of a denial.
#[test]
fn a_denial_says_what_to_grant() {
    let (granted, other) = (Somebody::new(), Somebody::new());
    let calls = [
        format!("get {}", granted.url("127.0.0.1", "/")),
        format!("get {}", other.url("127.0.0.1", "/")),
        format!("get {}", other.url("127.0.0.1", "/again")),
        format!("get {}", other.url("localhost", "/")),
    ];
    let steps: String = (1..)
        .zip(&calls)
        .map(|(n, call)| format!("{n} = \"request guest.caller.call {call}\"\n"))
        .collect();
    let text = format!(
        "[service.caller]\ncomponent = \"components/caller.wasm\"\n\
         grants.outbound = [\"{}\", \"*\"]\n\
         [service.script]\ncomponent = \"components/script.wasm\"\n\
         [service.script.config]\n{steps}",
        granted.address
    );
    let directory = deployment("a-denial", &["caller", "script"], &text);
    let host = start(&directory, "--log-format json", &[]);
    let mut told: Vec<String> = Vec::new();
    host.log(|record: &Value| {
        if record["service"] == "caller" && record["level"] == "WARN" {
            told.push(record["message"].as_str().unwrap_or_default().to_owned());
        }
        record["service"] == "script" && record["message"] == "the script is over"
    });
    assert_eq!(granted.asked(), "/");
    assert!(other.is_left_alone());
    let peer = other.address;
    let expected = format!(
        "speaking to {peer} was denied: it is at 127.0.0.1, a loopback address, for which a \
         pattern is no grant; it would be granted by grants.outbound = [\"{peer}\"]"
    );
    assert_eq!(told.len(), 2, "each peer is told of once: {told:#?}");
    assert_eq!(told[0], expected);
    let named = format!("speaking to localhost:{} was denied: it is at ", peer.port());
    assert!(told[1].starts_with(&named), "{}", told[1]);
    assert_eq!(host.metrics().value(DENIED), 3.0);
}
