//! Connections of byte streams: each has an instance of its own, both directions end
//! by themselves, and neither side is sent more than it takes.

use std::sync::Arc;
use std::time::Duration;

use ron_kernel::CrashReason;
use ron_kernel::supervisor::{Cut, SwapOptions};
use ron_runtime::{Connection, Ended, Gate, How, Kind, Limits, Refused, StreamService};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::harness::{Rig, id, spec, within};

/// A rig with `stream-echo` as the service `raw`, and the way to it.
struct Site {
    rig: Rig,
    gate: Gate,
}

/// A client, and what becomes of its connection.
struct Client {
    stream: DuplexStream,
    ended: JoinHandle<Result<Ended, Refused>>,
}

impl Site {
    async fn new(limits: Limits) -> Self {
        let site = Self { rig: Rig::new(), gate: Gate::new() };
        let (component, gate) = (site.rig.load("stream-echo"), site.gate.clone());
        assert_eq!(component.kind(), Kind::Stream);
        let make = move || {
            StreamService::new(component.clone(), limits.clone(), Arc::default(), gate.clone())
        };
        let threads = site.rig.runtime.handle();
        site.rig.supervisor.add_on(threads, spec("raw"), make).expect("a new service");
        site.rig.until("raw", "running").await;
        site
    }

    /// Swaps the service to the same component under another version.
    async fn swap(&self, version: &str) -> Cut {
        let (component, gate) = (self.rig.load("stream-echo"), self.gate.clone());
        let make = move || {
            let (limits, grants) = (Limits::default(), Arc::default());
            StreamService::new(component.clone(), limits, grants, gate.clone())
        };
        let (id, options) = (id("raw"), SwapOptions::default());
        let swapped = self.rig.supervisor.swap(&id, version.into(), make, options);
        within(swapped).await.expect("swapped")
    }

    fn connect(&self) -> Client {
        self.connect_with(64 << 10, Duration::from_secs(3600))
    }

    /// A connection that holds so many bytes itself, each way.
    fn connect_with(&self, room: usize, idle_timeout: Duration) -> Client {
        let (stream, socket) = duplex(room);
        let connection = Connection {
            id: "c-1".into(),
            listener: "wire".into(),
            peer: "192.0.2.1:50000".parse().expect("an address"),
            local: "[2001:db8::1]:7000".parse().expect("an address"),
            tls: None,
            idle_timeout,
        };
        let gate = self.gate.clone();
        let ended = tokio::spawn(async move { gate.connect(socket, connection).await });
        Client { stream, ended }
    }
}

impl Client {
    async fn send(&mut self, text: &str) {
        within(self.stream.write_all(text.as_bytes())).await.expect("sent");
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(within(self.stream.read_u8()).await.expect("a byte"));
        }
        String::from_utf8(line).expect("text")
    }

    /// All that comes until the end.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        within(self.stream.read_to_string(&mut rest)).await.expect("it ends");
        rest
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(line).await;
        self.line().await
    }

    /// How the connection ended, which the client does not end.
    async fn ended(self) -> Ended {
        within(self.ended).await.expect("no panic").expect("it was not refused")
    }

    /// The same, when the client hangs up.
    async fn hang_up(self) -> Ended {
        self.left().await.expect("it was not refused")
    }

    /// What becomes of it when the client hangs up.
    async fn left(self) -> Result<Ended, Refused> {
        let Self { stream, ended } = self;
        drop(stream);
        within(ended).await.expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_echoed_and_counted() {
    let site = Site::new(Limits::default()).await;
    let mut client = site.connect();
    assert_eq!(client.ask("hello\n").await, "hello\n");
    let who = "wire 192.0.2.1:50000 [2001:db8::1]:7000\n";
    assert_eq!(client.ask("!who\n").await, who);
    assert_eq!(site.gate.traffic().expect("it is for connections").open, 1);
    let ended = client.hang_up().await;
    let sent = 6 + who.len() as u64;
    assert_eq!(ended, Ended { how: How::Done, received: 11, sent });
    let traffic = site.gate.traffic().expect("it is for connections");
    assert_eq!((traffic.received, traffic.sent), (11, sent));
    within(async {
        while site.gate.traffic().is_some_and(|now| now.open > 0) {
            tokio::task::yield_now().await
        }
    })
    .await;
    // A mebibyte, through streams of 64 KiB.
    let mut client = site.connect();
    let text: String = "0123456789abcde\n".repeat(1 << 16);
    let (mut reading, mut writing) = tokio::io::split(&mut client.stream);
    let mut back = vec![0; text.len()];
    let (sent, read) = within(async {
        tokio::join!(writing.write_all(text.as_bytes()), reading.read_exact(&mut back))
    })
    .await;
    sent.expect("sent");
    read.expect("all of it");
    assert!(back == text.as_bytes());
    assert_eq!(client.hang_up().await.how, How::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_ends_by_itself() {
    let site = Site::new(Limits::default()).await;
    let mut rest = site.rig.collect("rest", "guest.raw.rest").await;
    // The client's end comes first: the service answers after it.
    let mut client = site.connect();
    client.send("!all\none two three").await;
    within(client.stream.shutdown()).await.expect("shut down");
    assert_eq!(client.rest().await, "13 bytes\n");
    assert_eq!(client.ended().await.how, How::Done);
    // The service's end comes first: it reads on.
    let mut client = site.connect();
    client.send("!half\n").await;
    assert_eq!(client.rest().await, "bye\n");
    client.send("still there").await;
    within(client.stream.shutdown()).await.expect("shut down");
    assert_eq!(rest.next().await, "still there");
    assert_eq!(client.ended().await.how, How::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_permitted_no_more_than_its_client_takes() {
    const ROOM: usize = 1000;
    let site = Site::new(Limits::default()).await;
    let mut written = site.rig.collect("written", "guest.raw.written").await;
    let mut client = site.connect_with(ROOM, Duration::from_secs(3600));
    client.send("!flood\n").await;
    // What the host holds, and what the connection itself does.
    let mut until = async |most: usize| {
        loop {
            let now: usize = written.next().await.parse().expect("a number");
            assert!(now <= most, "{now} bytes of {most}");
            if now == most {
                return;
            }
        }
    };
    let full = ROOM + (64 << 10);
    until(full).await;
    for taken in 1..=3 {
        within(client.stream.read_u8()).await.expect("a byte");
        until(full + taken).await;
    }
    // It goes on when the client does.
    let mut all = vec![0; (1 << 20) - 3];
    within(client.stream.read_exact(&mut all)).await.expect("all of it");
    assert_eq!(client.ask("hello\n").await, "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_from_a_client_that_the_service_does_not_read() {
    const ROOM: usize = 1000;
    let site = Site::new(Limits::default()).await;
    let mut written = site.rig.collect("written", "guest.raw.written").await;
    let mut client = site.connect_with(ROOM, Duration::from_secs(3600));
    client.send("!flood\n").await;
    while written.next().await != (ROOM + (64 << 10)).to_string() {}
    // The service waits for its client, and reads nothing.
    client.send(&"x".repeat(ROOM)).await;
    let more = client.stream.write_u8(b'x');
    let mut more = std::pin::pin!(more);
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(more.as_mut().poll(cx).is_pending()));
    assert!(pending.await, "the connection is full");
    assert_eq!(site.gate.traffic().expect("it is for connections").received, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_costs_one_connection() {
    let site = Site::new(Limits::default()).await;
    let mut other = site.connect();
    assert_eq!(other.ask("before\n").await, "before\n");
    let mut client = site.connect();
    client.send("!panic\n").await;
    assert_eq!(client.rest().await, "");
    let ended = client.ended().await;
    assert!(matches!(&ended.how, How::Crashed(why) if why.contains("asked to")), "{ended:?}");
    assert_eq!(other.ask("after\n").await, "after\n");
    let crashes = site.rig.crashes("raw").await;
    let [crash] = crashes.as_slice() else { panic!("{crashes:?}") };
    assert!(
        matches!(&crash.reason, CrashReason::Panic { message } if message.contains("asked to"))
    );
    assert_eq!(crash.detail.corr_id.as_deref(), Some("c-1"));
    let frames = crash.detail.backtrace.join("\n");
    assert!(frames.contains("stream-echo.rs"), "{frames}");
    assert_eq!(site.rig.generation("raw"), 1, "nothing was restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_gives_up_on_is_no_crash() {
    let site = Site::new(Limits::default()).await;
    let mut client = site.connect();
    client.send("said before\n!fail\n").await;
    assert_eq!(client.rest().await, "said before\n", "what was written is sent");
    assert_eq!(client.ended().await.how, How::Failed("asked to".into()));
    assert!(site.rig.crashes("raw").await.is_empty());
}

/// A connection may last and wait; what has a limit is computing.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_computes_without_end_is_stopped() {
    let handler_deadline = Duration::from_millis(200);
    let site = Site::new(Limits { handler_deadline, ..Limits::default() }).await;
    let mut client = site.connect();
    // Longer than the deadline in all, and each time it waits for the next.
    for _ in 0..8 {
        assert_eq!(client.ask("!work\n").await, "done\n");
    }
    client.send("!spin\n").await;
    assert_eq!(client.rest().await, "");
    let ended = client.ended().await;
    assert!(matches!(ended.how, How::Crashed(_)), "{ended:?}");
    let crashes = site.rig.crashes("raw").await;
    let [crash] = crashes.as_slice() else { panic!("{crashes:?}") };
    assert!(matches!(crash.reason, CrashReason::Deadline { .. }), "{crash:?}");
    assert_eq!(site.connect().ask("hello\n").await, "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_moves_is_closed() {
    let site = Site::new(Limits::default()).await;
    let mut client = site.connect_with(1000, Duration::from_millis(1));
    assert_eq!(client.rest().await, "");
    assert_eq!(client.ended().await.how, How::Idle);
    assert!(site.rig.crashes("raw").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_leaves_connections_where_they_are() {
    let site = Site::new(Limits::default()).await;
    let mut old = site.connect();
    assert_eq!(old.ask("!generation\n").await, "1\n");
    let cut = site.swap("next").await;
    let mut new = site.connect();
    assert_eq!(new.ask("!generation\n").await, "2\n");
    assert_eq!(old.ask("!generation\n").await, "1\n");
    // The new version fails its probation, and whoever connects is the old one's.
    let mut bad = site.connect();
    bad.send("!panic\n").await;
    within(cut.verdict()).await;
    assert_eq!(old.ask("!generation\n").await, "3\n", "it has its turn again");
    assert_eq!(site.connect().ask("!generation\n").await, "3\n");
    assert_eq!(old.hang_up().await.how, How::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_lets_connections_end() {
    let site = Site::new(Limits::default()).await;
    let mut client = site.connect();
    assert_eq!(client.ask("before\n").await, "before\n");
    site.rig.supervisor.stop(&id("raw"));
    site.rig.until("raw", "draining").await;
    while site.connect().left().await != Err(Refused::NotRunning) {}
    assert_eq!(client.ask("after\n").await, "after\n");
    assert_eq!(client.hang_up().await.how, How::Done);
    site.rig.until("raw", "stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_is_cut() {
    let site = Site { rig: Rig::new(), gate: Gate::new() };
    let (component, gate) = (site.rig.load("stream-echo"), site.gate.clone());
    let make = move || {
        StreamService::new(component.clone(), Limits::default(), Arc::default(), gate.clone())
    };
    let mut spec = spec("raw");
    spec.deadlines.stop = Duration::from_millis(50);
    let threads = site.rig.runtime.handle();
    site.rig.supervisor.add_on(threads, spec, make).expect("a new service");
    site.rig.until("raw", "running").await;
    let mut client = site.connect();
    assert_eq!(client.ask("before\n").await, "before\n");
    site.rig.supervisor.stop(&id("raw"));
    assert_eq!(client.rest().await, "");
    assert_eq!(client.ended().await.how, How::Cut);
    site.rig.until("raw", "stopped").await;
    assert!(site.rig.crashes("raw").await.is_empty(), "it is no crash");
}

/// What a client does to its connection is no word of the service's, and no crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_told_apart() {
    let site = Site::new(Limits::default()).await;
    for (said, told) in [("!flood\n", None), ("!insist\n", Some("it is taken"))] {
        let mut client = site.connect_with(64, Duration::from_secs(3600));
        client.send(said).await;
        // It writes, and there is nobody to take it.
        let ended = client.hang_up().await;
        assert!(
            matches!(&ended.how, How::Broken(why) if told.is_none_or(|told| why.contains(told))),
            "{said:?}: {ended:?}"
        );
    }
    assert_eq!(site.gate.abandoned(), Some(1));
    assert!(site.rig.crashes("raw").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_than_there_can_be_is_refused() {
    const MOST: usize = 1024;
    let site = Site::new(Limits::default()).await;
    let mut all = Vec::new();
    for _ in 0..MOST {
        let mut client = site.connect_with(64, Duration::from_secs(3600));
        assert_eq!(client.ask("x\n").await, "x\n");
        all.push(client);
    }
    let mut refused = site.connect();
    assert_eq!(refused.rest().await, "");
    assert!(matches!(refused.left().await, Err(Refused::Full(_))));
    assert!(site.rig.crashes("raw").await.is_empty(), "it is no crash");
    let one = all.pop().expect("there is one");
    assert_eq!(one.hang_up().await.how, How::Done);
    assert_eq!(site.connect().ask("x\n").await, "x\n");
}
