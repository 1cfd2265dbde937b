//! The end of a listener: who is let finish, who is told to go, and who is cut.

use super::*;

const GOAWAY: u8 = 7;

/// The kinds of the HTTP/2 frames that are there to their end.
fn frame_kinds(mut frames: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [_, _, length, kind, ..] = frames {
        let Some(rest) = frames.get(9 + usize::from(*length)..) else { break };
        kinds.push(*kind);
        frames = rest;
    }
    kinds
}

#[tokio::test]
async fn requests_end_and_their_connections_with_them() {
    let server = start(Limits::default()).await;
    let mut idle = server.send(&get("/")).await;
    receive(&mut idle).await;
    let mut held = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    let mut http2 = server.http2().await;
    let held2 = http2.send_request(request("GET", "/hold", ""));
    let held2 = tokio::spawn(async move { Reply::of(held2.await.expect("answered")).await });
    server.service.held.notified().await;
    // The preface, and empty SETTINGS.
    let mut bare = server.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0").await;
    let mut settings = [0; 9];
    bare.read_exact(&mut settings).await.expect("it answers");
    let mut rest = vec![0; usize::from(settings[2])];
    bare.read_exact(&mut rest).await.expect("all of it");
    let Server { running, service, .. } = server;
    let addr = running.addr();
    let draining = tokio::spawn(running.shutdown(LONG));
    let mut frames = Vec::new();
    while !frame_kinds(&frames).contains(&GOAWAY) {
        assert_ne!(bare.read_buf(&mut frames).await.expect("read"), 0, "closed without a word");
    }
    drop(bare);
    assert!(closed(&mut idle).await);
    assert!(TcpStream::connect(addr).await.is_err(), "nothing is accepted");
    assert!(!draining.is_finished());
    service.gate.notify_waiters();
    let last = receive(&mut held).await;
    assert_eq!((&last.body[..], last.header("connection")), (&b"held"[..], "close"));
    assert!(closed(&mut held).await);
    assert_eq!(held2.await.expect("no panic").body, b"held");
    assert!(http2.send_request(request("GET", "/", "")).await.is_err());
    assert_eq!(draining.await.expect("no panic"), 0, "none was cut");
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_period_the_rest_is_cut() {
    let server = start(Limits::default()).await;
    let mut held = [server.send(&get("/hold")).await, server.send(&get("/hold")).await];
    server.service.held.notified().await;
    let mut http2 = server.http2().await;
    let held2 = tokio::spawn(http2.send_request(request("GET", "/hold", "")));
    while server.service.seen.lock().len() < 3 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert_eq!(server.running.shutdown(5 * SECOND).await, 3);
    let took = begun.elapsed();
    assert!(took >= 5 * SECOND && took < 6 * SECOND, "{took:?}");
    for stream in &mut held {
        assert!(closed(stream).await);
    }
    assert!(held2.await.expect("no panic").is_err());
    // What answered them is gone as well: each had a handle of it.
    assert_eq!(Arc::strong_count(&server.service.gate), 2);
}

/// Who has sent a part of a head has a moment for the rest, and no more.
#[tokio::test(start_paused = true)]
async fn half_a_head_holds_up_nobody_for_long() {
    let server = start(Limits { header_timeout: LONG, ..Limits::default() }).await;
    let mut late = server.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
    let mut never = server.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
    // Both are read before the end comes.
    let mut other = server.send(&get("/")).await;
    receive(&mut other).await;
    let begun = Instant::now();
    let draining = tokio::spawn(server.running.shutdown(LONG));
    assert!(closed(&mut other).await);
    late.write_all(b"\r\n").await.expect("sent");
    assert_eq!(receive(&mut late).await.status, 200);
    assert!(closed(&mut never).await);
    assert_eq!(draining.await.expect("no panic"), 0, "none was cut");
    let took = begun.elapsed();
    assert!(took >= 2 * SECOND && took < 3 * SECOND, "{took:?}");
}

#[tokio::test]
async fn a_dropped_listener_leaves_nothing_running() {
    let server = start(Limits::default()).await;
    let mut held = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    drop(server.running);
    assert!(closed(&mut held).await);
}
