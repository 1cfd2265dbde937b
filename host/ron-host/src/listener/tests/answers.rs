//! What a service is asked, and what the client is answered in its place.

use super::*;

#[tokio::test]
async fn why_there_is_no_answer_is_told() {
    let server = start(Limits::default()).await;
    let mut http2 = server.http2().await;
    for (path, status, code, retryable) in [
        ("/unavailable", 503, "unavailable", true),
        ("/crashed", 500, "crashed", false),
        ("/late", 504, "timeout", false),
        ("/bad", 502, "bad-answer", false),
        ("/continue", 502, "bad-answer", false),
    ] {
        let over1 = server.get(path).await;
        let response = http2.send_request(request("GET", path, "")).await.expect("answered");
        for reply in [over1, Reply::of(response).await] {
            reply.error(status, code, retryable);
            assert_eq!(reply.headers.contains_key("retry-after"), status == 503);
            let corr_id = &reply.json()["corr_id"];
            if path == "/crashed" {
                assert_eq!(corr_id, "crash-7", "it finds the report");
            } else {
                assert_eq!(corr_id, reply.header("x-request-id"));
            }
        }
    }
}

#[tokio::test]
async fn connect_leads_nowhere() {
    let server = start(Limits::default()).await;
    let reply = server.ask("CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n").await;
    reply.error(405, "method-not-allowed", false);
    assert!(reply.header("allow").contains("GET"));
    let connect = Request::builder().method("CONNECT").uri("x:443").body(Full::default());
    let response = server.http2().await.send_request(connect.expect("a request")).await;
    Reply::of(response.expect("answered")).await.error(405, "method-not-allowed", false);
    assert_eq!(server.rejected("bad-request"), 2);
    assert!(server.service.seen.lock().is_empty());
}

#[tokio::test]
async fn a_request_says_once_for_whom_it_is() {
    let server = start(Limits::default()).await;
    for (target, headers, good) in [
        ("/", "host: x\r\n", true),
        ("/", "host: X.:80\r\n", true),
        ("/", "host: [::1]:80\r\n", true),
        ("http://x/", "host: X\r\n", true),
        ("http://x/", "", true),
        ("/", "", false),
        ("/", "host:\r\n", false),
        ("/", "host: x\r\nhost: x\r\n", false),
        ("/", "host: a b\r\n", false),
        ("/", "host: user@x\r\n", false),
        ("http://user@x/", "", false),
        ("http://x/", "host: y\r\n", false),
    ] {
        let reply = server.ask(&format!("GET {target} HTTP/1.1\r\n{headers}\r\n")).await;
        if good {
            assert_eq!(reply.status, 200, "{target} {headers}");
        } else {
            reply.error(400, "bad-request", false);
        }
    }
    let mut other = request("GET", "/", "");
    other.headers_mut().insert("host", "y".parse().expect("a value"));
    let response = server.http2().await.send_request(other).await.expect("answered");
    Reply::of(response).await.error(400, "bad-request", false);
}

#[tokio::test]
async fn what_a_proxy_would_say_is_not_believed() {
    let server = start(Limits::default()).await;
    let claims = "forwarded: for=1.2.3.4\r\nx-forwarded-for: 1.2.3.4\r\nX-Forwarded-Host: y\r\n\
                  x-forwarded-proto: https\r\nx-forwarded-client-cert: a\r\nx-real-ip: 1.2.3.4\r\n\
                  x-forwarded-for: 5.6.7.8\r\ntraceparent: 00-a-b-01\r\nx-own: kept\r\n";
    server.ask(&post("/", &format!("{claims}content-length: 0\r\n"), "")).await;
    let seen = server.service.seen.lock().pop().expect("it was asked");
    let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
    let headers = seen.headers.iter().map(|(name, value)| (name.as_str(), text(value)));
    let mut headers: Vec<_> = headers.collect();
    headers.retain(|(name, _)| !["x-request-id", "host", "content-length"].contains(name));
    headers.sort_by_key(|(name, _)| *name);
    let expected = [
        ("traceparent", "00-a-b-01"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-own", "kept"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    assert_eq!(headers, expected);
    assert_eq!(seen.uri, "http://x/", "as HTTP/2 would have it");
    let info = seen.extensions.get::<Arc<ConnectionInfo>>().expect("it is known");
    assert_eq!((info.local, &info.tls), (server.running.addr(), &None));
    assert!(info.peer.ip().is_loopback());
}

#[tokio::test]
async fn a_request_has_one_id_everywhere() {
    let server = start(Limits::default()).await;
    let mut ids = Vec::new();
    for (headers, taken) in [
        ("x-request-id: req-1\r\n", Some("req-1")),
        ("x-request-id: a b\r\n", None),
        ("x-request-id: a\r\nx-request-id: b\r\n", None),
        ("", None),
    ] {
        let reply =
            server.ask(&post("/unread", &format!("{headers}content-length: 0\r\n"), "")).await;
        let id = reply.header("x-request-id").to_owned();
        let seen = server.service.seen.lock().pop().expect("it was asked");
        let seen: Vec<_> = seen.headers.get_all("x-request-id").iter().cloned().collect();
        assert_eq!(seen, [id.as_str()], "the service sees the same");
        assert!(taken.is_none_or(|taken| taken == id) && !ids.contains(&id), "{headers} {id}");
        ids.push(id);
    }
    let error =
        server.ask("CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\nx-request-id: req-2\r\n\r\n").await;
    assert_eq!(
        (error.header("x-request-id"), &error.json()["corr_id"]),
        ("req-2", &"req-2".into())
    );
}

#[tokio::test]
async fn head_has_no_body_and_its_length() {
    let server = start(Limits::default()).await;
    let mut stream = server.send("HEAD /unread HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(head(&mut stream).await.header("content-length"), "6");
    stream.write_all(get("/").as_bytes()).await.expect("sent");
    assert_eq!(receive(&mut stream).await.status, 200, "nothing came after it");
    for path in ["/unread", "/endless"] {
        let response = server.http2().await.send_request(request("HEAD", path, "")).await;
        let reply = Reply::of(response.expect("answered")).await;
        let length = reply.headers.get("content-length").map(String::as_str);
        assert_eq!((length, reply.body.len()), ((path == "/unread").then_some("6"), 0));
    }
}

/// A service that cannot write what it is to write crashes often enough.
#[tokio::test]
async fn what_head_does_not_send_is_taken_from_the_service() {
    let server = start(Limits::default()).await;
    let mut stream = server.send("HEAD /noted HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.service.held.notified().await;
    assert_eq!(head(&mut stream).await.status, 200);
    let response = server.http2().await.send_request(request("HEAD", "/noted", "")).await;
    assert_eq!(Reply::of(response.expect("answered")).await.body, b"");
    server.service.held.notified().await;
    // Up to a limit.
    let mut stream = server.send("HEAD /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(head(&mut stream).await.status, 200);
}

#[tokio::test]
async fn bodies_and_trailers_pass() {
    let server = start(Limits::default()).await;
    let mut stream =
        server.send(&post("/", "content-length: 4\r\nexpect: 100-continue\r\n", "")).await;
    assert_eq!(head(&mut stream).await.status, 100, "the service wants it");
    stream.write_all(b"body").await.expect("sent");
    assert_eq!(receive(&mut stream).await.body, b"body");
    let response = server.http2().await.send_request(request("GET", "/trailers", "")).await;
    let body = response.expect("answered").into_body().collect().await.expect("whole");
    let trailers = body.trailers().expect("there are some").clone();
    assert_eq!((trailers["checked"].as_bytes(), &body.to_bytes()[..]), (&b"yes"[..], &b"part"[..]));
    let large = "x".repeat(3_000_000);
    let response = server.http2().await.send_request(request("POST", "/", large.clone())).await;
    assert_eq!(Reply::of(response.expect("answered")).await.body, large.as_bytes());
    let broken = post("/", "transfer-encoding: chunked\r\n", "zz\r\n");
    server.ask(&broken).await.error(400, "bad-request", false);
}
