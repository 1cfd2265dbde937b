//! `ron-host`: many small services in one process.
//!
//! This file reads as the program does: parse, build, start, wait, drain, and
//! the exit code.

mod cli;
mod control;
mod ctl;
mod exit;
mod host;
mod logging;
mod plan;
mod report;
#[cfg_attr(not(test), expect(dead_code, reason = "what reloads is not here yet"))]
mod watch;

use std::process::ExitCode;

use clap::Parser;
use ron_kernel::shutdown::ShutdownSignals;

use crate::cli::{Cli, Command, OnCritical};
use crate::exit::{Exit, Failure};
use crate::host::{Ended, Host};
use crate::plan::Plan;

/// Threads for the host's own sockets, timers and supervision. Guests have
/// others: see `ron_runtime::Runtime`.
const HOST_THREADS: usize = 2;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if let Some(Command::Ctl(args)) = cli.command.take() {
        return ctl::run(args);
    }
    let logging = logging::start(cli.log_format, &cli.log_level);
    let exit = match run(&cli, &logging) {
        Ok(exit) => exit,
        Err(failure) => {
            report::failure(cli.log_format, &failure);
            failure.exit()
        }
    };
    // What is still to be written is written.
    drop(logging);
    exit.into()
}

fn run(cli: &Cli, logging: &logging::Logging) -> Result<Exit, Failure> {
    let plan = Plan::from_cli(cli)?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HOST_THREADS)
        .thread_name("host")
        .enable_all()
        .build()
        .map_err(|error| Failure::host("the host's threads cannot be started", error))?;
    let exit = threads.block_on(async {
        let mut signals = ShutdownSignals::install()
            .map_err(|error| Failure::host("signals cannot be waited for", error))?;
        let starting = Host::start(&plan, logging, cli.log_format);
        let host = tokio::select! {
            started = starting => started?,
            // Nothing runs yet that would have to be drained.
            _ = signals.next() => return Ok(Exit::Done),
        };
        let exit = {
            tokio::select! {
                signal = signals.next() => {
                    tracing::info!(signal = %signal, "draining; a second one ends at once");
                    Exit::Done
                }
                Ended { service, reason } = host.critical_failure() => {
                    if cli.on_critical == OnCritical::Exit {
                        tracing::error!(%service, "a critical service gave up: draining; {reason}");
                    } else {
                        tracing::error!(%service, "a critical service gave up: not ready; {reason}");
                        signals.next().await;
                    }
                    Exit::CriticalService
                }
            }
        };
        tokio::select! {
            () = host.drain() => Ok(exit),
            _ = signals.next() => Ok(Exit::Forced),
        }
    });
    // A compilation that nobody waits for any more does not hold the exit up.
    threads.shutdown_background();
    exit
}
