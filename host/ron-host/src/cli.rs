//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ron_kernel::metrics::Detail;

use crate::author::{Componentize, Language};
use crate::ctl::{BenchArgs, CtlArgs};
use crate::logging::{Format, Level};

const EXAMPLES: &str = "\
Examples:
  Run one service, and look at it:
    ron-host --component hello.wasm
    curl http://127.0.0.1:9600/readyz

  Run two, name them, and configure one:
    ron-host --component hello.wasm --component caller=greeter.wasm --set caller.name=Ada

  Serve HTTP with a component that was built for any host:
    ron-host --component api.wasm --http 127.0.0.1:8080

  Run a program of any language's WASI toolchain to its end:
    ron-host --component job.wasm

  Write a service, and have it swapped whenever you save:
    ron-host new --lang python greeter && cd greeter && ron-host dev

  Look into a running host:
    ron-host ctl ps
    ron-host ctl logs hello -f

  For a log collector, on any free port:
    ron-host --component hello.wasm --admin 127.0.0.1:0 --log-format json

  Run what a file says, after a look at what that is:
    ron-host check ron.toml
    ron-host config show --config ron.toml
    ron-host --config ron.toml

Environment, stronger than the file and weaker than flags:
  RON_ADMIN, RON_HTTP, RON_ON_CRITICAL, RON_CONTROL, RON_CACHE_DIR, RON_LOG_FORMAT, RON_LOG_LEVEL
  RON_CONFIG__NAME__KEY    a value of the configuration of service NAME, both in
                           capitals and with _ for -

Exit codes:
  0    ended by Ctrl-C or SIGTERM, and drained; or what was asked for is done
  1    what was asked for could not be done: a build failed, a project is there already
  2    the command line cannot be understood
  65   a component cannot be loaded
  69   a tool that a build needs is missing
  70   a critical service gave up
  78   the configuration cannot be used
  130  ended by a second Ctrl-C, without draining";

/// Run many small services in one process: WebAssembly components on a bus,
/// supervised, with /metrics, /healthz and /readyz served by the host.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: Flags,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Who names a file where a command is expected means to run it.
pub(crate) fn suggest(mut error: clap::Error) -> clap::Error {
    let file = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(file)) => file,
        _ => return error,
    };
    let extension = Path::new(file).extension().and_then(|own| own.to_str());
    let tip = match extension {
        Some("wasm") => format!("to run a component, say 'ron-host --component {file}'"),
        Some("toml") => format!("to run what a file says, say 'ron-host --config {file}'"),
        _ => return error,
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// What to do instead of running the services.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check configuration and components as a start would, and start nothing
    Check {
        /// The same as --config
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,

        #[command(flatten)]
        flags: Flags,
    },
    /// Tell what a component is, what it imports and what it needs to run here
    Inspect {
        /// The component's file
        #[arg(value_name = "COMPONENT")]
        component: PathBuf,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Begin a service: a directory with a template, its SDK and a ron.toml
    New {
        /// The language that it is written in
        #[arg(long, value_name = "LANGUAGE", value_enum)]
        lang: Language,

        /// The service's name, and the directory's
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Build the components of a ron.toml, and check them as a start would
    Build {
        /// The services to build [default: all that say how]
        #[arg(value_name = "NAME")]
        names: Vec<String>,

        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Build, run, and build and swap again whenever sources change; for development
    Dev(Box<Flags>),
    /// Compile components ahead of time, into the cache
    Compile {
        /// The components' files
        #[arg(value_name = "COMPONENT", required = true)]
        components: Vec<PathBuf>,

        /// Where compiled components are kept [default: $XDG_CACHE_HOME/ron-host or
        /// ~/.cache/ron-host]
        #[arg(long, value_name = "DIR")]
        cache_dir: Option<PathBuf>,

        /// How what is done is told [default: text]
        #[arg(long, value_name = "FORMAT", value_enum)]
        log_format: Option<Format>,
    },
    /// Make a component of a core module, as compilers for C, Zig and Go make it
    Componentize(Componentize),
    /// Write a language's SDK to a directory, over an older one
    Sdk {
        /// The language
        #[arg(long, value_name = "LANGUAGE", value_enum)]
        lang: Language,

        /// The directory, which is sdk in a project
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Control a running host: show, swap, restart, stop and start services,
    /// reload, publish and tap messages, read logs and crashes
    Ctl(CtlArgs),
    /// Put a load on the bus of a running host, and measure throughput and latency
    Bench(BenchArgs),
}

/// Ways to look at the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON Schema of ron.toml
    Schema,
    /// Print what is in force and where each value comes from; secrets are masked
    Show {
        /// Print JSON instead of TOML
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        flags: Box<Flags>,
    },
}

/// What is run, and how. A flag that is not given leaves the word to the
/// environment, then to the file, then to the default.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Flags {
    /// The configuration file [default: ron.toml of this directory, unless
    /// there is a --component]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Keep the configuration that was applied last in this file, and start
    /// with it when the configuration file is broken
    #[arg(long, value_name = "FILE")]
    pub(crate) last_good: Option<PathBuf>,

    /// Swap a service when its component's file changes; for development
    #[arg(long)]
    pub(crate) watch: bool,

    /// A component to run as a service; repeatable. Without NAME the service is
    /// called by the file's stem
    #[arg(long = "component", value_name = "[NAME=]PATH")]
    pub(crate) components: Vec<ComponentArg>,

    /// A value of a service's configuration; repeatable
    #[arg(long = "set", value_name = "NAME.KEY=VALUE")]
    pub(crate) set: Vec<SetArg>,

    /// A service that the host is ready without, and survives; repeatable. The
    /// others are critical
    #[arg(long = "optional", value_name = "NAME")]
    pub(crate) optional: Vec<String>,

    /// What to do when a critical service gives up [default: exit]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) on_critical: Option<OnCritical>,

    /// Where the one service that answers HTTP requests does so; port 0 picks a
    /// free one
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) http: Option<SocketAddr>,

    /// Serve --http over TLS with a certificate of the host's own, made anew at each
    /// start; for development
    #[arg(long)]
    pub(crate) tls_self_signed: bool,

    /// For /metrics, /healthz and /readyz; port 0 picks a free one
    /// [default: 127.0.0.1:9600]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) admin: Option<SocketAddr>,

    /// The socket on which the host is controlled [default:
    /// $XDG_RUNTIME_DIR/ron-host/control.sock, or ron-host-UID/control.sock in the
    /// temporary directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,

    /// How log records are written, on standard error [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) log_format: Option<Format>,

    /// The least severe records that are written [default: info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub(crate) log_level: Option<Level>,

    /// Write a record for each HTTP request
    #[arg(long)]
    pub(crate) access_log: bool,

    /// What /metrics shows of services [default: service]
    #[arg(long, value_name = "DETAIL", value_enum)]
    pub(crate) metrics_detail: Option<MetricsDetail>,

    /// Where compiled components are kept [default: $XDG_CACHE_HOME/ron-host or
    /// ~/.cache/ron-host]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Compile every component anew
    #[arg(long)]
    pub(crate) no_cache: bool,
}

/// Neither a file nor a component: told as what it is, a command line that asks
/// for nothing.
pub(crate) fn nothing_to_run() -> clap::Error {
    Cli::command().error(
        ErrorKind::MissingRequiredArgument,
        "nothing to run: there is no ron.toml in this directory; expected --config <FILE> or \
         --component <[NAME=]PATH>",
    )
}

/// An address to listen on. Names are not looked up: a host listens where it is told.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected IP:PORT, for example 127.0.0.1:9600")
}

/// What to do when a critical service gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnCritical {
    /// Drain the others and exit with code 70
    #[default]
    Exit,
    /// Go on, and answer /readyz with 503
    Unready,
}

/// What `/metrics` shows of services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricsDetail {
    /// The series of each
    #[default]
    Service,
    /// The sums over all of them
    Host,
}

impl From<MetricsDetail> for Detail {
    fn from(detail: MetricsDetail) -> Self {
        match detail {
            MetricsDetail::Service => Self::Service,
            MetricsDetail::Host => Self::Host,
        }
    }
}

/// `[NAME=]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ComponentArg {
    pub(crate) name: Option<String>,
    pub(crate) path: PathBuf,
    /// As it was typed.
    pub(crate) text: String,
}

impl FromStr for ComponentArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = match text.split_once('=') {
            // What has a slash before its '=' is a path with one in it.
            Some((name, path)) if !name.contains('/') => (Some(name.to_owned()), path),
            _ => (None, text),
        };
        if path.is_empty() {
            return Err("expected PATH or NAME=PATH".into());
        }
        Ok(Self { name, path: path.into(), text: text.to_owned() })
    }
}

/// `NAME.KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetArg {
    pub(crate) service: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for SetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('=')
            .and_then(|(left, value)| left.split_once('.').map(|(name, key)| (name, key, value)));
        match parts {
            Some((name, key, value)) if !name.is_empty() && !key.is_empty() => {
                Ok(Self { service: name.into(), key: key.into(), value: value.into() })
            }
            _ => Err("expected NAME.KEY=VALUE, for example hello.greeting=Hi".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_component_has_a_name_or_not() {
        fn check(text: &str, name: Option<&str>, path: &str) {
            let parsed: ComponentArg = text.parse().expect("a component");
            assert_eq!((parsed.name.as_deref(), parsed.path), (name, path.into()));
        }
        check("a.wasm", None, "a.wasm");
        check("a=b.wasm", Some("a"), "b.wasm");
        check("a=./x=y.wasm", Some("a"), "./x=y.wasm");
        check("./x=y.wasm", None, "./x=y.wasm");
        assert!("a=".parse::<ComponentArg>().is_err());
    }

    #[test]
    fn a_setting_has_three_parts() {
        fn check(text: &str, parts: Option<(&str, &str, &str)>) {
            let parsed = text.parse::<SetArg>().ok();
            let expected = parts.map(|(service, key, value)| SetArg {
                service: service.into(),
                key: key.into(),
                value: value.into(),
            });
            assert_eq!(parsed, expected);
        }
        check("a.b=c", Some(("a", "b", "c")));
        check("a.b.c=d=e", Some(("a", "b.c", "d=e")));
        check("a.b=", Some(("a", "b", "")));
        check("a=b", None);
        check(".a=b", None);
        check("a.=b", None);
    }
}
