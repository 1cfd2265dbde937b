//! Runs the host with the examples, as a newcomer's first look at it.

use std::env::consts::EXE_SUFFIX;
use std::process::{Command, ExitCode};

use crate::error::Error;
use crate::guests::{self, Which};
use crate::workspace::{self, cargo, target};

const NEXT: &str = "
  Two services: `greeter` asks `hello` for a greeting every second.
  In another terminal:

      curl http://127.0.0.1:9600/metrics    what the host counts
      curl http://127.0.0.1:9600/healthz    whether it is alive
      curl http://127.0.0.1:9600/readyz     whether its services are ready

  To see hello crash and recover:  cargo xtask demo -- --set hello.crash_after=7
  Ctrl-C stops the host.
";

/// Builds, says what to try, and becomes the host.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Error> {
    let components = guests::build(Which::Examples)?;
    workspace::run(cargo().args(["build", "--profile", "demo", "--package", "ron-host"]))?;

    let mut host = Command::new(target().join("demo").join(format!("ron-host{EXE_SUFFIX}")));
    for name in ["hello", "greeter"] {
        host.arg("--component").arg(components.join(format!("{name}.wasm")));
    }
    host.args(args);
    println!("{NEXT}");
    become_host(host)
}

/// Signals, the terminal and the exit code are then the host's own, with nothing
/// in between that could die first.
#[cfg(unix)]
fn become_host(mut host: Command) -> Result<ExitCode, Error> {
    use std::os::unix::process::CommandExt;

    Err(Error::Io {
        doing: format!("running {}", host.get_program().display()),
        source: host.exec(),
    })
}

#[cfg(not(unix))]
fn become_host(mut host: Command) -> Result<ExitCode, Error> {
    workspace::status(&mut host).map(crate::error::exit_code)
}
