//! Runs the host with the examples, as a newcomer's first look at it.

use std::env;
use std::process::{Command, ExitCode};

use crate::error::Error;
use crate::guests::{self, Which};
use crate::workspace::{self, cargo, demo_host};

/// Where the host's admin listener is, if nobody says otherwise.
const ADMIN: &str = "127.0.0.1:9600";

/// What to try, at that address of the admin listener; where it is not known before the
/// host has bound it, by the line that tells it.
fn next(admin: Option<&str>) -> String {
    let (url, when) = match admin {
        Some(admin) => (format!("http://{admin}"), "as soon as it is ready"),
        None => ("ADDRESS".to_owned(), "with the ADDRESS that `admin` below says"),
    };
    format!(
        "
  Two services: `greeter` asks `hello` for a greeting every second.
  In another terminal, {when}:

      curl {url}/metrics    what the host counts
      curl {url}/healthz    whether it is alive
      curl {url}/readyz     whether its services are ready

  To see hello crash and recover:  cargo xtask demo -- --set hello.crash_after=7
  Ctrl-C stops the host.
"
    )
}

/// The address that the host is told, as far as that can be told from its arguments and
/// the environment. A file may say another, and so may the system for port 0.
fn admin<'a>(args: &[&'a str], variable: Option<&'a str>) -> Option<&'a str> {
    let after = |flag: &str| {
        let at = args.iter().position(|arg| *arg == flag)?;
        args.get(at + 1).copied()
    };
    let joined = |flag: &str| args.iter().find_map(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
    let file = args.iter().any(|arg| *arg == "--config" || arg.starts_with("--config="));
    let said = after("--admin").or_else(|| joined("--admin"));
    let said = said.or(variable.filter(|text| !text.is_empty()));
    let address = said.or((!file).then_some(ADMIN))?;
    (!address.ends_with(":0")).then_some(address)
}

/// Builds, says what to try, and becomes the host.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Error> {
    let components = guests::build(Which::Examples)?;
    workspace::run(cargo().args(["build", "--profile", "demo", "--package", "ron-host"]))?;

    let mut host = Command::new(demo_host());
    for name in ["hello", "greeter"] {
        host.arg("--component").arg(components.join(format!("{name}.wasm")));
    }
    host.args(args);
    println!("{}", next(admin(args, env::var("RON_ADMIN").ok().as_deref())));
    become_host(host)
}

/// Signals, the terminal and the exit code are then the host's own, with nothing
/// in between that could die first.
#[cfg(unix)]
pub(crate) fn become_host(mut host: Command) -> Result<ExitCode, Error> {
    use std::os::unix::process::CommandExt;

    Err(Error::Io {
        doing: format!("running {}", host.get_program().display()),
        source: host.exec(),
    })
}

#[cfg(not(unix))]
pub(crate) fn become_host(mut host: Command) -> Result<ExitCode, Error> {
    workspace::status(&mut host).map(crate::error::exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_to_try_are_those_of_the_listener() {
        #[track_caller]
        fn check(args: &str, variable: Option<&str>, expected: Option<&str>) {
            let args: Vec<&str> = args.split(' ').filter(|arg| !arg.is_empty()).collect();
            assert_eq!(admin(&args, variable), expected);
        }
        check("", None, Some("127.0.0.1:9600"));
        check("--set hello.crash_after=7", Some(""), Some("127.0.0.1:9600"));
        check("--admin 127.0.0.1:22012", None, Some("127.0.0.1:22012"));
        check("--log-level info --admin=[::1]:1", Some("127.0.0.1:2"), Some("[::1]:1"));
        check("", Some("127.0.0.1:2"), Some("127.0.0.1:2"));
        check("--config ron.toml", Some("127.0.0.1:2"), Some("127.0.0.1:2"));
        check("--admin 127.0.0.1:0", None, None);
        check("--config ron.toml", None, None);
        assert!(next(Some("127.0.0.1:22012")).contains("curl http://127.0.0.1:22012/readyz "));
        assert!(next(None).contains("curl ADDRESS/readyz ") && !next(None).contains("9600"));
    }
}
