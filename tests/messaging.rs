//! A message handler of wasmCloud's runs here as it was built: its topics come from
//! its configuration, it answers by `reply-to`, and finds what it imports besides.

use std::collections::BTreeMap;

use ron_kernel::ServiceSpec;
use ron_kernel::message::BusError;
use ron_kernel::topic::TopicFilter;
use ron_runtime::{Grants, Kind, Limits};

use crate::harness::deployment::{deployment, start};
use crate::harness::{Rig, crash_of, id, spec, until};

/// What the handler is subscribed to, as `subscribe` in `ron.toml` does it.
fn subscribed(name: &str) -> ServiceSpec {
    let filter = TopicFilter::parse(&format!("{name}.*")).expect("a filter");
    ServiceSpec { subscribe: vec![filter], ..spec(name) }
}

async fn add(rig: &Rig, name: &str, buckets: &[&str]) {
    let buckets = buckets.iter().map(|name| (*name).to_owned()).collect();
    let component = rig.load("wasmcloud-handler");
    assert_eq!(component.kind(), Kind::Messaging);
    let grants = Grants { buckets, ..Grants::default() };
    rig.add_granted(subscribed(name), Limits::default(), grants, component);
    rig.until(name, "running").await;
}

async fn handler() -> Rig {
    let rig = Rig::new();
    add(&rig, "orders", &[]).await;
    rig
}

/// The answer to `TOPIC BODY`.
async fn check(rig: &Rig, what: &str, expected: &str) {
    let (topic, body) = what.split_once(' ').unwrap_or((what, ""));
    assert_eq!(rig.ask(topic, body).await, expected, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_answers_by_reply_to() {
    let rig = handler().await;
    check(&rig, "orders.echo hello", "hello").await;
    let who = rig.ask("orders.who", "").await;
    assert!(who.starts_with("orders.who Some(\"_INBOX.ron."), "{who}");
    // Nobody waits: there is nowhere to answer to, and that is no error.
    assert_eq!(rig.publish("orders.echo", "hello"), 1);
    check(&rig, "orders.echo again", "again").await;
    assert_eq!(rig.request("orders.silent", "").await, Err(BusError::NoResponder));
    assert_eq!(rig.generation("orders"), 1);
    until("all are handled", || rig.inbox("orders").stats().handled == 5);
    assert_eq!(rig.inbox("orders").stats().dead_lettered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_publishes_and_asks() {
    let rig = handler().await;
    rig.run("echo").await;
    let mut heard = rig.collect("collector", "acme.>").await;
    check(&rig, "orders.publish acme.news it happened", "()").await;
    assert_eq!(heard.next().await, "it happened");
    check(&rig, "orders.publish nobody.hears x", "()").await;
    check(&rig, "orders.ask guest.echo.echo ping", "\"guest.echo.echo ping\"").await;
    check(&rig, "orders.ask nobody.answers x", "error: \"nobody answers on this topic\"").await;
    let answer = rig.ask("orders.publish", "a..b x").await;
    assert!(answer.starts_with("error: \"not a topic: "), "{answer}");
    // An answer is for the message that is handled.
    let answer = rig.ask("orders.publish", "_INBOX.ron.1.1 x").await;
    assert!(answer.starts_with("error: \"_INBOX.ron.1.1 is no message's"), "{answer}");
    let answer = rig.ask("orders.publish-for-answers", "acme.news x").await;
    assert!(answer.starts_with("error: \"a message with a reply-to cannot"), "{answer}");
    assert!(heard.rest().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_a_dead_letter_and_a_trap_a_crash() {
    let rig = handler().await;
    let failed = rig.request("orders.fail", "").await;
    assert_eq!(failed, Err(BusError::Failed("told to fail".into())));
    let dead = || rig.inbox("orders").stats().dead_lettered;
    until("it is a dead letter", || dead() == 1);
    let letters = rig.inbox("orders").dead_letters();
    assert_eq!(letters[0].message.attempt, 1, "it is not delivered again");
    assert_eq!(rig.generation("orders"), 1);

    let mut events = rig.kernel.bus().subscribe();
    assert_eq!(rig.publish("orders.trap", ""), 1);
    let reason = crash_of(&mut events, "orders").await;
    assert_eq!(reason.label(), "panic", "{reason:?}");
    until("so is the other, after its deliveries", || dead() == 2);
    rig.until("orders", "running").await;
    check(&rig, "orders.echo still here", "still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_is_the_services_own_and_the_newest() {
    let rig = handler().await;
    check(&rig, "orders.config key", "None").await;
    let table = |value: &str| {
        let own = BTreeMap::from([("key".to_owned(), value.to_owned())]);
        BTreeMap::from([("orders".to_owned(), own)])
    };
    rig.kernel.config().replace(table("one"));
    check(&rig, "orders.config key", "Some(\"one\")").await;
    rig.kernel.config().replace(table("two"));
    check(&rig, "orders.config-all", "[(\"key\", \"two\")]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_outlives_the_instance() {
    let rig = Rig::new();
    add(&rig, "orders", &["sessions"]).await;
    add(&rig, "users", &["sessions"]).await;
    check(&rig, "orders.keep own set a 1 and more", "()").await;
    check(&rig, "orders.keep own get a", "Some(\"1 and more\")").await;
    check(&rig, "orders.keep own add n 3", "3").await;
    check(&rig, "orders.keep own add n 4", "7").await;
    check(&rig, "orders.keep own keys", "([\"a\", \"n\"], None)").await;
    let many = "Ok(()) Ok([Some((\"a\", \"1\")), None, Some((\"b\", \"2\"))]) Ok(()) Ok(false)";
    check(&rig, "orders.keep own many", many).await;
    // Its own is nobody else's.
    check(&rig, "users.keep own exists n", "false").await;
    check(&rig, "users.keep default keys", "([], None)").await;
    // Shared by name, by whom it is granted.
    check(&rig, "orders.keep sessions set s 1", "()").await;
    check(&rig, "users.keep sessions get s", "Some(\"1\")").await;
    check(&rig, "users.keep other get s", "error: Error::AccessDenied").await;
    assert_eq!(rig.metrics().value("rejected_total{reason=\"denied\"}"), 1.0);

    rig.supervisor.restart(&id("orders"));
    rig.until_health(|| rig.generation("orders") == 2).await;
    rig.until("orders", "running").await;
    check(&rig, "orders.keep own get n", "Some(\"7\")").await;
    check(&rig, "orders.keep own delete n", "()").await;
    check(&rig, "orders.keep own exists n", "false").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_bounded() {
    let rig = handler().await;
    let said = rig.ask("orders.keep", "own fill").await;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("a key of 2000 bytes; at most 1024 are kept"), "{said}");
    assert!(lines[1].contains("a value of 1048577 bytes; at most 1048576 are kept"), "{said}");
    assert!(lines[2].contains("the bucket is full: 16777216 bytes"), "{said}");
    check(&rig, "orders.keep own exists 14", "true").await;
    check(&rig, "orders.keep own exists 15", "false").await;
    assert_eq!(rig.generation("orders"), 1);
}

/// The whole way from `ron.toml`.
#[test]
fn a_deployment_of_wasmclouds_handlers() {
    let text = "[service.orders]\ncomponent = \"components/wasmcloud-handler.wasm\"\n\
                subscribe = [\"orders.*\"]\ngrants.buckets = [\"sessions\"]\n\
                [service.script]\ncomponent = \"components/script.wasm\"\n\
                [service.script.config]\n\
                1 = \"request orders.log careful\"\n\
                2 = \"request orders.keep sessions add n 1\"\n";
    let directory = deployment("wasmcloud", &["wasmcloud-handler", "script"], text);
    let host = start(&directory, "--log-format json", &[]);
    let record = host.says("orders", "careful");
    assert_eq!(
        (&record["level"], &record["fields"]["context"]),
        (&"WARN".into(), &"orders".into())
    );
    let record = host.says("orders", "and worse");
    assert_eq!(
        (&record["level"], &record["fields"]["critical"]),
        (&"ERROR".into(), &"true".into())
    );
    assert_eq!(host.says("script", "logged")["fields"]["step"], "1");
    host.says("script", "1");
    host.says("script", "the script is over");
}
