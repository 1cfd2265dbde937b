//! What a swap is to whoever wants it, in paused time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::config::ConfigSnapshot;
use crate::message::{Outcome, Work};
use crate::service::SavedState;

/// Everything that the versions of a test tell, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A version that tells what it gets, and hands its state over. A bad one dies
/// at a message.
struct Version {
    name: &'static str,
    log: Log,
}

impl Version {
    fn tell(&self, what: impl AsRef<str>) {
        self.log.lock().push(format!("{} {}", self.name, what.as_ref()));
    }
}

impl Service for Version {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        context.started();
        loop {
            match context.lease.next().await {
                Work::Messages => {
                    let config = context.handle().config();
                    let Some(message) = context.lease.begin() else { continue };
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    if self.name == "bad" {
                        return Err(CrashReason::Handler { message: "it is bad".into() }.into());
                    }
                    let k = config.get("svc", "k").unwrap_or("nothing");
                    self.tell(format!("got {text} with {k} of {}", config.version()));
                    context.lease.conclude(Outcome::Handled);
                }
                Work::Pause { save } => {
                    self.tell(if save { "saves" } else { "pauses" });
                    let state = SavedState { schema: 1, bytes: Bytes::new() };
                    context.lease.paused(Ok(save.then_some(state)));
                }
                Work::Restore(_) => context.lease.restored(match self.name {
                    "picky" => Err("not that one".into()),
                    _ => Ok(()),
                }),
                Work::Stop => return Ok(()),
                Work::Event(_) => {}
            }
        }
    }
}

struct Swaps {
    supervisor: Supervisor,
    log: Log,
}

impl Swaps {
    /// A service `svc` of version `old`, which gets what is published to `t`.
    async fn new(replicas: usize) -> Self {
        let this = Self { supervisor: Supervisor::new(Kernel::new()), log: Log::default() };
        this.supervisor.add(this.spec("old", replicas), this.make("old")).expect("a new service");
        this.until(|status| status.replicas.iter().all(|one| one.state == "running")).await;
        this
    }

    fn spec(&self, version: &'static str, replicas: usize) -> ServiceSpec {
        let subscribe = vec![TopicFilter::parse("t").expect("a filter")];
        ServiceSpec { version: version.into(), replicas, subscribe, ..spec("svc") }
    }

    fn make(&self, name: &'static str) -> impl FnMut() -> Version + Send + 'static {
        let log = Arc::clone(&self.log);
        move || Version { name, log: Arc::clone(&log) }
    }

    async fn swap(&self, name: &'static str, options: SwapOptions) -> Result<Cut, SwapError> {
        self.supervisor.swap(&id("svc"), name.into(), self.make(name), options).await
    }

    async fn swapped(&self, name: &'static str) -> Cut {
        self.swap(name, SwapOptions::default()).await.expect("swapped")
    }

    fn publish(&self, text: &str) -> u32 {
        self.publish_to("t", text)
    }

    fn publish_to(&self, topic: &str, text: &str) -> u32 {
        let router = self.supervisor.kernel().router();
        let mut publisher = router.publisher("test", Arc::default());
        publisher.publish(topic, Bytes::from(text.to_owned())).expect("published")
    }

    async fn until(&self, holds: impl Fn(&ServiceStatus) -> bool) {
        while !holds(&self.supervisor.status(&id("svc")).expect("a service")) {
            // A back-off passes meanwhile.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Publishes, waits until it is handled, and gives what was told of it.
    async fn handled(&self, text: &str) -> String {
        self.publish(text);
        self.until(|status| status.mailbox.queued + status.mailbox.in_flight == 0).await;
        self.log.lock().last().cloned().expect("something was told")
    }

    fn versions(&self) -> Vec<String> {
        let status = self.supervisor.status(&id("svc")).expect("a service");
        status.replicas.iter().map(|replica| replica.version.to_string()).collect()
    }

    fn swaps(&self, outcome: &str) -> u64 {
        let text = self.supervisor.kernel().metrics().encode();
        let series = format!("ron_swaps_total{{outcome=\"{outcome}\",service=\"svc\"}}");
        let value = text.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    fn table(value: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let own = BTreeMap::from([("k".to_owned(), value.to_owned())]);
        BTreeMap::from([("svc".to_owned(), own)])
    }

    fn propose(&self, value: &str) -> Arc<ConfigSnapshot> {
        self.supervisor.kernel().config().propose(Self::table(value))
    }
}

fn why(refused: Result<Cut, SwapError>) -> String {
    match refused {
        Err(SwapError::Refused { why, .. }) => why,
        other => panic!("{other:?} is no refusal"),
    }
}

/// One replica learns that the version is bad, and all go back; one swap is
/// counted once.
#[tokio::test(start_paused = true)]
async fn replicas_go_back_together() {
    let swaps = Swaps::new(3).await;
    let cut = swaps.swapped("bad").await;
    assert_eq!(swaps.versions(), ["bad"; 3]);
    swaps.publish("a");
    assert_eq!(cut.verdict().await, Verdict::PutBack { why: "it is bad".into() });
    assert_eq!(swaps.versions(), ["old"; 3], "all of them, and before the verdict");
    assert_eq!(swaps.handled("b").await, "old got b with nothing of 0");
    tokio::time::sleep(HOUR).await;
    assert_eq!(swaps.versions(), ["old"; 3], "and the end of the probation changes nothing");
    assert_eq!((swaps.swaps("rolled-back"), swaps.swaps("committed")), (1, 0));

    let cut = swaps.swapped("good").await;
    assert_eq!(cut.verdict().await, Verdict::Committed);
    assert_eq!(swaps.versions(), ["good"; 3]);
    assert_eq!((swaps.swaps("rolled-back"), swaps.swaps("committed")), (1, 1));
}

/// Those that were cut over before another was refused are back when it is told.
#[tokio::test(start_paused = true)]
async fn a_refusal_by_one_replica_is_one_of_all() {
    let swaps = Swaps::new(3).await;
    let refused = why(swaps.swap("picky", SwapOptions::default()).await);
    assert_eq!(refused, "the new version refused the state: not that one");
    assert_eq!(swaps.versions(), ["old"; 3]);
    assert_eq!((swaps.swaps("refused"), swaps.swaps("rolled-back")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_tells_good_from_unknown() {
    async fn check(replicas: usize, end: impl AsyncFn(&Swaps), by: EndedBy, outcome: &str) {
        let swaps = Swaps::new(replicas).await;
        let cut = swaps.swapped("good").await;
        end(&swaps).await;
        assert_eq!(cut.verdict().await, Verdict::Ended { by });
        assert_eq!(swaps.swaps(outcome), 1, "{by}");
    }
    for replicas in [1, 3] {
        let newer = async |swaps: &Swaps| drop(swaps.swapped("better").await);
        check(replicas, newer, EndedBy::NewerSwap, "committed").await;
        let restart = async |swaps: &Swaps| assert!(swaps.supervisor.restart(&id("svc")));
        check(replicas, restart, EndedBy::Restart, "ended").await;
        let stop = async |swaps: &Swaps| assert!(swaps.supervisor.stop(&id("svc")));
        check(replicas, stop, EndedBy::Stop, "ended").await;
        let remove = async |swaps: &Swaps| assert!(swaps.supervisor.remove(&id("svc")).await);
        // Its series are gone with it.
        let swaps = Swaps::new(replicas).await;
        let cut = swaps.swapped("good").await;
        remove(&swaps).await;
        assert_eq!(cut.verdict().await, Verdict::Ended { by: EndedBy::Stop });
        let end = async |swaps: &Swaps| drop(swaps.supervisor.shut_down(HOUR).await);
        check(replicas, end, EndedBy::HostEnd, "ended").await;
    }
}

/// A replica that is not needed any more leaves; those that stay are still judged.
#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_decides_nothing() {
    let swaps = Swaps::new(3).await;
    let cut = swaps.swapped("bad").await;
    let fewer = swaps.spec("bad", 2);
    assert!(swaps.supervisor.scale_on(&Handle::current(), &fewer, swaps.make("bad")).await);
    assert_eq!(swaps.versions(), ["bad"; 2]);
    swaps.publish("a");
    assert!(matches!(cut.verdict().await, Verdict::PutBack { .. }));
    assert_eq!(swaps.versions(), ["old"; 2]);
}

/// One that was added on probation runs the new version, and goes back with it.
#[tokio::test(start_paused = true)]
async fn a_replica_that_joins_goes_back_too() {
    let swaps = Swaps::new(1).await;
    let cut = swaps.swapped("bad").await;
    let more = swaps.spec("bad", 3);
    assert!(swaps.supervisor.scale_on(&Handle::current(), &more, swaps.make("bad")).await);
    swaps.until(|status| status.replicas.iter().all(|one| one.state == "running")).await;
    assert_eq!(swaps.versions(), ["bad"; 3]);
    swaps.publish("a");
    assert!(matches!(cut.verdict().await, Verdict::PutBack { .. }));
    swaps.until(|status| status.replicas.iter().all(|one| &*one.version == "old")).await;
    assert_eq!(swaps.handled("b").await, "old got b with nothing of 0");
    assert_eq!(swaps.swaps("rolled-back"), 1);

    // It does not make the probation longer, nor is it on one afterwards.
    let cut = swaps.swapped("good").await;
    let more = swaps.spec("good", 4);
    assert!(swaps.supervisor.scale_on(&Handle::current(), &more, swaps.make("good")).await);
    assert_eq!(cut.verdict().await, Verdict::Committed);
    let more = swaps.spec("good", 5);
    assert!(swaps.supervisor.scale_on(&Handle::current(), &more, swaps.make("good")).await);
    assert!(swaps.supervisor.put_back(&id("svc"), "too late"));
    swaps.until(|status| status.replicas.iter().all(|one| one.state == "running")).await;
    assert_eq!(swaps.versions(), ["good"; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_costs_a_message_no_delivery() {
    let swaps = Swaps::new(1).await;
    let mut once = swaps.spec("old", 1);
    once.mailbox.max_deliveries = 1;
    assert!(swaps.supervisor.adopt(once).await);
    for round in 0..4 {
        let options = SwapOptions { force: true, ..SwapOptions::default() };
        let cut = swaps.swap("bad", options).await.expect("swapped");
        swaps.publish(&round.to_string());
        assert!(matches!(cut.verdict().await, Verdict::PutBack { .. }));
        swaps.until(|status| status.mailbox.handled == round + 1).await;
    }
    let stats = swaps.supervisor.inbox(&id("svc")).expect("a service").stats();
    assert_eq!((stats.redelivered, stats.dead_lettered), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_for_what_was_bad_and_is_not_good_now() {
    let swaps = Swaps::new(1).await;
    let put_back = async |name, force| {
        let cut = swaps.swap(name, SwapOptions { force, ..SwapOptions::default() }).await;
        swaps.publish("x");
        assert!(matches!(cut.expect("swapped").verdict().await, Verdict::PutBack { .. }));
        swaps.until(|status| status.mailbox.queued + status.mailbox.in_flight == 0).await;
    };
    put_back("bad", false).await;
    let refused = why(swaps.swap("bad", SwapOptions::default()).await);
    assert!(refused.starts_with("bad was put back a while ago"), "{refused}");

    // Forced, it passes, and is as good as any.
    let forced = SwapOptions { force: true, ..SwapOptions::default() };
    let cut = swaps.swap("bad", forced).await.expect("swapped");
    assert_eq!(cut.verdict().await, Verdict::Committed);
    swaps.swapped("old").await.verdict().await;
    assert_eq!(swaps.swapped("bad").await.verdict().await, Verdict::Committed, "held no more");

    // Swapped for itself under other rules, it is these that were bad.
    put_back("bad", false).await;
    swaps.swapped("old").await.verdict().await;
    assert_eq!(swaps.swapped("bad").await.verdict().await, Verdict::Committed);

    // What runs is not held, though nobody knows whether it is good.
    swaps.swapped("old").await.verdict().await;
    put_back("bad", false).await;
    let forced = SwapOptions { force: true, ..SwapOptions::default() };
    let cut = swaps.swap("bad", forced).await.expect("swapped");
    swaps.supervisor.restart(&id("svc"));
    assert_eq!(cut.verdict().await, Verdict::Ended { by: EndedBy::Restart });
    swaps.until(|status| status.state == "running").await;
    assert_eq!(swaps.swapped("bad").await.verdict().await, Verdict::Committed);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_not_wanted_is_not_asked_for() {
    let swaps = Swaps::new(1).await;
    let options = SwapOptions { discard_state: true, ..SwapOptions::default() };
    swaps.swap("picky", options).await.expect("it is offered no state to refuse");
    assert_eq!(*swaps.log.lock(), ["old pauses"]);
    swaps.swapped("good").await;
    assert_eq!(*swaps.log.lock(), ["old pauses", "picky saves"]);
}

/// Going back undoes what came with the swap, and nothing that was said since.
#[tokio::test(start_paused = true)]
async fn going_back_undoes_no_more_than_the_swap() {
    let swaps = Swaps::new(2).await;
    let config = swaps.supervisor.kernel().config();
    config.replace(Swaps::table("one"));
    let filters = |texts: &[&str]| -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::parse(text).expect("a filter")).collect()
    };
    let brought = {
        let mut brought = swaps.spec("bad", 2);
        brought.subscribe = filters(&["t", "brought"]);
        brought.mailbox.bytes = 1;
        brought
    };
    let came = swaps.propose("came");
    let options = SwapOptions {
        config: Some(Arc::clone(&came)),
        spec: Some(Box::new(brought.clone())),
        ..SwapOptions::default()
    };
    let cut = swaps.swap("bad", options).await.expect("swapped");
    config.apply(&came);
    let router = swaps.supervisor.kernel().router();
    assert!(router.subscriptions(&id("svc")).contains(&filters(&["brought"])[0]));

    let mut later = brought;
    later.subscribe.extend(filters(&["later"]));
    later.mailbox.messages = 3;
    later.mailbox.overflow = crate::message::Overflow::Reject;
    assert!(swaps.supervisor.adopt(later).await);
    while !router.subscriptions(&id("svc")).contains(&filters(&["later"])[0]) {
        tokio::task::yield_now().await;
    }
    swaps.publish("");
    assert!(matches!(cut.verdict().await, Verdict::PutBack { .. }));
    swaps.until(|status| status.mailbox.queued + status.mailbox.in_flight == 0).await;

    assert_eq!(swaps.versions(), ["old"; 2]);
    assert_eq!(swaps.publish_to("brought", "x"), 0, "it went with the bad version");
    assert_eq!(swaps.publish_to("later", "x"), 1, "it was said meanwhile");
    assert_eq!(swaps.handled("more than a byte").await, "old got more than a byte with one of 1");
    swaps.supervisor.stop(&id("svc"));
    swaps.until(|status| status.replicas.iter().all(|one| one.state == "stopped")).await;
    let mut publisher = router.publisher("test", Arc::default());
    let taken = (0..5).filter(|_| publisher.publish("t", Bytes::new()).is_ok()).count();
    assert_eq!(taken, 3, "the new bound holds for the old version");
    swaps.supervisor.start(&id("svc"));
    swaps.until(|status| status.replicas.iter().all(|one| one.state == "running")).await;

    // What is said of it later reaches it, under its version.
    config.replace(Swaps::table("two"));
    assert_eq!(swaps.handled("b").await, "old got b with two of 3");
}

/// A stopped service has nothing that could prove a version; where some replicas
/// run, the stopped ones go back with them.
#[tokio::test(start_paused = true)]
async fn stopped_replicas_go_back_with_those_that_run() {
    let swaps = Swaps::new(2).await;
    swaps.supervisor.stop(&id("svc"));
    swaps.until(|status| status.replicas.iter().all(|one| one.state == "stopped")).await;
    let cut = swaps.swapped("good").await;
    assert!(!cut.probation);
    assert_eq!(cut.verdict().await, Verdict::Committed);
    assert_eq!(swaps.versions(), ["good"; 2]);

    let first = swaps.supervisor.replicas(&id("svc"))[0].commands.clone();
    first.send(Command::Start).await.expect("it takes commands");
    swaps.until(|status| status.replicas[0].state == "running").await;
    let cut = swaps.swapped("bad").await;
    assert!(cut.probation);
    assert_eq!(swaps.versions(), ["bad"; 2]);
    swaps.publish("a");
    assert!(matches!(cut.verdict().await, Verdict::PutBack { .. }));
    assert_eq!(swaps.versions(), ["good"; 2]);
    let status = swaps.supervisor.status(&id("svc")).expect("a service");
    assert_eq!(
        status.replicas.iter().map(|one| one.state).collect::<Vec<_>>(),
        ["running", "stopped"]
    );
}
