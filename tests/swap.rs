//! A service's version is replaced while it runs: nothing is lost, repeated or
//! reordered by it, and what goes wrong leaves or brings the old version back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ron_kernel::ServiceSpec;
use ron_kernel::config::{Config, ConfigSnapshot};
use ron_kernel::message::{MailboxBounds, PartitionBy};
use ron_kernel::supervisor::{Cut, Restart, SwapError, SwapOptions, Verdict};
use ron_kernel::topic::TopicFilter;
use ron_runtime::{ComponentService, Limits};

use crate::harness::{Rig, id, spec, within};

/// Swaps a service to a component, under a version that is new each time.
async fn swap(
    rig: &Rig,
    name: &str,
    component: &str,
    options: SwapOptions,
) -> Result<Cut, SwapError> {
    let component = rig.load(component);
    let version = format!("v{}", fastrand::u64(..)).into();
    let make = move || ComponentService::new(component.clone(), Limits::default(), Arc::default());
    within(rig.supervisor.swap(&id(name), version, make, options)).await
}

/// A service's configuration with one value.
fn config(service: &str, key: &str, value: &str) -> Option<Arc<ConfigSnapshot>> {
    let own = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let config = Config::new();
    config.replace(BTreeMap::from([(service.to_owned(), own)]));
    Some(config.snapshot())
}

fn why(refused: Result<Cut, SwapError>) -> String {
    match refused {
        Err(SwapError::Refused { why, .. }) => why,
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_goes_from_one_version_to_the_next() {
    let rig = Rig::new();
    rig.run("counter").await;
    for _ in 0..3 {
        rig.publish("guest.counter.add", "");
    }
    assert_eq!(rig.ask("guest.counter.count", "").await, "3");
    let cut = swap(&rig, "counter", "counter-v2", SwapOptions::default()).await.expect("swapped");
    assert_eq!(cut.generation.0, 2);
    assert_eq!(rig.generation("counter"), 2);
    assert_eq!(rig.ask("guest.counter.add", "").await, "v2 4");

    // The old one does not know the new one's layout.
    let refused = why(swap(&rig, "counter", "counter", SwapOptions::default()).await);
    assert!(refused.contains("refused the state"), "{refused}");
    assert!(refused.contains("schema 2 is not 1"), "{refused}");
    assert_eq!(rig.ask("guest.counter.add", "").await, "v2 5", "the old one goes on");
    assert_eq!(rig.generation("counter"), 2);

    // What takes no state would lose it, unless that is wanted.
    let refused = why(swap(&rig, "counter", "echo", SwapOptions::default()).await);
    assert!(refused.contains("does not export ron:kernel/handover"), "{refused}");
    let options = SwapOptions { discard_state: true, ..SwapOptions::default() };
    swap(&rig, "counter", "echo", options).await.expect("swapped");
    assert_eq!(rig.ask("guest.counter.echo", "hello").await, "hello");
    let refusals = r#"ron_swaps_total{service="counter",outcome="refused"}"#;
    assert_eq!(rig.metrics().find(refusals), Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_probation_brings_the_old_version_back() {
    let rig = Rig::new();
    rig.run("swapper").await;
    let mut effects = rig.collect("ledger", "effects.swapper").await;
    assert_eq!(rig.ask("guest.swapper.do", "a").await, "1");
    assert_eq!(effects.next().await, "a 1");
    let options = SwapOptions {
        config: config("swapper", "fail", "message-panic"),
        ..SwapOptions::default()
    };
    let cut = swap(&rig, "swapper", "swapper", options).await.expect("swapped");
    assert_eq!(effects.next().await, "started 2", "published when its turn came");
    let answer = rig.ask("guest.swapper.do", "b");
    assert_eq!(answer.await, "2", "the message in flight is the old version's");
    let Verdict::PutBack { why } = within(cut.verdict()).await else { panic!("put back") };
    assert!(why.starts_with("told to panic at a message"), "{why}");
    assert_eq!(effects.next().await, "b 2");
    assert_eq!(rig.generation("swapper"), 3, "generations only grow");
    let stats = rig.inbox("swapper").stats();
    assert_eq!((stats.accepted, stats.redelivered, stats.dead_lettered), (2, 1, 0));
    let crashes = rig.supervisor.crashes(&id("swapper"));
    assert_eq!(crashes.iter().map(|crash| crash.generation.0).collect::<Vec<_>>(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_put_back_is_held() {
    let rig = Rig::new();
    rig.run("counter").await;
    let component = rig.load("counter");
    let counter = id("counter");
    let go = |force| {
        let component = component.clone();
        let make =
            move || ComponentService::new(component.clone(), Limits::default(), Arc::default());
        let options = SwapOptions { force, ..SwapOptions::default() };
        within(rig.supervisor.swap(&counter, "b3:bad".into(), make, options))
    };
    let cut = go(false).await.expect("swapped");
    rig.publish("guest.counter.die", "");
    assert!(matches!(within(cut.verdict()).await, Verdict::PutBack { .. }));
    let refused = why(go(false).await);
    assert!(refused.contains("b3:bad was put back"), "{refused}");
    go(true).await.expect("forced");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_up_changes_nothing() {
    async fn check(rig: &Rig, fail: &str, expected: &str) {
        let options =
            SwapOptions { config: config("swapper", "fail", fail), ..SwapOptions::default() };
        let refused = why(swap(rig, "swapper", "swapper", options).await);
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(rig.generation("swapper"), 1);
    }
    let rig = Rig::new();
    rig.run("swapper").await;
    let mut effects = rig.collect("ledger", "effects.swapper").await;
    check(&rig, "start-error", "start-failed: told to fail in start").await;
    check(&rig, "start-panic", "panic: told to panic in start").await;
    check(&rig, "restore-refuse", "refused the state: told to refuse the state").await;
    check(&rig, "restore-panic", "panic: told to panic in restore").await;
    rig.publish("guest.swapper.arm", "save-error");
    check(&rig, "", "could not save its state: told to refuse to save").await;
    assert_eq!(rig.ask("guest.swapper.do", "a").await, "1");
    assert_eq!(effects.next().await, "a 1", "no start of the others was seen");
    assert_eq!(rig.supervisor.crashes(&id("swapper")).len(), 0);
}

/// A thousand swaps, half of which fail at some step, under a publisher that
/// never pauses, against a ledger that the host does not keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_lose_repeat_and_reorder_nothing() {
    const SWAPS: usize = 1000;
    const FAILURES: [&str; 8] = [
        "start-error",
        "start-panic",
        "restore-refuse",
        "restore-panic",
        "message-panic",
        "failing",
        "save-error",
        "save-panic",
    ];
    let rig = Rig::new();
    let spec = ServiceSpec {
        restart: Restart { budget: u32::MAX, ..Restart::default() },
        mailbox: MailboxBounds { messages: 1 << 20, ..MailboxBounds::default() },
        ..spec("swapper")
    };
    rig.add(spec, Limits::default(), "swapper");
    rig.until("swapper", "running").await;
    let mut effects = rig.collect("ledger", "effects.swapper").await;
    let component = rig.load("swapper");
    let done = Arc::new(AtomicBool::new(false));
    let publisher = tokio::spawn({
        let (inbox, done) = (rig.inbox("swapper"), Arc::clone(&done));
        let mut publisher = rig.publisher("outside");
        async move {
            let mut sent = 0u64;
            while !done.load(Ordering::Relaxed) {
                // It never pauses, and never outruns the mailbox.
                while inbox.stats().queued > 256 {
                    tokio::task::yield_now().await;
                }
                sent += 1;
                let payload = Bytes::from(sent.to_string());
                assert_eq!(publisher.publish("guest.swapper.do", payload), Ok(1));
            }
            sent
        }
    });
    let mut random = fastrand::Rng::with_seed(7);
    let (mut cut, mut refused, mut put_back) = (0, 0, 0);
    for round in 0..SWAPS {
        let fail = if random.bool() { random.choice(FAILURES).expect("some") } else { "" };
        if fail.starts_with("save") {
            rig.ask("guest.swapper.arm", fail).await;
        }
        let component = component.clone();
        let make =
            move || ComponentService::new(component.clone(), Limits::default(), Arc::default());
        let options =
            SwapOptions { config: config("swapper", "fail", fail), ..SwapOptions::default() };
        let version = format!("round-{round}").into();
        match within(rig.supervisor.swap(&id("swapper"), version, make, options)).await {
            Ok(done) => {
                cut += 1;
                if matches!(fail, "message-panic" | "failing") {
                    let verdict = within(done.verdict()).await;
                    assert!(matches!(verdict, Verdict::PutBack { .. }), "{fail}: {verdict:?}");
                    put_back += 1;
                } else {
                    assert_eq!(fail, "", "round {round}");
                }
            }
            Err(SwapError::Refused { why, .. }) => {
                assert_ne!(fail, "", "round {round}: {why}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    let sent = publisher.await.expect("it ends");
    assert_eq!(cut + refused, SWAPS);
    assert!(refused > 200 && put_back > 50, "{cut} cut, {refused} refused, {put_back} put back");

    let mut expected = 1;
    let mut count = 0;
    let mut counts_kept = 0u64;
    while expected <= sent {
        let entry = effects.next().await;
        let (first, second) = entry.split_once(' ').expect("two words");
        if first == "started" {
            continue;
        }
        assert_eq!(first.parse(), Ok(expected), "lost, repeated or out of order");
        expected += 1;
        let now: u64 = second.parse().expect("a count");
        counts_kept += u64::from(now == count + 1);
        count = now;
    }
    let rest = effects.rest();
    assert!(rest.iter().all(|message| message.payload.starts_with(b"started")), "{rest:?}");
    // A count starts anew where the old version died in its save, and falls
    // back where a version was put back; everywhere else it went over.
    assert!(sent - counts_kept <= (refused + put_back) as u64, "{counts_kept} of {sent}");
    let stats = rig.inbox("swapper").stats();
    assert!(stats.balances(), "{stats:?}");
    assert_eq!((stats.dead_lettered, stats.dropped_oldest), (0, 0));
}

/// For what no change of the service's health tells of.
async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_mailbox_and_are_swapped_together() {
    let rig = Rig::new();
    let spec = ServiceSpec { replicas: 3, ..spec("swapper") };
    rig.add(spec, Limits::default(), "swapper");
    let running = |rig: &Rig| {
        let status = rig.supervisor.status(&id("swapper")).expect("it is there");
        status.replicas.iter().filter(|replica| replica.state == "running").count() == 3
    };
    until(|| running(&rig)).await;
    let mut effects = rig.collect("ledger", "effects.swapper").await;
    for sent in 0..30 {
        rig.publish("guest.swapper.do", &sent.to_string());
    }
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..30 {
        let entry = effects.next().await;
        seen.push(entry.split(' ').next().expect("a word").parse().expect("a number"));
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..30), "each message went to one of them");

    // One of the three will not save, so none is swapped.
    assert_eq!(rig.ask("guest.swapper.arm", "save-error").await, "armed");
    let refused = why(swap(&rig, "swapper", "swapper", SwapOptions::default()).await);
    assert!(refused.contains("told to refuse to save"), "{refused}");
    let versions = |rig: &Rig| {
        let status = rig.supervisor.status(&id("swapper")).expect("it is there");
        status.replicas.into_iter().map(|replica| replica.version).collect::<Vec<_>>()
    };
    until(|| running(&rig) && versions(&rig).iter().all(|version| **version == *"1")).await;

    let cut = swap(&rig, "swapper", "swapper", SwapOptions::default()).await.expect("swapped");
    assert!(cut.generation.0 >= 3);
    assert!(versions(&rig).iter().all(|version| **version != *"1"));
    let stats = rig.inbox("swapper").stats();
    assert!(stats.balances(), "{stats:?}");

    // More of them, and fewer.
    let component = rig.load("swapper");
    for replicas in [5, 1] {
        let component = component.clone();
        let make =
            move || ComponentService::new(component.clone(), Limits::default(), Arc::default());
        let spec = ServiceSpec { replicas, ..crate::harness::spec("swapper") };
        assert!(within(rig.supervisor.scale_on(rig.runtime.handle(), &spec, make)).await);
        until(|| {
            let status = rig.supervisor.status(&id("swapper")).expect("it is there");
            status.replicas.len() == replicas
                && status.replicas.iter().all(|r| r.state == "running")
        })
        .await;
        assert!(rig.request("guest.swapper.do", "x").await.is_ok());
    }
    let status = rig.supervisor.status(&id("swapper")).expect("it is there");
    assert_eq!(status.detail.as_deref(), Some("on probation after a swap"), "and no replica fails");
}

/// Each replica counts for itself, so the counts tell which of them has a key.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_partitioned_stays_with_one_replica() {
    const KEYS: u64 = 30;
    let rig = Rig::new();
    let mut spec = ServiceSpec { replicas: 3, ..spec("counter") };
    spec.mailbox.partition_by = PartitionBy::Topic;
    spec.subscribe = ["keys.*.add", "keys.*.die"]
        .map(|filter| TopicFilter::parse(filter).expect("a filter"))
        .into();
    rig.add(spec, Limits::default(), "counter");
    let count = async |key: u64| {
        let count = rig.ask(&format!("keys.{key}.add"), "").await;
        count.parse::<u64>().expect("a number")
    };
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let mut round = Vec::new();
        for key in 0..KEYS {
            round.push(count(key).await);
        }
        rounds.push(round);
    }
    for key in 0..KEYS as usize {
        let grew: Vec<u64> = rounds.windows(2).map(|two| two[1][key] - two[0][key]).collect();
        assert_eq!(grew, [grew[0]; 3], "the keys of one replica, in every round: {rounds:?}");
        assert!(grew[0] < KEYS, "it has not all of them");
    }

    // What is for one that crashed waits for it, and its keys stay with it.
    let first = |key: &u64| rounds[0][*key as usize] == 1;
    let firsts: Vec<u64> = (0..KEYS).filter(first).collect();
    assert_eq!(firsts.len(), 3, "each has some");
    rig.publish("keys.0.die", "");
    let mut anew = 0;
    for first in firsts {
        anew += u32::from(count(first).await == 1);
    }
    assert_eq!(anew, 1, "one is another instance, and the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_for_anothers_sake_keeps_its_state() {
    let rig = Rig::new();
    rig.run("counter").await;
    rig.ask("guest.counter.add", "").await;
    let cut = swap(&rig, "counter", "counter", SwapOptions::default()).await.expect("swapped");
    assert_eq!(rig.ask("guest.counter.add", "").await, "2");
    assert!(rig.supervisor.put_back(&id("counter"), "another service failed"));
    let verdict = within(cut.verdict()).await;
    assert_eq!(verdict, Verdict::PutBack { why: "another service failed".into() });
    assert_eq!(rig.ask("guest.counter.add", "").await, "3", "counted by both");
    assert_eq!(rig.generation("counter"), 3);
}

/// One of three learns that the new version is bad, and none stays at it: not
/// when the probation is over either.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_were_swapped_together_go_back_together() {
    let rig = Rig::new();
    let spec = ServiceSpec { replicas: 3, ..spec("swapper") };
    rig.add(spec, Limits::default(), "swapper");
    let status = || rig.supervisor.status(&id("swapper")).expect("it is there");
    let versions = || status().replicas.iter().map(|one| one.version.clone()).collect::<Vec<_>>();
    until(|| status().replicas.iter().all(|replica| replica.state == "running")).await;
    let options = SwapOptions {
        config: config("swapper", "fail", "message-panic"),
        ..SwapOptions::default()
    };
    let cut = swap(&rig, "swapper", "swapper", options).await.expect("swapped");
    assert!(versions().iter().all(|version| **version != *"1"));
    assert_eq!(rig.ask("guest.swapper.do", "a").await, "1", "answered by an old one");
    let Verdict::PutBack { why } = within(cut.verdict()).await else { panic!("put back") };
    assert!(why.starts_with("told to panic at a message"), "{why}");
    assert!(versions().iter().all(|version| **version == *"1"), "{:?}", versions());
    let outcomes = ["committed", "rolled-back"].map(|outcome| {
        let series = format!(r#"ron_swaps_total{{service="swapper",outcome="{outcome}"}}"#);
        rig.metrics().find(&series).unwrap_or_default()
    });
    assert_eq!(outcomes, [0.0, 1.0], "it was one swap");
    let stats = rig.inbox("swapper").stats();
    assert!(stats.balances() && stats.dead_lettered == 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_costs_a_message_no_delivery() {
    let rig = Rig::new();
    let mailbox = MailboxBounds { max_deliveries: 1, ..MailboxBounds::default() };
    rig.add(ServiceSpec { mailbox, ..spec("swapper") }, Limits::default(), "swapper");
    rig.until("swapper", "running").await;
    let options = SwapOptions {
        config: config("swapper", "fail", "message-panic"),
        ..SwapOptions::default()
    };
    let cut = swap(&rig, "swapper", "swapper", options).await.expect("swapped");
    assert_eq!(rig.ask("guest.swapper.do", "a").await, "1", "the old version has handled it");
    assert!(matches!(within(cut.verdict()).await, Verdict::PutBack { .. }));
    assert!(rig.inbox("swapper").dead_letters().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_not_wanted_is_neither_saved_nor_read() {
    let rig = Rig::new();
    let too_much = BTreeMap::from([("state".to_owned(), "2000000".to_owned())]);
    rig.kernel.config().replace(BTreeMap::from([("swapper".to_owned(), too_much)]));
    rig.run("swapper").await;
    assert_eq!(rig.ask("guest.swapper.do", "a").await, "1");
    let refused = why(swap(&rig, "swapper", "swapper", SwapOptions::default()).await);
    assert!(refused.contains("a state of 2000000 bytes"), "{refused}");
    let options = SwapOptions { discard_state: true, ..SwapOptions::default() };
    swap(&rig, "swapper", "swapper", options).await.expect("swapped");
    assert_eq!(rig.ask("guest.swapper.do", "b").await, "1", "it counts anew");
}
