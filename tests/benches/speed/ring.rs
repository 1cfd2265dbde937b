//! A hop from service to service, publish, mailbox, handler, publish, in rings,
//! against a bare call of the same export with a bare publish in it.
//!
//! A ring has a stream of messages in it, and guests one thread, so that a time
//! is that of one processor, as the floor's is. `ring/N alone` has one message
//! instead: every hop then wakes a service that slept, and in the largest ring
//! finds nothing of it in the processor's caches, where the floor calls one and
//! the same instance all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bare::Bare;
use crate::pairs::{Goal, Pairs};
use crate::world::{World, component};

/// Bytes of a message, which goes round for as long as the ring is there.
const PAYLOAD: usize = 64;
/// Messages of a stream.
const STREAM: usize = 64;

pub(crate) fn run(pairs: &mut Pairs) {
    for size in [2, 64, 10_000] {
        ring(pairs, size, STREAM, &format!("ring/{size}"), Goal::AtMost(2.0));
    }
    for size in [2, 64, 10_000] {
        ring(pairs, size, 1, &format!("ring/{size} alone"), Goal::None);
    }
}

fn ring(pairs: &mut Pairs, size: usize, messages: usize, name: &str, goal: Goal) {
    if !pairs.wants(name) {
        return;
    }
    {
        let world = World::with_workers(size + 8, Some(1));
        let service = |n: usize| format!("hop{n}");
        let topic = |n: usize| format!("ring.{}", n % size);
        world.configure((0..size).map(|n| {
            let entries = vec![("listen".to_owned(), topic(n)), ("next".to_owned(), topic(n + 1))];
            (service(n), entries)
        }));
        let component_of_all = world.load("hop");
        let inboxes: Vec<_> =
            (0..size).map(|n| world.add(&service(n), &component_of_all)).collect();
        world.until_ready();
        let handled = || -> u64 { inboxes.iter().map(|inbox| inbox.stats().handled).sum() };
        let mut publisher = world.kernel.router().publisher("bench", Arc::default());
        for _ in 0..messages {
            publisher.publish("ring.0", vec![7; PAYLOAD].into()).expect("it is taken in");
        }
        let config = [("listen", "ring.0"), ("next", "ring.1")];
        let bare = Bare::load(world.runtime.engine(), &component("hop"), &config);
        let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut instance = one.block_on(bare.start());
        let payload = Bytes::from(vec![7; PAYLOAD]);
        pairs.measure(
            name,
            goal,
            &mut |n| {
                one.block_on(async {
                    let began = Instant::now();
                    for _ in 0..n {
                        instance.message("ring.0", &payload).await;
                    }
                    began.elapsed()
                })
            },
            &mut |n| {
                // The messages never rest, so hops are counted for a while that
                // should be long enough, and the time is that of `n` of them.
                // Counting looks into every mailbox, so it is kept rare.
                let while_ = Duration::from_nanos(n * 700).max(Duration::from_millis(50));
                let (began, before) = (Instant::now(), handled());
                std::thread::sleep(while_);
                let took = began.elapsed();
                let hops = handled() - before;
                took.mul_f64(n as f64 / hops.max(1) as f64)
            },
        );
    }
}
