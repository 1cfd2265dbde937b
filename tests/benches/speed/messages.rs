//! One message through mailbox, instance and back, against a bare call of the
//! same export.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ron_kernel::message::Inbox;

use crate::bare::Bare;
use crate::pairs::{Goal, Pairs};
use crate::world::{World, component};

/// Messages published in a row; then the publisher lets the service work.
const BURST: u64 = 256;

/// Publishes so many messages from a task beside the service, as services do,
/// and waits until they are handled.
///
/// Guests have one thread here, so the time is what a message costs a
/// processor, publishing included, and another one that happens to be free
/// hides nothing.
pub(crate) fn stream(
    world: &World,
    inbox: &Arc<Inbox>,
    topic: &'static str,
    payload: &Bytes,
    count: u64,
) -> Duration {
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let (inbox, payload) = (Arc::clone(inbox), payload.clone());
    let task = world.runtime.handle().spawn(async move {
        let before = inbox.stats().handled;
        let began = Instant::now();
        for sent in 1..=count {
            publisher.publish(topic, payload.clone()).expect("it is taken in");
            if sent % BURST == 0 || sent == count {
                while inbox.stats().handled < before + sent {
                    tokio::task::yield_now().await;
                }
            }
        }
        began.elapsed()
    });
    world.host.block_on(task).expect("it ends")
}

/// Asks so many times, from a task beside the service, each time when the answer before
/// is there: a service that rests is woken, and so is who asks.
fn ask(world: &World, topic: &'static str, payload: &Bytes, count: u64) -> Duration {
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let payload = payload.clone();
    let task = world.runtime.handle().spawn(async move {
        let began = Instant::now();
        for _ in 0..count {
            let answer = publisher.request(topic, payload.clone()).expect("it is taken in");
            let answer = answer.await.expect("the service lives").expect("it answers");
            assert_eq!(answer.len(), payload.len());
        }
        began.elapsed()
    });
    world.host.block_on(task).expect("it ends")
}

pub(crate) fn run(pairs: &mut Pairs) {
    let names =
        ["message/64 B", "message/1 KiB", "message/64 KiB", "message/request 64 B", "bulk/64 B"];
    if !names.iter().any(|name| pairs.wants(name)) {
        return;
    }
    let world = World::with_workers(64, Some(1));
    let echo = world.add("echo", &world.load("echo"));
    let bulk = world.add("bulk", &world.load("bulk-echo"));
    world.until_ready();
    let bare = Bare::load(world.runtime.engine(), &component("echo"), &[]);
    let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut instance = one.block_on(bare.start());
    for (name, bytes) in [("64 B", 64), ("1 KiB", 1024), ("64 KiB", 64 << 10)] {
        let payload = Bytes::from(vec![7; bytes]);
        pairs.measure(
            &format!("message/{name}"),
            Goal::AtMost(if bytes > 1024 { 1.3 } else { 1.25 }),
            &mut |n| {
                one.block_on(async {
                    let began = Instant::now();
                    for _ in 0..n {
                        instance.message("guest.echo.sink", &payload).await;
                    }
                    began.elapsed()
                })
            },
            &mut |n| stream(&world, &echo, "guest.echo.sink", &payload, n),
        );
    }
    let payload = Bytes::from(vec![7; 64]);
    pairs.measure(
        "message/request 64 B",
        Goal::None,
        &mut |n| {
            one.block_on(async {
                let began = Instant::now();
                for _ in 0..n {
                    let answer = instance.ask("guest.echo.echo", &payload).await;
                    assert_eq!(answer.len(), payload.len());
                }
                began.elapsed()
            })
        },
        &mut |n| ask(&world, "guest.echo.echo", &payload, n),
    );
    pairs.measure(
        "bulk/64 B",
        Goal::Faster(4.0),
        &mut |n| stream(&world, &echo, "guest.echo.sink", &payload, n),
        &mut |n| stream(&world, &bulk, "guest.bulk.sink", &payload, n),
    );
}
