//! A program of the standard library alone, as `cargo build --target wasm32-wasip2`
//! makes one: does what its arguments say, one after the other, each `VERB` or
//! `VERB:WHAT`.

use std::fmt::Display;
use std::hint::black_box;
use std::io::Write;
use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

/// How often this instance counted.
static COUNT: AtomicU32 = AtomicU32::new(0);

fn main() -> ExitCode {
    for argument in env::args().skip(1) {
        let (verb, what) = argument.split_once(':').unwrap_or((&argument, ""));
        let time = || Duration::from_millis(what.parse().unwrap_or(u64::MAX));
        match verb {
            "say" => println!("{what}"),
            "complain" => drop(writeln!(io::stderr(), "{what}")),
            "name" => println!("called {}", env::args().next().unwrap_or_default()),
            "count" => println!("count {}", COUNT.fetch_add(1, Ordering::Relaxed) + 1),
            "env" => told(verb, what, env::var(what)),
            "environment" => told(verb, what, Ok::<_, String>(env::vars().count())),
            "read" => told(verb, what, fs::read_to_string(what)),
            "write" => told(verb, what, fs::write(what, "written").map(|()| "done")),
            "spin" => {
                let began = Instant::now();
                while began.elapsed() < time() {
                    black_box(0);
                }
            }
            "sleep" => thread::sleep(time()),
            "fail" => return ExitCode::FAILURE,
            "exit" => exit(what.parse().unwrap_or(0)),
            "panic" => panic!("told to panic"),
            _ => println!("what is {argument}?"),
        }
    }
    ExitCode::SUCCESS
}

fn told(verb: &str, what: &str, result: Result<impl Display, impl Display>) {
    match result {
        Ok(found) => println!("{verb} {what}: {found}"),
        Err(error) => println!("{verb} {what}: refused, {error}"),
    }
}
