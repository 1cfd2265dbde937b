//! The command line of `ron-host ctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::control::LONGEST_WAIT;

/// Control a running host.
#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// The host's control socket [default: $XDG_RUNTIME_DIR/ron-host/control.sock, or
    /// ron-host-UID/control.sock in the temporary directory]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) control: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every service and how it stands
    Ps {
        /// Show it again every so many seconds, 2 unless told
        #[arg(long, short, value_name = "SECONDS", num_args = 0..=1,
            default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        watch: Option<u64>,
    },
    /// Replace a service's incarnation by a new one; a job that has finished runs again
    Restart(Act),
    /// Start a service that is stopped, finished or quarantined
    Start(Act),
    /// Stop a service until it is started; it keeps its mailbox
    Stop(Act),
    /// Replace what a service runs, without losing a message
    Swap {
        name: String,
        /// The new component; without it the service's own file is read anew
        path: Option<PathBuf>,
        /// Return at the end of probation, not at the cut
        #[arg(long)]
        wait: bool,
        /// Though this component was rolled back lately
        #[arg(long)]
        force: bool,
        /// Begin without the state of the version that runs
        #[arg(long)]
        discard_state: bool,
        /// Only if this is the running generation
        #[arg(long, value_name = "GENERATION")]
        if_match: Option<u64>,
    },
    /// Read the configuration anew and apply it
    Reload {
        /// Though a component was rolled back lately
        #[arg(long)]
        force: bool,
        /// Though it leaves no service
        #[arg(long)]
        stop_all: bool,
        /// Begin what is swapped without the state of the version that runs
        #[arg(long)]
        discard_state: bool,
        /// Only if this is the version in force
        #[arg(long, value_name = "VERSION")]
        if_match: Option<u64>,
    },
    /// Show what a reload would do
    Plan,
    /// Show the configuration that is in force, and where each value is from; secrets are masked
    Config,
    /// Publish a message
    Publish(Message),
    /// Publish a message and print its answer as it is
    Request {
        #[command(flatten)]
        message: Message,
        /// How long to wait for the answer: 5s, 100ms, 1m; an hour at most
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = wait)]
        timeout: Duration,
    },
    /// Print what is published, live, until Ctrl-C
    Tap {
        /// Topics, as in a subscription: orders.*, orders.>
        filter: String,
    },
    /// Messages that a service could not handle
    Dlq {
        #[command(subcommand)]
        command: Dlq,
    },
    /// Print the newest log records of a service; of the host itself with the name `host`
    Logs {
        name: String,
        /// Go on with those to come, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        lines: usize,
    },
    /// Show the last crashes, with their backtraces if NAME is given
    Crashes { name: Option<String> },
}

/// Longer, and the host would answer before anybody expects it.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time <= LONGEST_WAIT {
        true => Ok(time),
        false => Err("expected an hour at most".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Act {
    pub(crate) name: String,
    /// Only if this is the service's generation
    #[arg(long, value_name = "GENERATION")]
    pub(crate) if_match: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Message {
    pub(crate) topic: String,
    /// What to say; standard input unless given here or as a file
    pub(crate) payload: Option<String>,
    /// A file with what to say
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// Print them, oldest first
    List { name: String },
    /// Deliver them again
    Replay { name: String },
    /// Forget them
    Drop { name: String },
}
