//! Checks what tests do not: format, lints, documentation.

use crate::error::Error;
use crate::guests;
use crate::workspace::{cargo, run};

/// The host's crates as cargo's default members, the guests for their target.
pub(crate) fn run_all() -> Result<(), Error> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    guests::lint()?;
    let documented = ["doc", "--no-deps", "--package", "ron-kernel", "--package", "ron-runtime"];
    run(cargo().args(documented).env("RUSTDOCFLAGS", "-D warnings"))
}
