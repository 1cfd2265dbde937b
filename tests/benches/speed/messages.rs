//! One message through mailbox, instance and back, against a bare call of the
//! same export.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ron_kernel::message::{Inbox, Publisher};

use crate::bare::Bare;
use crate::pairs::{Goal, Pairs};
use crate::world::{World, component, until_handled};

/// Messages that wait at most: a queue of a million would measure the memory.
const WINDOW: u64 = 2048;

/// Publishes so many messages, and waits until they are handled.
pub(crate) fn stream(
    publisher: &mut Publisher,
    inbox: &Inbox,
    topic: &str,
    payload: &Bytes,
    count: u64,
) -> Duration {
    let before = inbox.stats().handled;
    let began = Instant::now();
    for sent in 0..count {
        publisher.publish(topic, payload.clone()).expect("it is taken in");
        if sent % 256 == 255 {
            while sent + 1 - (inbox.stats().handled - before) > WINDOW {
                std::thread::yield_now();
            }
        }
    }
    until_handled(inbox, before + count);
    began.elapsed()
}

pub(crate) fn run(pairs: &mut Pairs) {
    if !["message/64 B", "message/1 KiB", "message/64 KiB", "bulk/64 B"]
        .iter()
        .any(|name| pairs.wants(name))
    {
        return;
    }
    let world = World::new(64);
    let echo = world.add("echo", &world.load("echo"));
    let bulk = world.add("bulk", &world.load("bulk-echo"));
    world.until_ready();
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let bare = Bare::load(world.runtime.engine(), &component("echo"), &[]);
    let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut instance = one.block_on(bare.start());
    for (name, bytes) in [("64 B", 64), ("1 KiB", 1024), ("64 KiB", 64 << 10)] {
        let payload = Bytes::from(vec![7; bytes]);
        pairs.measure(
            &format!("message/{name}"),
            Goal::AtMost(1.3),
            &mut |n| {
                one.block_on(async {
                    let began = Instant::now();
                    for _ in 0..n {
                        instance.message("guest.echo.sink", &payload).await;
                    }
                    began.elapsed()
                })
            },
            &mut |n| stream(&mut publisher, &echo, "guest.echo.sink", &payload, n),
        );
    }
    let payload = Bytes::from(vec![7; 64]);
    let mut second = world.kernel.router().publisher("bench", Arc::default());
    pairs.measure(
        "bulk/64 B",
        Goal::Faster(4.0),
        &mut |n| stream(&mut second, &echo, "guest.echo.sink", &payload, n),
        &mut |n| stream(&mut publisher, &bulk, "guest.bulk.sink", &payload, n),
    );
}
