//! The kernel's bus against raw `tokio::sync::broadcast`, metrics on.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ron_kernel::{Bus, KernelEvent, Metrics};
use tokio::sync::broadcast;

use crate::pairs::{Goal, Pairs};

const CAPACITY: usize = 4096;

fn event() -> KernelEvent {
    KernelEvent::ConfigUpdated { version: 7 }
}

fn time(iterations: u64, mut one: impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..iterations {
        one();
    }
    began.elapsed()
}

pub(crate) fn run(pairs: &mut Pairs) {
    for subscribers in [0, 1, 8, 64] {
        let (raw, _keep) = broadcast::channel::<KernelEvent>(CAPACITY);
        drop(_keep);
        let _raw_subscribers: Vec<_> = (0..subscribers).map(|_| raw.subscribe()).collect();
        let metrics = Metrics::new();
        let bus: Bus = Bus::new(CAPACITY);
        metrics.watch_bus(&bus);
        let _subscribers: Vec<_> =
            (0..subscribers).map(|n| bus.subscribe_as(format!("s{n}"))).collect();
        pairs.measure(
            &format!("bus/publish/{subscribers}"),
            Goal::AtMost(1.1),
            &mut |n| time(n, || drop(black_box(raw.send(event())))),
            &mut |n| time(n, || _ = black_box(bus.publish(event()))),
        );
    }
    for subscribers in [1, 8, 64] {
        let (raw, first) = broadcast::channel::<KernelEvent>(CAPACITY);
        let mut raw_subscribers: Vec<_> = (1..subscribers).map(|_| raw.subscribe()).collect();
        raw_subscribers.push(first);
        let metrics = Metrics::new();
        let bus: Bus = Bus::new(CAPACITY);
        metrics.watch_bus(&bus);
        let mut ours: Vec<_> =
            (0..subscribers).map(|n| bus.subscribe_as(format!("s{n}"))).collect();
        // As a subscriber has it: an event is awaited where it is there already.
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        pairs.measure(
            &format!("bus/publish-and-drain/{subscribers}"),
            Goal::AtMost(1.1),
            &mut |n| {
                runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..n {
                        let _ = raw.send(event());
                        for subscriber in &mut raw_subscribers {
                            black_box(subscriber.recv().await).expect("nothing lags");
                        }
                    }
                    began.elapsed()
                })
            },
            &mut |n| {
                runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..n {
                        bus.publish(event());
                        for subscriber in &mut ours {
                            black_box(subscriber.recv().await).expect("nothing lags");
                        }
                    }
                    began.elapsed()
                })
            },
        );
    }
}
