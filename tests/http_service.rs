//! A component with a mailbox that answers HTTP too is one service with one state:
//! requests are calls on the same instance, in turn with its messages, over every
//! swap; and neither a slow client nor a crash costs more than it should.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use ron_kernel::service::{Crash, Service};
use ron_kernel::supervisor::{CrashReport, SwapOptions, Verdict};
use ron_kernel::{Context, CrashReason, Incoming, ServiceSpec};
use ron_runtime::{Kind, Limits, Unanswered};
use tokio::sync::mpsc;

use crate::harness::{Site, Slow, get_request, id, spec, within};

async fn site() -> Site {
    Site::of("http-service").await
}

/// Answers a request to `guest.other.hold` when it is let, and says when one has come.
struct Holder {
    came: mpsc::UnboundedSender<()>,
    go: mpsc::UnboundedReceiver<()>,
}

impl Service for Holder {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        context.subscribe("guest.other.hold").expect("a filter");
        context.started();
        loop {
            match context.next().await {
                Incoming::Stop => return Ok(()),
                Incoming::Event(_) => {}
                Incoming::Message(message) => {
                    self.came.send(()).expect("the test lives");
                    self.go.recv().await.expect("the test lives");
                    message.answer(Bytes::from_static(b"go"));
                }
            }
        }
    }
}

/// A holder, with the ends that a test has of it.
async fn holder(site: &Site) -> (mpsc::UnboundedReceiver<()>, mpsc::UnboundedSender<()>) {
    let (came, coming) = mpsc::unbounded_channel();
    let (let_go, go) = mpsc::unbounded_channel();
    let mut one = Some(Holder { came, go });
    let make = move || one.take().expect("it is made once");
    site.rig.supervisor.add(spec("other"), make).expect("a new service");
    site.rig.until("other", "running").await;
    (coming, let_go)
}

/// Its first crash, when it runs again.
async fn crashed(site: &Site) -> CrashReport {
    let again = || site.rig.state("web") == "running" && site.rig.generation("web") == 2;
    site.rig.until_health(again).await;
    let mut crashes = site.rig.crashes("web").await;
    assert_eq!(crashes.len(), 1, "{crashes:?}");
    crashes.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_messages_find_one_state() {
    let site = site().await;
    assert_eq!(site.rig.load("http-service").kind(), Kind::ServiceWithHttp);
    assert_eq!(site.get("/add").await.expect("an answer"), (200, "1".into()));
    assert_eq!(site.rig.ask("guest.web.add", "").await, "2");
    assert_eq!(site.get("/add").await.expect("an answer"), (200, "3".into()));
    assert_eq!(site.rig.ask("guest.web.count", "").await, "3");
    assert_eq!(site.get("/nowhere").await.expect("an answer").0, 404);
    let text = "0123456789".repeat(100_000);
    assert_eq!(site.post("/upload", &text).await.expect("an answer").1, "1000000");
    assert_eq!(site.get("/large").await.expect("an answer").1.len(), 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_ends_before_the_next_begins() {
    let site = site().await;
    // It asks itself, and cannot answer while it does.
    let asked = site.get("/ask").await.expect("an answer").1;
    assert_eq!(asked, "Err(Timeout)");
    assert_eq!(site.rig.ask("guest.web.count", "").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_request_is_the_services() {
    let site = site().await;
    site.get("/add").await.expect("an answer");
    let told = site.get("/die").await.expect_err("no answer");
    assert!(
        matches!(&told, Unanswered::Crashed(why) if why.contains("told to die at 1")),
        "{told:?}"
    );
    let crash = crashed(&site).await;
    assert_eq!(site.get("/count").await.expect("an answer").1, "0", "a fresh instance");
    assert!(matches!(crash.reason, CrashReason::Panic { .. }), "{crash:?}");
    assert_eq!(crash.detail.corr_id.as_deref(), Some("r-1"));
    assert!(crash.detail.backtrace.join("\n").contains("http-service.rs"), "{crash:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_crash_cuts_short_is_not_taken_for_whole() {
    let site = site().await;
    let response = site.ask(get_request("/late")).await.expect("a head");
    assert_eq!(response.status(), 200);
    within(response.into_body().collect()).await.expect_err("the body is cut");
    crashed(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_the_handlers_deadline() {
    let handler_deadline = Duration::from_millis(200);
    let limits = Limits { handler_deadline, ..Limits::default() };
    let site = Site::with("http-service", limits, spec("web")).await;
    let late = site.get("/spin").await.expect_err("no answer");
    assert!(matches!(late, Unanswered::Late(_)), "{late:?}");
    let crash = crashed(&site).await;
    assert!(matches!(crash.reason, CrashReason::Deadline { .. }), "{crash:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_no_crash() {
    let site = site().await;
    let failed = site.get("/silent").await.expect_err("no answer");
    assert!(matches!(failed, Unanswered::Failed(_)), "{failed:?}");
    assert_eq!(site.get("/count").await.expect("an answer").1, "0");
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_costs_its_answer_alone() {
    let handler_deadline = Duration::from_secs(1);
    let limits = Limits { handler_deadline, ..Limits::default() };
    let site = Site::with("http-service", limits, spec("web")).await;
    // More than is taken ahead of a client, who does not read at all.
    let response = site.ask(get_request("/endless")).await.expect("a head");
    assert_eq!(site.get("/count").await.expect("an answer").1, "1", "it goes on");
    within(response.into_body().collect()).await.expect_err("the body is cut");
    // One that goes away costs nothing at all.
    drop(site.ask(get_request("/endless")).await.expect("a head"));
    assert_eq!(site.get("/count").await.expect("an answer").1, "2");
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_costs_its_request_alone() {
    let handler_deadline = Duration::from_secs(1);
    let limits = Limits { handler_deadline, ..Limits::default() };
    let site = Site::with("http-service", limits, spec("web")).await;
    let (sender, body) = mpsc::channel::<Bytes>(4);
    let request = Request::post("http://site.example/upload").body(Slow(body)).expect("a request");
    // More than is read before its turn.
    let send = async {
        for _ in 0..17 {
            sender.send(Bytes::from(vec![0; 1 << 20])).await.expect("the body is read");
        }
    };
    let (response, ()) = tokio::join!(within(site.gate.handle(request, "r-1")), send);
    assert_eq!(response.expect("an answer").status(), 400, "it was told that no more comes");
    // One that sends less than is read ahead does not come to its turn.
    let (idle, body) = mpsc::channel::<Bytes>(4);
    let request = Request::post("http://site.example/upload").body(Slow(body)).expect("a request");
    let waits = site.gate.handle(request, "r-2");
    tokio::pin!(waits);
    tokio::select! {
        biased;
        _ = &mut waits => panic!("it has no body yet"),
        counted = site.get("/count") => assert_eq!(counted.expect("an answer").1, "0"),
    }
    drop(idle);
    assert_eq!(within(waits).await.expect("an answer").status(), 200);
    drop(sender);
    assert!(site.rig.crashes("web").await.is_empty());
}

/// However many there are, they cost others a moment and not a turn each.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_take_the_turns_of_others() {
    let limits = Limits { handler_deadline: Duration::from_secs(3600), ..Limits::default() };
    let site = Site::with("http-service", limits, spec("web")).await;
    // As long as a body may be, or in crumbs: none of it is whole.
    let mut senders = Vec::new();
    let mut uploads = Vec::new();
    for index in 0..8 {
        let (sender, body) = mpsc::channel::<Bytes>(1 << 13);
        let request = Request::post("http://site.example/upload").body(Slow(body));
        let upload = site.gate.handle(request.expect("a request"), "r-1");
        let (count, size) = if index % 2 == 0 { (8, 1 << 20) } else { (5000, 1) };
        for _ in 0..count {
            sender.try_send(Bytes::from(vec![0; size])).expect("there is room");
        }
        senders.push(sender);
        uploads.push(Box::pin(upload));
    }
    for upload in &mut uploads {
        assert!(poll_once(upload).await.is_pending(), "it is not whole");
    }
    // Answers that nobody takes. Each has its turn until somebody else waits for one.
    for _ in 0..4 {
        let answer = site.ask(get_request("/endless")).await.expect("a head");
        site.get("/count").await.expect("an answer");
        within(answer.into_body().collect()).await.expect_err("it is cut");
    }
    drop(senders);
    for upload in uploads {
        assert_eq!(within(upload).await.expect("an answer").status(), 200);
    }
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_is_not_noticed() {
    let site = site().await;
    drop(site.ask(get_request("/insist")).await.expect("a head"));
    assert_eq!(site.get("/count").await.expect("an answer").1, "1", "all was taken");
    // Nor is one whose body breaks before its turn.
    let broken = site.break_off("/upload", "some").await;
    assert!(matches!(broken, Err(Unanswered::Failed(_))), "{:?}", broken.map(|_| ()));
    assert_eq!(site.get("/count").await.expect("an answer").1, "1");
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_service_that_starts_again() {
    let site = site().await;
    // The second crash in a row is followed by a delay.
    for _ in 0..3 {
        site.get("/die").await.expect_err("no answer");
        assert_eq!(site.get("/count").await.expect("an answer").1, "0", "a fresh instance");
    }
    // One that was stopped is not waited for.
    site.rig.supervisor.stop(&id("web"));
    site.rig.until("web", "stopped").await;
    let refused = site.get("/count").await.expect_err("no answer");
    assert!(
        matches!(&refused, Unanswered::Unavailable(why) if why.contains("not running")),
        "{refused:?}"
    );
}

/// Makes the service hold the handing over of its state.
async fn hold_the_state(site: &Site) {
    site.get("/hold-the-state").await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_over_a_cut_are_answered_by_the_new_version() {
    let site = site().await;
    let (mut came, go) = holder(&site).await;
    hold_the_state(&site).await;
    let swapped = site.swap("http-service", "v2");
    let waiting = async {
        within(came.recv()).await.expect("it is held");
        // The old version takes no more, and the new one none yet.
        let mut waiting = [Box::pin(site.get("/add")), Box::pin(site.get("/add"))];
        for one in &mut waiting {
            assert!(poll_once(one).await.is_pending(), "it waits");
        }
        go.send(()).expect("the holder lives");
        for (one, expected) in waiting.into_iter().zip(["1", "2"]) {
            assert_eq!(one.await.expect("an answer").1, expected);
        }
    };
    let (cut, ()) = tokio::join!(swapped, waiting);
    assert_eq!(site.rig.generation("web"), 2);
    drop(cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_fails_no_request_and_loses_no_count() {
    const SWAPS: u32 = 20;
    let site = site().await;
    let over = AtomicBool::new(false);
    let client = || async {
        let mut answered = 0u64;
        while !over.load(Ordering::Relaxed) {
            assert_eq!(site.get("/add").await.expect("no request fails").0, 200);
            answered += 1;
        }
        answered
    };
    let sender = async {
        let mut answered = 0u64;
        while !over.load(Ordering::Relaxed) {
            site.rig.ask("guest.web.add", "").await;
            answered += 1;
        }
        answered
    };
    let operator = async {
        for round in 0..SWAPS {
            drop(site.swap("http-service", &format!("v{round}")).await);
            site.get("/count").await.expect("no request fails");
        }
        over.store(true, Ordering::Relaxed);
    };
    let (one, two, messages, ()) = tokio::join!(client(), client(), sender, operator);
    assert!(one > 0 && two > 0 && messages > 0, "{one} {two} {messages}");
    let count = site.get("/count").await.expect("an answer").1;
    assert_eq!(count, (one + two + messages).to_string());
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_over_a_request_is_put_back() {
    let site = site().await;
    site.get("/add").await.expect("an answer");
    let cut = site.swap("http-service", "bad").await;
    site.get("/die").await.expect_err("no answer");
    let verdict = within(cut.verdict()).await;
    assert!(matches!(verdict, Verdict::PutBack { .. }), "{verdict:?}");
    assert_eq!(site.get("/count").await.expect("an answer").1, "1", "as it was at the cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_may_change_how_requests_are_answered() {
    const HELLO: &str = "hello from wstd, for the 1. time\n";
    let site = site().await;
    let (mut came, go) = holder(&site).await;
    let (web, make) = (id("web"), site.make(site.rig.load("wstd-http")));
    // It takes no state over, so that is given up in words.
    let options = SwapOptions { discard_state: true, ..SwapOptions::default() };
    let supervisor = &site.rig.supervisor;
    let prepared = within(supervisor.prepare(&web, "v2".into(), make, options)).await;
    let held = site.get("/hold");
    let swapping = async {
        within(came.recv()).await.expect("it is held");
        let mut cut = Box::pin(prepared.expect("it starts").cut());
        assert!(poll_once(&mut cut).await.is_pending(), "a request is under way");
        // Who heeds this has asked the old version to pause.
        assert!(supervisor.adopt(ServiceSpec { critical: true, ..spec("web") }).await);
        site.rig.until_health(|| supervisor.status(&web).is_some_and(|web| web.critical)).await;
        let mut asked = Box::pin(site.get("/"));
        assert!(poll_once(&mut asked).await.is_pending(), "it waits");
        go.send(()).expect("the holder lives");
        within(cut).await.expect("swapped");
        assert_eq!(asked.await.expect("an answer").1, HELLO);
    };
    let (held, ()) = tokio::join!(held, swapping);
    assert_eq!(held.expect("an answer").1, "Ok(\"go\")");
    assert_eq!(site.get("/").await.expect("an answer").1, HELLO);
    drop(site.swap("http-service", "v3").await);
    assert_eq!(site.get("/count").await.expect("an answer").1, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_answers_who_waits_and_nobody_after() {
    let site = site().await;
    let (mut came, go) = holder(&site).await;
    let held = site.get("/hold");
    let waiting = async {
        within(came.recv()).await.expect("it is held");
        let asked = site.get("/count");
        tokio::pin!(asked);
        // It is in the queue when this has been polled.
        assert!(poll_once(&mut asked).await.is_pending(), "it waits");
        site.rig.supervisor.stop(&id("web"));
        site.rig.until("web", "draining").await;
        go.send(()).expect("the holder lives");
        asked.await
    };
    let (held, asked) = tokio::join!(held, waiting);
    assert_eq!(held.expect("an answer").1, "Ok(\"go\")");
    assert_eq!(asked.expect("an answer").1, "0");
    site.rig.until("web", "stopped").await;
    assert!(matches!(site.get("/").await, Err(Unanswered::Unavailable(_))));
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_wait_are_told_so() {
    let site = site().await;
    let (mut came, go) = holder(&site).await;
    let held = site.get("/hold");
    let crowd = async {
        within(came.recv()).await.expect("it is held");
        let mut waiting = Vec::new();
        let refused = loop {
            let mut one = Box::pin(site.ask(get_request("/add")));
            match poll_once(&mut one).await {
                Poll::Ready(answer) => break answer.expect_err("no answer"),
                Poll::Pending => waiting.push(one),
            }
        };
        assert!(matches!(refused, Unanswered::Unavailable(_)), "{refused:?}");
        assert_eq!(waiting.len(), 256);
        go.send(()).expect("the holder lives");
        for one in waiting {
            one.await.expect("an answer");
        }
    };
    let (held, ()) = tokio::join!(held, crowd);
    held.expect("an answer");
    assert_eq!(site.get("/count").await.expect("an answer").1, "256");
}
