//! `ron-host`: many small services in one process.
//!
//! This file reads as the program does: parse, read the settings, build, start,
//! wait, drain, and the exit code.

mod admin;
mod author;
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
mod load;
mod logging;
mod plan;
mod report;
mod room;
mod settings;
mod systemd;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use ron_kernel::shutdown::ShutdownSignals;

use crate::cli::{Cli, Command, ConfigCommand, Flags};
use crate::exit::{Exit, Failure};
use crate::host::{Ended, Host, Start, check};
use crate::logging::{Format, Logging};
use crate::plan::Log;
use crate::settings::{Environment, Inputs, Settings};

/// Threads for the host's own sockets, timers and supervision. Guests have
/// others: see `ron_runtime::Runtime`.
const HOST_THREADS: usize = 2;

/// What is allocated for a message or a request on one thread is freed on another, for
/// which the system's allocator takes locks.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let Cli { flags, command } =
        Cli::try_parse().unwrap_or_else(|error| cli::suggest(error).exit());
    let exit = match command {
        None => start(flags).and_then(|start| {
            let log = start.settings.plan.log;
            let logging = logging::start(log.format, log.written);
            warn_of(&start.settings);
            // What is still to be written is written when `logging` is dropped.
            run(start, &logging).map_err(|failure| (log.format, failure))
        }),
        Some(Command::Ctl(args)) => return ctl::run(args),
        Some(Command::Bench(args)) => return ctl::bench(args),
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
        Some(Command::New { lang, name }) => {
            of_author(author::new(lang, &name, Path::new("")).map(|_| report::begun(&name)))
        }
        Some(Command::Sdk { lang, directory }) => of_author(author::sdk(lang, &directory)),
        Some(Command::Componentize(wanted)) => author::componentize(&wanted)
            .map(|()| Exit::Done)
            .map_err(|error| (Format::Text, Failure::Author(error))),
        Some(Command::Build { names, flags }) => settings(*flags).and_then(|settings| {
            on_threads(&settings, async || author::build(&settings, &names).await)
        }),
        Some(Command::Compile { components, cache_dir, log_format }) => {
            let flags = Flags { cache_dir, log_format, ..Flags::default() };
            let read = Inputs::new(flags, Environment::of_process()).check(None);
            read.map_err(|wrong| (wrong.format(), Failure::Settings(wrong))).and_then(|settings| {
                on_threads(&settings, async || author::compile(&settings.plan, components).await)
            })
        }
        Some(Command::Dev(flags)) => {
            let flags = Flags { watch: true, ..*flags };
            let inputs = inputs(flags);
            let read = inputs.read().map_err(|wrong| (wrong.format(), Failure::Settings(wrong)));
            read.and_then(|settings| {
                let Log { format, written } = settings.plan.log;
                let logging = logging::start(format, written);
                warn_of(&settings);
                develop(inputs, settings, &logging).map_err(|failure| (format, failure))
            })
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

/// Does something that has an end, and writes the log meanwhile.
fn on_threads(
    settings: &Settings,
    doing: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<Exit, (Format, Failure)> {
    let Log { format, written } = settings.plan.log;
    let _logging = logging::start(format, written);
    let done = threads().and_then(|threads| {
        threads.block_on(async {
            let mut signals = ShutdownSignals::install()
                .map_err(|error| Failure::host("signals cannot be waited for", error))?;
            // What it began ends with it.
            tokio::select! {
                done = doing() => done.map(|()| Exit::Done),
                _ = signals.next() => Ok(Exit::Forced),
            }
        })
    });
    done.map_err(|failure| (format, failure))
}

/// What came of something that an author wanted.
fn of_author(done: Result<(), author::ProjectError>) -> Result<Exit, (Format, Failure)> {
    done.map(|()| Exit::Done).map_err(|error| (Format::Text, Failure::Author(error.into())))
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
        Ok(settings) => {
            let format = settings.plan.log.format;
            last_good::check(&inputs).map_err(|failure| (format, failure))?;
            return Ok(Start { inputs, settings, fallback: None });
        }
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
    until_the_end(async || Host::start(start, logging).await)
}

/// Makes the components, and runs the host with whatever makes them again.
fn develop(inputs: Inputs, settings: Settings, logging: &Logging) -> Result<Exit, Failure> {
    until_the_end(async || {
        let workshop = author::first_builds(&inputs, &settings).await;
        // What was said may be another by now, and is what the host is to run.
        let settings = inputs.read().map_err(Failure::Settings)?;
        let host = Host::start(Start { inputs, settings, fallback: None }, logging).await?;
        Ok(host.with_workshop(workshop))
    })
}

/// Runs a host from its start to its end, whatever ends it.
fn until_the_end(starting: impl AsyncFnOnce() -> Result<Host, Failure>) -> Result<Exit, Failure> {
    let threads = threads()?;
    let exit = threads.block_on(async {
        let mut signals = ShutdownSignals::install()
            .map_err(|error| Failure::host("signals cannot be waited for", error))?;
        let mut host = tokio::select! {
            started = starting() => started?,
            // Nothing runs yet that would have to be drained.
            signal = signals.next() => {
                tracing::info!(signal = %signal, "ended before anything was started");
                return Ok(Exit::Done);
            }
        };
        let exit = {
            tokio::select! {
                // Who gave up before the signal counts, though it is seen with it.
                biased;
                Ended { service, reason } = host.run() => {
                    tracing::error!(%service, "a critical service gave up: draining; {reason}");
                    Exit::CriticalService
                }
                signal = signals.next() => {
                    tracing::info!(signal = %signal, "draining; a second one ends at once");
                    if host.gave_up() { Exit::CriticalService } else { Exit::Done }
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
