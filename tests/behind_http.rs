//! A component that was built for other hosts answers HTTP requests here, and what
//! one request does to its instance costs nobody else theirs.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use ron_kernel::CrashReason;
use ron_kernel::supervisor::Verdict;
use ron_runtime::{Kind, Limits, Place, Unanswered};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{Rig, Site, Slow, get_request, id, spec, within};

async fn site(limits: Limits) -> Site {
    Site::with("wstd-http", limits, spec("web")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_another_host_answers() {
    let site = site(Limits::default()).await;
    assert_eq!(site.rig.load("wstd-http").kind(), Kind::Http);
    // Each request finds the component as it was built.
    for _ in 0..3 {
        let answer = site.get("/").await.expect("an answer");
        assert_eq!(answer, (200, "hello from wstd, for the 1. time\n".into()));
    }
    assert_eq!(site.get("/nowhere").await.expect("an answer").0, 404);
    let who = site.get("/who?a=b%20c").await.expect("an answer").1;
    assert!(who.starts_with("GET ") && who.ends_with("/who?a=b%20c\n"), "{who}");
    let text: String = "0123456789".repeat(100_000);
    assert_eq!(site.post("/echo", &text).await.expect("an answer"), (200, text));
    assert_eq!(site.get("/drip").await.expect("an answer").1, "0\n1\n2\n3\n4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_costs_one_request() {
    let site = site(Limits::default()).await;
    let crashed = site.get("/panic").await.expect_err("no answer");
    assert!(
        matches!(&crashed, Unanswered::Crashed(why) if why.contains("asked to")),
        "{crashed:?}"
    );
    assert_eq!(site.get("/").await.expect("an answer").0, 200);
    let crashes = site.rig.crashes("web").await;
    let [crash] = crashes.as_slice() else { panic!("{crashes:?}") };
    assert!(
        matches!(&crash.reason, CrashReason::Panic { message } if message.contains("asked to"))
    );
    assert_eq!(crash.detail.corr_id.as_deref(), Some("r-1"));
    let frames = crash.detail.backtrace.join("\n");
    assert!(frames.contains("wstd-http.rs"), "{frames}");
    assert_eq!(site.rig.generation("web"), 1, "nothing was restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_deadline_whether_it_computes_or_waits() {
    let handler_deadline = Duration::from_millis(200);
    let site = site(Limits { handler_deadline, ..Limits::default() }).await;
    for path in ["/spin", "/sleep"] {
        let late = site.get(path).await.expect_err("no answer");
        assert!(matches!(late, Unanswered::Late(_)), "{path}: {late:?}");
        assert_eq!(site.get("/").await.expect("an answer").0, 200, "after {path}");
    }
    assert_eq!(site.rig.crashes("web").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_component_gives_up_on_is_no_crash() {
    let site = site(Limits::default()).await;
    // What wstd makes of a handler's error is an answer of its own.
    let answer = site.get("/fail").await;
    assert!(matches!(&answer, Ok((500, _)) | Err(Unanswered::Failed(_))), "{answer:?}");
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_out_that_was_not_granted() {
    let site = site(Limits::default()).await;
    let answer = site.get("/out").await.expect("an answer").1;
    assert!(answer.starts_with("refused: "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_finishes_its_requests_first() {
    let site = site(Limits::default()).await;
    let response = site.ask(get_request("/drip")).await.expect("an answer");
    site.rig.supervisor.stop(&id("web"));
    // It is asked to stop, and finds nobody any more.
    site.rig.until("web", "draining").await;
    while site.get("/").await.is_ok() {}
    assert_eq!(site.rig.state("web"), "draining", "the body is still on its way");
    let body = within(response.into_body().collect()).await.expect("the whole body");
    assert_eq!(body.to_bytes(), "0\n1\n2\n3\n4\n");
    site.rig.until("web", "stopped").await;
    assert!(matches!(site.get("/").await, Err(Unanswered::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_fails_no_request() {
    const SWAPS: u32 = 20;
    let site = site(Limits::default()).await;
    let over = AtomicBool::new(false);
    let clients = async {
        let client = || async {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = site.get("/").await.expect("no request fails");
                assert_eq!(answer.0, 200);
                answered += 1;
            }
            answered
        };
        tokio::join!(client(), client(), client(), client())
    };
    let operator = async {
        for round in 0..SWAPS {
            let cut = site.swap("wstd-http", &format!("v{round}")).await;
            // The next swap would end it too.
            drop(cut);
            site.get("/").await.expect("no request fails");
        }
        over.store(true, Ordering::Relaxed);
    };
    let (answered, ()) = tokio::join!(clients, operator);
    assert!(answered.0 > 0 && answered.3 > 0, "{answered:?}");
    assert_eq!(site.rig.generation("web"), u64::from(SWAPS) + 1);
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_on_probation_is_put_back() {
    let site = site(Limits::default()).await;
    let cut = site.swap("wstd-http", "bad").await;
    assert_eq!(site.rig.generation("web"), 2);
    let crashed = site.get("/panic").await.expect_err("no answer");
    assert!(matches!(crashed, Unanswered::Crashed(_)), "{crashed:?}");
    let verdict = within(cut.verdict()).await;
    assert!(
        matches!(&verdict, Verdict::PutBack { why } if why.contains("asked to")),
        "{verdict:?}"
    );
    assert_eq!(site.get("/").await.expect("an answer").0, 200);
    // It has passed its own probation long ago.
    site.get("/panic").await.expect_err("no answer");
    assert_eq!(site.rig.generation("web"), 3);
}

/// A client can break every stream of its instance, and many libraries make a trap of
/// that: it is told apart from a crash, and puts no version back.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_is_no_crash_and_fails_no_probation() {
    for component in ["wstd-http", "wasip3-http"] {
        let site = Site::of(component).await;
        let cut = site.swap(component, "next").await;
        let hang_up = async || {
            let response = site.ask(get_request("/drip")).await.expect("a head");
            let mut body = response.into_body();
            within(body.frame()).await.expect("a first part").expect("it comes");
        };
        assert_eq!(site.until_lost(hang_up).await, 0, "{component}");
        assert_eq!(site.get("/drip").await.expect("an answer").1, "0\n1\n2\n3\n4\n");
        assert_eq!(site.rig.generation("web"), 2, "the new version stays");
        // Its own crash is one still.
        site.get("/panic").await.expect_err("no answer");
        let verdict = within(cut.verdict()).await;
        assert!(
            matches!(&verdict, Verdict::PutBack { why } if why.contains("asked to")),
            "{component}: {verdict:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_body_breaks_is_no_crash_and_has_no_whole_answer() {
    let site = site(Limits::default()).await;
    let break_off = async || {
        // What is echoed is cut where the body was.
        if let Ok(response) = site.break_off("/echo", "some").await {
            within(response.into_body().collect()).await.expect_err("it is not whole");
        }
    };
    assert_eq!(site.until_lost(break_off).await, 0);
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_a_client_takes_to_send_is_not_the_services() {
    let handler_deadline = Duration::from_millis(200);
    let limits = Limits { handler_deadline, ..Limits::default() };
    // It reads all of a body before it answers.
    let site = Site::with("waki-http", limits, spec("web")).await;
    let (sender, body) = mpsc::channel::<Bytes>(4);
    let request = Request::post("http://site.example/echo").body(Slow(body)).expect("a request");
    let mut answer = pin!(site.gate.handle(request, "r-1"));
    for part in ["one ", "two ", "three"] {
        // Each wait alone is longer than the service may take.
        let early = timeout(handler_deadline * 2, &mut answer).await.map(|_| ());
        assert!(early.is_err(), "it has not read all: {early:?}");
        sender.send(part.into()).await.expect("it is read");
    }
    drop(sender);
    let answer = within(answer).await.expect("a head");
    let body = within(answer.into_body().collect()).await.expect("the whole body");
    assert_eq!(body.to_bytes(), "one two three");
    assert!(site.rig.crashes("web").await.is_empty());
}

/// A handler that waits for longer than it may when nobody waits for it any more.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_at_work_for_a_client_that_has_gone_has_its_place_and_is_no_crash() {
    let handler_deadline = Duration::from_millis(200);
    let limits = Limits { handler_deadline, ..Limits::default() };
    let site = Site::with("wstd-http", limits, spec("web")).await;
    let counted = Arc::new(());
    let ask = || {
        let mut request = get_request("/sleep");
        request.extensions_mut().insert(Place(Arc::clone(&counted) as _));
        request
    };
    let mut asked = Box::pin(site.gate.handle(ask(), "r-1"));
    let early = timeout(handler_deadline / 4, &mut asked).await.map(|_| ());
    assert!(early.is_err(), "it sleeps: {early:?}");
    drop(asked);
    assert_eq!(Arc::strong_count(&counted), 2, "an instance is at work for it");
    within(async {
        while Arc::strong_count(&counted) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(site.rig.crashes("web").await.is_empty());
    assert_eq!(site.abandoned(), 1);
    // It is one for a client that stays.
    site.ask(ask()).await.map(|_| ()).expect_err("it is late");
    assert_eq!(site.rig.crashes("web").await.len(), 1);
}

/// What does not end within the time for stopping is cut, and that is no crash.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_outlasts_a_stop_is_cut() {
    for component in ["wstd-http", "wasip3-http"] {
        let mut spec = spec("web");
        spec.deadlines.stop = Duration::from_millis(50);
        let site = Site::with(component, Limits::default(), spec).await;
        let response = site.ask(get_request("/drip")).await.expect("a head");
        site.rig.supervisor.stop(&id("web"));
        // Nobody takes the answer meanwhile.
        site.rig.until("web", "stopped").await;
        let body = within(response.into_body().collect()).await.map(|_| ());
        assert!(body.is_err(), "{component}: it looks whole");
        assert!(site.rig.crashes("web").await.is_empty(), "{component}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_service_that_is_restarted() {
    let site = site(Limits::default()).await;
    let under_way = site.ask(get_request("/drip")).await.expect("a head");
    site.rig.supervisor.restart(&id("web"));
    site.rig.until("web", "draining").await;
    let again = site.get("/");
    let last =
        async { within(under_way.into_body().collect()).await.expect("the whole body").to_bytes() };
    let (again, last) = tokio::join!(again, last);
    assert_eq!(last, "0\n1\n2\n3\n4\n");
    assert_eq!(again.expect("an answer").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_told_the_scheme_that_a_request_came_with() {
    for (component, path) in [("wstd-http", "/who"), ("http-service", "/scheme")] {
        let site = Site::of(component).await;
        for scheme in ["http", "https"] {
            let request = Request::get(format!("{scheme}://site.example{path}"));
            let request = request.body(Full::default()).expect("a request");
            let told = site.send(request).await.expect("an answer").1;
            assert!(told.contains(&format!("{scheme}:")), "{component}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_for_http_is_not_run_as_something_else() {
    let rig = Rig::new();
    rig.add(spec("web"), Limits::default(), "wstd-http");
    rig.until("web", "quarantined").await;
    let crashes = rig.crashes("web").await;
    assert!(matches!(&crashes[0].reason, CrashReason::Link { .. }), "{crashes:?}");
}
