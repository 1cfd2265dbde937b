//! Every limit of a listener: that it holds, what the client is told, that it is
//! counted, and that what it took is given back.

use super::*;
use std::num::NonZeroU32;

/// One client does not take the places of all, however many connections it has.
#[tokio::test]
async fn over_its_requests_a_client_is_refused() {
    let server = start(Limits { requests_per_ip: 1, ..Limits::default() }).await;
    let mut first = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    for reply in [server.get("/").await, http2_get(&server).await] {
        reply.error(429, "rate-limited", true);
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert_eq!(server.rejected("rate-limited"), 2);
    server.service.gate.notify_one();
    assert_eq!(receive(&mut first).await.body, b"held");
    assert_eq!(server.get("/").await.status, 200, "its place is free");
}

#[tokio::test]
async fn over_its_requests_a_listener_refuses() {
    let server = start(Limits { requests: 2, ..Limits::default() }).await;
    let mut first = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    // An answer that is not taken counts as well, and not for longer than its client.
    let second = server.send(&get("/endless")).await;
    while server.service.seen.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    for reply in [server.get("/").await, http2_get(&server).await] {
        reply.error(503, "overloaded", true);
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert_eq!(server.rejected("listener-overloaded"), 2);
    server.service.gate.notify_one();
    assert_eq!(receive(&mut first).await.body, b"held");
    assert_eq!(server.get("/").await.status, 200, "its place is free");
    drop(second);
    // The host finds out when it next writes.
    loop {
        let mut held = server.send(&get("/hold")).await;
        server.service.held.notified().await;
        let status = server.get("/").await.status;
        server.service.gate.notify_one();
        receive(&mut held).await;
        if status == 200 {
            break;
        }
    }
}

async fn http2_get(server: &Server) -> Reply {
    let response = server.http2().await.send_request(request("GET", "/", "")).await;
    Reply::of(response.expect("answered")).await
}

#[tokio::test(start_paused = true)]
async fn a_client_over_its_rate_is_told_to_wait() {
    let rate = NonZeroU32::new(2);
    let server =
        start(Limits { rate, header_timeout: LONG, idle_timeout: LONG, ..Limits::default() }).await;
    let mut stream = server.connect().await;
    let mut ask = async || {
        stream.write_all(get("/").as_bytes()).await.expect("sent");
        receive(&mut stream).await
    };
    let begun = Instant::now();
    for status in [200, 200, 429, 429] {
        assert_eq!(ask().await.status, status, "{:?}", begun.elapsed());
    }
    let refused = ask().await;
    refused.error(429, "rate-limited", true);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(server.rejected("rate-limited"), 3);
    tokio::time::advance(SECOND).await;
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let server = start(Limits { per_ip: 2, ..Limits::default() }).await;
    let mut streams = [server.connect().await, server.connect().await];
    for stream in &mut streams {
        stream.write_all(get("/").as_bytes()).await.expect("sent");
        assert_eq!(receive(stream).await.status, 200);
    }
    assert!(closed(&mut server.connect().await).await);
    assert_eq!(server.rejected("too-many-connections"), 1);
    let [mut first, _second] = streams;
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    receive(&mut first).await;
    assert!(closed(&mut first).await);
    // The place is free when the connection's task has ended.
    loop {
        let mut third = server.connect().await;
        drop(third.write_all(get("/").as_bytes()).await);
        if third.read_u8().await.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_to_be_accepted() {
    let server = start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    let mut second = server.send(&get("/")).await;
    // Nobody reads it, for as long as the first is there.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.service.seen.lock().len(), 1);
    server.service.gate.notify_one();
    receive(&mut first).await;
    drop(first);
    assert_eq!(receive(&mut second).await.status, 200);
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused() {
    let server = start(Limits { body: 10, ..Limits::default() }).await;
    let length = |body: &str| post("/", &format!("content-length: {}\r\n", body.len()), body);
    // Each part is within the limit.
    let chunked = |body: &str| {
        let (first, rest) = body.split_at(6);
        let body = format!("6\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
        post("/", "transfer-encoding: chunked\r\n", &body)
    };
    assert_eq!(server.ask(&length("0123456789")).await.body, b"0123456789");
    assert_eq!(server.ask(&chunked("0123456789")).await.body, b"0123456789");
    assert_eq!(server.service.seen.lock().len(), 2);
    server.ask(&length("0123456789a")).await.error(413, "body-too-large", false);
    assert_eq!(server.service.seen.lock().len(), 2, "what says so itself is not asked");
    server.ask(&chunked("0123456789a")).await.error(413, "body-too-large", false);
    assert_eq!(server.service.seen.lock().len(), 3);
    let mut http2 = server.http2().await;
    let response = http2.send_request(request("POST", "/", "0123456789a")).await;
    Reply::of(response.expect("answered")).await.error(413, "body-too-large", false);
    assert_eq!(server.rejected("body-too-large"), 3);
    // The answer may have begun: it is cut, and counted all the same.
    let through = chunked("0123456789a").replace("POST /", "POST /through");
    let mut stream = server.send(&through).await;
    assert_eq!(head(&mut stream).await.status, 200);
    drop(stream.read_to_end(&mut Vec::new()).await);
    assert_eq!(server.rejected("body-too-large"), 4);
    // Nobody who asks before sending sends.
    let asking = post("/", "content-length: 11\r\nexpect: 100-continue\r\n", "");
    server.ask(&asking).await.error(413, "body-too-large", false);
}

#[tokio::test]
async fn who_still_sends_reads_why_it_is_refused() {
    let server = start(Limits { body: 10, ..Limits::default() }).await;
    let part = "x".repeat(1000);
    let mut stream = server.send(&post("/", "content-length: 3000\r\n", &part)).await;
    receive(&mut stream).await.error(413, "body-too-large", false);
    // The first of these would be answered with a reset, which takes the answer away
    // from who has not read it, and the second would fail.
    for _ in 0..2 {
        stream.write_all(part.as_bytes()).await.expect("it is taken");
    }
    stream.shutdown().await.expect("ended");
    assert_eq!(stream.read(&mut [0]).await.expect("closed in order"), 0);
}

/// How long a connection with these bytes on it lasts, and what comes on it.
async fn lasts(server: &Server, bytes: &str) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let mut stream = server.send(bytes).await;
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
    (begun.elapsed(), all)
}

/// Timers have milliseconds.
#[track_caller]
fn about(took: Duration, expected: Duration) {
    let slack = Duration::from_millis(5);
    assert!(took >= expected && took < expected + slack, "{took:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn headers_are_awaited_for_so_long() {
    let limits =
        Limits { header_timeout: 7 * SECOND, idle_timeout: 30 * SECOND, ..Limits::default() };
    let server = start(limits).await;
    for bytes in [
        "",
        "GET / HTTP/1.1\r\nhost: x\r\n",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (took, answer) = lasts(&server, bytes).await;
        about(took, 7 * SECOND);
        assert!(!answer.starts_with(b"HTTP/1.1"), "{bytes:?}");
    }
    // Slowly, and the second request of a connection.
    let mut stream = server.send(&get("/")).await;
    receive(&mut stream).await;
    let begun = Instant::now();
    tokio::time::sleep(20 * SECOND).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    tokio::time::sleep(5 * SECOND).await;
    stream.write_all(b"host: x\r\n").await.expect("sent");
    assert!(closed(&mut stream).await);
    about(begun.elapsed(), 27 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_idle_for_so_long() {
    let limits =
        Limits { header_timeout: 7 * SECOND, idle_timeout: 30 * SECOND, ..Limits::default() };
    let server = start(limits).await;
    let (took, answer) = lasts(&server, &get("/")).await;
    about(took, 30 * SECOND);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    // Those of HTTP/2 are told, and pings are no requests.
    let mut http2 = server.http2().await;
    let begun = Instant::now();
    let response = http2.send_request(request("GET", "/", "")).await.expect("answered");
    assert_eq!(Reply::of(response).await.status, 200);
    while !http2.is_closed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    about(begun.elapsed(), 30 * SECOND);
    // A request that takes long is not idle.
    let gate = Arc::clone(&server.service.gate);
    tokio::spawn(async move {
        tokio::time::sleep(100 * SECOND).await;
        gate.notify_one();
    });
    let (took, answer) = lasts(&server, &get("/hold")).await;
    about(took, 130 * SECOND);
    assert!(answer.ends_with(b"held"));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_awaited_for_so_long() {
    let limits = Limits {
        header_timeout: 7 * SECOND,
        idle_timeout: 30 * SECOND,
        body_rate: 0,
        ..Limits::default()
    };
    let server = start(limits).await;
    let begun = Instant::now();
    let mut stream = server.send(&post("/", "content-length: 10\r\n", "012")).await;
    tokio::time::sleep(20 * SECOND).await;
    stream.write_all(b"345").await.expect("sent");
    let reply = tokio::time::timeout(LONG, receive(&mut stream)).await;
    reply.expect("it is not awaited for ever").error(408, "body-late", false);
    about(begun.elapsed(), 50 * SECOND);
    assert!(closed(&mut stream).await);
    assert_eq!(server.rejected("timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_gives_its_place_back() {
    let limits = Limits { requests: 1, idle_timeout: 30 * SECOND, ..Limits::default() };
    let server = start(limits).await;
    let begun = Instant::now();
    let stream = server.send(&post("/", "content-length: 1000\r\n", "0")).await;
    let (mut reading, mut writing) = stream.into_split();
    let trickle = async {
        // As often as keeps it from being idle.
        while writing.write_all(b"1").await.is_ok() {
            tokio::time::sleep(5 * SECOND).await;
        }
    };
    let reply = tokio::select! {
        reply = receive(&mut reading) => reply,
        () = trickle => unreachable!("it is closed in order"),
    };
    reply.error(408, "body-late", false);
    // What came has bought some milliseconds.
    let took = begun.elapsed();
    assert!(took >= 30 * SECOND && took < 31 * SECOND, "{took:?}");
    assert_eq!(server.get("/").await.status, 200, "its place is free");
    assert_eq!(server.rejected("timeout"), 1);
}

/// No few clients take all places of a listener.
#[test]
fn a_listener_has_places_for_several_clients() {
    let Limits { requests, requests_per_ip, .. } = Limits::default();
    assert!(requests >= 7 * requests_per_ip, "{requests} {requests_per_ip}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_to_be_taken() {
    let limits = Limits { requests: 1, idle_timeout: 30 * SECOND, ..Limits::default() };
    let server = start(limits).await;
    // When the place of the request is there again. How much the kernel takes at once is
    // its own affair, and so is when it takes more.
    let given_back = async || {
        let begun = Instant::now();
        while server.get("/").await.status == 503 {
            assert!(begun.elapsed() < 300 * SECOND, "it is held for ever");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        begun.elapsed()
    };
    let stream = server.send(&get("/endless")).await;
    while server.service.seen.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(given_back().await >= 29 * SECOND);
    drop(stream);
    // There is room on the connection, and none for this stream.
    let response = server.http2().await.send_request(request("GET", "/endless", "")).await;
    assert!(given_back().await >= 29 * SECOND);
    drop(response);
}

#[tokio::test]
async fn what_is_no_request_is_an_error_as_every_other() {
    let server = start(Limits::default()).await;
    for (request, status, code) in [
        ("?\r\n\r\n".to_owned(), 400, "bad-request"),
        (format!("GET / HTTP/1.1\r\na: {}", "b".repeat(100_000)), 431, "headers-too-large"),
    ] {
        let mut stream = server.send(&request).await;
        receive(&mut stream).await.error(status, code, false);
        assert!(closed(&mut stream).await);
    }
}
