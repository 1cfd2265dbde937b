//! A program of WASI 0.3, written against `wasip3` as its example shows one: says its
//! arguments, waits a moment, and fails where it is told to.

use wasip3::cli::{environment, stdout};
use wasip3::clocks::monotonic_clock;

struct Job;

impl wasip3::exports::cli::run::Guest for Job {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let (mut text, lines) = wasip3::wit_stream::new();
        let written = stdout::write_via_stream(lines);
        text.write_all(format!("told {:?}\n", &arguments[1..]).into_bytes()).await;
        drop(text);
        let _ = written.await;
        monotonic_clock::wait_for(1_000_000).await;
        if arguments.iter().any(|argument| argument == "fail") { Err(()) } else { Ok(()) }
    }
}

wasip3::cli::command::export!(Job);
