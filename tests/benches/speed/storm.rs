//! A storm of traps, and what it costs a service beside it: a thousand crashes a second,
//! each followed by a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::pairs::Pairs;
use crate::world::World;

const CRASHES: u64 = 1000;
/// Services that crash in turn.
const MORTALS: u64 = 100;
/// How long the storm lasts while the sibling works, and how long all else is looked at.
const STORM: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);
/// Of so many answers one is timed: what all take would be the memory that is looked at.
const TIMED: u64 = 64;
/// Tasks that ask the sibling, each when it has its answer.
const ASKERS: usize = 8;

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("storm") {
        return;
    }
    let world = World::new(MORTALS as usize * 2 + 8);
    world.add("echo", &world.load("echo"));
    let unreachable = world.load("unreachable");
    let mortals: Vec<_> =
        (0..MORTALS).map(|n| world.add(&format!("mortal{n}"), &unreachable)).collect();
    world.until_ready();
    let crashes = || -> u64 { mortals.iter().map(|inbox| inbox.stats().dead_lettered).sum() };

    let calm = ask(&world, LOOK);
    let (began, used) = (Instant::now(), processor_time());
    storm(&world, LOOK, || thread::sleep(LOOK));
    let spent = (processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
    let share = spent / thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let (before, at_first) = (crashes(), resident());
    let mut beside = None;
    storm(&world, STORM, || beside = Some(ask(&world, STORM)));
    let (crashed, grown) = (crashes() - before, resident() as f64 / at_first as f64);
    let Some(beside) = beside else { return };

    println!("\nstorm: {CRASHES} traps and restarts a second, of {MORTALS} services");
    println!(
        "{crashed} in {} s, which alone take {:.0} % of the processors; resident memory {grown:.2} x",
        STORM.as_secs(),
        share * 100.0
    );
    println!("{:<22} {:>14} {:>12}", "a sibling", "requests/s", "p99");
    for (name, asked) in [("calm", &calm), ("in the storm", &beside)] {
        println!("{name:<22} {:>14.0} {:>9.0} us", asked.rate, asked.p99.as_secs_f64() * 1e6);
    }
    let left = beside.rate / (calm.rate * (1.0 - share));
    println!(
        "{:<22} {left:>12.2} x {:>10.2} x   goal: >= 0.8 x what is left of the processors, < 2 x",
        "ratio",
        beside.p99.as_secs_f64() / calm.p99.as_secs_f64()
    );
}

/// Has services crash for so long, and does something meanwhile.
fn storm(world: &World, time: Duration, meanwhile: impl FnOnce()) {
    let over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&over);
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let killer = thread::spawn(move || {
        let began = Instant::now();
        let mut killed = 0;
        while !ends.load(Ordering::Relaxed) && began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * CRASHES as f64) as u64;
            while killed < due {
                let topic = format!("guest.mortal{}.die", killed % MORTALS);
                publisher.publish(&topic, Bytes::new()).expect("it is taken in");
                killed += 1;
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    meanwhile();
    over.store(true, Ordering::Relaxed);
    killer.join().expect("it ends");
}

struct Asked {
    rate: f64,
    p99: Duration,
}

fn ask(world: &World, time: Duration) -> Asked {
    let asker = || {
        let mut publisher = world.kernel.router().publisher("bench", Arc::default());
        async move {
            let (end, mut took, mut asked) = (Instant::now() + time, Vec::new(), 0);
            loop {
                let began = Instant::now();
                if began >= end {
                    return (took, asked);
                }
                let payload = Bytes::from_static(&[7; 64]);
                let answer = publisher.request("guest.echo.echo", payload).expect("it is sent");
                answer.await.expect("the service lives").expect("it answers");
                asked += 1;
                if asked % TIMED == 0 {
                    took.push(began.elapsed());
                }
            }
        }
    };
    let tasks: Vec<_> = (0..ASKERS).map(|_| world.runtime.handle().spawn(asker())).collect();
    let (mut took, mut count) = (Vec::new(), 0);
    for task in tasks {
        let (own, asked) = world.host.block_on(task).expect("it ends");
        took.extend(own);
        count += asked;
    }
    took.sort_unstable();
    let p99 = took[(took.len() - 1) * 99 / 100];
    Asked { rate: count as f64 / time.as_secs_f64(), p99 }
}

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may have spaces; user and system time are the 12th and the 13th
    // after it, in hundredths of a second as Linux gives them to everybody.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Bytes that are resident.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}
