//! What a hot swap costs a stream of messages: how long they wait, and how old
//! the oldest of them gets, beside the same stream without swaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ron_kernel::message::MailboxBounds;
use ron_kernel::supervisor::SwapOptions;
use ron_kernel::{Context, Incoming, Service, ServiceId, ServiceSpec};
use ron_runtime::{ComponentService, Limits};

use crate::pairs::Pairs;
use crate::world::World;

const SWAPS: usize = 300;
/// Messages a second, published a millisecond's worth at a time.
const RATE: u64 = 50_000;
/// Bytes of state that are handed over.
const STATE: &str = "65536";

/// Notes how old each message is that came through the swapped service.
struct Collector {
    began: Instant,
    ages: std::sync::mpsc::Sender<Duration>,
}

impl Service for Collector {
    async fn run(&mut self, context: &mut Context) -> Result<(), ron_kernel::service::Crash> {
        context.subscribe("effects.swapper").expect("it is granted");
        context.started();
        loop {
            match context.next().await {
                Incoming::Message(message) => {
                    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
                    let sent = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
                    if let Some(sent) = sent {
                        let age = self.began.elapsed().saturating_sub(Duration::from_nanos(sent));
                        // The bench is over when nobody listens.
                        let _ = self.ages.send(age);
                    }
                }
                Incoming::Event(_) => {}
                Incoming::Stop => return Ok(()),
            }
        }
    }
}

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("swap") {
        return;
    }
    let world = World::new(64);
    let own = vec![("state".to_owned(), STATE.to_owned())];
    world.configure([("swapper".to_owned(), own)]);
    let component = world.load("swapper");
    let inbox = world.add("swapper", &component);
    let began = Instant::now();
    let (ages, aged) = std::sync::mpsc::channel();
    let spec = ServiceSpec {
        mailbox: MailboxBounds { messages: 1 << 20, ..MailboxBounds::default() },
        ..ServiceSpec::new(ServiceId::parse("collector").expect("a name"))
    };
    world
        .supervisor
        .add_on(world.host.handle(), spec, move || Collector { began, ages: ages.clone() })
        .expect("the name is free");
    world.until_ready();

    let done = Arc::new(AtomicBool::new(false));
    let stream = world.host.spawn({
        let mut publisher = world.kernel.router().publisher("bench", Arc::default());
        let done = Arc::clone(&done);
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            let mut sent = 0u64;
            while !done.load(Ordering::Relaxed) {
                ticks.tick().await;
                for _ in 0..RATE / 1000 {
                    let now = began.elapsed().as_nanos().to_string();
                    publisher.publish("guest.swapper.do", Bytes::from(now)).expect("taken in");
                    sent += 1;
                }
            }
            sent
        }
    });
    std::thread::sleep(Duration::from_secs(2));
    let calm: Vec<Duration> = aged.try_iter().collect();
    let mut pauses = Vec::with_capacity(SWAPS);
    let id = ServiceId::parse("swapper").expect("a name");
    for n in 0..SWAPS {
        let component = component.clone();
        let make =
            move || ComponentService::new(component.clone(), Limits::default(), Arc::default());
        let version = format!("v{n}").into();
        let swap = world.supervisor.swap(&id, version, make, SwapOptions::default());
        let cut = world.host.block_on(swap).expect("it is swapped");
        pauses.push(cut.pause);
        std::thread::sleep(Duration::from_millis(10));
    }
    done.store(true, Ordering::Relaxed);
    let sent = world.host.block_on(stream).expect("it ends");
    while inbox.stats().handled < sent {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(50));
    let swapped: Vec<Duration> = aged.try_iter().collect();
    assert_eq!((calm.len() + swapped.len()) as u64, sent, "each message came once");

    // One message after the other, without a pause: the handler's own time.
    let handler = {
        let payload = Bytes::from_static(b"1");
        let mut publisher = world.kernel.router().publisher("bench", Arc::default());
        let (before, count) = (inbox.stats().handled, 100_000);
        let began = Instant::now();
        for _ in 0..count {
            publisher.publish("guest.swapper.do", payload.clone()).expect("taken in");
        }
        while inbox.stats().handled < before + count {
            std::thread::yield_now();
        }
        began.elapsed() / count as u32
    };
    println!(
        "\n{SWAPS} swaps under {RATE} messages/s, {STATE} B of state; handler {} ns, publish \
         included",
        handler.as_nanos()
    );
    println!("{:<34} {:>10} {:>10} {:>10}", "", "p50", "p99", "worst");
    let row = |name: &str, times: Vec<Duration>, multiples: bool| {
        let mut times = times;
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let shown = |time: Duration| match multiples {
            true => format!("{:.0} x", time.as_secs_f64() / handler.as_secs_f64()),
            false => format!("{:.3} ms", time.as_secs_f64() * 1e3),
        };
        println!(
            "{name:<34} {:>10} {:>10} {:>10}",
            shown(at(0.5)),
            shown(at(0.99)),
            shown(at(1.0))
        );
    };
    row("swap: pause", pauses.clone(), false);
    row("swap: pause, in handlers", pauses, true);
    row("age of a message, calm", calm, false);
    row("age of a message, swapping", swapped, false);
}
