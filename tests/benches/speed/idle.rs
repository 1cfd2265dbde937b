//! What a service that does nothing costs in memory, beside a bare instance of the same
//! component that has returned from its `start`.

use std::fs;

use crate::bare::Bare;
use crate::pairs::Pairs;
use crate::world::{World, component};

const SERVICES: usize = 2000;

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("idle") {
        return;
    }
    // Both stay, so that the second finds nothing of the first to use again; and each has
    // one before it is looked at, with what is there once for all.
    let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let floors = World::new(SERVICES + 8);
    let bare = Bare::load(floors.runtime.engine(), &component("echo"), &[]);
    let mut instances = vec![one.block_on(bare.start())];
    let before = Memory::now();
    instances.extend((1..SERVICES).map(|_| one.block_on(bare.start())));
    let floor = Memory::now().since(&before);

    let world = World::new(SERVICES + 8);
    let echo = world.load("echo");
    world.add("echo0", &echo);
    world.until_ready();
    let before = Memory::now();
    for n in 1..SERVICES {
        world.add(&format!("echo{n}"), &echo);
    }
    world.until_ready();
    let ours = Memory::now().since(&before);
    println!(
        "\n{:<24} {:>12} {:>12} {:>8}",
        "idle, each of 2000", "resident", "page tables", "both"
    );
    for (name, memory) in [("a bare instance", &floor), ("a service", &ours)] {
        let Memory { resident, tables } = memory;
        println!("{name:<24} {resident:>8.1} KiB {tables:>8.1} KiB {:>8.1}", resident + tables);
    }
    let ratio = (ours.resident + ours.tables) / (floor.resident + floor.tables);
    println!("{:<24} {:>12} {:>12} {ratio:>6.2} x   goal: under 40 KiB together", "ratio", "", "");
    drop(instances);
}

/// Of this process, in KiB.
struct Memory {
    resident: f64,
    tables: f64,
}

impl Memory {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(f64::NAN)
        };
        Self { resident: kib("VmRSS:"), tables: kib("VmPTE:") }
    }

    /// Since then, for each service more.
    fn since(&self, before: &Self) -> Self {
        let each = |now: f64, before: f64| (now - before) / (SERVICES - 1) as f64;
        Self {
            resident: each(self.resident, before.resident),
            tables: each(self.tables, before.tables),
        }
    }
}
