//! Runs the tests, with everything that they need built and found before.

use std::process::ExitCode;

use crate::error::{Error, exit_code};
use crate::guests::{self, Which};
use crate::tools;
use crate::workspace::{self, cargo, status};

/// `cargo test` over the workspace's default members: the guests among its
/// packages are not made for this machine.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Error> {
    guests::build(Which::All)?;
    let tools = tools::find()?;
    // Tests run `ron-host`, which `cargo test` builds for tests of its own
    // package alone. Together with the tests, or what they share would be
    // built twice, with other features of its dependencies.
    workspace::run(cargo().args(["build", "--bins", "--tests"]).args(profile(args)))?;
    let mut cargo = cargo();
    cargo.arg("test").args(args);
    cargo.env("RON_PROMETHEUS", tools.prometheus).env("RON_PROMTOOL", tools.promtool);
    status(&mut cargo).map(exit_code)
}

/// Those of the arguments that choose where cargo puts what it builds.
fn profile<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let own = args.iter().position(|arg| *arg == "--").map_or(args, |end| &args[..end]);
    let mut chosen = Vec::new();
    for (index, arg) in own.iter().enumerate() {
        match *arg {
            "--release" | "-r" => chosen.push(*arg),
            "--profile" => chosen.extend(own.iter().skip(index).take(2)),
            joined if joined.starts_with("--profile=") => chosen.push(joined),
            _ => {}
        }
    }
    chosen
}
