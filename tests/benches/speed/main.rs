//! Speed, as ratios: everything is measured beside its floor, in the same run.
//!
//! `cargo bench` prints, for each pair, the floor, what it became with the host
//! around it, and their ratio with its goal. criterion times and samples; a
//! sample runs the floor and the measured thing one after the other, so that
//! what else the machine does falls on both. Nothing here passes or fails:
//! timed assertions are no tests.
//!
//! `cargo bench -- NAME` runs the pairs and reports whose name contains NAME.

mod bare;
mod bus;
mod cold;
mod fanout;
mod idle;
mod languages;
mod messages;
mod pairs;
mod reload;
mod restart;
mod ring;
mod services;
mod starve;
mod storm;
mod swap;
mod world;

use mimalloc::MiMalloc;
use pairs::Pairs;

/// The host's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    let mut pairs = Pairs::from_args();
    bus::run(&mut pairs);
    messages::run(&mut pairs);
    restart::run(&mut pairs);
    ring::run(&mut pairs);
    fanout::run(&mut pairs);
    pairs.print();
    starve::report(&pairs);
    storm::report(&pairs);
    idle::report(&pairs);
    services::report(&pairs);
    swap::report(&pairs);
    reload::report(&pairs);
    cold::report(&pairs);
    languages::report(&pairs);
}
