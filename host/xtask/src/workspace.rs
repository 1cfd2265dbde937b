//! Where things are, and how other programs are run there.

use std::env::{self, consts::EXE_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::error::Error;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let mut root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for _ in 0..2 {
        root = root.parent().expect("xtask lies two directories below the root");
    }
    root
}

/// Where cargo puts what it builds. Handed to each cargo that is run here, so
/// that a setting elsewhere cannot send the files where nobody looks for them.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => env::current_dir().unwrap_or_default().join(directory),
        None => root().join("target"),
    }
}

/// The program `ron-host`, as the examples are run with it.
pub(crate) fn demo_host() -> PathBuf {
    target().join("demo").join(format!("ron-host{EXE_SUFFIX}"))
}

/// The cargo that runs this, at the root.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", target());
    cargo
}

/// Runs a command to its end, on this terminal.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus, Error> {
    let doing = format!("running {}", command.get_program().display());
    command.status().map_err(Error::io(doing))
}

/// Runs a command that must succeed, on this terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(Error::failed(command, status)) }
}
