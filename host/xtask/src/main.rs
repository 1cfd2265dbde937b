//! Build automation: what `cargo` alone cannot say about this workspace.
//!
//! No dependencies, so that the first `cargo xtask` on a fresh checkout starts
//! at once. Each command is a module; the steps they share are plain functions.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command-line tool speaks on its terminal"
)]

mod demo;
mod error;
mod guests;
mod hot_swap;
mod interpreted;
mod languages;
mod lint;
mod pipeline;
mod test;
mod tools;
mod workspace;

use std::env;
use std::process::ExitCode;

use crate::guests::Which;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  demo [-- HOST ARGS]  Build the host and the examples, and run them
  pipeline [-- ARGS]   Build and run five services in five languages; ARGS go to `ron-host dev`
  hot-swap             Swap a service under load, and show what became of its messages
  test [ARGS]          Build every component and run the tests; ARGS go to `cargo test`
  guests               Build every component into target/components; with --all-languages
                       those too that need other languages' tools, where these can be had
  lint                 Check the format and the lints of host and guests
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        [] | ["help" | "-h" | "--help", ..] | [_, "-h" | "--help", ..] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        ["guests"] => guests::build(Which::All).map(|_| ExitCode::SUCCESS),
        ["guests", "--all-languages"] => test::build_all_languages().map(|()| ExitCode::SUCCESS),
        ["hot-swap"] => hot_swap::run(),
        ["pipeline", "--", args @ ..] | ["pipeline", args @ ..] => pipeline::run(args),
        ["lint"] => lint::run_all().map(|()| ExitCode::SUCCESS),
        ["test", args @ ..] => test::run(args),
        ["demo", "--", args @ ..] | ["demo", args @ ..] => demo::run(args),
        unknown => {
            eprint!("error: there is no `cargo xtask {}`\n\n{USAGE}", unknown.join(" "));
            Ok(ExitCode::from(2))
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        error.exit_code()
    })
}
