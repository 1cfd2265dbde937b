//! Services behave alike, whatever language they are written in: one list of behaviours,
//! run against the component of each. `tests/conformance/README.md` says what those do.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ron_kernel::message::BusError;
use ron_kernel::supervisor::{SwapError, SwapOptions};
use ron_kernel::topic::TopicFilter;
use ron_kernel::{CrashReason, KernelEvent, ServiceSpec};
use ron_runtime::{ComponentService, Limits};
use serde_json::json;

use crate::harness::{Program, Rig, built, crash_of, id, spec, within};

/// A language, and the file in which its component crashes.
struct Language {
    name: &'static str,
    source: &'static str,
    /// Whether a crash says its line itself; else that is in the stack alone.
    tells_place: bool,
}

const fn language(name: &'static str, source: &'static str) -> Language {
    Language { name, source, tells_place: true }
}

const LANGUAGES: [Language; 7] = [
    language("rust", "lib.rs"),
    language("python", "app.py"),
    language("javascript", "service.js"),
    language("c", "conformance.c"),
    language("cpp", "conformance.cpp"),
    Language { tells_place: false, ..language("zig", "conformance.zig") },
    language("go", "main.go"),
];

impl Language {
    fn component(&self) -> String {
        format!("conformance-{}", self.name)
    }

    /// Those that could be built here.
    fn here() -> impl Iterator<Item = &'static Self> {
        LANGUAGES.iter().filter(|language| built(&language.component()).is_some())
    }
}

/// A host in which the language's component runs as the service `subject`.
struct Stage {
    rig: Rig,
    language: &'static Language,
}

impl Stage {
    /// The service is not added yet.
    fn empty(language: &'static Language) -> Self {
        Self { rig: Rig::new(), language }
    }

    async fn of(language: &'static Language) -> Self {
        Self::with(language, |_, _| {}).await
    }

    async fn with(
        language: &'static Language,
        change: impl FnOnce(&mut ServiceSpec, &mut Limits),
    ) -> Self {
        let stage = Self::empty(language);
        stage.add(change);
        stage.rig.until("subject", "running").await;
        stage
    }

    fn add(&self, change: impl FnOnce(&mut ServiceSpec, &mut Limits)) {
        let (mut own, mut limits) = (spec("subject"), Limits::default());
        change(&mut own, &mut limits);
        self.rig.add(own, limits, &self.language.component());
    }

    fn configure(&self, entries: &[(&str, &str)]) {
        let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let own = entries.iter().map(entry).collect();
        self.rig.kernel.config().replace(BTreeMap::from([("subject".to_owned(), own)]));
    }

    /// What it answers.
    async fn ask(&self, what: &str, payload: &str) -> String {
        self.rig.ask(&format!("do.{what}"), payload).await
    }

    #[track_caller]
    fn answers(&self, what: &str, payload: &str, expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.ask(what, payload).await;
            assert!(
                answer == expected,
                "{what} {payload}: {answer:?} is not {expected:?} ({caller})"
            );
        }
    }

    /// Swaps `subject` to the component of that name.
    async fn swap(&self, component: &str, options: SwapOptions) -> Result<(), String> {
        let component = self.rig.load(component);
        let version = format!("v{}", fastrand::u64(..)).into();
        let make =
            move || ComponentService::new(component.clone(), Limits::default(), Arc::default());
        match within(self.rig.supervisor.swap(&id("subject"), version, make, options)).await {
            Ok(_) => Ok(()),
            Err(SwapError::Refused { why, .. }) => Err(why),
            Err(other) => Err(other.to_string()),
        }
    }
}

type Behaviour =
    (&'static str, fn(&'static Language) -> futures_util::future::BoxFuture<'static, ()>);

macro_rules! behaviours {
    ($($name:literal: $check:ident),* $(,)?) => {
        &[$(($name, |language| $check(language).boxed())),*]
    };
}

const BEHAVIOURS: &[Behaviour] = behaviours! {
    "a failed start": failed_start,
    "payloads": payloads,
    "no answer": no_answer,
    "a message's fields": fields,
    "retry": retry,
    "reject": reject,
    "crash": crash,
    "deadline": deadline,
    "memory limit": memory_limit,
    "publish": publish,
    "request": request,
    "subscribe": subscribe,
    "topics refused": topics_refused,
    "config": config,
    "identity": identity,
    "health": health,
    "log": log,
    "metrics": metrics,
    "big numbers": big_numbers,
    "timers": timers,
    "events": events,
    "stop": stop,
    "handover": handover,
    "state refused": state_refused,
    "batches": batches,
};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the table is what the reader came for")]
async fn every_language_behaves_alike() {
    let mut failures = Vec::new();
    let mut rows: Vec<(&str, Vec<&str>)> =
        BEHAVIOURS.iter().map(|(name, _)| (*name, vec![])).collect();
    let mut heads = Vec::new();
    for language in Language::here() {
        heads.push(language.name);
        for ((name, check), row) in BEHAVIOURS.iter().zip(&mut rows) {
            let done = AssertUnwindSafe(check(language)).catch_unwind().await;
            row.1.push(if done.is_ok() { "yes" } else { "NO" });
            if let Err(panic) = done {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                failures.push(format!("{}, {name}: {}", language.name, text.unwrap_or("?")));
            }
        }
    }
    let cells = |cells: &[&str]| cells.iter().map(|cell| format!("{cell:>12}")).collect::<String>();
    println!("{:<20}{}", "", cells(&heads));
    for (name, row) in rows {
        println!("{name:<20}{}", cells(&row));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The state goes from each language to the next, and from the last to the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_goes_from_language_to_language() {
    let languages: Vec<&Language> = Language::here().collect();
    let stage = Stage::of(languages[0]).await;
    stage.answers("put", "9007199254740993", "done").await;
    let mut count = 9_007_199_254_740_993_u64;
    for language in languages.iter().cycle().skip(1).take(languages.len()) {
        let swapped = stage.swap(&language.component(), SwapOptions::default()).await;
        assert_eq!(swapped, Ok(()), "to {}", language.name);
        count += 1;
        stage.answers("next", "", &count.to_string()).await;
    }
}

async fn failed_start(language: &'static Language) {
    let stage = Stage::empty(language);
    stage.configure(&[("fail_start", "no größe")]);
    let mut events = stage.rig.kernel.bus().subscribe();
    stage.add(|_, _| {});
    let reason = crash_of(&mut events, "subject").await;
    let CrashReason::Start { message } = &reason else { panic!("{reason:?}") };
    assert_eq!(message, "no größe");
}

async fn payloads(language: &'static Language) {
    let stage = Stage::of(language).await;
    stage.answers("echo", "", "").await;
    stage.answers("echo", "größe ✓ 𝄞", "größe ✓ 𝄞").await;
    let every: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    for bytes in [&every[..], &[0xff, 0, 0xc3, 0x28], &every[..65_537]] {
        let payload = bytes::Bytes::copy_from_slice(bytes);
        let answer = stage.rig.publisher("test").request("do.echo", payload).expect("sent");
        let answer = within(answer).await.expect("an answer").expect("no error");
        assert!(answer == bytes, "{} bytes came back as {}", bytes.len(), answer.len());
    }
}

async fn no_answer(language: &'static Language) {
    let stage = Stage::of(language).await;
    let answer = stage.rig.request("do.silent", "").await;
    assert!(matches!(answer, Err(BusError::NoResponder)), "{answer:?}");
}

async fn fields(language: &'static Language) {
    let stage = Stage::of(language).await;
    let answer = stage.ask("message", "hello").await;
    let (number, rest) = answer.split_once(' ').expect("words");
    assert!(number.parse::<u64>().is_ok_and(|number| number > 0), "{answer}");
    assert_eq!(rest, "do.message test 1 true 5");
}

async fn retry(language: &'static Language) {
    Stage::of(language).await.answers("retry", "", "2").await;
}

async fn reject(language: &'static Language) {
    let stage = Stage::of(language).await;
    for (what, expected) in [("reject", "never"), ("nothing", "unknown topic do.nothing")] {
        let answer = stage.rig.request(&format!("do.{what}"), "").await;
        let Err(BusError::Failed(text)) = &answer else { panic!("{what}: {answer:?}") };
        assert_eq!(text, expected);
    }
    assert_eq!(stage.rig.generation("subject"), 1, "a rejection is no crash");
}

async fn crash(language: &'static Language) {
    let stage = Stage::of(language).await;
    let mut events = stage.rig.kernel.bus().subscribe();
    stage.rig.publish("do.crash", "");
    let reason = crash_of(&mut events, "subject").await;
    let CrashReason::Panic { message } = &reason else { panic!("{reason:?}") };
    if language.tells_place {
        let (_, place) = message.split_once("told to crash (at ").expect("its text and its place");
        // Of a path the last part; a column may follow the line.
        let mut parts = place.trim_end_matches(')').split(':');
        let (file, line) = (parts.next().unwrap_or_default(), parts.next());
        let line = line.and_then(|line| line.parse::<u32>().ok());
        assert!(file.ends_with(language.source) && line > Some(1), "{message}");
    } else {
        assert_eq!(message, "told to crash");
    }
    // Three deliveries, and the service goes on.
    stage.answers("echo", "on", "on").await;
    assert_eq!(stage.rig.inbox("subject").stats().dead_lettered, 1);
    let crashes = stage.rig.crashes("subject").await;
    assert_eq!(crashes.len(), 3);
    let report = &crashes[0].detail;
    assert_eq!(report.topic.as_deref(), Some("do.crash"));
    let stack = report.backtrace.join("\n");
    assert!(stack.contains(language.source), "the author's file is in the stack: {stack}");
    let told = |line: &String| line.contains("conformance: started");
    assert!(report.last_log.iter().any(told), "{:?}", report.last_log);
}

async fn deadline(language: &'static Language) {
    let short = Duration::from_millis(300);
    let stage = Stage::with(language, |_, limits| limits.handler_deadline = short).await;
    let mut events = stage.rig.kernel.bus().subscribe();
    stage.rig.publish("do.spin", "");
    let reason = crash_of(&mut events, "subject").await;
    assert!(matches!(reason, CrashReason::Deadline { limit_ms: 300, .. }), "{reason:?}");
}

async fn memory_limit(language: &'static Language) {
    let stage = Stage::with(language, |_, limits| {
        limits.memory = 48 << 20;
        limits.handler_deadline = Duration::from_secs(60);
    });
    let stage = stage.await;
    let mut events = stage.rig.kernel.bus().subscribe();
    stage.rig.publish("do.grow", "");
    let reason = crash_of(&mut events, "subject").await;
    assert_eq!(reason, CrashReason::MemoryLimit { limit: 48 << 20 });
}

async fn publish(language: &'static Language) {
    let stage = Stage::of(language).await;
    let mut seen = stage.rig.collect("collector", "out.>").await;
    stage.answers("publish", "out.one hello you", "1").await;
    let message = seen.message().await;
    assert_eq!((&message.payload[..], message.source()), (&b"hello you"[..], "subject"));
    stage.answers("publish", "out.two größe ✓", "1").await;
    assert_eq!(seen.next().await, "größe ✓");
    stage.answers("publish", "out.three ", "1").await;
    assert_eq!(seen.next().await, "");
    stage.answers("publish", "nobody.hears x", "0").await;
    stage.answers("publish-size", "out.big 1048576", "1").await;
    assert_eq!(seen.message().await.payload.len(), 1 << 20);
    stage.answers("publish-size", "out.big 1048577", "error payload-too-large 1048576").await;
}

async fn request(language: &'static Language) {
    let stage = Stage::of(language).await;
    stage.rig.run("echo").await;
    stage.rig.run("failures").await;
    stage.answers("request", "guest.echo.echo 5000 ping größe", "ping größe").await;
    stage.answers("request", "guest.failures.reject 5000 no good", "error failed no good").await;
    stage.answers("request", "guest.nobody.echo 5000 x", "error no-responder").await;
    stage.answers("request", "do.echo 20 myself", "error timeout").await;
}

async fn subscribe(language: &'static Language) {
    let stage = Stage::of(language).await;
    // What it did not ask for does not come.
    assert_eq!(stage.rig.publish("extra.one", ""), 0);
    stage.answers("subscribe", "extra.*", "done").await;
    assert_eq!(stage.rig.publish("extra.one", ""), 1);
    stage.answers("unsubscribe", "extra.*", "done").await;
    assert_eq!(stage.rig.publish("extra.one", ""), 0);
}

async fn topics_refused(language: &'static Language) {
    let stage = Stage::of(language).await;
    for (what, payload, kind) in [
        ("publish", "grüße.alle x", "invalid-topic"),
        ("publish", "a..b x", "invalid-topic"),
        ("publish", "a.* x", "invalid-topic"),
        ("request", "grüße 100 x", "invalid-topic"),
        ("subscribe", "a.>.b", "invalid-topic"),
        ("publish", "ron.x x", "denied"),
        ("subscribe", "ron.>", "denied"),
        ("after", "größe 5", "invalid-topic"),
        ("every", "beat 0", "other"),
    ] {
        let answer = stage.ask(what, payload).await;
        let begins = format!("error {kind} ");
        assert!(answer.starts_with(&begins) && answer.len() > begins.len(), "{payload}: {answer}");
    }
}

async fn config(language: &'static Language) {
    let stage = Stage::empty(language);
    stage.configure(&[("greeting", "Grüß Gott"), ("empty", ""), ("list", "[1,2]")]);
    stage.add(|_, _| {});
    stage.rig.until("subject", "running").await;
    stage.answers("config", "greeting", "= Grüß Gott").await;
    stage.answers("config", "empty", "= ").await;
    stage.answers("config", "absent", "none").await;
    stage.answers("config-all", "", "empty=\ngreeting=Grüß Gott\nlist=[1,2]").await;
    let version = stage.rig.kernel.config().version();
    stage.answers("config-version", "", &version.to_string()).await;
    stage.configure(&[("greeting", "Hi")]);
    stage.answers("config", "greeting", "= Hi").await;
    stage.answers("config-version", "", &(version + 1).to_string()).await;
}

async fn identity(language: &'static Language) {
    let stage = Stage::of(language).await;
    stage.answers("identity", "", "subject 1 0").await;
    stage.rig.supervisor.restart(&id("subject"));
    stage.rig.until_health(|| stage.rig.generation("subject") == 2).await;
    stage.rig.until("subject", "running").await;
    stage.answers("identity", "", "subject 2 0").await;
}

async fn health(language: &'static Language) {
    let stage = Stage::of(language).await;
    let own = || stage.rig.kernel.health().get("subject").expect("a service");
    stage.answers("health", "degraded one größe less", "done").await;
    assert_eq!((own().ok, own().detail.as_deref()), (true, Some("one größe less")));
    stage.answers("health", "failing no disk", "done").await;
    assert_eq!((own().ok, own().detail.as_deref()), (false, Some("no disk")));
    stage.answers("health", "ok", "done").await;
    assert_eq!((own().ok, own().detail), (true, None));
}

/// Through the real program, whose log it is.
async fn log(language: &'static Language) {
    let run = move || {
        let path = built(&language.component()).expect("it was there before");
        let component = format!("subject={}", path.display());
        let host = Program::start(["--component", &component, "--log-level", "trace"]).ready();
        for level in ["trace", "debug", "info", "warn", "error"] {
            let text = format!("{level} größe: said");
            let done = host.home().ctl(["request", "do.log", &format!("{level} {text}")], b"");
            assert_eq!(done.stdout, b"done", "{done:?}");
            let record = host.says("subject", &text);
            assert_eq!(record["level"].as_str(), Some(level.to_uppercase().as_str()));
            assert_eq!(record["fields"]["answer"], json!("42"), "{record}");
            assert_eq!(record["fields"]["word"], json!("größe"), "{record}");
        }
    };
    let done = tokio::task::spawn_blocking(run).await;
    if let Err(failed) = done {
        std::panic::resume_unwind(failed.into_panic());
    }
}

async fn metrics(language: &'static Language) {
    let stage = Stage::of(language).await;
    for (what, payload) in [
        ("add", "jobs_total 3"),
        ("add", "jobs_total 4"),
        ("set", "level -2.5"),
        ("observe", "wait_seconds 0.25"),
        ("observe", "wait_seconds 4"),
        ("add", "big_total 9007199254740992"),
        // What is no name is no metric, and no crash.
        ("add", "0bad 1"),
    ] {
        stage.answers(what, payload, "done").await;
    }
    let metrics = stage.rig.metrics();
    for (name, value) in [
        ("jobs_total", 7.0),
        ("level", -2.5),
        ("wait_seconds_sum", 4.25),
        ("wait_seconds_count", 2.0),
        ("big_total", 9_007_199_254_740_992.0),
    ] {
        let series = format!("{name}{{service=\"subject\",kind=\"test\"}}");
        assert_eq!(metrics.value(&series), value, "{name}");
    }
}

async fn big_numbers(language: &'static Language) {
    let stage = Stage::of(language).await;
    // More than a float has room for.
    stage.answers("put", "9007199254740992", "done").await;
    stage.answers("next", "", "9007199254740993").await;
    stage.answers("put", "18446744073709551614", "done").await;
    stage.answers("next", "", "18446744073709551615").await;
    // Some three hundred years, which is what there is for a time in nanoseconds.
    let answer = stage.ask("after", "far 9000000000000").await;
    assert!(answer.starts_with("error other "), "{answer}");
}

async fn timers(language: &'static Language) {
    let stage = Stage::of(language).await;
    let mut fired = stage.rig.collect("collector", "seen.timer").await;
    stage.answers("after", "once 1", "done").await;
    assert_eq!(fired.next().await, "once");
    stage.answers("every", "beat 1", "done").await;
    for _ in 0..3 {
        assert_eq!(fired.next().await, "beat");
    }
    stage.answers("cancel", "beat", "done").await;
    // A tick may have waited in the mailbox.
    stage.answers("after", "last 30", "done").await;
    while fired.next().await != "last" {}
    stage.answers("after", "end 30", "done").await;
    assert_eq!(fired.next().await, "end", "no beat came any more");
}

async fn events(language: &'static Language) {
    let stage = Stage::of(language).await;
    let mut seen = stage.rig.collect("collector", "seen.event").await;
    let bus = stage.rig.kernel.bus();
    // As far as each engine has whole numbers for what comes in.
    bus.publish(KernelEvent::ConfigUpdated { version: 9_007_199_254_740_991 });
    bus.publish(KernelEvent::Health { service: "other".into(), ok: false });
    let reason = CrashReason::panic("größe");
    bus.publish(KernelEvent::ServiceCrashed { service: "other".into(), reason });
    let mut expected = BTreeSet::from([
        "config-updated 9007199254740991",
        "health other false",
        "service-crashed other panic größe",
    ]);
    while !expected.is_empty() {
        let next = seen.next().await;
        let known = ["health collector true", "health subject true"].contains(&next.as_str());
        assert!(expected.remove(next.as_str()) || known, "{next}");
    }
    // The end is announced by who brings it; the collector ends too.
    let mut tap =
        stage.rig.kernel.router().tap(TopicFilter::parse("seen.event").expect("a filter"));
    within(stage.rig.supervisor.shut_down(Duration::from_secs(60))).await;
    while within(tap.next()).await.payload != "shutdown" {}
}

async fn stop(language: &'static Language) {
    let stage = Stage::of(language).await;
    let mut seen = stage.rig.collect("collector", "seen.stop").await;
    stage.rig.supervisor.stop(&id("subject"));
    assert_eq!(seen.message().await.payload.len(), 0);
    stage.rig.until("subject", "stopped").await;
    assert!(stage.rig.crashes("subject").await.is_empty());
}

async fn handover(language: &'static Language) {
    let stage = Stage::of(language).await;
    stage.answers("put", "41", "done").await;
    let own = language.component();
    assert_eq!(stage.swap(&own, SwapOptions::default()).await, Ok(()));
    stage.answers("next", "", "42").await;
    stage.answers("identity", "", "subject 2 0").await;
}

async fn state_refused(language: &'static Language) {
    let stage = Stage::empty(language);
    stage.rig.add(spec("subject"), Limits::default(), "counter-v2");
    stage.rig.until("subject", "running").await;
    let own = language.component();
    let refused = stage.swap(&own, SwapOptions::default()).await.expect_err("another schema");
    assert!(refused.contains("schema 2"), "{refused}");

    let stage = Stage::empty(language);
    stage.rig.add(spec("subject"), Limits::default(), "counter");
    stage.rig.until("subject", "running").await;
    let refused = stage.swap(&own, SwapOptions::default()).await.expect_err("other bytes");
    assert!(refused.contains("not a number"), "{refused}");

    let stage = Stage::of(language).await;
    stage.answers("next", "", "1").await;
    stage.configure(&[("fail_save", "not now, größe")]);
    let refused = stage.swap(&own, SwapOptions::default()).await.expect_err("not saved");
    assert!(refused.contains("not now, größe"), "{refused}");
    stage.answers("next", "", "2").await;
}

async fn batches(language: &'static Language) {
    let stage = Stage::of(language).await;
    let mut seen = stage.rig.collect("collector", "seen.item").await;
    // They wait behind this one, and come together.
    let busy = stage.ask("request", "nobody.answers.this 1 x");
    let publish = async {
        for n in 0..100 {
            stage.rig.publish("do.item", &n.to_string());
        }
    };
    tokio::join!(busy, publish);
    for n in 0..100 {
        assert_eq!(seen.next().await, n.to_string());
    }
    // This comes behind them, so they are settled.
    stage.answers("echo", "on", "on").await;
    assert_eq!(stage.rig.inbox("subject").stats().dead_lettered, 10);
    let batched = stage.rig.metrics().value("batched_total{service=\"subject\",kind=\"test\"}");
    assert!(batched >= 2.0, "{batched} came in batches");
    let dead = stage.rig.inbox("subject").dead_letters();
    assert!(dead.iter().all(|letter| letter.why == "ninth"), "{dead:?}");
}
