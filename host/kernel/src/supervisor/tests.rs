//! The shell's promises, in paused time: nothing here sleeps, and what is said
//! of a time is exact.

pub(super) mod swap_model;
mod swaps;

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::bus::Subscription;
use crate::crash::CallKind;
use crate::service::{Context, Crash, Incoming};

/// What an incarnation does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Serves until it is asked to stop.
    Serve,
    /// Serves for so long, and panics.
    PanicAfter(Duration),
    /// Panics before it has started.
    PanicInStart,
    /// Never starts.
    HangInStart,
    /// Ends well as soon as it has started.
    End,
    /// Says that its work is done, and ends well.
    Finish,
    /// Ends with an error of its own.
    Fail,
    /// Takes so long to stop.
    StopAfter(Duration),
    /// Panics when it is asked to stop.
    PanicInStop,
}

struct Actor {
    act: Act,
    /// Told of the kernel's announcements, in order.
    heard: Arc<Mutex<Vec<Arc<KernelEvent>>>>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service for Actor {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        match self.act {
            Act::PanicInStart => panic!("told to panic in start"),
            Act::HangInStart => std::future::pending().await,
            _ => context.started(),
        }
        match self.act {
            Act::PanicAfter(time) => {
                tokio::time::sleep(time).await;
                panic!("told to panic after {time:?}");
            }
            Act::End => return Ok(()),
            Act::Finish => {
                context.finished();
                return Ok(());
            }
            Act::Fail => {
                return Err(CrashReason::Handler { message: "told to fail".into() }.into());
            }
            _ => {}
        }
        loop {
            match context.next().await {
                Incoming::Message(_) => {}
                Incoming::Event(event) => self.heard.lock().push(event),
                Incoming::Stop => break,
            }
        }
        match self.act {
            Act::StopAfter(time) => tokio::time::sleep(time).await,
            Act::PanicInStop => panic!("told to panic in stop"),
            _ => {}
        }
        Ok(())
    }
}

/// A supervisor, and what a test sees of its services.
struct Stage {
    supervisor: Supervisor,
    events: Subscription,
    heard: Arc<Mutex<Vec<Arc<KernelEvent>>>>,
    alive: Arc<AtomicUsize>,
    began: Instant,
}

/// When each incarnation was made, since the stage was.
type Made = Arc<Mutex<Vec<Duration>>>;

impl Stage {
    fn new() -> Self {
        let kernel = Kernel::new();
        Self {
            events: kernel.bus().subscribe(),
            supervisor: Supervisor::new(kernel),
            heard: Arc::default(),
            alive: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Adds a service whose incarnations do what `act` says, from 1 on.
    fn add(&self, spec: ServiceSpec, act: impl Fn(usize) -> Act + Send + 'static) -> Made {
        let made = Made::default();
        let (times, began) = (Arc::clone(&made), self.began);
        let (heard, alive) = (Arc::clone(&self.heard), Arc::clone(&self.alive));
        let make = move || {
            times.lock().push(began.elapsed());
            assert_eq!(alive.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
            let number = times.lock().len();
            Actor { act: act(number), heard: Arc::clone(&heard), alive: Arc::clone(&alive) }
        };
        self.supervisor.add(spec, make).expect("a new service");
        made
    }

    /// The next crash of anybody, and when it was told.
    async fn crash(&mut self) -> (CrashReason, Duration) {
        let crashed = |event: &KernelEvent| matches!(event, KernelEvent::ServiceCrashed { .. });
        match self.events.recv_matching(crashed).await {
            Ok(KernelEvent::ServiceCrashed { reason, .. }) => (reason, self.began.elapsed()),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a service is in a state; returns when.
    async fn until(&self, name: &str, state: &str) -> Duration {
        let health = self.supervisor.kernel().health();
        let mut changes = health.subscribe();
        while health.get(name).is_none_or(|health| health.state != state) {
            changes.changed().await.expect("the registry lives");
        }
        self.began.elapsed()
    }

    fn value(&self, series: &str) -> Option<f64> {
        let text = self.supervisor.kernel().metrics().encode();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

fn id(name: &str) -> ServiceId {
    ServiceId::parse(name).expect("a name")
}

fn spec(name: &str) -> ServiceSpec {
    ServiceSpec::new(id(name))
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_told_and_survived() {
    let mut stage = Stage::new();
    stage.add(spec("svc"), |number| match number {
        1 => Act::PanicAfter(SECOND),
        2 => Act::PanicInStart,
        3 => Act::Fail,
        _ => Act::Serve,
    });
    let crashes =
        [stage.crash().await.0, stage.crash().await.0, stage.crash().await.0].map(|reason| {
            assert!(matches!(reason.label(), "panic" | "handler-error"), "{reason:?}");
            reason.to_string()
        });
    assert_eq!(crashes, ["told to panic after 1s", "told to panic in start", "told to fail"]);
    stage.until("svc", "running").await;
    assert_eq!(stage.supervisor.generation(&id("svc")), Some(Generation(4)));
    assert_eq!(stage.value("service_restarts_total{service=\"svc\"}"), Some(3.0));
    let reports = stage.supervisor.crashes(&id("svc"));
    let generations: Vec<u64> = reports.iter().map(|report| report.generation.0).collect();
    assert_eq!(generations, [1, 2, 3]);
    let panics = "service_crashes_total{reason=\"panic\",service=\"svc\"}";
    assert_eq!(stage.value(panics), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_clean_exit_is_no_crash() {
    let mut stage = Stage::new();
    let mut own = spec("svc");
    own.restart.policy = RestartPolicy::OnFailure;
    let made = stage.add(own, |_| Act::End);
    stage.until("svc", "stopped").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(made.lock().len(), 1);
    assert!(stage.supervisor.crashes(&id("svc")).is_empty());
    while let Ok(event) = stage.events.try_recv() {
        assert!(matches!(event, KernelEvent::Health { .. }), "{event:?}");
    }
}

/// A service whose work is done is ready, and is not started again unless
/// somebody does; not even by being put back after a swap.
#[tokio::test(start_paused = true)]
async fn what_has_finished_is_ready_and_rests() {
    let stage = Stage::new();
    let mut own = spec("svc");
    own.critical = true;
    let made = stage.add(own, |_| Act::Finish);
    stage.until("svc", "finished").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(made.lock().len(), 1);
    let kernel = stage.supervisor.kernel().clone();
    assert!(kernel.health().readiness().ready);
    let status = stage.supervisor.status(&id("svc")).expect("a service");
    assert_eq!((status.state, status.ok, status.uptime), ("finished", true, None));
    assert_eq!(stage.value("ron_service_state{service=\"svc\",state=\"finished\"}"), Some(1.0));
    assert_eq!(stage.value("service_restarts_total{service=\"svc\"}"), Some(0.0));

    assert!(stage.supervisor.start(&id("svc")));
    while made.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    stage.until("svc", "finished").await;

    let make = {
        let (heard, alive) = (Arc::clone(&stage.heard), Arc::clone(&stage.alive));
        move || {
            alive.fetch_add(1, Ordering::Relaxed);
            let (heard, alive) = (Arc::clone(&heard), Arc::clone(&alive));
            Actor { act: Act::PanicAfter(SECOND), heard, alive }
        }
    };
    let (svc, options) = (id("svc"), SwapOptions::default());
    let swapped = stage.supervisor.swap(&svc, "bad".into(), make, options);
    let cut = swapped.await.expect("there was nobody to ask");
    assert_eq!(stage.supervisor.status(&id("svc")).expect("a service").state, "running");
    assert!(matches!(cut.verdict().await, Verdict::PutBack { .. }));
    stage.until("svc", "finished").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(made.lock().len(), 2, "it was not run again");
    stage.supervisor.stop(&id("svc"));
    stage.until("svc", "stopped").await;
    assert!(!kernel.health().readiness().ready);
}

/// The documented delays, less the jitter, and then no more.
#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off_and_ends_in_quarantine() {
    let stage = Stage::new();
    let made = stage.add(spec("svc"), |_| Act::PanicInStart);
    let at = stage.until("svc", "quarantined").await;
    assert!(at < Duration::from_secs(60), "within the period of its budget");
    tokio::time::sleep(HOUR).await;
    let made = made.lock().clone();
    assert_eq!(made.len(), 11, "once, and ten restarts");
    let mut full = Duration::ZERO;
    for pair in made.windows(2) {
        let delay = pair[1] - pair[0];
        // Timers have the grain of a millisecond.
        assert!(delay <= full + Duration::from_millis(1) && delay >= full.mul_f64(0.8), "{made:?}");
        full = if full.is_zero() { Duration::from_millis(100) } else { full * 2 };
    }
    let health = stage.supervisor.kernel().health().get("svc").expect("known");
    assert_eq!(health.detail.as_deref(), Some("panic: told to panic in start"));
    assert_eq!(stage.value("service_restarts_total{service=\"svc\"}"), Some(10.0));
}

#[tokio::test(start_paused = true)]
async fn a_budget_counts_within_its_period_only() {
    let stage = Stage::new();
    let made = stage.add(spec("svc"), |_| Act::PanicAfter(61 * SECOND));
    tokio::time::sleep(HOUR).await;
    let made = made.lock().clone();
    assert_eq!(made.len(), 60, "it is healthy for long enough each time");
    for pair in made.windows(2) {
        assert!(pair[1] - pair[0] <= 61 * SECOND + Duration::from_millis(2), "no delay: {made:?}");
    }
}

/// What hangs in its start for some seconds each time is given up as what crashes at
/// once is.
#[tokio::test(start_paused = true)]
async fn a_slow_crash_loop_ends_in_quarantine() {
    let stage = Stage::new();
    let mut own = spec("svc");
    own.deadlines.start = 2 * SECOND;
    let made = stage.add(own, |_| Act::HangInStart);
    let at = tokio::time::timeout(HOUR, stage.until("svc", "quarantined")).await;
    let at = at.expect("it is given up");
    assert_eq!(made.lock().len(), 11, "once, and ten restarts");
    // Eleven starts, and delays of 51.1 s in all at most.
    assert!(at < 75 * SECOND, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_out_a_backoff() {
    let stage = Stage::new();
    let mut own = spec("svc");
    own.restart.first_delay = HOUR;
    own.restart.max_delay = HOUR;
    let made = stage.add(own.clone(), |_| Act::PanicInStart);
    let at = stage.until("svc", "backoff").await;
    assert!(stage.supervisor.stop(&id("svc")));
    assert_eq!(stage.until("svc", "stopped").await, at);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(made.lock().len(), 2, "the alarm of the back-off starts nothing");

    // Nor does starting, restarting, removing or the end of the host.
    stage.supervisor.start(&id("svc"));
    let at = stage.until("svc", "backoff").await;
    assert_eq!(made.lock().len(), 4, "forgotten: the first restart has no delay");
    stage.supervisor.restart(&id("svc"));
    tokio::time::sleep(SECOND).await;
    assert_eq!(made.lock().len(), 5);
    assert!(stage.supervisor.remove(&id("svc")).await);
    assert_eq!(stage.began.elapsed(), at + SECOND);
    stage.add(own, |_| Act::PanicInStart);
    stage.until("svc", "backoff").await;
    assert_eq!(stage.supervisor.shut_down(HOUR).await, Drained::default());
    assert_eq!(stage.began.elapsed(), at + SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_start_has_a_deadline() {
    let mut stage = Stage::new();
    stage.add(spec("svc"), |number| if number == 1 { Act::HangInStart } else { Act::Serve });
    let (reason, at) = stage.crash().await;
    assert_eq!(reason, CrashReason::deadline(CallKind::Start, Duration::from_secs(30)));
    assert_eq!(at.as_secs(), 30);
    // Once it has started nothing runs against it.
    stage.until("svc", "running").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(stage.supervisor.generation(&id("svc")), Some(Generation(2)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_has_a_deadline() {
    let mut stage = Stage::new();
    stage.add(spec("svc"), |_| Act::StopAfter(HOUR));
    stage.until("svc", "running").await;
    stage.supervisor.stop(&id("svc"));
    let (reason, at) = stage.crash().await;
    assert_eq!(reason, CrashReason::deadline(CallKind::Stop, Duration::from_secs(5)));
    assert_eq!(at.as_secs(), 5);
    stage.until("svc", "stopped").await;
    assert_eq!(stage.alive.load(Ordering::Relaxed), 0);
    tokio::time::sleep(HOUR).await;
    assert_eq!(stage.supervisor.generation(&id("svc")), Some(Generation(1)), "it was not wanted");
}

/// A start that hangs is asked to stop like any other, and has no more time.
#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_out_a_start() {
    let mut stage = Stage::new();
    stage.add(spec("svc"), |_| Act::HangInStart);
    stage.until("svc", "starting").await;
    stage.supervisor.stop(&id("svc"));
    let (reason, at) = stage.crash().await;
    assert_eq!(reason, CrashReason::deadline(CallKind::Start, Duration::from_secs(5)));
    assert_eq!(at.as_secs(), 5);
    stage.until("svc", "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_replaces_the_incarnation() {
    let stage = Stage::new();
    let made = stage.add(spec("svc"), |_| Act::StopAfter(2 * SECOND));
    stage.until("svc", "running").await;
    stage.supervisor.restart(&id("svc"));
    stage.until("svc", "draining").await;
    stage.until("svc", "running").await;
    assert_eq!(made.lock().iter().map(Duration::as_secs).collect::<Vec<_>>(), [0, 2]);
    assert!(stage.supervisor.crashes(&id("svc")).is_empty());
    assert_eq!(stage.value("service_restarts_total{service=\"svc\"}"), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_stays_stopped_until_it_is_started() {
    let stage = Stage::new();
    let made = stage.add(spec("svc"), |_| Act::Serve);
    stage.until("svc", "running").await;
    stage.supervisor.stop(&id("svc"));
    stage.until("svc", "stopped").await;
    stage.supervisor.restart(&id("svc"));
    stage.supervisor.stop(&id("svc"));
    tokio::time::sleep(HOUR).await;
    assert_eq!(made.lock().len(), 1);
    stage.supervisor.start(&id("svc"));
    stage.until("svc", "running").await;
    assert!(!stage.supervisor.start(&id("nobody")));
}

#[tokio::test(start_paused = true)]
async fn dropping_leaks_no_child() {
    let stage = Stage::new();
    stage.add(spec("svc"), |_| Act::StopAfter(HOUR));
    stage.until("svc", "running").await;
    let alive = Arc::clone(&stage.alive);
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    let kernel = stage.supervisor.kernel().clone();
    drop(stage);
    while alive.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    // The kernel's own loop is gone too: nothing turns its timers.
    let beat = kernel.health().heartbeat().age(Instant::now());
    tokio::time::sleep(HOUR).await;
    let age = kernel.health().heartbeat().age(Instant::now());
    assert_eq!(age, beat.map(|beat| beat + HOUR));
}

#[tokio::test(start_paused = true)]
async fn aborting_who_owns_it_leaks_no_child() {
    let stage = Stage::new();
    stage.add(spec("svc"), |_| Act::StopAfter(HOUR));
    stage.until("svc", "running").await;
    let alive = Arc::clone(&stage.alive);
    let owner = tokio::spawn(async move {
        let _stage = stage;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    owner.abort();
    while alive.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_drains_and_names_what_it_abandons() {
    async fn check(takes: u64, abandoned: &[&str], seconds: u64) {
        let mut stage = Stage::new();
        let mut own = spec("slow");
        own.deadlines.stop = HOUR;
        stage.add(own, move |_| Act::StopAfter(Duration::from_secs(takes)));
        stage.until("slow", "running").await;
        let alive = Arc::clone(&stage.alive);
        let began = Instant::now();
        let drained = stage.supervisor.shut_down(10 * SECOND).await;
        assert_eq!(drained.abandoned, abandoned.iter().map(|name| id(name)).collect::<Vec<_>>());
        assert_eq!(began.elapsed().as_secs(), seconds);
        while alive.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            stage.supervisor.kernel().health().readiness().missing.contains(&"draining".into())
        );
        let shutdowns = std::iter::from_fn(|| stage.events.try_recv().ok())
            .filter(|event| *event == KernelEvent::Shutdown)
            .count();
        assert_eq!(shutdowns, 1);
        let heard = stage.heard.lock().clone();
        let told = heard.iter().filter(|event| ***event == KernelEvent::Shutdown).count();
        assert_eq!(told, 1, "a service hears of it, once, before it is asked to stop: {heard:?}");
    }
    check(3, &[], 3).await;
    check(11, &["slow"], 10).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_critical_service_fails_the_host() {
    let stage = Stage::new();
    stage.add(spec("optional"), |_| Act::PanicInStart);
    stage.until("optional", "quarantined").await;
    let none = tokio::time::timeout(HOUR, stage.supervisor.critical_failure()).await;
    assert!(none.is_err(), "{none:?}");

    stage.add(ServiceSpec { critical: true, ..spec("first") }, |_| Act::PanicInStart);
    let (service, reason) = stage.supervisor.critical_failure().await;
    assert_eq!(service, id("first"));
    assert_eq!(reason, CrashReason::panic("told to panic in start"));
    assert_eq!(stage.supervisor.kernel().health().readiness().missing, ["first"]);
    stage.until("first", "quarantined").await;
    // Whoever asks later hears of the same one.
    assert_eq!(stage.supervisor.critical_failure().await.0, id("first"));
}

/// What can never fit is not tried eleven times.
#[tokio::test(start_paused = true)]
async fn a_failed_link_is_final() {
    struct Unfit;
    impl Service for Unfit {
        async fn run(&mut self, _: &mut Context) -> Result<(), Crash> {
            Err(CrashReason::Link { message: "no such import".into() }.into())
        }
    }
    let mut stage = Stage::new();
    stage.supervisor.add(spec("svc"), || Unfit).expect("a new service");
    assert_eq!(stage.crash().await.0, CrashReason::Link { message: "no such import".into() });
    stage.until("svc", "quarantined").await;
    assert_eq!(stage.supervisor.generation(&id("svc")), Some(Generation(1)));
    assert_eq!(stage.value("service_restarts_total{service=\"svc\"}"), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn announcements_reach_every_service() {
    let stage = Stage::new();
    stage.add(spec("svc"), |_| Act::Serve);
    stage.until("svc", "running").await;
    let bus = stage.supervisor.kernel().bus();
    for version in 1..=3 {
        bus.publish(KernelEvent::ConfigUpdated { version });
    }
    tokio::time::sleep(SECOND).await;
    let heard = stage.heard.lock().clone();
    let versions: Vec<u64> = heard
        .iter()
        .filter_map(|event| match **event {
            KernelEvent::ConfigUpdated { version } => Some(version),
            _ => None,
        })
        .collect();
    assert_eq!(versions, [1, 2, 3]);
}

/// What is announced is heard or counted as lost, wherever on its way it was.
#[tokio::test(start_paused = true)]
async fn announcements_that_services_miss_are_counted() {
    let stage = Stage::new();
    stage.add(spec("svc"), |_| Act::Serve);
    stage.until("svc", "running").await;
    tokio::time::sleep(SECOND).await;
    stage.heard.lock().clear();
    let bus = stage.supervisor.kernel().bus();
    let publish = |count| {
        for version in 1..=count {
            bus.publish(KernelEvent::ConfigUpdated { version });
        }
    };
    let lost = |name: &str| stage.value(&format!("bus_lagged_total{{service=\"{name}\"}}"));
    // More at once than are passed on at a time.
    publish(200);
    tokio::time::sleep(SECOND).await;
    assert_eq!(stage.heard.lock().len(), 64);
    assert_eq!((lost("services"), lost("svc")), (Some(136.0), None));

    // More than wait for a service that reads none.
    let deaf = spec("deaf");
    stage.supervisor.add(deaf, || Deaf).expect("a new service");
    stage.until("deaf", "running").await;
    tokio::time::sleep(SECOND).await;
    for _ in 0..4 {
        publish(50);
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!((lost("services"), lost("svc")), (Some(136.0), None));
    // Since it is there, as many were announced as the other has heard.
    let (heard, queued) = (stage.heard.lock().len() - 64, 64);
    assert_eq!(lost("deaf"), Some((heard - queued) as f64));
    let all = lost("deaf").zip(lost("services")).map(|(deaf, services)| deaf + services);
    assert_eq!(stage.value("bus_overflow_dropped_total"), all);
}

/// Starts, and then reads nothing.
struct Deaf;

impl Service for Deaf {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        context.started();
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_added_is_named_before_it_is() {
    let stage = Stage::new();
    let (supervisor, health) = (&stage.supervisor, stage.supervisor.kernel().health());
    let names = || -> Vec<(String, &str)> {
        let all = supervisor.statuses().into_iter();
        all.map(|status| (status.service.to_string(), status.state)).collect()
    };
    stage.add(spec("b"), |_| Act::Serve);
    stage.until("b", "running").await;
    for (name, critical) in [("c", true), ("a", false), ("b", true)] {
        supervisor.expect(id(name), critical);
    }
    let expected = [("a", "loading"), ("b", "running"), ("c", "loading")];
    assert_eq!(names(), expected.map(|(name, state)| (name.to_owned(), state)));
    assert_eq!(health.readiness().missing, ["c"]);
    let status = supervisor.status(&id("c")).expect("known");
    assert_eq!((status.state, status.ok, status.critical), ("loading", false, true));
    assert_eq!(stage.value("ron_service_state{service=\"a\",state=\"loading\"}"), Some(1.0));
    assert!(!supervisor.start(&id("c")) && !supervisor.stop(&id("c")), "it takes no commands");

    stage.supervisor.add(spec("c"), || Deaf).expect("a new service");
    stage.until("c", "running").await;
    assert_eq!(names()[2], ("c".to_owned(), "running"));
    assert!(!supervisor.remove(&id("a")).await, "it was never there");
    assert_eq!(names().len(), 2);
    assert_eq!(health.get("a"), None);
}

#[tokio::test(start_paused = true)]
async fn two_of_one_name_are_refused() {
    let stage = Stage::new();
    stage.add(spec("svc"), |_| Act::Serve);
    let again = stage.supervisor.add(spec("svc"), || -> Actor { panic!("it is not made") });
    assert_eq!(again.expect_err("refused").to_string(), "there is already a service named svc");
    stage.until("svc", "running").await;
    let mut own = spec("other");
    own.subscribe = vec![TopicFilter::parse("ron.x").expect("a filter")];
    let refused = stage.supervisor.add(own, || -> Actor { panic!("it is not made") });
    assert!(matches!(refused, Err(AddError::Subscribe { .. })), "{refused:?}");
    assert_eq!(stage.supervisor.inbox(&id("other")).map(|_| ()), None, "nothing is left of it");
    assert_eq!(stage.supervisor.kernel().router().count(), 1);
}

/// Members of a group that crash when they are asked to stop must not keep
/// each other restarting for ever: a crash on the way out takes nobody along,
/// or the budget ends it.
#[tokio::test(start_paused = true)]
async fn a_group_does_not_restart_itself_for_ever() {
    /// More than any budget; a service that reaches it stays put.
    const MANY: usize = 1000;
    let kernel = Kernel::new();
    let supervisor = Supervisor::new(kernel);
    supervisor.set_groups(vec![Group {
        strategy: Strategy::OneForAll,
        members: ["a", "b"].map(|name| (id(name), vec![])).into(),
    }]);
    let count = Arc::<AtomicUsize>::default();
    for name in ["a", "b"] {
        let count = Arc::clone(&count);
        let make = move || {
            let act = match (count.fetch_add(1, Ordering::Relaxed), name) {
                (MANY.., _) => Act::HangInStart,
                // Both have started when it comes.
                (0..2, "a") => Act::PanicAfter(SECOND),
                _ => Act::PanicInStop,
            };
            let alive = Arc::new(AtomicUsize::new(1));
            Actor { act, heard: Arc::default(), alive }
        };
        supervisor.add(spec(name), make).expect("a new service");
    }
    tokio::time::sleep(HOUR).await;
    let made = count.load(Ordering::Relaxed);
    assert!(made <= 2 * 11, "{made} incarnations of one crash");
}
