//! `ron-host`: many small services in one process.
//!
//! This file reads as the program does: parse, read the settings, build, start,
//! wait, drain, and the exit code.

#[allow(dead_code, reason = "what a reload does is decided here before there is one")]
mod change;
mod cli;
mod control;
mod ctl;
mod exit;
mod host;
mod logging;
mod plan;
mod report;
mod settings;
#[cfg_attr(not(test), expect(dead_code, reason = "what reloads is not here yet"))]
mod watch;

use std::process::ExitCode;

use clap::Parser;
use ron_kernel::shutdown::ShutdownSignals;

use crate::cli::{Cli, Command, ConfigCommand, Flags, OnCritical};
use crate::exit::{Exit, Failure};
use crate::host::{Ended, Host, check};
use crate::logging::{Format, Logging};
use crate::settings::{Environment, Inputs, Settings};

/// Threads for the host's own sockets, timers and supervision. Guests have
/// others: see `ron_runtime::Runtime`.
const HOST_THREADS: usize = 2;

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    let exit = match command {
        None => settings(flags).and_then(|settings| {
            let format = settings.plan.log.format;
            let logging = logging::start(format, &settings.plan.log.level);
            // What is still to be written is written when `logging` is dropped.
            run(&settings, &logging).map_err(|failure| (format, failure))
        }),
        Some(Command::Ctl(args)) => return ctl::run(args),
        Some(Command::Check { file, flags }) => {
            let config = file.or_else(|| flags.config.clone());
            settings(Flags { config, ..flags }).and_then(|settings| {
                let format = settings.plan.log.format;
                let _logging = logging::start(format, &settings.plan.log.level);
                let checked = threads().and_then(|threads| threads.block_on(check(&settings)));
                checked.map(|()| Exit::Done).map_err(|failure| (format, failure))
            })
        }
        Some(Command::Config(ConfigCommand::Schema)) => {
            report::json(&settings::schema());
            Ok(Exit::Done)
        }
        Some(Command::Config(ConfigCommand::Show { json, flags })) => {
            settings(flags).map(|settings| {
                if json {
                    report::json(&settings.json())
                } else {
                    report::text(&settings.toml())
                }
                Exit::Done
            })
        }
    };
    match exit {
        Ok(exit) => exit.into(),
        Err((format, failure)) => {
            report::failure(format, &failure);
            failure.exit().into()
        }
    }
}

/// What is in force, or how to say what is wrong with it.
fn settings(flags: Flags) -> Result<Settings, (Format, Failure)> {
    let inputs = Inputs::new(flags, Environment::of_process());
    if inputs.is_empty() {
        cli::nothing_to_run().exit();
    }
    inputs.read().map_err(|wrong| (wrong.format, Failure::Settings(wrong)))
}

fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HOST_THREADS)
        .thread_name("host")
        .enable_all()
        .build()
        .map_err(|error| Failure::host("the host's threads cannot be started", error))
}

fn run(settings: &Settings, logging: &Logging) -> Result<Exit, Failure> {
    let threads = threads()?;
    let exit = threads.block_on(async {
        let mut signals = ShutdownSignals::install()
            .map_err(|error| Failure::host("signals cannot be waited for", error))?;
        let starting = Host::start(settings, logging);
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
                    if settings.plan.on_critical == OnCritical::Exit {
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
