//! What a delivery costs by how many there are of a message, and a publish by how many
//! filters there are that it does not match.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ron_kernel::ServiceId;
use ron_kernel::message::{Inbox, MailboxBounds, Publisher, Router, TopicGrants};
use ron_kernel::topic::TopicFilter;

use crate::pairs::{Goal, Pairs};
use crate::world::World;

const PAYLOAD: &[u8] = &[7; 64];
/// Services that the floor delivers to.
const FEW: usize = 10;
/// Messages published in a row; then the publisher lets the services work.
const BURST: u64 = 64;
/// Topics that are published to in turn: more than a publisher remembers the mailboxes
/// of, so that each publish looks for its own.
const TOPICS: usize = 1024;

pub(crate) fn run(pairs: &mut Pairs) {
    for services in [100, 1000] {
        fan_out(pairs, services);
    }
    filters(pairs, 100_000);
}

fn fan_out(pairs: &mut Pairs, services: usize) {
    let name = format!("fan-out/{services}, a delivery");
    if !pairs.wants(&name) {
        return;
    }
    let (few, many) = (Fan::new(FEW), Fan::new(services));
    let each = |fan: &Fan, deliveries: u64| {
        let messages = deliveries.div_ceil(fan.inboxes.len() as u64);
        let took = fan.publish(messages);
        took.mul_f64(deliveries as f64 / (messages * fan.inboxes.len() as u64) as f64)
    };
    pairs.measure(&name, Goal::AtMost(1.5), &mut |n| each(&few, n), &mut |n| each(&many, n));
}

/// Services, in Wasm, that subscribe to one topic.
struct Fan {
    world: World,
    inboxes: Vec<Arc<Inbox>>,
}

impl Fan {
    fn new(services: usize) -> Self {
        // One thread, so that a time is what a delivery costs a processor.
        let world = World::with_workers(services + 8, Some(1));
        let component = world.load("echo");
        let filter = || TopicFilter::parse("fan.all").expect("a filter");
        let add = |n: usize| {
            let inbox = world.add(&format!("sink{n}"), &component);
            let router = world.kernel.router();
            let granted = router.subscribe(inbox.service(), filter(), &TopicGrants::default());
            granted.expect("it may subscribe");
            inbox
        };
        let inboxes = (0..services).map(add).collect();
        world.until_ready();
        Self { world, inboxes }
    }

    /// Publishes so many messages from a task beside the services, and waits until each of
    /// them has handled all.
    fn publish(&self, messages: u64) -> Duration {
        let mut publisher = self.world.kernel.router().publisher("bench", Arc::default());
        let inboxes = self.inboxes.clone();
        let task = self.world.runtime.handle().spawn(async move {
            let before: Vec<u64> = inboxes.iter().map(|inbox| inbox.stats().handled).collect();
            let began = Instant::now();
            for sent in 1..=messages {
                publisher.publish("fan.all", Bytes::from_static(PAYLOAD)).expect("it is taken in");
                if sent % BURST == 0 || sent == messages {
                    for (inbox, before) in inboxes.iter().zip(&before) {
                        while inbox.stats().handled < before + sent {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            }
            began.elapsed()
        });
        self.world.host.block_on(task).expect("it ends")
    }
}

fn filters(pairs: &mut Pairs, many: usize) {
    let name = format!("filters/{many}, a publish to one of them");
    if !pairs.wants(&name) {
        return;
    }
    const FEW: usize = 100;
    let (mut few, mut all) = (table(FEW), table(many));
    let topics: Vec<String> = (0..TOPICS).map(|n| format!("filters.{}.{n}", n % FEW)).collect();
    let publish = |publisher: &mut Publisher, n: u64| {
        let began = Instant::now();
        for topic in topics.iter().cycle().take(n as usize) {
            let reached = publisher.publish(topic, Bytes::from_static(PAYLOAD));
            assert_eq!(reached, Ok(1));
        }
        began.elapsed()
    };
    pairs.measure(&name, Goal::AtMost(1.5), &mut |n| publish(&mut few, n), &mut |n| {
        publish(&mut all, n)
    });
}

/// A publisher to so many filters, `filters.N.*` each, of as many services as they take.
fn table(filters: usize) -> Publisher {
    const EACH: usize = 500;
    let router = Router::new();
    // Nobody reads them: what was published last stays.
    let bounds = MailboxBounds { messages: 1, ..MailboxBounds::default() };
    for first in (0..filters).step_by(EACH) {
        let id = ServiceId::parse(&format!("svc{first}")).expect("a name");
        router.add(Inbox::new(id.clone(), bounds));
        for n in first..filters.min(first + EACH) {
            let filter = TopicFilter::parse(&format!("filters.{n}.*")).expect("a filter");
            router.subscribe(&id, filter, &TopicGrants::default()).expect("it may");
        }
    }
    router.publisher("bench", Arc::default())
}
