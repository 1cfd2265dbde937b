//! A message that was taken in is handled, or lies among the dead letters, or
//! was dropped and counted: none is lost without a word.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ron_kernel::message::{Answer, BusError, MAX_FRAME, Message, Overflow};
use ron_kernel::service::{Crash, Service};
use ron_kernel::supervisor::Restart;
use ron_kernel::{Context, CrashReason, Incoming, ServiceSpec};
use ron_runtime::Limits;
use tokio::sync::mpsc;

use crate::harness::{Collected, Rig, crash_of, id, spec, within};

/// Restarts at once, as often as it takes.
fn undaunted(name: &str) -> ServiceSpec {
    let restart = Restart { budget: u32::MAX, first_delay: Duration::ZERO, ..Restart::default() };
    ServiceSpec { restart, ..spec(name) }
}

/// The component that tells of each delivery, and what it tells.
async fn ledger(rig: &Rig, spec: ServiceSpec) -> Entries {
    let entries = rig.collect("collector", "ledger.>").await;
    rig.add(spec, Limits::default(), "ledger");
    rig.until("ledger", "running").await;
    Entries(entries)
}

struct Entries(Collected);

/// One delivery.
#[derive(Debug)]
struct Entry {
    attempt: u32,
    id: u64,
    source: String,
    payload: String,
}

impl Entry {
    fn of(message: &Message) -> Self {
        let text = String::from_utf8(message.payload.to_vec()).expect("text");
        let mut words = text.splitn(4, ' ').map(str::to_owned);
        let mut word = || words.next().expect("four words");
        let number = "a number";
        Self {
            attempt: word().parse().expect(number),
            id: word().parse().expect(number),
            source: word(),
            payload: word(),
        }
    }
}

impl Entries {
    async fn next(&mut self) -> Entry {
        Entry::of(&self.0.message().await)
    }

    /// The next ones, as `ATTEMPT PAYLOAD`.
    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            let entry = self.next().await;
            told.push(format!("{} {}", entry.attempt, entry.payload));
        }
        told
    }
}

/// Stops the service, so that all it settled is counted.
async fn settled(rig: &Rig, name: &str) -> ron_kernel::message::Stats {
    rig.supervisor.stop(&id(name));
    rig.until(name, "stopped").await;
    let stats = rig.inbox(name).stats();
    assert!(stats.balances(), "{stats:?}");
    stats
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_flight_at_a_crash_comes_again() {
    let rig = Rig::new();
    let mut entries = ledger(&rig, undaunted("ledger")).await;
    assert_eq!(rig.ask("guest.ledger.do", "die-until 3").await, "die-until 3");
    let first = entries.next().await;
    assert_eq!((first.attempt, first.source.as_str()), (1, "test"));
    for attempt in 2..=3 {
        let again = entries.next().await;
        assert_eq!((again.attempt, again.id), (attempt, first.id), "the same message");
    }
    assert_eq!(rig.generation("ledger"), 3);
    let stats = settled(&rig, "ledger").await;
    assert_eq!((stats.accepted, stats.handled, stats.redelivered), (1, 1, 2));
    assert_eq!(stats.dead_lettered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_deliveries_it_is_a_dead_letter() {
    let rig = Rig::new();
    let mut entries = ledger(&rig, undaunted("ledger")).await;
    let mut events = rig.kernel.bus().subscribe();
    let answer = rig.request("guest.ledger.do", "die").await;
    let reason = crash_of(&mut events, "ledger").await;
    assert_eq!(answer, Err(BusError::Failed(reason.to_string())));
    assert_eq!(entries.told(3).await, ["1 die", "2 die", "3 die"]);
    // What came behind it is handled, and it is not among that.
    assert_eq!(rig.ask("guest.ledger.do", "well").await, "well");
    assert_eq!(entries.told(1).await, ["1 well"]);

    let dead = rig.inbox("ledger").dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0].message.payload[..], dead[0].message.attempt), (&b"die"[..], 3));
    assert_eq!(dead[0].message.topic(), "guest.ledger.do");
    assert!(dead[0].why.starts_with("told to die (at "), "{}", dead[0].why);

    // Replayed, it is a new message.
    assert_eq!(rig.inbox("ledger").replay_dead_letters(), 1);
    assert_eq!(entries.told(3).await, ["1 die", "2 die", "3 die"]);
    assert_eq!(rig.ask("guest.ledger.do", "well").await, "well");
    let stats = settled(&rig, "ledger").await;
    assert_eq!((stats.accepted, stats.handled, stats.dead_lettered), (4, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_rejects_and_retries_without_a_crash() {
    let rig = Rig::new();
    let mut entries = ledger(&rig, spec("ledger")).await;
    let failed = |text: &str| Err(BusError::Failed(text.into()));
    assert_eq!(rig.request("guest.ledger.do", "reject").await, failed("reject"));
    assert_eq!(rig.request("guest.ledger.do", "retry").await, failed("retry"));
    assert_eq!(rig.ask("guest.ledger.do", "retry-until 2").await, "retry-until 2");
    let told = ["1 reject", "1 retry", "2 retry", "3 retry", "1 retry-until 2", "2 retry-until 2"];
    assert_eq!(entries.told(6).await, told);
    assert_eq!(rig.generation("ledger"), 1);
    let dead = rig.inbox("ledger").dead_letters();
    assert_eq!(
        dead.iter().map(|letter| letter.why.as_str()).collect::<Vec<_>>(),
        ["reject", "retry"]
    );
    let stats = settled(&rig, "ledger").await;
    assert_eq!((stats.handled, stats.dead_lettered, stats.redelivered), (1, 2, 3));
    let metrics = rig.metrics();
    assert_eq!(metrics.value("ron_mailbox_dead_lettered_total{service=\"ledger\"}"), 2.0);
    assert_eq!(metrics.value("ron_mailbox_redelivered_total{service=\"ledger\"}"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_keeps_its_place() {
    let rig = Rig::new();
    let mut entries = ledger(&rig, undaunted("ledger")).await;
    let mut publisher = rig.publisher("test");
    for payload in ["a", "retry-until 3", "b", "die-until 2", "c"] {
        assert_eq!(publisher.publish("guest.ledger.do", payload.into()), Ok(1));
    }
    let told = entries.told(8).await;
    let expected = [
        "1 a",
        "1 retry-until 3",
        "2 retry-until 3",
        "3 retry-until 3",
        "1 b",
        "1 die-until 2",
        "2 die-until 2",
        "1 c",
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_publishers_messages_come_in_order() {
    const EACH: usize = 500;
    let rig = Rig::new();
    let mut own = undaunted("ledger");
    own.mailbox.messages = 2 * EACH;
    let mut entries = ledger(&rig, own).await;
    let publishers = ["left", "right"].map(|source| {
        let mut publisher = rig.publisher(source);
        std::thread::spawn(move || {
            for number in 0..EACH {
                // Crashes in between change nothing.
                let payload = if number % 100 == 7 {
                    format!("die-until 2 {number}")
                } else {
                    format!("n {number}")
                };
                assert_eq!(publisher.publish("guest.ledger.do", payload.into()), Ok(1));
            }
        })
    });
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids = Vec::new();
    let repeated = 2 * EACH / 100;
    for _ in 0..2 * EACH + repeated {
        let entry = entries.next().await;
        let number: usize =
            entry.payload.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        let expected =
            last.get(&entry.source).map_or(0, |last| last + usize::from(entry.attempt == 1));
        assert_eq!(number, expected, "{entry:?}");
        last.insert(entry.source, number);
        ids.push(entry.id);
    }
    assert_eq!(last.into_values().collect::<Vec<_>>(), [EACH - 1, EACH - 1]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2 * EACH, "ids are unique");
    for publisher in publishers {
        publisher.join().expect("every message was taken in");
    }
}

/// A mixed load in which a third of all messages fails in one way or another:
/// afterwards every message has the end that it had coming.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_accounted_for() {
    const ROUNDS: u64 = 60;
    let mix = ["a", "die", "b", "retry", "c", "reject", "d", "die-until 3", "e", "retry-until 2"];
    let rig = Rig::new();
    let mut own = undaunted("ledger");
    own.mailbox.messages = 10_000;
    let mut entries = ledger(&rig, own).await;
    let mut publisher = rig.publisher("test");
    for _ in 0..ROUNDS {
        for payload in mix {
            assert_eq!(publisher.publish("guest.ledger.do", payload.into()), Ok(1));
            let stats = rig.inbox("ledger").stats();
            assert!(stats.balances(), "at any time: {stats:?}");
        }
    }
    assert_eq!(rig.ask("guest.ledger.do", "the end").await, "the end");
    let stats = settled(&rig, "ledger").await;
    assert_eq!(stats.accepted, 10 * ROUNDS + 1);
    assert_eq!(stats.handled, 7 * ROUNDS + 1);
    assert_eq!(stats.dead_lettered, 3 * ROUNDS);
    assert_eq!(stats.redelivered, (2 + 2 + 2 + 1) * ROUNDS);
    assert_eq!((stats.queued, stats.in_flight, stats.dropped_oldest), (0, 0, 0));
    // Three crashes for each `die`, two for each `die-until 3`.
    assert_eq!(rig.generation("ledger"), 5 * ROUNDS + 1);
    let mut deliveries: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let entry = entries.next().await;
        if entry.payload == "the end" {
            break;
        }
        *deliveries.entry(entry.payload).or_default() += 1;
    }
    for (payload, each) in [
        ("a", 1),
        ("die", 3),
        ("retry", 3),
        ("reject", 1),
        ("die-until 3", 3),
        ("retry-until 2", 2),
    ] {
        assert_eq!(deliveries[payload], each * ROUNDS, "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_one_way_or_another() {
    /// Holds what it is asked, for ever or until it is dropped.
    struct Holds;
    impl Service for Holds {
        async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
            context.subscribe("hold").expect("a filter");
            context.started();
            while !matches!(context.next().await, Incoming::Message(_)) {}
            std::future::pending().await
        }
    }
    /// Asks `hold`, and tells what became of it.
    struct Asks(mpsc::UnboundedSender<Answer>);
    impl Service for Asks {
        async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
            context.started();
            let answer = context.request("hold", "x", Duration::from_millis(1)).await;
            self.0.send(answer).expect("the test waits for it");
            std::future::pending().await
        }
    }

    let rig = Rig::new();
    rig.run("echo").await;
    assert_eq!(rig.request("guest.echo.echo", "hello").await, Ok(Bytes::from("hello")));
    assert_eq!(rig.request("guest.echo.echo", "").await, Ok(Bytes::new()), "an empty answer");
    assert_eq!(rig.request("guest.nobody.echo", "").await, Err(BusError::NoResponder));
    let silent = rig.request("guest.echo.sink", "").await;
    assert_eq!(silent, Err(BusError::NoResponder), "it was handled, and not answered");

    rig.supervisor.add(spec("holds"), || Holds).expect("a new service");
    rig.until("holds", "running").await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let make = move || Asks(sender.clone());
    rig.supervisor.add(spec("asks"), make).expect("a new service");
    assert_eq!(within(told.recv()).await, Some(Err(BusError::Timeout)));

    // What it held is answered for when it goes.
    let waiting = rig.publisher("test").request("hold", Bytes::new()).expect("sent");
    assert!(within(rig.supervisor.remove(&id("asks"))).await, "it hears of no stop");
    drop(rig);
    assert_eq!(within(waiting).await, Ok(Err(BusError::NoResponder)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_counts() {
    let rig = Rig::new();
    for name in ["one", "two"] {
        let mut own = spec(name);
        own.subscribe = vec![ron_kernel::topic::TopicFilter::parse("both").expect("a filter")];
        rig.add(own, Limits::default(), "echo");
        rig.until(name, "running").await;
    }
    let mut own = spec("failures");
    own.subscribe = vec![ron_kernel::topic::TopicFilter::parse("both").expect("a filter")];
    rig.add(own, Limits::default(), "failures");
    rig.until("failures", "running").await;
    assert_eq!(rig.ask("both", "once").await, "once");
    for (name, handled) in [("one", 2), ("two", 2), ("failures", 2)] {
        // Behind it, since a wish to stop would overtake it.
        rig.ask(&format!("guest.{name}.echo"), "last").await;
        assert_eq!(settled(&rig, name).await.handled, handled, "{name} got it");
    }
}

/// Five messages for a mailbox of two that nobody empties yet.
async fn check_overflow(overflow: Overflow, expected: [Result<u32, BusError>; 5], kept: [&str; 2]) {
    let rig = Rig::new();
    let mut own = spec("ledger");
    own.mailbox.messages = 2;
    own.mailbox.overflow = overflow;
    let mut entries = ledger(&rig, own).await;
    rig.supervisor.stop(&id("ledger"));
    rig.until("ledger", "stopped").await;
    let mut publisher = rig.publisher("test");
    let results = ["1", "2", "3", "4", "5"].map(|n| publisher.publish("guest.ledger.do", n.into()));
    assert_eq!(results, expected);
    let policy = serde_json::to_value(overflow).expect("a name");
    let dropped = format!(
        "ron_mailbox_dropped_total{{policy=\"{}\",service=\"ledger\"}}",
        policy.as_str().expect("a name")
    );
    assert_eq!(rig.metrics().value(&dropped), 3.0);
    assert_eq!(rig.metrics().value("ron_mailbox_messages{service=\"ledger\"}"), 2.0);
    rig.supervisor.start(&id("ledger"));
    assert_eq!(entries.told(2).await, kept.map(|payload| format!("1 {payload}")));
    let stats = settled(&rig, "ledger").await;
    assert_eq!((stats.handled, stats.queued), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_does_as_its_policy_says() {
    let full = || Err(BusError::Overloaded);
    check_overflow(Overflow::DropOldest, [Ok(1), Ok(1), Ok(1), Ok(1), Ok(1)], ["4", "5"]).await;
    check_overflow(Overflow::DropNewest, [Ok(1), Ok(1), Ok(0), Ok(0), Ok(0)], ["1", "2"]).await;
    check_overflow(Overflow::Reject, [Ok(1), Ok(1), full(), full(), full()], ["1", "2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_has_a_limit_and_arrives_whole() {
    let rig = Rig::new();
    rig.run("echo").await;
    let mut publisher = rig.publisher("test");
    let payload: Vec<u8> = (0..MAX_FRAME).map(|n| (n % 251) as u8).collect();
    let answer = publisher.request("guest.echo.echo", payload.clone().into()).expect("sent");
    assert_eq!(within(answer).await.expect("an answer"), Ok(payload.clone().into()));
    let more = [&payload[..], b"x"].concat();
    let refused = publisher.publish("guest.echo.sink", more.into());
    assert_eq!(refused, Err(BusError::PayloadTooLarge { limit: MAX_FRAME as u64 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_passes_messages_on() {
    let rig = Rig::new();
    rig.kernel.config().replace(BTreeMap::from([
        (
            "a".into(),
            BTreeMap::from([("listen".into(), "in".into()), ("next".into(), "mid".into())]),
        ),
        (
            "b".into(),
            BTreeMap::from([("listen".into(), "mid".into()), ("next".into(), "out".into())]),
        ),
    ]));
    let mut out = rig.collect("collector", "out").await;
    for name in ["a", "b"] {
        rig.add(spec(name), Limits::default(), "hop");
        rig.until(name, "running").await;
    }
    assert_eq!(rig.publish("in", "parcel"), 1);
    let message = out.message().await;
    assert_eq!((&message.payload[..], message.source()), (&b"parcel"[..], "b"));
}

/// Publishes to a bulk service while it is stopped, so that all wait together.
async fn bulk(rig: &Rig, payloads: &[&str]) {
    rig.supervisor.stop(&id("bulk-echo"));
    rig.until("bulk-echo", "stopped").await;
    for payload in payloads {
        assert_eq!(rig.publish("guest.bulk-echo.echo", payload), 1);
    }
    rig.supervisor.start(&id("bulk-echo"));
    rig.until("bulk-echo", "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_go_by_the_batch() {
    let rig = Rig::new();
    rig.run("bulk-echo").await;
    bulk(&rig, &["x"; 30]).await;
    let answer = rig.ask("guest.bulk-echo.count", "").await;
    let (messages, calls) = answer.split_once(' ').expect("two numbers");
    assert_eq!(messages, "30");
    // One for the batch; the question itself may be a call of its own.
    assert!(["1", "2"].contains(&calls), "{answer}");
    assert_eq!(settled(&rig, "bulk-echo").await.handled, 31);
}

/// Each message of a batch has an outcome of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_fails_message_by_message() {
    let rig = Rig::new();
    rig.run("bulk-echo").await;
    bulk(&rig, &["a", "reject", "b", "retry", "c"]).await;
    assert_eq!(rig.ask("guest.bulk-echo.echo", "answered").await, "answered");
    let dead = rig.inbox("bulk-echo").dead_letters();
    let dead: Vec<_> =
        dead.iter().map(|letter| (letter.why.as_str(), letter.message.attempt)).collect();
    assert_eq!(dead, [("told to reject", 1), ("told to retry", 3)]);
    let stats = settled(&rig, "bulk-echo").await;
    assert_eq!((stats.handled, stats.dead_lettered, stats.redelivered), (4, 2, 2));
    assert_eq!(rig.supervisor.crashes(&id("bulk-echo")).len(), 0);
}

/// A trap in a batch costs the one at fault and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_traps_finds_the_one_at_fault() {
    let rig = Rig::new();
    rig.add(undaunted("bulk-echo"), Limits::default(), "bulk-echo");
    rig.until("bulk-echo", "running").await;
    bulk(&rig, &["a", "b", "c", "die", "d", "e", "f"]).await;
    assert_eq!(rig.ask("guest.bulk-echo.echo", "alive").await, "alive");
    let dead = rig.inbox("bulk-echo").dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0].message.payload[..], dead[0].message.attempt), (&b"die"[..], 3));
    let crashes = rig.supervisor.crashes(&id("bulk-echo"));
    assert_eq!(crashes.len(), 3, "with the others, and twice alone");
    assert!(crashes.iter().all(|crash| matches!(crash.reason, CrashReason::Panic { .. })));
    let stats = settled(&rig, "bulk-echo").await;
    assert_eq!((stats.accepted, stats.handled, stats.dead_lettered), (8, 7, 1));
    // All seven once more, and the one at fault yet again.
    assert_eq!(stats.redelivered, 8);
}

/// With a single delivery a message, those that only shared a batch with the
/// one at fault have not had theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_traps_costs_the_others_nothing() {
    let rig = Rig::new();
    let mut own = undaunted("bulk-echo");
    own.mailbox.max_deliveries = 1;
    rig.add(own, Limits::default(), "bulk-echo");
    rig.until("bulk-echo", "running").await;
    bulk(&rig, &["a", "die", "b"]).await;
    assert_eq!(rig.ask("guest.bulk-echo.echo", "alive").await, "alive");
    let stats = settled(&rig, "bulk-echo").await;
    assert_eq!((stats.handled, stats.dead_lettered), (3, 1));
}
