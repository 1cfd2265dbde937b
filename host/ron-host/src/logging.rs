//! Log records on standard error, as lines of text or of JSON.
//!
//! Written by a thread of its own from a bounded queue: a collector that stops
//! reading must not stop the services. What does not fit is lost and counted.
//! What a service logs is data: control characters in it are escaped, so that
//! it can forge neither a line nor a colour.

mod recent;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use clap::ValueEnum;
use ron_kernel::Metrics;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

pub(crate) use self::recent::{HOST, Line, Recent};
use crate::host::{LOST_LINES, lost_lines};

/// The target of the access log's records.
pub(crate) const ACCESS: &str = "access";
/// Lines that wait to be written.
const QUEUE: usize = 16 << 10;

/// How log records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// The least severe records that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    /// Nothing
    Off,
}

/// Logging, for as long as it is held; dropping it writes what is left.
pub(crate) struct Logging {
    lost: ErrorCounter,
    recent: Recent,
    levels: Levels,
    _writer: WorkerGuard,
}

impl Logging {
    /// Shows what was lost among the metrics.
    pub(crate) fn expose(&self, metrics: &Metrics) {
        let lost = self.lost.clone();
        metrics.pull(LOST_LINES, move |out| lost_lines(lost.dropped_lines(), out));
    }

    /// The way to change what is written.
    pub(crate) fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The newest records.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }
}

/// Changes what is written while the host runs.
#[derive(Clone)]
pub(crate) struct Levels(Arc<dyn Fn(Written) + Send + Sync>);

/// Which records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Those at least so severe.
    pub(crate) level: Level,
    /// One for each HTTP request, whatever the level.
    pub(crate) access: bool,
}

impl Levels {
    /// These are written from now on.
    pub(crate) fn set(&self, written: Written) {
        (self.0)(written);
    }
}

/// Libraries are of interest when they warn.
fn filter(written: Written) -> EnvFilter {
    let Written { level, access } = written;
    let level = level.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    let levels = match level.as_str() {
        "trace" | "debug" | "info" => {
            format!("warn,service={level},ron_host={level},ron_kernel={level},ron_runtime={level}")
        }
        _ => level,
    };
    let access = if access { "info" } else { "off" };
    EnvFilter::new(format!("{levels},{ACCESS}={access}"))
}

/// Starts logging, for the process.
pub(crate) fn start(format: Format, written: Written) -> Logging {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let recent = Recent::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(written))
        .with_writer(writer)
        .event_format(Lines { format, recent: recent.clone() })
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    // It fails when the subscriber is gone, and then nothing is written at all.
    let levels = Levels(Arc::new(move |written| drop(handle.reload(filter(written)))));
    subscriber.init();
    Logging { lost, recent, levels, _writer: guard }
}

struct Lines {
    format: Format,
    recent: Recent,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut record = Record::default();
        event.record(&mut record);
        let level = event.metadata().level().as_str();
        let json = record.json(&time, level);
        let written = match self.format {
            Format::Text => writeln!(out, "{}", record.text(&time, level)),
            Format::Json => writeln!(out, "{json}"),
        };
        // Requests would push out what the service itself says.
        if event.metadata().target() != ACCESS {
            self.recent.keep(record.service.as_deref(), json);
        }
        written
    }
}

/// An event's fields.
#[derive(Default)]
struct Record {
    message: String,
    service: Option<String>,
    fields: Map<String, Value>,
}

impl Record {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("service", Value::String(text)) => self.service = Some(text),
            // What a service gave is an object in a text; see `ron-runtime`.
            ("fields", Value::String(text)) => {
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                self.fields.insert("fields".into(), value);
            }
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }

    fn json(&self, time: &str, level: &str) -> String {
        let mut line = Map::new();
        line.insert("timestamp".into(), time.into());
        line.insert("level".into(), level.into());
        if let Some(service) = &self.service {
            line.insert("service".into(), service.as_str().into());
        }
        line.insert("message".into(), self.message.as_str().into());
        line.extend(self.fields.clone());
        Value::Object(line).to_string()
    }

    /// Reads a record back from [`json`](Self::json): time, level and record.
    fn parse(line: &str) -> Option<(String, String, Self)> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else { return None };
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (time, level, message) = (text("timestamp")?, text("level")?, text("message")?);
        let service = text("service");
        Some((time, level, Self { message, service, fields }))
    }

    fn text(&self, time: &str, level: &str) -> String {
        let mut line = format!("{time} {level:>5} ");
        if let Some(service) = &self.service {
            line.push_str(service);
            line.push_str(": ");
        }
        escape(&self.message, &mut line);
        // Several lines of a field stand below the record, indented.
        let mut below = String::new();
        let mut inline = |name: &str, value: &Value| match value {
            Value::String(text) if text.contains('\n') => {
                below.push_str("\n    ");
                escape(name, &mut below);
                below.push(':');
                for part in text.lines() {
                    below.push_str("\n      ");
                    escape(part, &mut below);
                }
            }
            Value::String(text) => {
                line.push(' ');
                escape(name, &mut line);
                line.push('=');
                let quote = text.is_empty() || text.contains([' ', '"', '=']);
                if quote {
                    let _ = write!(line, "{text:?}");
                } else {
                    escape(text, &mut line);
                }
            }
            other => {
                line.push(' ');
                escape(name, &mut line);
                let _ = write!(line, "={other}");
            }
        };
        for (name, value) in &self.fields {
            match value {
                Value::Object(own) if name == "fields" => {
                    own.iter().for_each(|(name, value)| inline(name, value));
                }
                _ => inline(name, value),
            }
        }
        line + &below
    }
}

/// A line of JSON as a line of text; as it is, but escaped, if it is no record.
pub(crate) fn as_text(line: &str) -> String {
    match Record::parse(line) {
        Some((time, level, record)) => record.text(&time, &level),
        None => {
            let mut text = String::new();
            escape(line, &mut text);
            text
        }
    }
}

/// Writes control characters as Rust does in a string, tabs excepted.
pub(crate) fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(message: &str, fields: Value) -> Record {
        let Value::Object(fields) = fields else { panic!("an object") };
        Record { message: message.into(), service: Some("svc".into()), fields }
    }

    #[test]
    fn a_service_can_forge_neither_a_line_nor_a_colour() {
        let fields = json!({"fields": {"user": "a\nb", "\x1b": "1"}, "generation": 1});
        let text = record("hi\n2026 ERROR x\x1b[31m", fields).text("T", "INFO");
        assert_eq!(
            text,
            "T  INFO svc: hi\\n2026 ERROR x\\u{1b}[31m \\u{1b}=1 generation=1\n    user:\n      a\n      b"
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = record("a\nb", json!({"fields": {"k": "v"}})).json("T", "WARN");
        assert_eq!(
            serde_json::from_str::<Value>(&line).expect("JSON"),
            json!({
                "timestamp": "T", "level": "WARN", "service": "svc", "message": "a\nb",
                "fields": {"k": "v"}
            })
        );
        assert!(!line.contains('\n'));
        assert_eq!(as_text(&line), "T  WARN svc: a\\nb k=v");
        assert_eq!(as_text("\x1b[2J"), "\\u{1b}[2J");
    }
}
