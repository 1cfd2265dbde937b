//! Runs the tests, with everything that they need built and found before.

use std::env::consts::EXE_SUFFIX;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Error, exit_code};
use crate::guests::{self, Which};
use crate::languages;
use crate::tools;
use crate::workspace::{self, cargo, status, target};

/// `cargo test` over the workspace's default members: the guests among its
/// packages are not made for this machine.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Error> {
    let components = guests::build(Which::All)?;
    let tools = tools::find()?;
    // Tests run `ron-host`, which `cargo test` builds for tests of its own
    // package alone. Together with the tests, or what they share would be
    // built twice, with other features of its dependencies.
    let profile = profile(args);
    workspace::run(cargo().args(["build", "--bins", "--tests"]).args(&profile))?;
    languages::build(&host(&profile), &components)?;
    let mut cargo = cargo();
    cargo.arg("test").args(args);
    cargo.env("RON_PROMETHEUS", tools.prometheus).env("RON_PROMTOOL", tools.promtool);
    status(&mut cargo).map(exit_code)
}

/// Builds the components of every language, with a host that is built for it.
pub(crate) fn build_all_languages() -> Result<(), Error> {
    let components = guests::build(Which::All)?;
    // As the tests have it, or what they share would be built twice.
    workspace::run(cargo().args(["build", "--bins", "--tests"]))?;
    languages::build(&host(&[]), &components)
}

/// The program `ron-host`, where these arguments have it built.
fn host(profile: &[&str]) -> PathBuf {
    let directory = match profile {
        [] => "debug",
        ["--release" | "-r", ..] => "release",
        ["--profile", name, ..] => name,
        [joined, ..] => joined.strip_prefix("--profile=").unwrap_or("debug"),
    };
    target().join(directory).join(format!("ron-host{EXE_SUFFIX}"))
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
