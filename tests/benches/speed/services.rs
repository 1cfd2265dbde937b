//! What two services have of each other over the bus, both in Wasm and each on a thread of
//! its own where there are two. `tests/bench/bus.py` runs it beside two processes that have
//! a NATS server between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ron_runtime::Limits;

use crate::pairs::Pairs;
use crate::world::World;

const PAYLOAD: usize = 256;
const MESSAGES: u64 = 1_000_000;
const REQUESTS: u64 = 50_000;

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("services") {
        return;
    }
    let world = World::new(16);
    let limits = Limits {
        handler_deadline: Duration::from_secs(3600),
        publish_rate: u32::MAX,
        ..Limits::default()
    };
    world.add_with("asker", &world.load("asker"), limits);
    let sink = world.add("sink", &world.load("echo"));
    world.until_ready();
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());

    let (before, began) = (sink.stats(), Instant::now());
    let flood = format!("{MESSAGES} {PAYLOAD} guest.sink.sink");
    publisher.publish("guest.asker.flood", flood.into()).expect("it is taken in");
    let handled = before.handled + MESSAGES;
    while sink.stats().handled < handled {
        std::thread::sleep(Duration::from_micros(100));
    }
    let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
    assert_eq!(sink.stats().dropped_oldest, 0, "none is lost");

    let mut ask = |count: u64| {
        let ask = format!("{count} {PAYLOAD} guest.sink.echo");
        let answer = publisher.request("guest.asker.ask", ask.into()).expect("it is sent");
        let took = world.host.block_on(answer).expect("it lives").expect("it answers");
        let took = took.chunks_exact(8).map(nanos);
        let mut took: Vec<u64> = took.collect();
        took.sort_unstable();
        took
    };
    ask(1000);
    let began = Instant::now();
    let took = ask(REQUESTS);
    let asked = REQUESTS as f64 / began.elapsed().as_secs_f64();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!("\nservices: {PAYLOAD} B from one to another, both in Wasm");
    println!("published and handled {rate:.0} messages/s");
    println!("requested {asked:.0} requests/s, p50 {:.1} us, p99 {:.1} us", at(0.5), at(0.99));
}

fn nanos(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap_or_default())
}
