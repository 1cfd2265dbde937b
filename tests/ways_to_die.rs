//! Whatever a service dies of, the reason is told, the service comes back, and
//! nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ron_kernel::service::Deadlines;
use ron_kernel::supervisor::{CrashReport, Restart};
use ron_kernel::{CallKind, CrashReason, TrapCode};
use ron_runtime::{Component, Limits, LoadError};

use crate::harness::{Program, Rig, Server, component, crash_of, id, scratch, spec, within};

/// A sibling under steady load, and what it must have handled by now.
struct Sibling {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    load: tokio::task::JoinHandle<()>,
}

impl Sibling {
    /// Each round is a request that must be answered with its number and a
    /// message that nobody answers.
    async fn start(rig: &Rig) -> Self {
        rig.run("echo").await;
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut publisher = rig.publisher("load");
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&rounds));
        let load = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let round = Bytes::from(done.load(Ordering::Relaxed).to_string());
                let answer = publisher.request("guest.echo.echo", round.clone()).expect("sent");
                assert_eq!(answer.await.expect("an answer"), Ok(round.clone()));
                assert_eq!(publisher.publish("guest.echo.sink", round), Ok(1));
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, rounds, load }
    }

    /// Ends the load and settles the account.
    async fn settle(self, rig: &Rig) {
        let before = self.rounds.load(Ordering::Relaxed);
        within(async {
            while self.rounds.load(Ordering::Relaxed) < before + 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.stop.store(true, Ordering::Relaxed);
        within(self.load).await.expect("every request was answered");
        let rounds = self.rounds.load(Ordering::Relaxed);
        // Behind all others, since a wish to stop would overtake them.
        assert_eq!(rig.ask("guest.echo.echo", "last").await, "last");
        assert_eq!(rig.generation("echo"), 1, "the sibling was never restarted");
        // Stopping hands in what was handled and not counted yet.
        rig.supervisor.stop(&id("echo"));
        rig.until("echo", "stopped").await;
        let stats = rig.inbox("echo").stats();
        assert!(stats.balances());
        assert_eq!((stats.accepted, stats.handled), (2 * rounds + 1, 2 * rounds + 1));
        assert_eq!((stats.redelivered, stats.dropped_newest, stats.rejected), (0, 0, 0));
    }
}

async fn endpoints_answer(server: &Server) {
    for path in ["/healthz", "/livez", "/readyz/echo"] {
        let page = server.get(path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
    }
}

/// What a crash must look like.
enum Expected {
    Exactly(CrashReason),
    /// A panic with this text, at a place in the component's own file.
    PanicIn(&'static str),
}

impl Expected {
    fn check(&self, name: &str, reason: &CrashReason) {
        match self {
            Self::Exactly(expected) => assert_eq!(reason, expected),
            Self::PanicIn(text) => {
                let CrashReason::Panic { message } = reason else { panic!("{reason:?}") };
                let place = format!("{text} (at tests/guests/{name}.rs:");
                assert!(message.starts_with(&place), "{message}");
            }
        }
    }
}

fn trap(code: TrapCode, text: &str) -> Expected {
    Expected::Exactly(CrashReason::Trap { code, message: format!("wasm trap: {text}") })
}

const HANDLER_DEADLINE: Duration = Duration::from_millis(200);
const START_DEADLINE: Duration = Duration::from_millis(300);

/// For what would go on for ever, and for a flood to reach within that time.
fn tight() -> Limits {
    Limits {
        handler_deadline: HANDLER_DEADLINE,
        log_records: 10,
        publish_rate: 1000,
        ..Limits::default()
    }
}

/// Has `name` die in its handler.
async fn check(name: &'static str, label: &str, expected: Expected) -> (Rig, CrashReport) {
    check_within(Limits::default(), name, label, expected).await
}

async fn check_within(
    limits: Limits,
    name: &'static str,
    label: &str,
    expected: Expected,
) -> (Rig, CrashReport) {
    let rig = Rig::new();
    let server = rig.serve().await;
    let sibling = Sibling::start(&rig).await;
    let mut own = spec(name);
    // The message that kills is not delivered again; see `messages`.
    own.mailbox.max_deliveries = 1;
    rig.add(own, limits, name);
    rig.until(name, "running").await;
    let mut events = rig.kernel.bus().subscribe();

    assert_eq!(rig.publish(&format!("guest.{name}.die"), "told to die"), 1);
    endpoints_answer(&server).await;
    let reason = crash_of(&mut events, name).await;
    assert_eq!(reason.label(), label);
    expected.check(name, &reason);
    endpoints_answer(&server).await;

    // It is back, as another.
    assert_eq!(rig.ask(&format!("guest.{name}.echo"), "alive").await, "alive");
    assert_eq!(rig.generation(name), 2);
    let metrics = server.get("/metrics").await.scrape();
    let crashes = format!("service_crashes_total{{reason=\"{label}\",service=\"{name}\"}}");
    assert_eq!(metrics.value(&crashes), 1.0);
    assert_eq!(metrics.value(&format!("service_restarts_total{{service=\"{name}\"}}")), 1.0);
    let dead = rig.inbox(name).dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].why, reason.to_string());

    sibling.settle(&rig).await;
    let mut reports = rig.crashes(name).await;
    assert_eq!(reports.len(), 1);
    let report = reports.remove(0);
    assert_eq!(report.reason, reason);
    let detail = &report.detail;
    assert_eq!(detail.topic, Some(format!("guest.{name}.die")));
    assert_eq!(detail.digest, Some(rig.load(name).digest().to_string()));
    assert!(detail.memory.is_some_and(|bytes| bytes > 0), "{detail:?}");
    let source = format!("tests/guests/{name}.rs:");
    assert!(detail.backtrace.iter().any(|frame| frame.contains(&source)), "{detail:#?}");
    (rig, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable() {
    let text = "wasm `unreachable` instruction executed";
    check("unreachable", "trap-unreachable", trap(TrapCode::Unreachable, text)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panic() {
    let (_, report) = check("panic", "panic", Expected::PanicIn("told to die")).await;
    assert_eq!(report.detail.last_log, ["told to die"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_bounds() {
    let expected = trap(TrapCode::MemoryOutOfBounds, "out of bounds memory access");
    check("out-of-bounds", "trap-memory-out-of-bounds", expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn divide_by_zero() {
    let expected = trap(TrapCode::IntegerDivisionByZero, "integer divide by zero");
    check("divide-by-zero", "trap-integer-division-by-zero", expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_overflow() {
    let expected = Expected::Exactly(CrashReason::StackOverflow);
    check("stack-overflow", "stack-overflow", expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit() {
    // WASI 0.2 tells good from bad and no more.
    check("exit", "exit", Expected::Exactly(CrashReason::Exit { code: 1 })).await;
}

fn late() -> Expected {
    Expected::Exactly(CrashReason::deadline(CallKind::Handler, HANDLER_DEADLINE))
}

#[tokio::test(flavor = "multi_thread")]
async fn spin() {
    check_within(tight(), "spin", "deadline", late()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grow_memory() {
    let limit = Limits::default().memory;
    let expected = Expected::Exactly(CrashReason::MemoryLimit { limit });
    let (_, report) = check("grow-memory", "memory-limit", expected).await;
    let memory = report.detail.memory.expect("known");
    assert!(memory <= limit && memory > limit / 2, "{memory}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_bus() {
    let (rig, _) = check_within(tight(), "flood-bus", "deadline", late()).await;
    let metrics = rig.metrics();
    assert!(metrics.value("rejected_total{reason=\"overloaded\"}") > 0.0, "over its rate");
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_log() {
    let (rig, report) = check_within(tight(), "flood-log", "deadline", late()).await;
    let metrics = rig.metrics();
    assert!(metrics.value("ron_log_dropped_total{service=\"flood-log\"}") > 0.0, "over its rate");
    assert_eq!(report.detail.last_log.len(), 32, "the last lines are kept all the same");
}

/// Has `name` die in `start`, again and again, until it is given up.
async fn check_start(name: &'static str, label: &str, expected: Expected) -> Vec<CrashReport> {
    let rig = Rig::new();
    let server = rig.serve().await;
    let sibling = Sibling::start(&rig).await;
    let mut events = rig.kernel.bus().subscribe();
    let mut own = spec(name);
    own.restart =
        Restart { budget: 2, first_delay: Duration::from_millis(1), ..Restart::default() };
    own.deadlines = Deadlines { start: START_DEADLINE, ..Deadlines::default() };
    rig.add(own, Limits::default(), name);

    endpoints_answer(&server).await;
    for _ in 0..3 {
        let reason = crash_of(&mut events, name).await;
        assert_eq!(reason.label(), label);
        expected.check(name, &reason);
    }
    rig.until(name, "quarantined").await;
    endpoints_answer(&server).await;
    assert_eq!(rig.generation(name), 3, "two restarts");
    let page = server.get(&format!("/readyz/{name}")).await;
    assert_eq!((page.status, page.header("retry-after")), (503, "3"));
    let metrics = server.get("/metrics").await.scrape();
    let crashes = format!("service_crashes_total{{reason=\"{label}\",service=\"{name}\"}}");
    assert_eq!(metrics.value(&crashes), 3.0);
    assert_eq!(metrics.value(&format!("service_restarts_total{{service=\"{name}\"}}")), 2.0);
    sibling.settle(&rig).await;
    let reports = rig.crashes(name).await;
    assert_eq!(reports.len(), 3);
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn start_error() {
    let expected = CrashReason::Start { message: "told to fail in start".into() };
    check_start("start-error", "start-failed", Expected::Exactly(expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_panic() {
    let expected = Expected::PanicIn("told to panic in start");
    let reports = check_start("start-panic", "panic", expected).await;
    assert_eq!(reports[0].detail.last_log, ["told to panic in start"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spin_in_start() {
    let expected = CrashReason::deadline(CallKind::Start, START_DEADLINE);
    let reports = check_start("spin-in-start", "deadline", Expected::Exactly(expected)).await;
    // The engine ends it a little before the kernel would, which has no stack
    // to show. On a loaded machine it may come second, though not each time.
    let source = "tests/guests/spin-in-start.rs:";
    let mut frames = reports.iter().flat_map(|report| &report.detail.backtrace);
    assert!(frames.any(|frame| frame.contains(source)), "{reports:#?}");
}

/// What is told to stop while it hangs in its start dies of that, and says where.
#[tokio::test(flavor = "multi_thread")]
async fn spin_in_start_until_it_is_stopped() {
    let name = "spin-in-start";
    let rig = Rig::new();
    let mut own = spec(name);
    own.deadlines = Deadlines { stop: START_DEADLINE, ..Deadlines::default() };
    rig.add(own, Limits::default(), name);
    let expected = CrashReason::deadline(CallKind::Start, START_DEADLINE);
    // As above, the engine may come second on a loaded machine.
    for _ in 0..5 {
        rig.until(name, "starting").await;
        rig.supervisor.stop(&id(name));
        rig.until(name, "stopped").await;
        rig.supervisor.start(&id(name));
    }
    let reports = rig.crashes(name).await;
    assert!(reports.len() >= 5, "{reports:#?}");
    assert!(reports.iter().all(|report| report.reason == expected), "{reports:#?}");
    let digest = Some(rig.load(name).digest().to_string());
    let told = |report: &CrashReport| {
        let place = "tests/guests/spin-in-start.rs:";
        report.detail.digest == digest
            && report.detail.backtrace.iter().any(|frame| frame.contains(place))
    };
    assert!(reports.iter().any(told), "{reports:#?}");
}

/// Places in the source are read from the file when there is a crash, and only
/// from the file that was loaded. What was read once is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_backtrace_is_of_the_file_that_was_loaded() {
    let directory = scratch("symbols");
    let place = "tests/guests/unreachable.rs:";
    let rig = Rig::new();
    let check = async |name: &str, before: &[u8], after: Option<&[u8]>, places: [bool; 2]| {
        let path = directory.join(name);
        std::fs::write(&path, before).expect("written");
        let mut own = spec(name);
        own.mailbox.max_deliveries = 1;
        let component = Component::load(&rig.runtime, &path).expect("a component");
        rig.add_loaded(own, Limits::default(), component);
        rig.until(name, "running").await;
        for (crash, known) in places.into_iter().enumerate() {
            if crash == usize::from(places[0]) {
                match after {
                    Some(bytes) => std::fs::write(&path, bytes).expect("written"),
                    None => std::fs::remove_file(&path).expect("removed"),
                }
            }
            rig.publish(&format!("guest.{name}.die"), "");
            assert_eq!(rig.ask(&format!("guest.{name}.echo"), "alive").await, "alive");
            let backtrace = &rig.crashes(name).await[crash].detail.backtrace;
            let function = if known { "on_message" } else { "lifecycle@1.0.0#on-message" };
            assert!(backtrace.iter().any(|frame| frame.contains(function)), "{backtrace:#?}");
            let has = backtrace.iter().any(|frame| frame.contains(place));
            assert_eq!(has, known, "{name}: {backtrace:#?}");
        }
    };
    let whole = std::fs::read(component("unreachable")).expect("it was built");
    let mut other = whole.clone();
    // An empty custom section: the same code, in another file.
    other.extend([0, 2, 1, b'x']);
    check("changed", &whole, Some(&other), [false, false]).await;
    check("known", &other, Some(&whole), [true, true]).await;
    let mut gone = other.clone();
    gone.extend([0, 2, 1, b'y']);
    check("gone", &gone, None, [false, false]).await;
}

/// What can be told from the file never becomes a service.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_service_is_not_loaded() {
    let rig = Rig::new();
    let server = rig.serve().await;
    let sibling = Sibling::start(&rig).await;
    endpoints_answer(&server).await;
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let error = Component::from_bytes(&rig.runtime, name.as_ref(), bytes);
        let error: LoadError = error.expect_err("it is refused");
        assert!(error.to_string().starts_with(&format!("{name}: {expected}")), "{error}");
    };
    let read = |name| std::fs::read(component(name)).expect("it was built");
    check(
        "importer",
        &read("importer"),
        "imports acme:nowhere/thing@0.1.0, which this host does not offer",
    );
    check(
        "other-world",
        &read("other-world"),
        "does not export ron:kernel/lifecycle@1.0.0, wasi:http/incoming-handler@0.2, wasi:http/handler@0.3, wasmcloud:messaging/handler@0.2.0, ron:stream/connection-handler@1.0.0 or wasi:cli/run, so there is nothing to run it for; it exports acme:elsewhere/thing@0.1.0",
    );
    check("core", b"\0asm\x01\0\0\0", "a core WebAssembly module; expected a component");
    check("text", b"hello", "not WebAssembly; expected a WebAssembly component");
    check("empty", b"", "an empty file; expected a WebAssembly component");
    let whole = read("echo");
    check("cut", &whole[..whole.len() / 2], "not a valid component, perhaps cut short");
    endpoints_answer(&server).await;
    sibling.settle(&rig).await;
}

/// What an operator finds at night: the reason, the stack with its places in
/// the source, the last lines, as one record.
#[test]
fn a_crash_is_one_record_of_the_log() {
    let host = Program::start([
        "--component".into(),
        component("panic"),
        "--component".into(),
        component("unreachable"),
        "--component".into(),
        component("script"),
        "--set".into(),
        "script.1=request guest.panic.die it broke".into(),
        "--set".into(),
        "script.2=request guest.unreachable.die now".into(),
        "--set".into(),
        "script.3=request guest.panic.echo panic lives".into(),
        "--set".into(),
        "script.4=request guest.unreachable.echo unreachable lives".into(),
    ])
    .ready();
    host.says("script", "panic lives");
    host.says("script", "unreachable lives");

    let check = |service: &str, reason: &str, message: &str, last_log: Option<&str>| {
        for generation in 1..=3 {
            let crash = host.log(|record| {
                record["service"] == service
                    && record["generation"] == generation
                    && record["reason"] == reason
            });
            let text = |key: &str| crash[key].as_str().unwrap_or_default().to_owned();
            assert_eq!(crash["level"], "ERROR");
            assert!(text("message").starts_with(message), "{crash:#}");
            assert_eq!(crash["topic"], format!("guest.{service}.die"));
            assert!(text("digest").starts_with("b3:"), "{crash:#}");
            assert!(crash["memory"].as_u64().is_some_and(|bytes| bytes > 0), "{crash:#}");
            assert_eq!(crash["last_log"].as_str(), last_log, "{crash:#}");
            // From the root of the repository, wherever that is.
            let place = format!(" at tests/guests/{service}.rs:3");
            let frames = text("backtrace");
            assert!(frames.lines().any(|frame| frame.ends_with(&place)), "{frames}");
            assert!(frames.contains("on_message"), "function names: {frames}");
        }
        // Three deliveries, and then no more.
        let metrics = host.metrics();
        let crashes = format!("service_crashes_total{{reason=\"{reason}\",service=\"{service}\"}}");
        assert_eq!(metrics.value(&crashes), 3.0);
        assert_eq!(metrics.value(&format!("service_restarts_total{{service=\"{service}\"}}")), 3.0);
        let dead = format!("ron_mailbox_dead_lettered_total{{service=\"{service}\"}}");
        assert_eq!(metrics.value(&dead), 1.0);
    };
    check("panic", "panic", "crashed: it broke (at tests/guests/panic.rs:3:", Some("it broke"));
    check("unreachable", "trap-unreachable", "crashed: wasm trap: wasm `unreachable`", None);
    let failed =
        host.log(|record| record["service"] == "script" && record["fields"]["step"] == "1");
    assert_eq!(failed["level"], "WARN");
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Failed(\"it broke (at tests/guests/panic.rs:3:"), "{message}");
}
