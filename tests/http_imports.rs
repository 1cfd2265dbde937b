//! A component that answers HTTP alone has what `ron:kernel` offers, too: it
//! publishes, asks, logs and counts as its service, and what only an instance that
//! stays could have is refused in words.

use std::sync::Arc;

use ron_kernel::ServiceSpec;
use ron_kernel::message::TopicGrants;
use ron_kernel::topic::TopicFilter;
use ron_runtime::Limits;

use crate::harness::{Site, spec};

/// Has the probe make a call, and compares what came back.
async fn check(site: &Site, call: &str, expected: &str) {
    let answer = site.post("/", call).await.expect("an answer");
    assert_eq!(answer, (200, expected.to_owned()), "{call}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_publishes_and_asks() {
    let site = Site::of("http-probe").await;
    let mut news = site.rig.collect("reader", "news.>").await;
    check(&site, "bus.publish news.today hello", "1").await;
    let message = news.message().await;
    assert_eq!((message.source(), &message.payload[..]), ("web", &b"hello"[..]));
    check(&site, "bus.request nobody.there x", "error: NoResponder").await;
    site.rig.run("echo").await;
    check(&site, "bus.request guest.echo.echo back", "back").await;
    // Two at a time, each on an instance of its own.
    let both = tokio::join!(
        site.post("/", "bus.request guest.echo.echo a"),
        site.post("/", "bus.request guest.echo.echo b"),
    );
    assert_eq!(both.0.expect("an answer").1, "a");
    assert_eq!(both.1.expect("an answer").1, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_publish_what_its_service_was_granted() {
    let allowed = TopicFilter::parse("news.>").expect("a filter");
    let grants = TopicGrants { publish: vec![allowed], ..TopicGrants::default() };
    let spec = ServiceSpec { grants: Arc::new(grants), ..spec("web") };
    let site = Site::with("http-probe", Limits::default(), spec).await;
    check(&site, "bus.publish news.today hello", "0").await;
    let denied = site.post("/", "bus.publish secrets.today hello").await.expect("an answer").1;
    assert!(denied.starts_with("error: Denied"), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_have_messages_brought_to_it() {
    let site = Site::of("http-probe").await;
    for call in
        ["bus.subscribe news.>", "bus.unsubscribe news.>", "timer.after t 5", "timer.every t 5"]
    {
        let refused = site.post("/", call).await.expect("an answer").1;
        assert!(
            refused.starts_with("error: Other") && refused.contains("ron:kernel/lifecycle"),
            "{call}: {refused}"
        );
    }
    check(&site, "timer.cancel t", "done").await;
    assert!(site.rig.crashes("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_speaks_for_its_service() {
    let site = Site::of("http-probe").await;
    check(&site, "identity", "web 1 0").await;
    check(&site, "config.get key", "none").await;
    let table = [("key".to_owned(), "value".to_owned())].into();
    site.rig.kernel.config().replace([("web".to_owned(), table)].into());
    check(&site, "config.get key", "value").await;
    check(&site, "stdout hello", "done").await;
    check(&site, "metrics.add seen_total 2", "done").await;
    check(&site, "metrics.add seen_total 3", "done").await;
    let seen = r#"seen_total{probe="yes",service="web"}"#;
    assert_eq!(site.rig.metrics().value(seen), 5.0, "one series for all instances");
    check(&site, "health.degraded so so", "done").await;
    let health = site.rig.kernel.health().get("web").expect("a service");
    assert_eq!(health.detail.as_deref(), Some("so so"), "the last word counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_the_rates_of_their_service() {
    let limits = Limits { log_records: 1, publish_rate: 1, ..Limits::default() };
    let site = Site::with("http-probe", limits, spec("web")).await;
    // One at once, ten for logs, and one more in a second; each request has an
    // instance of its own.
    let mut refused = 0;
    for _ in 0..40 {
        let answer = site.post("/", "bus.publish news.today x").await.expect("an answer").1;
        refused += usize::from(answer == "error: Overloaded");
        check(&site, "stdout hello", "done").await;
    }
    assert!(refused > 0, "each instance has the whole rate");
    let dropped = site.rig.metrics().value(r#"ron_log_dropped_total{service="web"}"#);
    assert!(dropped > 0.0, "{dropped}");
}
