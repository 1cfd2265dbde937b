//! The kernel as one value: what every part of the host shares, and the loop
//! that keeps it moving.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::bus::{Bus, RecvError, Subscription, TryRecvError};
use crate::config::Config;
use crate::event::KernelEvent;
use crate::health::HealthState;
use crate::message::Router;
use crate::metrics::{Family, Metrics, Sample};
use crate::timer::Timers;

/// Announcements are passed on to services at most so often, plus
/// [`PACE_EACH`] for each service: one event told to ten thousand services is
/// ten thousand calls, and ten thousand services start with as many events.
const PACE: Duration = Duration::from_millis(5);
/// See [`PACE`].
const PACE_EACH: Duration = Duration::from_micros(20);
/// How often the loop beats for `/livez`.
const BEAT: Duration = Duration::from_millis(500);
/// Most announcements that are passed on at a time; the oldest goes first. What is lost
/// so is lost by all services, and counted once, as what [`SERVICES`] lost.
const PASSED_ON: usize = 64;
/// The name under which announcements are taken from the bus for all services.
pub(crate) const SERVICES: &str = "services";

/// Bus, metrics, health, configuration, message routes and timers. A clone is
/// the same kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    bus: Bus,
    metrics: Metrics,
    health: HealthState,
    config: Config,
    router: Router,
    timers: Timers,
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel {
    /// A kernel with a bus of the default capacity.
    #[must_use]
    pub fn new() -> Self {
        let health = HealthState::new();
        let metrics = Metrics::with_health(health.clone());
        let bus = Bus::new(Bus::<KernelEvent>::DEFAULT_CAPACITY);
        metrics.watch_bus(&bus);
        let router = Router::new();
        expose_mailboxes(&metrics, router.clone());
        Self { bus, metrics, health, config: Config::new(), router, timers: Timers::default() }
    }

    /// Where the kernel announces.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Who is ready.
    #[must_use]
    pub fn health(&self) -> &HealthState {
        &self.health
    }

    /// What services are configured with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who subscribes to what.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The kernel's loop: beats for `/livez`, turns the timers and passes what
    /// `events` brings on to services. Runs until it is dropped.
    pub(crate) async fn run(&self, mut events: Subscription) {
        let beat = async {
            let mut ticks = interval(BEAT);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.health.heartbeat().beat(Instant::now());
            }
        };
        let pass_on = async {
            loop {
                // Lag is counted by the bus; the oldest are lost and that is all.
                match events.recv().await {
                    Ok(event) => self.pass_on(event, &mut events),
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => break,
                }
                let services = u32::try_from(self.router.count()).unwrap_or(u32::MAX);
                sleep(PACE + PACE_EACH.saturating_mul(services)).await;
            }
        };
        tokio::join!(beat, pass_on, self.timers.run(&self.router));
    }

    /// Passes `first` and what else waits on to every service. The shutdown is
    /// not among them: whoever shuts down tells it, before it asks to stop.
    fn pass_on(&self, first: KernelEvent, events: &mut Subscription) {
        let mut batch = VecDeque::new();
        let mut lost = 0;
        let mut next = Some(first);
        loop {
            if let Some(event) = next.take().filter(|event| *event != KernelEvent::Shutdown) {
                if batch.len() == PASSED_ON {
                    batch.pop_front();
                    lost += 1;
                }
                batch.push_back(Arc::new(event));
            }
            match events.try_recv() {
                Ok(event) => next = Some(event),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.lost(SERVICES, lost);
        self.announce(batch.make_contiguous());
    }

    /// Queues announcements for every service. What one misses is counted under its
    /// name, as a subscriber's of the bus.
    pub(crate) fn announce(&self, events: &[Arc<KernelEvent>]) {
        for inbox in self.router.inboxes() {
            self.lost(inbox.service().as_str(), inbox.announce(events));
        }
    }

    /// Counts what was lost on the way from the bus to services. It is not announced as
    /// what the bus itself loses: whoever misses announcements would miss more for it.
    fn lost(&self, name: &str, count: u64) {
        if count > 0 {
            self.bus.ledger().counter(name).fetch_add(count, Ordering::Relaxed);
        }
    }
}

const MAILBOX_FAMILIES: &[Family] = &[
    Family::gauge("ron_mailbox_messages", "Messages waiting in a mailbox.", &["service"]),
    Family::gauge("ron_mailbox_bytes", "Bytes of payload waiting in a mailbox.", &["service"]),
    Family::gauge("ron_mailbox_in_flight", "Messages taken and not settled yet.", &["service"]),
    Family::counter("ron_mailbox_accepted_total", "Messages taken in.", &["service"]),
    Family::counter("ron_mailbox_handled_total", "Messages handled.", &["service"]),
    Family::counter(
        "ron_mailbox_dead_lettered_total",
        "Messages that went to the dead letters.",
        &["service"],
    ),
    Family::counter(
        "ron_mailbox_redelivered_total",
        "Deliveries of a message after its first.",
        &["service"],
    ),
    Family::counter(
        "ron_mailbox_dropped_total",
        "Messages lost to a full mailbox, by its overflow policy.",
        &["service", "policy"],
    ),
];

/// Mailboxes count for themselves and are read when somebody asks: a message
/// pays for no metric.
fn expose_mailboxes(metrics: &Metrics, router: Router) {
    metrics.pull(MAILBOX_FAMILIES, move |out: &mut dyn FnMut(Sample)| {
        let mut all = router.stats();
        // As they are shown: what is in order is not sorted again for each metric.
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (service, stats) in all {
            let mut one = |name: &'static str, value: u64, policy: Option<&str>| {
                let labels = [service.as_str(), policy.unwrap_or_default()];
                let labels = &labels[..1 + usize::from(policy.is_some())];
                out(Sample { name, labels, value: value as f64 });
            };
            one("ron_mailbox_messages", stats.queued, None);
            one("ron_mailbox_bytes", stats.queued_bytes, None);
            one("ron_mailbox_in_flight", stats.in_flight, None);
            one("ron_mailbox_accepted_total", stats.accepted, None);
            one("ron_mailbox_handled_total", stats.handled, None);
            one("ron_mailbox_dead_lettered_total", stats.dead_lettered, None);
            one("ron_mailbox_redelivered_total", stats.redelivered, None);
            let dropped = "ron_mailbox_dropped_total";
            one(dropped, stats.dropped_oldest, Some("drop-oldest"));
            one(dropped, stats.dropped_newest, Some("drop-newest"));
            one(dropped, stats.rejected, Some("reject"));
        }
    });
}
