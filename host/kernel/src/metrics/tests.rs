//! What a scrape shows of the host itself: names, labels, zeros, and a text
//! that a strict reader accepts.

use super::*;
use crate::bus::TryRecvError;
use crate::crash::CrashReason;
use std::time::Duration;

/// A series' value in a text, by its exact name and labels.
pub(super) fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find(|(name, _)| *name == series).map(|(_, value)| value.parse().expect("a number"))
}

/// Hold `text` to what `promtool check metrics` holds it to, as far as the host
/// has it in its hands: help and type before each family, each family and each
/// series once, sorted, counters and only they named `_total`.
pub(super) fn lint(text: &str) {
    let mut families: Vec<(&str, &str)> = Vec::new();
    let mut helped = "";
    let mut series = std::collections::BTreeSet::new();
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty(), "{line}");
            helped = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "help stands right before the type");
            assert!(families.last().is_none_or(|(last, _)| *last < name), "sorted: {line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            for suffix in ["_bucket", "_sum", "_count", "_info"] {
                let allowed = suffix == "_info" && name == "ron_build_info";
                assert!(!name.ends_with(suffix) || allowed, "reserved suffix: {line}");
            }
            families.push((name, kind));
        } else {
            let (labelled, value) = line.rsplit_once(' ').expect("a sample");
            value.parse::<f64>().expect("a value");
            let (name, labels) = labelled.split_once('{').unwrap_or((labelled, "}"));
            assert!(labels.ends_with('}'), "{line}");
            let (family, kind) = families.last().expect("a sample follows its type");
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("family of {line}"));
            let suffixes: &[_] =
                if *kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(series.insert(labelled), "twice: {line}");
        }
    }
}

#[test]
fn names_and_labels_are_the_frozen_ones() {
    let metrics = Metrics::new();
    let bus = Bus::default();
    let _sub = bus.subscribe_as("a");
    metrics.watch_bus(&bus);
    metrics.observe(&Observation::ServiceCrashed {
        service: "a",
        reason: &CrashReason::StackOverflow,
    });
    metrics.observe(&Observation::ServiceRestarted { service: "a" });
    metrics.observe(&Observation::ServiceState { service: "a", state: "running" });
    let latency = Duration::from_micros(300);
    metrics.observe(&Observation::RequestAnswered { service: "a", latency });
    metrics.observe(&Observation::HttpAnswered {
        service: "a",
        method: HttpMethod::Get,
        status: StatusClass::ServerError,
        latency,
    });
    metrics.observe(&Observation::Rejected { reason: RejectReason::Denied });
    let outcome = RunOutcome::Skipped;
    metrics.observe(&Observation::JobRan { service: "a", outcome });
    metrics.observe(&Observation::ConfigApplied { version: 7 });
    metrics.observe(&Observation::ConfigRead { outcome: ReloadOutcome::Applied });
    metrics.observe(&Observation::ConfigRead { outcome: ReloadOutcome::Refused });
    metrics.observe(&Observation::ConnectionRefused);
    let text = metrics.encode();
    lint(&text);
    for (series, expected) in [
        ("service_crashes_total{reason=\"stack-overflow\",service=\"a\"}", 1.0),
        ("service_restarts_total{service=\"a\"}", 1.0),
        ("ron_service_state{service=\"a\",state=\"running\"}", 1.0),
        ("request_latency_seconds_bucket{service=\"a\",le=\"0.0001\"}", 0.0),
        ("request_latency_seconds_bucket{service=\"a\",le=\"0.0005\"}", 1.0),
        ("request_latency_seconds_bucket{service=\"a\",le=\"10\"}", 1.0),
        ("request_latency_seconds_sum{service=\"a\"}", 0.0003),
        ("request_latency_seconds_count{method=\"GET\",service=\"a\",status=\"5xx\"}", 1.0),
        ("rejected_total{reason=\"denied\"}", 1.0),
        ("ron_job_runs_total{outcome=\"skipped\",service=\"a\"}", 1.0),
        ("ron_config_version", 7.0),
        ("ron_config_reloads_total{outcome=\"refused\"}", 1.0),
        ("ron_config_stale", 1.0),
        ("ron_http_refused_total", 1.0),
        ("bus_lagged_total{service=\"a\"}", 0.0),
        ("bus_overflow_dropped_total", 0.0),
        ("ron_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
    metrics.observe(&Observation::ConfigStale { stale: false });
    assert_eq!(value(&metrics.encode(), "ron_config_stale"), Some(0.0));
    assert!(value(&text, "ron_uptime_seconds").is_some_and(|uptime| uptime >= 0.0));
    let families: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(
        families,
        [
            "bus_lagged_total",
            "bus_overflow_dropped_total",
            "rejected_total",
            "request_latency_seconds",
            "ron_build_info",
            "ron_config_reloads_total",
            "ron_config_stale",
            "ron_config_version",
            "ron_http_refused_total",
            "ron_job_runs_total",
            "ron_service_state",
            "ron_services",
            "ron_services_ready",
            "ron_uptime_seconds",
            "service_crashes_total",
            "service_restarts_total",
        ]
    );
}

#[test]
fn zeros_are_there_before_anything_happens() {
    let metrics = Metrics::new();
    metrics.register_service("a");
    let text = metrics.encode();
    lint(&text);
    assert_eq!(value(&text, "service_restarts_total{service=\"a\"}"), Some(0.0));
    assert_eq!(value(&text, "bus_overflow_dropped_total"), Some(0.0));
    for reason in [
        "overloaded",
        "payload-too-large",
        "denied",
        "invalid-topic",
        "timeout",
        "no-responder",
        "failed",
        "listener-overloaded",
        "rate-limited",
        "too-many-connections",
        "body-too-large",
        "no-route",
        "bad-request",
    ] {
        assert_eq!(value(&text, &format!("rejected_total{{reason=\"{reason}\"}}")), Some(0.0));
    }
    metrics.observe(&Observation::ServiceRestarted { service: "a" });
    metrics.register_service("a");
    let text = metrics.encode();
    assert_eq!(value(&text, "service_restarts_total{service=\"a\"}"), Some(1.0), "kept");
}

#[test]
fn a_service_is_in_one_state() {
    let metrics = Metrics::new();
    for state in ["starting", "running", "running", "backoff"] {
        metrics.observe(&Observation::ServiceState { service: "a", state });
    }
    metrics.observe(&Observation::ServiceState { service: "b", state: "running" });
    let text = metrics.encode();
    let states: Vec<_> =
        text.lines().filter(|line| line.starts_with("ron_service_state")).collect();
    assert_eq!(
        states,
        [
            "ron_service_state{service=\"a\",state=\"backoff\"} 1",
            "ron_service_state{service=\"b\",state=\"running\"} 1",
        ]
    );
}

#[test]
fn a_forgotten_service_leaves_nothing() {
    let metrics = Metrics::new();
    metrics.register_service("keep");
    let before = |text: String| -> Vec<String> {
        text.lines().filter(|l| !l.starts_with("ron_uptime")).map(str::to_owned).collect()
    };
    let clean = before(metrics.encode());
    metrics.register_service("a");
    for reason in [CrashReason::StackOverflow, CrashReason::panic("x"), CrashReason::panic("y")] {
        metrics.observe(&Observation::ServiceCrashed { service: "a", reason: &reason });
    }
    metrics.observe(&Observation::ServiceRestarted { service: "a" });
    metrics.observe(&Observation::ServiceState { service: "a", state: "running" });
    metrics.observe(&Observation::RequestAnswered { service: "a", latency: Duration::ZERO });
    metrics.observe(&Observation::HttpAnswered {
        service: "a",
        method: HttpMethod::Other,
        status: StatusClass::ServerError,
        latency: Duration::ZERO,
    });
    let own = metrics.service_metrics("a", 1);
    own.add("orders", &[("k", "v")], 1).expect("taken");
    own.set("bad name", &[("k", "v")], 1.0).expect_err("refused");
    let text = metrics.encode();
    lint(&text);
    assert_eq!(value(&text, "service_crashes_total{reason=\"panic\",service=\"a\"}"), Some(2.0));
    metrics.forget_service("a");
    metrics.forget_service("never-known");
    assert_eq!(before(metrics.encode()), clean);
}

#[test]
fn buses_are_pulled_and_added_up() {
    let metrics = Metrics::new();
    let (kernel, other) = (Bus::new(2), Bus::new(2));
    metrics.watch_bus(&kernel);
    metrics.watch_bus(&kernel.clone());
    metrics.watch_bus(&other);
    let mut subs = [kernel.subscribe_as("a"), other.subscribe_as("a"), other.subscribe_as("b")];
    for n in 0..5 {
        kernel.publish(n);
        other.publish(n);
    }
    for sub in &mut subs {
        assert_eq!(sub.try_recv(), Err(TryRecvError::Lagged(3)));
    }
    drop(kernel);
    let text = metrics.encode();
    assert_eq!(value(&text, "bus_lagged_total{service=\"a\"}"), Some(6.0));
    assert_eq!(value(&text, "bus_lagged_total{service=\"b\"}"), Some(3.0));
    assert_eq!(value(&text, "bus_overflow_dropped_total"), Some(9.0));
    let [mut sub, ..] = subs;
    while sub.try_recv().is_ok() {}
    assert_eq!(sub.try_recv(), Err(TryRecvError::Closed), "metrics keep no bus open");
}

#[test]
fn what_is_pulled_is_shown_once_and_valid() {
    const FAMILIES: &[Family] = &[
        Family::gauge("ron_mailbox_messages", "Messages that wait.", &["service"]),
        Family::counter("ron_mailbox_dropped_total", "Messages dropped.", &["service", "policy"]),
    ];
    let metrics = Metrics::new();
    let depth = Arc::new(Mutex::new(3.0));
    metrics.pull(FAMILIES, {
        let depth = Arc::clone(&depth);
        move |give| {
            let value = *depth.lock();
            give(Sample { name: "ron_mailbox_messages", labels: &["b"], value });
            give(Sample { name: "ron_mailbox_messages", labels: &["a\"\n\\"], value: 1.0 });
            give(Sample { name: "ron_mailbox_messages", labels: &["b"], value: 99.0 });
            give(Sample { name: "ron_mailbox_messages", labels: &[], value: 99.0 });
            give(Sample { name: "ron_unknown", labels: &["b"], value: 99.0 });
            give(Sample {
                name: "ron_mailbox_dropped_total",
                labels: &["b", "reject"],
                value: 2.0,
            });
        }
    });
    metrics.pull(FAMILIES, |give| {
        give(Sample { name: "ron_mailbox_messages", labels: &["c"], value: 5.0 });
    });
    let text = metrics.encode();
    lint(&text);
    let lines: Vec<_> = text.lines().filter(|line| line.contains("mailbox")).collect();
    assert_eq!(
        lines,
        [
            "# HELP ron_mailbox_dropped_total Messages dropped.",
            "# TYPE ron_mailbox_dropped_total counter",
            "ron_mailbox_dropped_total{service=\"b\",policy=\"reject\"} 2",
            "# HELP ron_mailbox_messages Messages that wait.",
            "# TYPE ron_mailbox_messages gauge",
            "ron_mailbox_messages{service=\"a\\\"\\n\\\\\"} 1",
            "ron_mailbox_messages{service=\"b\"} 3",
            "ron_mailbox_messages{service=\"c\"} 5",
        ]
    );
    *depth.lock() = 4.0;
    assert_eq!(value(&metrics.encode(), "ron_mailbox_messages{service=\"b\"}"), Some(4.0));
}

#[test]
fn ready_services_are_those_of_the_health_state() {
    let health = HealthState::new();
    let metrics = Metrics::with_health(health.clone());
    health.set("a", true);
    metrics.clone().health().set("b", false);
    let text = metrics.encode();
    assert_eq!(value(&text, "ron_services"), Some(2.0));
    assert_eq!(value(&text, "ron_services_ready"), Some(1.0));
}
