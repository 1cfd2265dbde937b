//! From the end of a crashed incarnation until the next one's `start` has
//! returned, against a bare instantiation and `start`; and the whole of a crash,
//! the trap and two wake-ups included, until the next incarnation has answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ron_kernel::{Generation, ServiceId};

use crate::bare::Bare;
use crate::pairs::{Goal, Pairs};
use crate::world::{World, component};

/// Between two looks at whether the service is up again.
const PAUSE: Duration = Duration::from_micros(50);

pub(crate) fn run(pairs: &mut Pairs) {
    start(pairs);
    crash(pairs);
}

fn start(pairs: &mut Pairs) {
    let name = "restart/instantiate and start";
    if !pairs.wants(name) {
        return;
    }
    let world = World::new(64);
    let id = ServiceId::parse("mortal").expect("a name");
    let inbox = world.add("mortal", &world.load("unreachable"));
    world.until_ready();
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let bare = Arc::new(Bare::load(world.runtime.engine(), &component("unreachable"), &[]));
    let guests = world.runtime.handle();
    pairs.measure(
        name,
        Goal::AtMost(1.3),
        &mut |n| {
            let bare = Arc::clone(&bare);
            let (tell, mut told) = tokio::sync::mpsc::channel(1);
            let alive = Arc::new(AtomicU64::new(0));
            let starts = Arc::clone(&alive);
            // As the host's: on a thread of the guests', woken to trap, and the
            // next one finds the caches as that left them.
            let task = guests.spawn(async move {
                let mut took = Duration::ZERO;
                let mut instance = bare.start().await;
                while told.recv().await.is_some() {
                    instance.die().await;
                    let began = Instant::now();
                    instance = bare.start().await;
                    took += began.elapsed();
                    starts.fetch_add(1, Ordering::Release);
                }
                took
            });
            for done in 1..=n {
                tell.blocking_send(()).expect("it waits");
                while alive.load(Ordering::Acquire) < done {
                    std::thread::sleep(PAUSE);
                }
            }
            drop(tell);
            guests.block_on(task).expect("it ends")
        },
        &mut |n| {
            let (starts, took) = started(&world, "mortal");
            for done in 1..=n {
                publisher.publish("guest.mortal.die", Bytes::new()).expect("it is taken in");
                // Not asked of the metrics: to write them all out takes locks
                // that a restart takes too.
                let generation = Generation(starts + done);
                while !is_up(&world, &id, generation) {
                    std::thread::sleep(PAUSE);
                }
            }
            let (now, total) = started(&world, "mortal");
            assert_eq!(now, starts + n, "every restart was counted");
            total - took
        },
    );
    assert!(inbox.stats().balances());
}

fn crash(pairs: &mut Pairs) {
    let name = "restart/panic to next answer";
    if !pairs.wants(name) {
        return;
    }
    let world = World::new(64);
    let inbox = world.add("mortal", &world.load("panic"));
    world.until_ready();
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let bare = Bare::load(world.runtime.engine(), &component("panic"), &[]);
    let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut instance = Some(one.block_on(bare.start()));
    pairs.measure(
        name,
        Goal::None,
        &mut |n| {
            let began = Instant::now();
            for _ in 0..n {
                one.block_on(async {
                    instance.take().expect("one lives").die().await;
                    let mut next = bare.start().await;
                    next.message("guest.bare.echo", b"alive").await;
                    instance = Some(next);
                });
            }
            began.elapsed()
        },
        &mut |n| {
            let began = Instant::now();
            for _ in 0..n {
                publisher.publish("guest.mortal.die", Bytes::new()).expect("it is taken in");
                let alive = Bytes::from_static(b"alive");
                let answer = publisher.request("guest.mortal.echo", alive).expect("it is sent");
                one.block_on(answer).expect("the mailbox lives").expect("an answer");
            }
            began.elapsed()
        },
    );
    assert!(inbox.stats().balances());
}

pub(crate) fn is_up(world: &World, id: &ServiceId, generation: Generation) -> bool {
    world.supervisor.generation(id) == Some(generation)
        && world.kernel.health().get(id.as_str()).is_some_and(|health| health.ok)
}

/// How often the service has started, and how long that took in all: what the
/// host itself measures.
pub(crate) fn started(world: &World, service: &str) -> (u64, Duration) {
    let text = world.kernel.metrics().encode();
    let value = |name: &str| {
        let series = format!("{name}{{service=\"{service}\"}}");
        let line = text.lines().find(|line| line.starts_with(&series)).expect("it is there");
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        value.expect("a sample has a value")
    };
    let count = value("ron_service_start_seconds_count");
    let sum = value("ron_service_start_seconds_sum");
    (count as u64, Duration::from_secs_f64(sum))
}
