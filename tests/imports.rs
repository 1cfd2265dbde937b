//! All that `ron:kernel` offers to a component works as the contract says, and
//! what nobody granted is refused.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use ron_kernel::message::{Overflow, TopicGrants};
use ron_kernel::supervisor::Restart;
use ron_kernel::topic::TopicFilter;
use ron_kernel::{CrashReason, KernelEvent, ServiceSpec};
use ron_runtime::Limits;
use serde_json::{Value, json};

use crate::harness::{HUNG, Program, Rig, component, id, spec};

async fn probe() -> Rig {
    let rig = Rig::new();
    rig.run("probe").await;
    rig
}

/// Has the probe make a call, and compares what came back.
async fn check(rig: &Rig, call: &str, expected: &str) {
    assert_eq!(rig.ask("guest.probe.probe", call).await, expected, "{call}");
}

/// The same for an answer that has more to say.
async fn begins(rig: &Rig, call: &str, expected: &str) {
    let answer = rig.ask("guest.probe.probe", call).await;
    assert!(answer.starts_with(expected), "{call}: {answer}");
}

fn table(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn config_is_the_services_own_and_the_newest() {
    let rig = probe().await;
    check(&rig, "config.get key", "none").await;
    check(&rig, "config.entries", "").await;
    check(&rig, "config.version", "0").await;
    let tables = |key| {
        BTreeMap::from([
            ("probe".to_owned(), table(&[("b", "2"), ("key", key)])),
            ("other".to_owned(), table(&[("secret", "x")])),
        ])
    };
    rig.kernel.config().replace(tables("a value = with spaces"));
    check(&rig, "config.get key", "a value = with spaces").await;
    check(&rig, "config.get secret", "none").await;
    check(&rig, "config.entries", "b=2\nkey=a value = with spaces").await;
    check(&rig, "config.version", "1").await;
    rig.kernel.config().replace(tables("new"));
    check(&rig, "config.get key", "new").await;
    check(&rig, "config.version", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_names_service_and_generation() {
    let rig = Rig::new();
    rig.add(spec("other-name"), Limits::default(), "probe");
    rig.until("other-name", "running").await;
    let topic = "guest.other-name.probe";
    assert_eq!(rig.ask(topic, "identity").await, "other-name 1 0");
    rig.supervisor.restart(&id("other-name"));
    rig.until_health(|| rig.generation("other-name") == 2).await;
    rig.until("other-name", "running").await;
    assert_eq!(rig.ask(topic, "identity").await, "other-name 2 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_heard() {
    let rig = Rig::new();
    let server = rig.serve().await;
    rig.kernel.health().gate("config", true);
    let mut events = rig.kernel.bus().subscribe();
    rig.add(ServiceSpec { critical: true, ..spec("probe") }, Limits::default(), "probe");
    rig.until("probe", "running").await;
    let own = async || server.get("/healthz").await.json()["services"]["probe"].clone();
    let ready = async || server.get("/readyz").await.status;

    check(&rig, "health.degraded on the second disk", "done").await;
    assert_eq!(ready().await, 200, "with less than usual, it works");
    assert_eq!(
        (&own().await["status"], &own().await["detail"]),
        (&json!("degraded"), &json!("on the second disk"))
    );

    check(&rig, "health.failing no disk", "done").await;
    assert_eq!(ready().await, 503);
    assert_eq!(server.get("/readyz").await.json()["missing"], json!(["probe"]));
    assert_eq!((&own().await["state"], &own().await["ok"]), (&json!("running"), &json!(false)));
    assert_eq!(rig.generation("probe"), 1, "it is not restarted for it");

    check(&rig, "health.ok", "done").await;
    assert_eq!(ready().await, 200);
    assert_eq!(own().await["detail"], Value::Null);

    let mut told = Vec::new();
    while let Ok(KernelEvent::Health { service, ok }) = events.try_recv() {
        assert_eq!(service, "probe");
        told.push(ok);
    }
    assert_eq!(told, [true, false, true], "degraded is no change of readiness");

    // What an incarnation said goes with it.
    check(&rig, "health.failing again", "done").await;
    rig.supervisor.restart(&id("probe"));
    rig.until_health(|| rig.generation("probe") == 2).await;
    rig.until_health(|| rig.kernel.health().get("probe").is_some_and(|health| health.ok)).await;
    assert_eq!(ready().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_exposed_within_a_limit() {
    let rig = probe().await;
    check(&rig, "metrics.add a_total 3", "done").await;
    check(&rig, "metrics.add a_total 4", "done").await;
    check(&rig, "metrics.set b 2.5", "done").await;
    check(&rig, "metrics.set b -1", "done").await;
    check(&rig, "metrics.observe c_seconds 0.25", "done").await;
    check(&rig, "metrics.observe c_seconds 4", "done").await;
    // These three are series too.
    check(&rig, "metrics.series d_total 100", "done").await;
    let metrics = rig.metrics();
    for (series, value) in [
        ("a_total{service=\"probe\",probe=\"yes\"}", 7.0),
        ("b{service=\"probe\",probe=\"yes\"}", -1.0),
        ("c_seconds_sum{service=\"probe\",probe=\"yes\"}", 4.25),
        ("c_seconds_count{service=\"probe\",probe=\"yes\"}", 2.0),
        ("c_seconds_bucket{service=\"probe\",probe=\"yes\",le=\"1\"}", 1.0),
        ("d_total{service=\"probe\",series=\"0\"}", 1.0),
        ("d_total{service=\"probe\",series=\"60\"}", 1.0),
        // 64 in all; what is past it is not lost.
        ("d_total{service=\"probe\",series=\"other\"}", 39.0),
        ("ron_metric_series_folded_total{service=\"probe\"}", 39.0),
    ] {
        assert_eq!(metrics.value(series), value, "{series}");
    }
    assert_eq!(metrics.find("d_total{service=\"probe\",series=\"61\"}"), None);

    // What is no metric harms nobody.
    check(&rig, "metrics.add 0bad 1", "done").await;
    check(&rig, "metrics.add service_crashes_total 1", "done").await;
    check(&rig, "metrics.set a_total 1", "done").await;
    let metrics = rig.metrics();
    assert_eq!(metrics.value("a_total{service=\"probe\",probe=\"yes\"}"), 7.0);
    let refused: f64 = metrics
        .0
        .lines()
        .filter(|line| line.starts_with("ron_metric_refused_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(refused, 3.0, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_wake_an_idle_service() {
    let rig = probe().await;
    let mut fired = rig.collect("collector", "guest.probe.fired").await;
    check(&rig, "timer.after once 1", "done").await;
    assert_eq!(fired.next().await, "once");

    // Each period, until it is cancelled.
    check(&rig, "timer.every beat 1", "done").await;
    for _ in 0..3 {
        assert_eq!(fired.next().await, "beat");
    }
    check(&rig, "timer.cancel beat", "done").await;
    // A tick may have waited in the mailbox; what is set later fires later.
    check(&rig, "timer.after last 20", "done").await;
    let mut late = 0;
    while fired.next().await != "last" {
        late += 1;
    }
    let queued = fired.rest().len();
    check(&rig, "timer.after end 20", "done").await;
    assert_eq!(fired.next().await, "end", "after {late} and {queued}, no beat came any more");

    // Set again under its name, it replaces the earlier one.
    check(&rig, "timer.after again 3600000", "done").await;
    check(&rig, "timer.after again 1", "done").await;
    assert_eq!(fired.next().await, "again");

    begins(&rig, "timer.after a$b 1", "error: InvalidTopic(").await;
    begins(&rig, "timer.every zero 0", "error: Other(\"a period is at least 1 ms").await;
    begins(&rig, "timer.after far 99999999999999", "error: Other(\"a timer is set for at most")
        .await;
    for n in 0..64 {
        check(&rig, &format!("timer.after n{n} 3600000"), "done").await;
    }
    begins(&rig, "timer.after more 1", "error: Other(\"a service has at most 64 timers").await;
    check(&rig, "timer.cancel n0", "done").await;
    check(&rig, "timer.after more 1", "done").await;
    assert_eq!(fired.next().await, "more");
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_end_with_their_generation() {
    let rig = probe().await;
    let mut fired = rig.collect("collector", "guest.probe.fired").await;
    check(&rig, "timer.every beat 1", "done").await;
    assert_eq!(fired.next().await, "beat");
    rig.supervisor.restart(&id("probe"));
    rig.until_health(|| rig.generation("probe") == 2).await;
    rig.until("probe", "running").await;
    check(&rig, "timer.after last 50", "done").await;
    let mut late = 0;
    while fired.next().await != "last" {
        late += 1;
    }
    // Those of before the restart were collected before, and one may have been
    // in the mailbox; fifty would have come since.
    fired.rest();
    check(&rig, "timer.after end 20", "done").await;
    assert_eq!(fired.next().await, "end", "after {late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_says_what_became_of_a_call() {
    let rig = probe().await;
    rig.run("echo").await;
    rig.run("failures").await;
    let mut heard = rig.collect("collector", "heard.>").await;

    check(&rig, "bus.publish heard.once hello", "1").await;
    let message = heard.message().await;
    assert_eq!((&message.payload[..], message.source()), (&b"hello"[..], "probe"));
    check(&rig, "bus.publish nobody.hears x", "0").await;
    check(&rig, "bus.request guest.echo.echo ping", "ping").await;
    check(&rig, "bus.request guest.nobody.echo x", "error: NoResponder").await;
    check(&rig, "bus.request guest.echo.sink x", "error: NoResponder").await;
    check(&rig, "bus.request guest.failures.reject no good", "error: Failed(\"no good\")").await;
    check(&rig, "bus.request guest.probe.echo myself", "error: Timeout").await;

    begins(&rig, "bus.publish a..b x", "error: InvalidTopic(\"token 2 is empty").await;
    begins(&rig, "bus.publish a.* x", "error: InvalidTopic(").await;
    begins(&rig, "bus.publish  x", "error: InvalidTopic(").await;
    let long = format!("bus.publish {} x", "a".repeat(256));
    begins(&rig, &long, "error: InvalidTopic(").await;
    let long = format!("bus.publish {} x", "a".repeat(255));
    check(&rig, &long, "0").await;
    begins(&rig, "bus.subscribe a.>.b", "error: InvalidTopic(").await;
    check(&rig, "bus.publish-bytes heard.large 1048576", "1").await;
    assert_eq!(heard.message().await.payload.len(), 1 << 20);
    check(
        &rig,
        "bus.publish-bytes heard.large 1048577",
        "error: PayloadTooLarge { limit: 1048576 }",
    )
    .await;
    for call in ["bus.publish ron.x x", "bus.request ron.x x", "bus.subscribe ron.>"] {
        begins(&rig, call, "error: Denied(\"ron.").await;
    }

    // A subscription is the service's own, and ends when it says so.
    check(&rig, "bus.subscribe extra.*", "done").await;
    check(&rig, "bus.subscribe extra.*", "done").await;
    assert_eq!(rig.ask("extra.one", "echoed").await, "echoed");
    assert_eq!(rig.publish("extra.one", "x"), 1, "once, however often it subscribed");
    rig.supervisor.restart(&id("probe"));
    rig.until_health(|| rig.generation("probe") == 2).await;
    rig.until("probe", "running").await;
    assert_eq!(rig.ask("extra.one", "still").await, "still", "it survives a restart");
    check(&rig, "bus.unsubscribe extra.*", "done").await;
    check(&rig, "bus.unsubscribe extra.*", "done").await;
    assert_eq!(rig.publish("extra.one", "x"), 0);

    let metrics = rig.metrics();
    for (reason, count) in [
        ("no-responder", 2.0),
        ("failed", 1.0),
        ("timeout", 1.0),
        ("invalid-topic", 5.0),
        ("payload-too-large", 1.0),
        ("denied", 3.0),
        ("overloaded", 0.0),
    ] {
        assert_eq!(
            metrics.value(&format!("rejected_total{{reason=\"{reason}\"}}")),
            count,
            "{reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_refuses_what_is_over_a_limit_or_not_granted() {
    let filter = |text| TopicFilter::parse(text).expect("a filter");
    let rig = Rig::new();
    let mut own = spec("full");
    own.mailbox.messages = 1;
    own.mailbox.overflow = Overflow::Reject;
    rig.add(own, Limits::default(), "echo");
    rig.until("full", "running").await;
    rig.supervisor.stop(&id("full"));
    rig.until("full", "stopped").await;

    let mut own = spec("probe");
    own.grants = Arc::new(TopicGrants {
        publish: vec![filter("guest.full.*"), filter("mine.>")],
        subscribe: vec![filter("guest.probe.*"), filter("mine.>")],
    });
    rig.add(own, Limits::default(), "probe");
    rig.until("probe", "running").await;
    check(&rig, "bus.publish guest.full.echo x", "1").await;
    check(&rig, "bus.publish guest.full.echo x", "error: Overloaded").await;
    check(&rig, "bus.publish mine.own x", "0").await;
    check(
        &rig,
        "bus.publish other.own x",
        "error: Denied(\"probe is not granted to publish to other.own\")",
    )
    .await;
    check(&rig, "bus.subscribe mine.*", "done").await;
    check(&rig, "bus.subscribe >", "error: Denied(\"probe is not granted to subscribe to >\")")
        .await;
    check(
        &rig,
        "bus.subscribe guest.*.probe",
        "error: Denied(\"probe is not granted to subscribe to guest.*.probe\")",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_announces_is_heard() {
    let rig = probe().await;
    let restart = Restart { budget: 0, ..Restart::default() };
    rig.add(ServiceSpec { restart, ..spec("start-error") }, Limits::default(), "start-error");
    rig.until("start-error", "quarantined").await;
    rig.run("echo").await;
    // It answers when all that is told of its start has been told.
    assert_eq!(rig.ask("guest.echo.echo", "here").await, "here");
    rig.kernel.bus().publish(KernelEvent::ConfigUpdated { version: 7 });
    let expected = [
        "ServiceCrashed { service: \"start-error\", reason: CrashReason { label: \"start-failed\", message: \"told to fail in start\" } }",
        "Health { service: \"echo\", ok: true }",
        "ConfigUpdated { version: 7 }",
    ];
    let began = Instant::now();
    loop {
        // They are on their way beside the question.
        let events = rig.ask("guest.probe.probe", "events").await;
        // Each once; that a service is ready shows before it is announced, so
        // what a third party then announces may come first.
        let heard = |wanted: &&str| events.lines().filter(|event| event == wanted).count() == 1;
        if expected.iter().all(heard) {
            break;
        }
        assert!(began.elapsed() < HUNG, "{events}");
    }
}

/// A place to connect to, that must never be reached.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("bound").to_string();
    let rig = Rig::new();
    rig.run("fs-probe").await;
    let report = rig.ask("guest.fs-probe.probe", &address).await;
    let lines: Vec<&str> = report.lines().collect();
    let tried = ["read", "write", "list", "environment", "connect", "listen", "resolve"];
    assert_eq!(lines.len(), tried.len(), "{report}");
    for (line, what) in lines.iter().zip(tried) {
        assert!(line.starts_with(&format!("{what}: refused ")), "{line}");
    }
    assert!(listener.accept().is_err(), "nobody came");
    assert_eq!(rig.generation("fs-probe"), 1, "a refusal is an answer and no crash");
}

#[test]
fn what_a_service_logs_is_a_record() {
    let steps = [
        "log.trace finest",
        "log.debug fine",
        "log.info plain",
        "log.warn odd",
        "log.error bad",
        "stdout to standard output",
        "stderr to standard error",
        "metrics.add 0bad 1",
    ];
    let set = |(n, step): (usize, &&str)| -> [OsString; 2] {
        let step = format!("script.{}=request guest.probe.probe {step}", n + 1);
        ["--set".into(), step.into()]
    };
    let mut args: Vec<OsString> = steps.iter().enumerate().flat_map(set).collect();
    for name in ["probe", "script"] {
        args.extend(["--component".into(), component(name).into()]);
    }
    args.extend(["--log-level".into(), "trace".into()]);
    let host = Program::start(args);
    host.says("script", "the script is over");
    for (level, text) in [
        ("TRACE", "finest"),
        ("DEBUG", "fine"),
        ("INFO", "plain"),
        ("WARN", "odd"),
        ("ERROR", "bad"),
    ] {
        let record = host.says("probe", text);
        assert_eq!(record["level"], level);
        assert_eq!(record["fields"], json!({"probe": "yes", "length": text.len().to_string()}));
        assert_eq!(record["generation"], 1);
    }
    let out = host.says("probe", "to standard output");
    assert_eq!((&out["level"], &out["stream"]), (&json!("INFO"), &json!("stdout")));
    let err = host.says("probe", "to standard error");
    assert_eq!((&err["level"], &err["stream"]), (&json!("WARN"), &json!("stderr")));
    host.log(|record| {
        let message = record["message"].as_str().unwrap_or_default();
        record["level"] == "WARN" && message.starts_with("metric \"0bad\" is not recorded: ")
    });
}

/// What a handler says it cannot do is its own affair.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_call_is_rejected() {
    let rig = probe().await;
    let answer = rig.request("guest.probe.probe", "no.such").await;
    assert!(answer.is_err());
    let crashes: Vec<CrashReason> =
        rig.supervisor.crashes(&id("probe")).into_iter().map(|crash| crash.reason).collect();
    assert_eq!(crashes, []);
}
