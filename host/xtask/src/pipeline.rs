//! Runs `examples/pipeline`: five services in five languages.

use std::process::{Command, ExitCode};

use crate::demo::become_host;
use crate::error::Error;
use crate::languages;
use crate::workspace::{self, cargo, demo_host};

/// Builds the host, and becomes the one that builds and runs the example.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Error> {
    workspace::run(cargo().args(["build", "--profile", "demo", "--package", "ron-host"]))?;
    let mut host = Command::new(demo_host());
    host.args(["dev", "--config"]).arg(languages::pipeline().join("ron.toml")).args(args);
    // A target directory of the caller's is not the example's.
    host.env_remove("CARGO_TARGET_DIR");
    become_host(host)
}
