//! `ron-host ctl`: asks a running host, and prints what it answers.
//!
//! Results are on standard output, errors on standard error. The exit code is 0
//! when it was done, 1 when it was not, and 2 when the command line cannot be
//! understood. Standard output that nobody reads any more ends it without a word.

mod args;
mod bench;
mod show;

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

pub(crate) use self::args::CtlArgs;
use self::args::{Act, Command, Dlq, Message};
pub(crate) use self::bench::{BenchArgs, bench};
use crate::control::client::{Answer, Ask, ClientError, Lines, ask, quoted};
use crate::control::default_path;
use crate::control::wire::{
    Count, Crashes, DeadLetters, InForce, Missed, Payload, Planned, Published, Reloaded, Service,
    Services, SwapRequest, Swapped, TapLine,
};
use crate::exit::chain;
use crate::logging::as_text;

/// Why a command failed.
#[derive(Debug, Error)]
enum CtlError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{path}: cannot be read")]
    Payload {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Done, and nothing good came of it: was told already.
    #[error("{0}")]
    Outcome(String),
    #[error("standard output cannot be written to")]
    Output(#[from] io::Error),
    #[error("the client's thread cannot be started")]
    Thread(#[source] io::Error),
}

type Done = Result<(), CtlError>;

/// Runs a command to its end.
pub(crate) fn run(args: CtlArgs) -> ExitCode {
    let ctl = Ctl { path: args.control.unwrap_or_else(default_path), json: args.json };
    told(args.json, ctl.run(args.command))
}

/// Does it, and tells what went wrong.
fn told(json: bool, doing: impl Future<Output = Done>) -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CtlError::Thread)
        .and_then(|threads| threads.block_on(doing));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let text = match &error {
                CtlError::Client(ClientError::Refused(refused)) if json => to_json(refused),
                error if json => {
                    let code = match error {
                        CtlError::Client(ClientError::NoHost { .. }) => "no-host",
                        _ => "failed",
                    };
                    to_json(&json!({"code": code, "message": chain(error)}))
                }
                error => plain(&format!("error: {}", chain(error))),
            };
            // Nobody may be there to read it; the exit code says it too.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

/// Escapes what a terminal would act on, line ends excepted.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut out = String::new();
        crate::logging::escape(line, &mut out);
        out
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON in which a terminal finds nothing to act on: beyond what JSON demands,
/// DEL and the controls above it are escaped too.
fn to_json(value: &impl Serialize) -> String {
    // No map with other keys than text is among what is written here.
    quiet(&serde_json::to_string(value).unwrap_or_default())
}

fn quiet(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

struct Ctl {
    path: PathBuf,
    json: bool,
}

impl Ctl {
    async fn run(&self, command: Command) -> Done {
        match command {
            Command::Ps { watch: None } => out(&self.ps(&self.services().await?)),
            Command::Ps { watch: Some(seconds) } => self.watch(Duration::from_secs(seconds)).await,
            Command::Restart(act) => self.act("restart", act).await,
            Command::Start(act) => self.act("start", act).await,
            Command::Stop(act) => self.act("stop", act).await,
            Command::Swap { name, path, wait, force, discard_state, if_match } => {
                // The host has another working directory.
                let path = path.map(|path| std::path::absolute(&path).unwrap_or(path));
                let path = path.map(|path| path.to_string_lossy().into_owned());
                let request = SwapRequest { path, wait, force, discard_state };
                let target = service(&name, "/swap");
                let ask = Ask { if_match, ..Ask::post(target, to_json(&request).into()) };
                let swapped: Swapped = self.ask(ask).await?.read().await?;
                self.tell(&swapped, || {
                    let Swapped { service, digest, generation, pause_us, committed, ended } =
                        &swapped;
                    let then = match ended {
                        Some(by) => format!("it was good until {by} took its place"),
                        None if *committed => "it stays".to_owned(),
                        None => "in probation".to_owned(),
                    };
                    let ms = *pause_us as f64 / 1000.0;
                    format!(
                        "{service} runs {digest}, generation {generation}, after a pause of \
                         {ms:.1} ms: {then}\n"
                    )
                })
            }
            Command::Reload { force, stop_all, discard_state, if_match } => {
                let target = format!(
                    "/v1/reload?force={force}&stop_all={stop_all}&discard_state={discard_state}"
                );
                let ask = Ask { if_match, ..Ask::post(target, Bytes::new()) };
                let reloaded: Reloaded = self.ask(ask).await?.read().await?;
                self.tell(&reloaded, || {
                    format!("version {} is in force\n{}\n", reloaded.version, plain(&reloaded.text))
                })
            }
            Command::Plan => {
                let planned: Planned = self.ask(Ask::get("/v1/plan")).await?.read().await?;
                self.tell(&planned, || format!("{}\n", plain(&planned.text)))
            }
            Command::Config => {
                let config: InForce = self.ask(Ask::get("/v1/config")).await?.read().await?;
                self.tell(&config, || format!("{}\n", plain(config.text.trim_end())))
            }
            Command::Publish(message) => {
                let target = format!("/v1/publish?topic={}", quoted(&message.topic));
                let ask = Ask::post(target, payload(&message)?);
                let published: Published = self.ask(ask).await?.read().await?;
                self.tell(&published, || match published.delivered {
                    0 => "published, and taken in by nobody\n".to_owned(),
                    1 => "published, and taken in by 1 service\n".to_owned(),
                    count => format!("published, and taken in by {count} services\n"),
                })
            }
            Command::Request { message, timeout } => {
                let ms = timeout.as_millis();
                let topic = quoted(&message.topic);
                let target = format!("/v1/request?topic={topic}&timeout_ms={ms}");
                let ask = Ask::post(target, payload(&message)?);
                let answer = self.ask(ask).await?.bytes().await?;
                if self.json {
                    return out(&(to_json(&Payload::from(&answer)) + "\n"));
                }
                Ok(io::stdout().write_all(&answer).and_then(|()| io::stdout().flush())?)
            }
            Command::Tap { filter } => {
                let target = format!("/v1/tap?filter={}", quoted(&filter));
                let answer = self.ask(Ask::get(target)).await?;
                self.note(&format!("tapping {filter}; Ctrl-C ends it"));
                self.until_interrupted(answer, |line| {
                    let seen = serde_json::from_str::<TapLine>(line);
                    seen.map_or_else(|_| plain(line) + "\n", |seen| show::tapped(&seen))
                })
                .await
            }
            Command::Dlq { command } => self.dlq(command).await,
            Command::Logs { name, follow, lines } => {
                let query = format!("/logs?lines={lines}&follow={follow}");
                let answer = self.ask(Ask::get(service(&name, &query))).await?;
                self.until_interrupted(answer, |line| match serde_json::from_str::<Missed>(line) {
                    Ok(missed) => show::missed_text(missed.missed),
                    Err(_) => as_text(line) + "\n",
                })
                .await
            }
            Command::Crashes { name: None } => {
                let crashes: Crashes = self.ask(Ask::get("/v1/crashes")).await?.read().await?;
                self.tell(&crashes, || match &crashes.crashes[..] {
                    [] => "no service crashed\n".to_owned(),
                    crashes => show::crashes(crashes),
                })
            }
            Command::Crashes { name: Some(name) } => {
                let ask = Ask::get(service(&name, "/crashes"));
                let crashes: Crashes = self.ask(ask).await?.read().await?;
                self.tell(&crashes, || match &crashes.crashes[..] {
                    [] => format!("{name} did not crash\n"),
                    crashes => crashes.iter().map(show::crash).collect::<Vec<_>>().join("\n"),
                })
            }
        }
    }

    async fn ask(&self, what: Ask) -> Result<Answer, ClientError> {
        ask(&self.path, what).await
    }

    /// Prints an answer as JSON, or as a person reads it.
    fn tell(&self, answer: &impl Serialize, text: impl FnOnce() -> String) -> Done {
        out(&if self.json { to_json(answer) + "\n" } else { text() })
    }

    /// A word to a person, beside the result.
    fn note(&self, text: &str) {
        if !self.json {
            // As little is lost as with any other note that nobody reads.
            let _ = writeln!(io::stderr(), "{}", plain(text));
        }
    }

    async fn services(&self) -> Result<Services, ClientError> {
        self.ask(Ask::get("/v1/services")).await?.read().await
    }

    fn ps(&self, all: &Services) -> String {
        match &all.services[..] {
            _ if self.json => to_json(all) + "\n",
            [] => "there is no service yet\n".to_owned(),
            services => show::services(services),
        }
    }

    async fn watch(&self, every: Duration) -> Done {
        let clear = io::stdout().is_terminal() && !self.json;
        loop {
            let services = self.services().await?;
            // From the top, with nothing left of the last one.
            out(&format!("{}{}", if clear { "\x1b[H\x1b[2J" } else { "" }, self.ps(&services)))?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    async fn act(&self, verb: &str, act: Act) -> Done {
        let ask = Ask {
            if_match: act.if_match,
            ..Ask::post(service(&act.name, &format!("/{verb}")), Bytes::new())
        };
        let now: Service = self.ask(ask).await?.read().await?;
        let good = verb == "stop" || matches!(now.state.as_str(), "running" | "finished");
        if good || self.json {
            self.tell(&now, || show::acted(&now))?;
        }
        match good {
            true => Ok(()),
            false => Err(CtlError::Outcome(show::acted(&now).trim_end().to_owned())),
        }
    }

    async fn dlq(&self, command: Dlq) -> Done {
        let path = |name: &str| service(name, "/dead-letters");
        match command {
            Dlq::List { name } => {
                let letters: DeadLetters = self.ask(Ask::get(path(&name))).await?.read().await?;
                self.tell(&letters, || match &letters.dead_letters[..] {
                    [] => format!("{name} has no dead letters\n"),
                    letters => show::dead_letters(letters),
                })
            }
            Dlq::Replay { name } => {
                let ask = Ask::post(path(&name) + "/replay", Bytes::new());
                let count: Count = self.ask(ask).await?.read().await?;
                self.tell(&count, || format!("{} to be delivered again\n", count.count))
            }
            Dlq::Drop { name } => {
                let count: Count = self.ask(Ask::delete(path(&name))).await?.read().await?;
                self.tell(&count, || format!("{} dropped\n", count.count))
            }
        }
    }

    /// Prints a stream's lines as they come, until its end or Ctrl-C.
    async fn until_interrupted(&self, answer: Answer, text: impl Fn(&str) -> String) -> Done {
        let mut lines = Lines::of(answer);
        loop {
            let whole = tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                whole = lines.next() => whole?,
            };
            let Some(whole) = whole else { return Ok(()) };
            let mut shown = String::new();
            for line in whole.lines() {
                shown += &if self.json { quiet(line) + "\n" } else { text(line) };
            }
            out(&shown)?;
        }
    }
}

fn out(text: &str) -> Done {
    let mut stdout = io::stdout();
    Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?)
}

fn service(name: &str, what: &str) -> String {
    format!("/v1/services/{}{what}", quoted(name))
}

fn payload(message: &Message) -> Result<Bytes, CtlError> {
    if let Some(payload) = &message.payload {
        return Ok(payload.clone().into());
    }
    if let Some(path) = &message.file {
        return from_file(path);
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|source| unread("standard input", source))?;
    Ok(bytes.into())
}

fn from_file(path: &Path) -> Result<Bytes, CtlError> {
    fs::read(path).map(Bytes::from).map_err(|source| unread(path, source))
}

fn unread(path: impl Into<PathBuf>, source: io::Error) -> CtlError {
    CtlError::Payload { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_cannot_act_on_a_terminal() {
        let text = "\u{1b}[2J\u{7f}\u{9b}2J\u{e9}";
        let json = to_json(&json!({"text": text}));
        assert!(!json.contains(char::is_control), "{json:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["text"], text);
        assert_eq!(plain("a\x1b\nb"), "a\\u{1b}\nb");
    }
}
