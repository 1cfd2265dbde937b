//! Runs the tests, with everything that they need built and found before.

use std::process::ExitCode;

use crate::error::{Error, exit_code};
use crate::guests::{self, Which};
use crate::tools;
use crate::workspace::{cargo, status};

/// `cargo test` over the workspace's default members: the guests among its
/// packages are not made for this machine.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Error> {
    guests::build(Which::All)?;
    let tools = tools::find()?;
    let mut cargo = cargo();
    cargo.arg("test").args(args);
    cargo.env("RON_PROMETHEUS", tools.prometheus).env("RON_PROMTOOL", tools.promtool);
    status(&mut cargo).map(exit_code)
}
