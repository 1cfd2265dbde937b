//! What a service reports is shown with its name, bounded, and summed up right
//! whatever is folded.

use super::*;
use crate::metrics::Metrics;
use crate::metrics::tests::{lint, value};
use proptest::prelude::*;

const NONE: &[(&str, &str)] = &[];

#[test]
fn what_a_service_reports_is_shown_with_its_name() {
    let metrics = Metrics::new();
    let own = metrics.service_metrics("shop", DEFAULT_SERIES_LIMIT);
    own.add("orders", &[("zone", "eu"), ("kind", "gift")], 2).expect("taken");
    own.add("orders_total", &[("kind", "gift"), ("zone", "eu")], 3).expect("the same series");
    own.set("depth", NONE, -1.5).expect("taken");
    own.set("depth", NONE, f64::INFINITY).expect("taken");
    own.observe("wait_seconds", NONE, 0.25).expect("taken");
    own.observe("wait_seconds", NONE, 0.26).expect("taken");
    own.observe("body_bytes", NONE, 1e12).expect("taken");
    own.observe("items", &[(String::from("k"), "")], 0.0).expect("taken");
    let text = metrics.encode();
    lint(&text);
    for (series, expected) in [
        ("orders_total{service=\"shop\",kind=\"gift\",zone=\"eu\"}", 5.0),
        ("depth{service=\"shop\"}", f64::INFINITY),
        ("wait_seconds_bucket{service=\"shop\",le=\"0.1\"}", 0.0),
        ("wait_seconds_bucket{service=\"shop\",le=\"0.25\"}", 1.0),
        ("wait_seconds_bucket{service=\"shop\",le=\"0.5\"}", 2.0),
        ("wait_seconds_bucket{service=\"shop\",le=\"+Inf\"}", 2.0),
        ("wait_seconds_sum{service=\"shop\"}", 0.51),
        ("body_bytes_bucket{service=\"shop\",le=\"16777216\"}", 0.0),
        ("body_bytes_count{service=\"shop\"}", 1.0),
        ("items_bucket{service=\"shop\",k=\"\",le=\"0.001\"}", 1.0),
        ("ron_metric_series_folded_total{service=\"shop\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

#[test]
fn a_broken_rule_is_an_error_that_says_it_and_is_counted() {
    let metrics = Metrics::new();
    let own = metrics.service_metrics("shop", 3);
    own.add("orders", &[("zone", "eu")], 1).expect("taken");
    own.set("depth", NONE, 1.0).expect("taken");
    let check = |result: Result<(), MetricError>, label: &str, text: &str| {
        let error = result.expect_err(text);
        assert_eq!(error.label(), label);
        assert!(error.to_string().contains(text), "{error}");
    };
    check(own.add("no good", NONE, 1), "name", "`no good_total`: a name is a letter");
    check(own.set("ron_x", NONE, 1.0), "reserved", "belongs to the host");
    check(own.set("x", &[("le", "1")], 1.0), "label", "`le`: service, le and quantile");
    check(own.add("orders", &[("le", "1")], 1), "label", "set by the host");
    check(own.add("orders", &[("zone", "eu"), ("zone", "us")], 1), "label", "stands once");
    check(own.add("orders", NONE, 1), "label-set", "has the labels [zone]");
    check(own.add("orders", &[("area", "eu")], 1), "label-set", "has the labels [zone]");
    check(own.set("depth", &[("zone", "eu")], 1.0), "label-set", "labels []");
    check(own.observe("depth", NONE, 1.0), "kind", "is a gauge already");
    check(own.set("x", NONE, f64::NAN), "value", "not NaN");
    for bad in [f64::NAN, f64::INFINITY, -0.5] {
        check(own.observe("wait", NONE, bad), "value", "finite values from 0");
    }
    own.observe("wait", NONE, 1.0).expect("the third name");
    check(own.set("fourth", NONE, 1.0), "limit", "more than 3 metric names");
    let text = metrics.encode();
    lint(&text);
    for (reason, count) in
        [("name", 1), ("reserved", 1), ("label", 3), ("label-set", 3), ("kind", 1), ("value", 4)]
    {
        let series = format!("ron_metric_refused_total{{service=\"shop\",reason=\"{reason}\"}}");
        assert_eq!(value(&text, &series), Some(f64::from(count)), "{series}");
    }
    assert_eq!(value(&text, "orders_total{service=\"shop\",zone=\"eu\"}"), Some(1.0));
    assert!(!text.contains("# TYPE x "), "a refused name leaves no trace");
}

#[test]
fn services_share_a_name_and_its_kind_but_not_its_labels() {
    let metrics = Metrics::new();
    let (a, b) = (metrics.service_metrics("a", 64), metrics.service_metrics("b", 64));
    a.set("depth", &[("queue", "in")], 1.0).expect("taken");
    b.set("depth", &[("zone", "eu"), ("rack", "4")], 2.0).expect("taken");
    let error = b.observe("depth", NONE, 1.0).expect_err("a gauge in b");
    assert_eq!(error, MetricError::OtherKind { name: "depth".into(), is: Kind::Gauge });
    metrics.forget_service("b");
    let b = metrics.service_metrics("b", 64);
    assert!(b.observe("depth", NONE, 1.0).is_err(), "a gauge in a");
    assert!(b.set("depth", NONE, 1.0).is_ok(), "and free to have other labels");
    metrics.forget_service("b");
    metrics.forget_service("a");
    assert_eq!(a.set("depth", &[("queue", "in")], 1.0), Err(MetricError::Forgotten));
    let c = metrics.service_metrics("c", 64);
    c.observe("depth", NONE, 1.0).expect("nobody has it as a gauge any more");
    lint(&metrics.encode());
}

#[test]
fn series_survive_a_restart_and_the_newest_limit_holds() {
    let metrics = Metrics::new();
    metrics.service_metrics("a", 1).add("n", &[("k", "1")], 1).expect("taken");
    let again = metrics.service_metrics("a", 2);
    again.add("n", &[("k", "1")], 1).expect("taken");
    again.add("n", &[("k", "2")], 1).expect("taken");
    again.add("n", &[("k", "3")], 1).expect("folded");
    let text = metrics.encode();
    assert_eq!(value(&text, "n_total{service=\"a\",k=\"1\"}"), Some(2.0));
    assert_eq!(value(&text, "n_total{service=\"a\",k=\"2\"}"), Some(1.0));
    assert_eq!(value(&text, "n_total{service=\"a\",k=\"other\"}"), Some(1.0));
}

#[test]
fn past_the_limit_values_go_to_other() {
    let metrics = Metrics::new();
    let own = metrics.service_metrics("a", 2);
    for zone in ["eu", "us", "ap", "af", "eu"] {
        own.add("orders", &[("zone", zone), ("kind", "x")], 1).expect("taken");
    }
    own.observe("wait", NONE, 1.0).expect("a name of its own is let in");
    own.observe("wait", NONE, 1.0).expect("again");
    let text = metrics.encode();
    lint(&text);
    assert_eq!(value(&text, "orders_total{service=\"a\",kind=\"x\",zone=\"eu\"}"), Some(2.0));
    assert_eq!(value(&text, "orders_total{service=\"a\",kind=\"x\",zone=\"us\"}"), Some(1.0));
    let other = "orders_total{service=\"a\",kind=\"other\",zone=\"other\"}";
    assert_eq!(value(&text, other), Some(2.0));
    assert_eq!(value(&text, "wait_count{service=\"a\"}"), Some(2.0));
    assert_eq!(value(&text, "ron_metric_series_folded_total{service=\"a\"}"), Some(3.0));
}

#[test]
fn sums_and_counts_stop_at_their_largest() {
    let metrics = Metrics::new();
    let own = metrics.service_metrics("a", 8);
    own.add("n", NONE, u64::MAX).expect("taken");
    own.add("n", NONE, 1).expect("taken");
    own.observe("h", NONE, f64::MAX).expect("taken");
    own.observe("h", NONE, f64::MAX).expect("taken");
    let text = metrics.encode();
    assert_eq!(value(&text, "n_total{service=\"a\"}"), Some(u64::MAX as f64));
    assert_eq!(value(&text, "h_sum{service=\"a\"}"), Some(f64::MAX));
}

proptest! {
    /// Whatever is reported: at most `limit` names, at most `limit` series and
    /// one `other` for each name, and no counter loses a count.
    #[test]
    fn the_limit_holds_and_loses_no_count(
        limit in 0..6_usize,
        reports in prop::collection::vec((0..8_u8, 0..3_u8, "[ab]{0,2}", "[ab]{0,2}"), 0..120),
    ) {
        let metrics = Metrics::new();
        let own = metrics.service_metrics("s", limit);
        let mut taken = BTreeMap::<String, f64>::new();
        for (name, labels, a, b) in reports {
            let name = format!("n{name}_total");
            let labels = &[("a", a.as_str()), ("b", b.as_str())][..usize::from(labels).min(2)];
            if own.add(&name, labels, 1).is_ok() {
                *taken.entry(name).or_default() += 1.0;
            }
        }
        let text = metrics.encode();
        lint(&text);
        let (mut names, mut others, mut series) = (BTreeMap::<String, f64>::new(), 0, 0);
        for line in text.lines().filter(|line| line.starts_with('n')) {
            let (labelled, value) = line.rsplit_once(' ').expect("a sample");
            let (name, labels) = labelled.split_once('{').expect("the service label");
            *names.entry(name.to_owned()).or_default() += value.parse::<f64>().expect("a number");
            series += 1;
            others += usize::from(labels.contains("other") || !labels.contains(','));
        }
        prop_assert_eq!(&names, &taken);
        prop_assert!(names.len() <= limit);
        prop_assert!(others <= names.len(), "{text}");
        prop_assert!(series - others <= limit, "{text}");
        prop_assert!(series <= limit + names.len());
    }
}
