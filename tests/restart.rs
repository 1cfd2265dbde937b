//! A service that ends is started again, within reason: back-off, budget,
//! quarantine, groups; and what is told to stop stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ron_kernel::message::BusError;
use ron_kernel::service::{Crash, Service};
use ron_kernel::supervisor::{Group, Restart, RestartPolicy, Strategy};
use ron_kernel::{Context, CrashReason, Incoming, KernelEvent, ServiceSpec};
use ron_runtime::Limits;
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::{Rig, crash_of, id, spec, within};

/// Longer than any test.
const AGES: Duration = Duration::from_secs(24 * 3600);

fn quick(name: &str, budget: u32) -> ServiceSpec {
    let restart = Restart { budget, first_delay: Duration::from_millis(1), ..Restart::default() };
    ServiceSpec { restart, ..spec(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_ends_in_quarantine() {
    let rig = Rig::new();
    let server = rig.serve().await;
    rig.kernel.health().gate("config", true);
    rig.add(
        ServiceSpec { critical: true, ..quick("start-error", 3) },
        Limits::default(),
        "start-error",
    );

    let (service, reason) = within(rig.supervisor.critical_failure()).await;
    let expected = CrashReason::Start { message: "told to fail in start".into() };
    assert_eq!((service, &reason), (id("start-error"), &expected));
    rig.until("start-error", "quarantined").await;
    assert_eq!(rig.generation("start-error"), 4, "the first, and three restarts");
    assert_eq!(rig.supervisor.crashes(&id("start-error")).len(), 4);
    let metrics = rig.metrics();
    assert_eq!(metrics.value("service_restarts_total{service=\"start-error\"}"), 3.0);
    assert_eq!(
        metrics.value("ron_service_state{service=\"start-error\",state=\"quarantined\"}"),
        1.0
    );
    let page = server.get("/readyz?verbose").await;
    assert_eq!(page.status, 503);
    assert_eq!(page.json()["missing"], json!(["start-error"]));
    assert_eq!(
        page.json()["services"]["start-error"]["detail"],
        "start-failed: told to fail in start"
    );

    // A restart is not enough, and its crashes are forgotten by a start.
    rig.supervisor.restart(&id("start-error"));
    rig.supervisor.start(&id("start-error"));
    rig.until_health(|| rig.generation("start-error") == 8).await;
    rig.until("start-error", "quarantined").await;
    assert_eq!(rig.generation("start-error"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_quarantine_answers_nobody_and_keeps_its_mail() {
    let rig = Rig::new();
    let mut own = quick("panic", 0);
    own.mailbox.max_deliveries = 1;
    rig.add(own, Limits::default(), "panic");
    rig.until("panic", "running").await;
    rig.publish("guest.panic.die", "now");
    rig.until("panic", "quarantined").await;
    let answer = rig.request("guest.panic.echo", "anybody").await;
    assert_eq!(answer, Err(BusError::Failed("panic is quarantined".into())));
    assert_eq!(rig.publish("guest.panic.echo", "later"), 1);
    rig.supervisor.start(&id("panic"));
    rig.until("panic", "running").await;
    assert_eq!(rig.ask("guest.panic.echo", "again").await, "again");
    rig.supervisor.stop(&id("panic"));
    rig.until("panic", "stopped").await;
    let stats = rig.inbox("panic").stats();
    assert_eq!((stats.accepted, stats.handled, stats.dead_lettered), (3, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_a_critical_service() {
    let rig = Rig::new();
    let server = rig.serve().await;
    rig.kernel.health().gate("config", true);
    rig.add(ServiceSpec { critical: true, ..spec("echo") }, Limits::default(), "echo");
    rig.run("counter").await;
    rig.until("echo", "running").await;
    assert_eq!(server.get("/readyz").await.json(), json!({"ready": true}));

    rig.supervisor.stop(&id("counter"));
    rig.until("counter", "stopped").await;
    assert_eq!(server.get("/readyz").await.status, 200, "it is not needed");
    assert_eq!(server.get("/readyz/counter").await.status, 503);

    rig.supervisor.stop(&id("echo"));
    rig.until("echo", "stopped").await;
    let page = server.get("/readyz").await;
    assert_eq!((page.status, page.header("retry-after")), (503, "3"));
    assert_eq!(page.json(), json!({"ready": false, "missing": ["echo"]}));
    assert_eq!(server.get("/healthz").await.status, 200);

    rig.supervisor.start(&id("echo"));
    rig.until("echo", "running").await;
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_start_and_restart_are_no_crashes() {
    let rig = Rig::new();
    let mut events = rig.kernel.bus().subscribe();
    rig.run("counter").await;
    let count = async || rig.ask("guest.counter.count", "").await;
    rig.ask("guest.counter.add", "").await;
    assert_eq!(count().await, "1");

    rig.supervisor.stop(&id("counter"));
    rig.until("counter", "stopped").await;
    let answer = rig.request("guest.counter.count", "").await;
    assert_eq!(answer, Err(BusError::Failed("counter is stopped".into())));
    // What nobody waits for is kept.
    assert_eq!(rig.publish("guest.counter.add", ""), 1);
    rig.supervisor.start(&id("counter"));
    rig.until("counter", "running").await;
    assert_eq!(count().await, "1", "a fresh instance, and the message that waited");
    assert_eq!(rig.generation("counter"), 2);

    rig.supervisor.restart(&id("counter"));
    rig.until_health(|| rig.generation("counter") == 3).await;
    rig.until("counter", "running").await;
    assert_eq!(count().await, "0");

    assert_eq!(
        rig.metrics().find("service_crashes_total{reason=\"deadline\",service=\"counter\"}"),
        None
    );
    assert_eq!(rig.metrics().value("service_restarts_total{service=\"counter\"}"), 0.0);
    let mut health = Vec::new();
    while let Ok(event) = events.try_recv() {
        let KernelEvent::Health { service, ok } = event else { panic!("{event:?}") };
        assert_eq!(service, "counter");
        health.push(ok);
    }
    assert_eq!(health, [true, false, true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_out_a_backoff() {
    let rig = Rig::new();
    for name in ["one", "two"] {
        let mut own = quick(name, 5);
        own.restart.first_delay = AGES;
        own.restart.max_delay = AGES;
        rig.add(own, Limits::default(), "start-error");
        rig.until(name, "backoff").await;
    }
    rig.supervisor.stop(&id("one"));
    rig.until("one", "stopped").await;
    let drained = within(rig.supervisor.shut_down(AGES)).await;
    assert_eq!(drained.abandoned, []);
}

/// Does as it is told by the number of the incarnation.
struct Native<F>(u32, F);

impl<F> Service for Native<F>
where
    F: Fn(u32) -> Result<(), Crash> + Send + 'static,
{
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        context.started();
        (self.1)(self.0)?;
        loop {
            if let Incoming::Stop = context.next().await {
                return Ok(());
            }
        }
    }
}

fn add<F>(rig: &Rig, spec: ServiceSpec, act: F)
where
    F: Fn(u32) -> Result<(), Crash> + Clone + Send + 'static,
{
    let mut incarnation = 0;
    let make = move || {
        incarnation += 1;
        Native(incarnation, act.clone())
    };
    rig.supervisor.add(spec, make).expect("a new service");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_services_panic_is_told_and_survived() {
    let rig = Rig::new();
    let mut events = rig.kernel.bus().subscribe();
    add(&rig, quick("native", 5), |incarnation| match incarnation {
        1 => panic!("a text"),
        2 => panic!("incarnation {incarnation}"),
        3 => std::panic::panic_any(3),
        4 => Err(CrashReason::Handler { message: "its own error".into() }.into()),
        _ => Ok(()),
    });
    let mut next = async || crash_of(&mut events, "native").await;
    assert_eq!(next().await, CrashReason::panic("a text"));
    assert_eq!(next().await, CrashReason::panic("incarnation 2"));
    assert_eq!(next().await, CrashReason::panic("a panic without a text"));
    assert_eq!(next().await, CrashReason::Handler { message: "its own error".into() });
    rig.until_health(|| rig.generation("native") == 5 && rig.state("native") == "running").await;
    let metrics = rig.metrics();
    assert_eq!(metrics.value("service_crashes_total{reason=\"panic\",service=\"native\"}"), 3.0);
    assert_eq!(metrics.value("service_restarts_total{service=\"native\"}"), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_a_service_is_made_is_a_crash_too() {
    let rig = Rig::new();
    let mut events = rig.kernel.bus().subscribe();
    let mut made = 0;
    let make = move || {
        made += 1;
        assert_ne!(made, 1, "not the first");
        Native(made, |_| Ok(()))
    };
    rig.supervisor.add(quick("native", 5), make).expect("a new service");
    let reason = crash_of(&mut events, "native").await;
    assert!(reason.to_string().contains("not the first"), "{reason}");
    rig.until("native", "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_exit_is_no_crash() {
    /// Ends well, as often as the policy lets it.
    struct Ends(Arc<AtomicU32>);
    impl Service for Ends {
        async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
            context.started();
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    async fn check(policy: RestartPolicy, runs: u32, state: &str) {
        let rig = Rig::new();
        let mut events = rig.kernel.bus().subscribe();
        let count = Arc::<AtomicU32>::default();
        let mut own = quick("ends", 3);
        own.restart.policy = policy;
        let ran = Arc::clone(&count);
        rig.supervisor.add(own, move || Ends(Arc::clone(&ran))).expect("a new service");
        rig.until("ends", state).await;
        assert_eq!(count.load(Ordering::Relaxed), runs);
        assert_eq!(rig.supervisor.crashes(&id("ends")).len(), 0);
        while let Ok(event) = events.try_recv() {
            assert!(matches!(event, KernelEvent::Health { .. }), "{event:?}");
        }
    }
    check(RestartPolicy::OnFailure, 1, "stopped").await;
    check(RestartPolicy::Never, 1, "stopped").await;
    // It is started again, and a loop of clean exits is a loop too.
    check(RestartPolicy::Permanent, 4, "quarantined").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_decides_what_follows_a_crash() {
    async fn check(policy: RestartPolicy, generation: u64, state: &str) {
        let rig = Rig::new();
        let mut own = quick("panic", 3);
        own.restart.policy = policy;
        own.mailbox.max_deliveries = 1;
        rig.add(own, Limits::default(), "panic");
        rig.until("panic", "running").await;
        let mut events = rig.kernel.bus().subscribe();
        rig.publish("guest.panic.die", "now");
        crash_of(&mut events, "panic").await;
        rig.until_health(|| rig.generation("panic") == generation && rig.state("panic") == state)
            .await;
    }
    check(RestartPolicy::Permanent, 2, "running").await;
    check(RestartPolicy::OnFailure, 2, "running").await;
    check(RestartPolicy::Never, 1, "stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_dropped_leaks_no_child() {
    /// Hears of nothing and never ends, but for its sender.
    struct Deaf(#[expect(dead_code, reason = "that it is dropped is the point")] mpsc::Sender<()>);
    impl Service for Deaf {
        async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
            context.started();
            std::future::pending().await
        }
    }
    let rig = Rig::new();
    let (alive, mut gone) = mpsc::channel(1);
    for (name, on) in [("here", None), ("there", Some(rig.runtime.handle()))] {
        let alive = alive.clone();
        let make = move || Deaf(alive.clone());
        let added = match on {
            None => rig.supervisor.add(spec(name), make),
            Some(runtime) => rig.supervisor.add_on(runtime, spec(name), make),
        };
        added.expect("a new service");
        rig.until(name, "running").await;
    }
    rig.run("spin").await;
    rig.publish("guest.spin.die", "");
    drop(alive);
    drop(rig);
    // Every sender is gone, those in the closures that make services too.
    assert_eq!(within(gone.recv()).await, None);
}

/// `db` crashes; who of `api`, `web` and `cron` is restarted with it?
async fn check_group(strategy: Strategy, expected: [u64; 3]) {
    let rig = Rig::new();
    let mut own = quick("db", 5);
    own.mailbox.max_deliveries = 1;
    rig.add(own, Limits::default(), "panic");
    for name in ["api", "web", "cron"] {
        rig.add(spec(name), Limits::default(), "echo");
    }
    for name in ["db", "api", "web", "cron"] {
        rig.until(name, "running").await;
    }
    rig.supervisor.set_groups(vec![Group {
        strategy,
        members: vec![
            (id("web"), vec![id("api")]),
            (id("api"), vec![id("db")]),
            (id("db"), vec![]),
            (id("cron"), vec![]),
        ],
    }]);
    let mut events = rig.kernel.bus().subscribe();
    rig.publish("guest.db.die", "now");
    crash_of(&mut events, "db").await;
    let generations = || ["api", "web", "cron"].map(|name| rig.generation(name));
    rig.until_health(|| generations() == expected).await;
    for name in ["db", "api", "web", "cron"] {
        rig.until(name, "running").await;
        assert_eq!(rig.ask(&format!("guest.{name}.echo"), "here").await, "here");
    }
    assert_eq!(generations(), expected);
    assert_eq!(rig.generation("db"), 2);
    for name in ["api", "web", "cron"] {
        assert_eq!(rig.supervisor.crashes(&id(name)).len(), 0, "{name} did not crash itself");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_reaches_as_far_as_its_group_says() {
    check_group(Strategy::OneForOne, [1, 1, 1]).await;
    check_group(Strategy::RestForOne, [2, 2, 1]).await;
    check_group(Strategy::OneForAll, [2, 2, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_removed_leaves_nothing() {
    let rig = Rig::new();
    rig.run("panic").await;
    let mut events = rig.kernel.bus().subscribe();
    rig.publish("guest.panic.die", "now");
    crash_of(&mut events, "panic").await;
    assert!(rig.metrics().0.contains("service=\"panic\""));
    assert!(within(rig.supervisor.remove(&id("panic"))).await);
    assert!(!rig.metrics().0.contains("service=\"panic\""), "{:?}", rig.metrics());
    assert_eq!(rig.kernel.health().get("panic"), None);
    assert_eq!(rig.publish("guest.panic.echo", ""), 0);
    assert!(!within(rig.supervisor.remove(&id("panic"))).await);
    // The name is free again.
    rig.run("panic").await;
    assert_eq!(rig.ask("guest.panic.echo", "new").await, "new");
}
