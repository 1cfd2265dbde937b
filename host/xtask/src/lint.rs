//! Checks what tests do not: format, lints, documentation.

use crate::error::Error;
use crate::guests;
use crate::workspace::{cargo, run};

/// What is built by itself: by the commands that run the host, and by whoever installs it.
/// With the others of the workspace it finds features that it does not ask for.
const ALONE: [&str; 2] = ["ron-kernel", "ron-host"];

/// The host's crates as cargo's default members, the guests for their target.
pub(crate) fn run_all() -> Result<(), Error> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    for package in ALONE {
        run(cargo().args(["check", "--package", package]))?;
    }
    guests::lint()?;
    let documented = ["doc", "--no-deps", "--package", "ron-kernel", "--package", "ron-runtime"];
    run(cargo().args(documented).env("RUSTDOCFLAGS", "-D warnings"))
}
