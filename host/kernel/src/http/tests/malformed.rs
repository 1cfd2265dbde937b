//! What is no request: answered as every other error is, and no handler's answer
//! is taken for such a one.

use super::*;
use axum::Router;
use axum::body::Body;
use axum::http::header;
use futures_util::stream;

const GOOD: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

/// What hyper writes for bytes that are not HTTP.
const OWN: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The answer to what is left on this connection, which then ends in order.
async fn refused(stream: &TcpStream, status: u16, code: &str) {
    let answer = receive(stream, false).await;
    answer.error(status, code, false);
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.headers.contains_key("date"));
    assert_eq!(read_to_end(stream).await.expect("closed in order"), b"");
}

#[tokio::test]
async fn what_is_no_request_is_an_error_as_every_other() {
    let (_metrics, server) = start().await;
    for (request, status, code) in [
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET /\u{0} HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET / HTTP/1.1\r\na b: c\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(), 400, "bad-request"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), 431, "headers-too-large"),
        (format!("GET / HTTP/1.1\r\na: {}", "b".repeat(200_000)), 431, "headers-too-large"),
    ] {
        refused(&send(&server, &request).await, status, code).await;
        // The same after a request, and together with it.
        let stream = send(&server, GOOD).await;
        assert_eq!(receive(&stream, false).await.status, 200);
        write(&stream, &request).await;
        refused(&stream, status, code).await;
    }
    // After a body that nobody reads.
    let unread = "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    let stream = send(&server, unread).await;
    receive(&stream, false).await.error(405, "method-not-allowed", false);
    write(&stream, "?\r\n\r\n").await;
    refused(&stream, 400, "bad-request").await;
    let first = receive(&send(&server, "?\r\n\r\n").await, false).await;
    let second = receive(&send(&server, "?\r\n\r\n").await, false).await;
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    server.shutdown().await;
}

/// A server whose one handler says what hyper says by itself, in two parts that
/// are flushed apart.
async fn impostor() -> Listening {
    let parts = || {
        stream::unfold(0, async |part| {
            tokio::task::yield_now().await;
            (part < 2).then_some((Ok::<_, io::Error>(OWN), part + 1))
        })
    };
    // With its length, as chunks would not begin with the same bytes.
    let length = [(header::CONTENT_LENGTH, 2 * OWN.len())];
    let routes = Router::new().fallback(async move || (length, Body::from_stream(parts())));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = listener.local_addr().expect("it has one");
    let limits = Limits { max_head_bytes: 128 * 1024, ..LIMITS };
    Listening(addr, Server::new(routes, limits, CancellationToken::new()).serve(listener))
}

#[tokio::test]
async fn a_handlers_answer_is_its_own() {
    let server = impostor().await;
    // Each after the other, then two at once, then what is none.
    let requests = [GOOD.to_owned(), GOOD.repeat(2), format!("{GOOD}?\r\n\r\n")];
    for request in requests {
        let stream = send(&server, &request).await;
        let mut bytes = Vec::new();
        let body = OWN.repeat(2);
        for _ in 0..request.matches("GET").count() {
            while !String::from_utf8_lossy(&bytes).contains(&body) {
                let read = read(&stream, &mut bytes).await.expect("read");
                assert_ne!(read, 0, "{}", String::from_utf8_lossy(&bytes));
            }
            let text = String::from_utf8(std::mem::take(&mut bytes)).expect("text");
            let (head, rest) = text.split_once(&body).expect("it is there");
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            bytes.extend_from_slice(rest.as_bytes());
        }
        if request.contains('?') {
            bytes.extend(read_to_end(&stream).await.expect("closed in order"));
            let answer = String::from_utf8(bytes).expect("text");
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("\"code\":\"bad-request\""), "{answer}");
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_target_that_is_too_long_is_told_so() {
    let server = impostor().await;
    let request = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    refused(&send(&server, &request).await, 414, "uri-too-long").await;
    server.shutdown().await;
}
