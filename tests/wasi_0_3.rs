//! Components of WASI 0.3 run here, too: one that answers HTTP has its instances
//! used again, several requests at a time, and a service may import what is new.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use ron_kernel::CrashReason;
use ron_runtime::{BodyError, Component, Grants, Kind, Limits, LoadError, Unanswered};

use crate::harness::{Rig, Site, component, get_request, spec, within};

async fn site() -> Site {
    Site::of("wasip3-http").await
}

/// One whose requests are late soon.
async fn impatient() -> Site {
    let handler_deadline = Duration::from_millis(200);
    let limits = Limits { handler_deadline, ..Limits::default() };
    Site::with("wasip3-http", limits, spec("web")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_wasi_0_3_answers() {
    let site = site().await;
    assert_eq!(site.rig.load("wasip3-http").kind(), Kind::Http);
    // As its authors mean it to be, an instance goes on to the next request.
    for count in 1..=3 {
        let answer = site.get("/").await.expect("an answer");
        assert_eq!(answer, (200, format!("hello from wasip3, for the {count}. time\n")));
    }
    assert_eq!(site.get("/nowhere").await.expect("an answer").0, 404);
    let text = "0123456789".repeat(100_000);
    assert_eq!(site.post("/echo", &text).await.expect("an answer"), (200, text));
    assert_eq!(site.get("/drip").await.expect("an answer").1, "0\n1\n2\n3\n4\n");
    let failed = site.get("/fail").await.expect_err("no answer");
    assert!(
        matches!(&failed, Unanswered::Failed(why) if why.contains("told to fail")),
        "{failed:?}"
    );
    assert!(site.rig.crashes("web").await.is_empty());
}

/// Sends a request that waits for another on its instance, and more of `path` until
/// one of them was. Gives what became of the first, and how many of the others had no
/// answer.
async fn not_alone(site: &Site, path: &str) -> (Result<(u16, String), Unanswered>, usize) {
    let together = site.get("/together");
    tokio::pin!(together);
    let mut failed = 0;
    loop {
        // Which instance one comes to is not ours to say.
        tokio::select! {
            biased;
            together = &mut together => return (together, failed),
            other = site.get(path) => failed += usize::from(other.is_err()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_answers_several_at_a_time() {
    let site = site().await;
    let (together, failed) = not_alone(&site, "/").await;
    assert_eq!(together.expect("an answer").1, "not alone\n");
    assert_eq!(failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reached_that_was_not_granted() {
    let site = site().await;
    let answer = site.get("/out").await.expect("an answer").1;
    assert!(answer.starts_with("refused: ") && answer.contains("Denied"), "{answer}");
    assert_eq!(site.get("/reach").await.expect("an answer").1, "false 0 []\n");
}

/// What is granted opens a name, and not the resolver.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_looked_up_where_they_were_granted() {
    let grants =
        Grants { outbound: vec!["localhost:80".parse().expect("a peer")], ..Grants::default() };
    let limits = Limits::default();
    let site = Site::granted("wasip3-http", limits, spec("web"), grants).await;
    let told = site.get("/lookup").await.expect("an answer").1;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("Ok([") && lines[0].len() > "Ok([])".len(), "{told}");
    assert_eq!(lines[1], "Err(ErrorCode::AccessDenied)", "{told}");
    assert!(lines[2].contains("127, 0, 0, 1"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_costs_an_instance_and_is_one_crash() {
    let site = site().await;
    let (together, panics) = not_alone(&site, "/panic").await;
    let crashed = together.expect_err("its instance is gone");
    assert!(
        matches!(&crashed, Unanswered::Crashed(why) if why.contains("asked to")),
        "{crashed:?}"
    );
    let answer = site.get("/").await.expect("an answer").1;
    assert_eq!(answer, "hello from wasip3, for the 1. time\n", "on a fresh instance");
    // The last may have been on its way when the other had its answer.
    let crashes = site.rig.crashes("web").await;
    assert!(crashes.len() == panics || crashes.len() == panics + 1, "{panics}: {crashes:?}");
    assert!(
        crashes.iter().all(|crash| matches!(&crash.reason, CrashReason::Panic { .. })),
        "{crashes:?}"
    );
    // It is found by the ids of all that it cost.
    let both = crashes.iter().filter(|crash| crash.detail.corr_id.as_deref() == Some("r-1, r-1"));
    assert_eq!(both.count(), 1, "{crashes:?}");
    assert_eq!(site.rig.generation("web"), 1, "nothing was restarted");
}

/// Answers that are on their way together, most likely of one instance, and one that is
/// not to be taken to its end.
async fn together(
    site: &Site,
    others: usize,
    spoil: impl AsyncFnOnce(),
) -> Vec<Result<Bytes, BodyError>> {
    let mut bodies = Vec::new();
    for _ in 0..others {
        bodies.push(site.ask(get_request("/drip")).await.expect("a head").into_body());
    }
    let taken = bodies.into_iter().map(|body| tokio::spawn(within(body.collect())));
    let taken: Vec<_> = taken.collect();
    spoil().await;
    let mut all = Vec::new();
    for one in taken {
        all.push(one.await.expect("no panic").map(|body| body.to_bytes()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_costs_no_other_its_answer() {
    let site = site().await;
    for _ in 0..5 {
        let hang_up = async || {
            let mut body = site.ask(get_request("/drip")).await.expect("a head").into_body();
            within(body.frame()).await.expect("a first part").expect("it comes");
        };
        for body in together(&site, 4, hang_up).await {
            assert_eq!(body.expect("it is not cut"), "0\n1\n2\n3\n4\n");
        }
        // Nor does one that goes before there is an answer.
        let reset = async || {
            let mut asked = Box::pin(site.ask(get_request("/drip")));
            poll_fn(|cx| {
                drop(asked.as_mut().poll(cx));
                Poll::Ready(())
            })
            .await;
        };
        for body in together(&site, 4, reset).await {
            assert_eq!(body.expect("it is not cut"), "0\n1\n2\n3\n4\n");
        }
    }
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_anothers_crash_cuts_short_is_not_taken_for_whole() {
    let site = site().await;
    let mut cut = 0;
    while cut < 3 {
        let panic = async || drop(site.get("/panic").await.expect_err("no answer"));
        for body in together(&site, 4, panic).await {
            match body {
                Ok(body) => assert_eq!(body, "0\n1\n2\n3\n4\n"),
                Err(_) => cut += 1,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_deadline_whether_it_computes_or_waits() {
    let site = impatient().await;
    for path in ["/spin", "/sleep"] {
        let late = site.get(path).await.expect_err("no answer");
        assert!(matches!(late, Unanswered::Late(_)), "{path}: {late:?}");
        assert_eq!(site.get("/").await.expect("an answer").0, 200, "after {path}");
    }
    assert_eq!(site.rig.crashes("web").await.len(), 2);
}

/// One that waits for something that does not come is of no use to anybody: it ends, and is
/// one crash.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_request_was_late_ends() {
    let site = impatient().await;
    let late = site.get("/sleep").await.expect_err("no answer");
    assert!(matches!(late, Unanswered::Late(_)), "{late:?}");
    let memory = || site.rig.metrics().value("ron_service_memory_bytes{service=\"web\"}");
    within(async {
        while memory() > 0.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(site.rig.crashes("web").await.len(), 1);
}

/// An instance that takes no more requests, and goes on with an answer, is not the one that
/// the next request waits for.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_an_instance_that_takes_no_more() {
    let site = impatient().await;
    let mut quiet = Vec::new();
    // Who waits first is not ours to say.
    for _ in 0..6 {
        quiet.push(site.ask(get_request("/quiet")).await.expect("an answer"));
        // It comes to the same instance, which is the only one that takes more.
        let late = site.get("/sleep").await.expect_err("no answer");
        assert!(matches!(late, Unanswered::Late(_)), "{late:?}");
        quiet.push(site.ask(get_request("/quiet")).await.expect("an answer"));
        for _ in 0..4 {
            assert_eq!(site.get("/").await.expect("an answer").0, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_way_finishes_bodies() {
    let site = site().await;
    let response = site.ask(get_request("/drip")).await.expect("an answer");
    drop(site.swap("wasip3-http", "v2").await);
    let body = within(response.into_body().collect()).await.expect("the whole body");
    assert_eq!(body.to_bytes(), "0\n1\n2\n3\n4\n");
    assert_eq!(site.get("/").await.expect("an answer").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_import_what_is_new() {
    let rig = Rig::new();
    rig.run("newer-clock").await;
    assert_eq!(rig.load("newer-clock").kind(), Kind::Service);
    let first: u64 = rig.ask("guest.newer-clock.now", "").await.parse().expect("a time");
    let second: u64 = rig.ask("guest.newer-clock.now", "").await.parse().expect("a time");
    assert!(second > first, "{first} {second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_and_several_calls_at_a_time_do_not_go_together() {
    let rig = Rig::new();
    let refused = Component::load(&rig.runtime, &component("http-two-turns"));
    let refused = refused.expect_err("it is refused");
    assert!(matches!(refused, LoadError::TwoTurns { .. }), "{refused:?}");
    assert!(refused.to_string().contains("expected wasi:http/incoming-handler@0.2"), "{refused}");
}
