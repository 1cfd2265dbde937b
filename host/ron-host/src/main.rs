//! `ron-host`: many small services in one process.
//!
//! This file reads as the program does: parse, read the settings, build, start,
//! wait, drain, and the exit code.

mod admin;
mod change;
mod cli;
mod components;
mod control;
mod ctl;
mod deployment;
mod descriptors;
mod exit;
mod front;
mod gates;
mod host;
mod inspect;
mod last_good;
mod listener;
mod logging;
mod plan;
mod report;
mod settings;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use ron_kernel::shutdown::ShutdownSignals;

use crate::cli::{Cli, Command, ConfigCommand, Flags, OnCritical};
use crate::exit::{Exit, Failure};
use crate::host::{Ended, Host, Start, check};
use crate::logging::{Format, Logging};
use crate::plan::Log;
use crate::settings::{Environment, Inputs, Settings};

/// Threads for the host's own sockets, timers and supervision. Guests have
/// others: see `ron_runtime::Runtime`.
const HOST_THREADS: usize = 2;

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    let exit = match command {
        None => start(flags).and_then(|start| {
            let log = start.settings.plan.log;
            let logging = logging::start(log.format, log.written);
            warn_of(&start.settings);
            // What is still to be written is written when `logging` is dropped.
            run(start, &logging).map_err(|failure| (log.format, failure))
        }),
        Some(Command::Ctl(args)) => return ctl::run(args),
        Some(Command::Check { file, flags }) => {
            let config = file.or_else(|| flags.config.clone());
            let read = inputs(Flags { config, ..flags }).read();
            let said = read.as_ref().unwrap_or_else(|wrong| &wrong.said);
            let Log { format, written } = said.plan.log;
            let _logging = logging::start(format, written);
            warn_of(said);
            let checked = threads().and_then(|threads| threads.block_on(check(read)));
            checked.map(|()| Exit::Done).map_err(|failure| (format, failure))
        }
        Some(Command::Inspect { component, json }) => inspect::run(&component, json),
        Some(Command::Config(ConfigCommand::Schema)) => {
            report::json(&settings::schema());
            Ok(Exit::Done)
        }
        Some(Command::Config(ConfigCommand::Show { json, flags })) => {
            settings(*flags).map(|settings| {
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
    inputs(flags).read().map_err(|wrong| (wrong.format(), Failure::Settings(wrong)))
}

/// Tells of what was said and is without effect.
fn warn_of(settings: &Settings) {
    for ignored in &settings.ignored {
        tracing::warn!("{ignored}");
    }
}

fn inputs(flags: Flags) -> Inputs {
    let inputs = Inputs::new(flags, Environment::of_process());
    if inputs.is_empty() {
        cli::nothing_to_run().exit();
    }
    inputs
}

/// What to start with: what is said, or, where that is broken, what was good
/// last.
fn start(flags: Flags) -> Result<Start, (Format, Failure)> {
    let inputs = inputs(flags);
    let wrong = match inputs.read() {
        Ok(settings) => return Ok(Start { inputs, settings, fallback: None }),
        Err(wrong) => wrong,
    };
    let (format, broken) = (wrong.format(), Failure::Settings(wrong));
    match last_good::instead(&inputs, &broken, format) {
        Ok(Some(settings)) => Ok(Start { inputs, settings, fallback: Some(broken) }),
        Ok(None) => Err((format, broken)),
        Err(failure) => Err((format, failure)),
    }
}

fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HOST_THREADS)
        .thread_name("host")
        .enable_all()
        .build()
        .map_err(|error| Failure::host("the host's threads cannot be started", error))
}

fn run(start: Start, logging: &Logging) -> Result<Exit, Failure> {
    let threads = threads()?;
    let exit = threads.block_on(async {
        let mut signals = ShutdownSignals::install()
            .map_err(|error| Failure::host("signals cannot be waited for", error))?;
        let starting = Host::start(start, logging);
        let mut host = tokio::select! {
            started = starting => started?,
            // Nothing runs yet that would have to be drained.
            _ = signals.next() => return Ok(Exit::Done),
        };
        let exit = {
            tokio::select! {
                // Who gave up before the signal counts, though it is seen with it.
                biased;
                Ended { service, reason } = host.run() => {
                    if host.on_critical() == OnCritical::Exit {
                        tracing::error!(%service, "a critical service gave up: draining; {reason}");
                    } else {
                        tracing::error!(%service, "a critical service gave up: not ready; {reason}");
                        signals.next().await;
                    }
                    Exit::CriticalService
                }
                signal = signals.next() => {
                    tracing::info!(signal = %signal, "draining; a second one ends at once");
                    Exit::Done
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
