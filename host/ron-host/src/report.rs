//! What the host says on standard output: that it started and where, or what it
//! was asked for. And on standard error, that it did not.
//!
//! Not log records: they are there whatever the log level is, because scripts
//! read them. That nobody reads them, as in `ron-host ... | head -1`, is no
//! reason to end: a write that fails is let go.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use ron_runtime::Digest;
use serde_json::{Value, json};

use crate::author::took;
use crate::exit::Failure;
use crate::front::Protocol;
use crate::logging::Format;

fn say(mut to: impl Write, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{line}");
}

/// A line on standard output.
macro_rules! out {
    ($($line:tt)*) => { say(io::stdout(), format_args!($($line)*)) };
}

/// The admin listener is bound. First of all, because what comes next may take
/// a while.
pub(crate) fn admin(format: Format, url: &str) {
    match format {
        Format::Text => out!("admin    {url}  /metrics /healthz /livez /readyz"),
        Format::Json => out!("{}", json!({"admin": url})),
    }
}

/// The control socket is bound.
pub(crate) fn control(format: Format, path: &Path) {
    match format {
        Format::Text => out!("control  {}", path.display()),
        Format::Json => out!("{}", json!({"control": path.display().to_string()})),
    }
}

/// A component is loaded.
pub(crate) fn service(format: Format, name: &str, digest: Digest, took: Duration, cached: bool) {
    let ms = took.as_millis();
    match format {
        Format::Text => {
            let how = if cached { "from the cache" } else { "compiled" };
            out!("service  {name}  {digest}  {how} in {ms} ms");
        }
        Format::Json => out!(
            "{}",
            json!({"service": name, "digest": digest, "cached": cached, "load_ms": ms as u64})
        ),
    }
}

/// Requests or connections are listened for, on behalf of services.
pub(crate) fn listener(
    format: Format,
    protocol: Protocol,
    listener: &str,
    url: &str,
    services: &[&str],
) {
    let protocol = match protocol {
        Protocol::Http => "http",
        Protocol::Stream => "stream",
    };
    match format {
        Format::Text => {
            let services =
                if services.is_empty() { "no service".into() } else { services.join(" ") };
            // That of `--http` is told apart by nothing else.
            let name = if listener == "http" { String::new() } else { format!("  {listener}:") };
            out!("{protocol:<9}{url}{name}  {services}");
        }
        Format::Json => {
            out!("{}", json!({"listener": listener, protocol: url, "services": services}));
        }
    }
}

/// Something that is no mistake, and most likely not what was meant either.
pub(crate) fn hint(format: Format, hint: &str) {
    match format {
        Format::Text => out!("hint     {hint}"),
        Format::Json => out!("{}", json!({"hint": hint})),
    }
}

/// The certificate that was made, by its SHA-256.
pub(crate) fn fingerprint(format: Format, sha256: &str) {
    match format {
        Format::Text => out!("tls      self-signed, SHA-256 {sha256}"),
        Format::Json => out!("{}", json!({"tls": "self-signed", "sha256": sha256})),
    }
}

/// The host is ready; so many of its services may not be, which it is ready without.
pub(crate) fn ready(
    format: Format,
    services: usize,
    not_ready: usize,
    admin: &str,
    took: Duration,
) {
    let ms = took.as_millis();
    match format {
        Format::Text => {
            let plural = if services == 1 { "" } else { "s" };
            let of = match not_ready {
                0 => String::new(),
                count => format!("{} of ", services.saturating_sub(count)),
            };
            out!("ready    {of}{services} service{plural}  {admin}  in {ms} ms");
        }
        Format::Json => out!(
            "{}",
            json!({
                "ready": true,
                "services": services,
                "not_ready": not_ready,
                "admin": admin,
                "took_ms": ms as u64,
            })
        ),
    }
}

/// A component that was checked.
pub(crate) fn checked(format: Format, name: &str, digest: Digest, path: &Path) {
    let path = path.display();
    match format {
        Format::Text => out!("service  {name}  {digest}  {path}"),
        Format::Json => {
            out!("{}", json!({"service": name, "digest": digest, "component": path.to_string()}))
        }
    }
}

/// All was checked, and is good.
pub(crate) fn good(format: Format, file: Option<&Path>, services: usize) {
    let file = file.map(|file| file.display().to_string());
    match format {
        Format::Text => {
            let plural = if services == 1 { "" } else { "s" };
            let file = file.map(|file| format!("{file}  ")).unwrap_or_default();
            out!("good     {file}{services} service{plural}");
        }
        Format::Json => out!("{}", json!({"good": true, "file": file, "services": services})),
    }
}

/// A component is being made, because of what changed.
pub(crate) fn building(format: Format, service: &str, because: &str) {
    match format {
        Format::Text if because.is_empty() => out!("building {service}"),
        Format::Text => out!("building {service}  {because} changed"),
        Format::Json => out!("{}", json!({"building": service, "changed": because})),
    }
}

/// A project's own tool is being installed.
pub(crate) fn installing(format: Format, service: &str, program: &str, command: &str) {
    match format {
        Format::Text => out!("tools    {service}  needs {program}; running: {command}"),
        Format::Json => out!("{}", json!({"installing": program, "for": service, "with": command})),
    }
}

/// A line of what a build says, where it does not say it itself.
pub(crate) fn build_output(format: Format, service: &str, line: &str) {
    match format {
        Format::Text => out!("{line}"),
        Format::Json => out!("{}", json!({"building": service, "output": line})),
    }
}

/// A component was made.
pub(crate) fn built(format: Format, service: &str, bytes: u64, time: Duration) {
    match format {
        Format::Text => {
            let size = bytesize::ByteSize(bytes).display().iec();
            out!("built    {service}  {size} in {}", took(time));
        }
        Format::Json => out!(
            "{}",
            json!({"built": service, "bytes": bytes, "took_ms": time.as_millis() as u64})
        ),
    }
}

/// A build that has not ended.
pub(crate) fn still_building(format: Format, service: &str, time: Duration) {
    match format {
        Format::Text => out!("building {service}  for {} s", time.as_secs()),
        Format::Json => out!("{}", json!({"building": service, "for_s": time.as_secs()})),
    }
}

/// A component was not made, while others are.
pub(crate) fn build_failed(format: Format, service: &str, error: &str, now: &str) {
    let text = format!("{service}: {error}: {now}");
    match format {
        Format::Text => say(io::stderr(), format_args!("error: {text}")),
        Format::Json => {
            say(io::stderr(), format_args!("{}", json!({"level": "ERROR", "message": text})));
        }
    }
}

/// A component was compiled ahead of time.
pub(crate) fn compiled(format: Format, name: &str, digest: Digest, time: Duration, cached: bool) {
    match format {
        Format::Text => {
            let how = if cached { "was in the cache" } else { "compiled" };
            out!("{how:<17}{name}  {digest}  in {}", took(time));
        }
        Format::Json => out!(
            "{}",
            json!({"component": name, "digest": digest, "cached": cached, "took_ms": time.as_millis() as u64})
        ),
    }
}

/// A project was begun.
pub(crate) fn begun(name: &str) {
    out!("made     {name}/");
    out!("next     cd {name} && ron-host dev");
}

/// A text as it is: TOML, or JSON.
pub(crate) fn text(text: &str) {
    out!("{}", text.trim_end());
}

/// JSON for people.
pub(crate) fn json(value: &Value) {
    out!("{value:#}");
}

/// It is not done, and why.
pub(crate) fn failure(format: Format, failure: &Failure) {
    told(format, failure, "nothing was started");
}

/// The configuration is broken, and the last good one is used.
pub(crate) fn falls_back(format: Format, broken: &Failure, last_good: &Path) {
    let now = format!("starting with the last good configuration, {}", last_good.display());
    told(format, broken, &now);
    if format == Format::Text {
        say(io::stderr(), format_args!("warning: {now}"));
    }
}

fn told(format: Format, failure: &Failure, now: &str) {
    let line = |line: &str| say(io::stderr(), format_args!("{line}"));
    if let Failure::Settings(wrong) = failure {
        let coloured = io::stderr().is_terminal();
        for text in wrong.report(format, coloured, now) {
            line(&text);
        }
        return;
    }
    for text in failure.lines() {
        match format {
            Format::Text => line(&format!("error: {text}")),
            Format::Json => line(&json!({"level": "ERROR", "message": text}).to_string()),
        }
    }
}
