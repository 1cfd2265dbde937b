//! What a service logs: records at a limited rate, and the last of them kept
//! for the case that it crashes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use ron_kernel::Metrics;
use ron_kernel::metrics::Observation;
use ron_kernel::service::ContextHandle;

use crate::engine::Ticks;
use crate::limits::{Limits, Rate};

/// Log lines kept for a crash report.
const KEPT: usize = 32;
/// Bytes of one kept line.
const KEPT_BYTES: usize = 1024;
/// The field by which `ron-guest`'s panic hook says that a record is a panic.
const PANIC_FIELD: &str = "ron.panic";

/// Severity, as in `ron:kernel/log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `log.write`.
    Log,
    /// A line on standard output.
    Stdout,
    /// A line on standard error.
    Stderr,
}

/// One incarnation's log. A clone is the same log.
#[derive(Clone, Debug)]
pub(crate) struct GuestLog(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    kernel: Arc<ContextHandle>,
    metrics: Metrics,
    ticks: Ticks,
    rate: Rate,
    max_bytes: usize,
    last: VecDeque<(Source, String)>,
    panic: Option<String>,
}

impl GuestLog {
    pub(crate) fn new(
        kernel: Arc<ContextHandle>,
        metrics: Metrics,
        limits: &Limits,
        ticks: Ticks,
        rate: Rate,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            kernel,
            metrics,
            ticks,
            rate,
            max_bytes: limits.log_bytes,
            last: VecDeque::new(),
            panic: None,
        })))
    }

    /// Takes one record in.
    pub(crate) fn record(
        &self,
        source: Source,
        level: Level,
        message: &str,
        fields: &[(String, String)],
    ) {
        let mut state = self.0.lock();
        let message = cut(message, state.max_bytes);
        let fields = cut_fields(fields, state.max_bytes - message.len());
        if fields.iter().any(|(key, value)| *key == PANIC_FIELD && *value == "true") {
            let place = fields.iter().find(|(key, _)| *key == "location");
            state.panic = Some(match place {
                Some((_, place)) => format!("{message} (at {place})"),
                None => message.to_owned(),
            });
        }
        if state.last.len() >= KEPT {
            state.last.pop_front();
        }
        state.last.push_back((source, cut(message, KEPT_BYTES).to_owned()));
        let now = state.ticks.now();
        if !state.rate.admit(now) {
            let service = state.kernel.id.clone();
            state.metrics.observe(&Observation::LogDropped { service: service.as_str() });
            return;
        }
        let suppressed = state.rate.take_refused();
        let (service, generation) = (state.kernel.id.clone(), state.kernel.generation().0);
        // The subscriber is the host's: it writes without the service's lock.
        drop(state);
        if suppressed > 0 {
            tracing::warn!(
                service = %service,
                generation,
                suppressed,
                "log records were dropped: the service logs faster than its limit"
            );
        }
        let fields = (!fields.is_empty()).then(|| to_json(&fields));
        let fields = fields.as_deref();
        let stream = match source {
            Source::Log => None,
            Source::Stdout => Some("stdout"),
            Source::Stderr => Some("stderr"),
        };
        // A level is part of a call site, so each has its own.
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(
                    target: "service", tracing::Level::$level,
                    service = %service, generation, stream, fields, "{message}"
                )
            };
        }
        match level {
            Level::Trace => emit!(TRACE),
            Level::Debug => emit!(DEBUG),
            Level::Info => emit!(INFO),
            Level::Warn => emit!(WARN),
            Level::Error => emit!(ERROR),
        }
    }

    /// The last lines, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.0.lock().last.iter().map(|(_, line)| line.clone()).collect()
    }

    /// The panic that the service told of: in a record of its own, or on
    /// standard error.
    pub(crate) fn panic(&self) -> Option<String> {
        let state = self.0.lock();
        state.panic.clone().or_else(|| {
            let stderr = state.last.iter().filter(|(source, _)| *source == Source::Stderr);
            panic_in(stderr.map(|(_, line)| line.as_str()))
        })
    }

    /// Whether an allocator said that it got no memory.
    pub(crate) fn says_out_of_memory(&self) -> bool {
        let state = self.0.lock();
        state.last.iter().any(|(_, line)| {
            line.starts_with("memory allocation of ") && line.contains(" bytes failed")
        })
    }
}

/// As much of the fields as there is room for, the last of them cut: a record is as
/// long as the log allows, whatever part of it is.
fn cut_fields(fields: &[(String, String)], room: usize) -> Vec<(&str, &str)> {
    let mut left = room;
    let mut kept = Vec::new();
    for (key, value) in fields {
        if left == 0 {
            break;
        }
        let key = cut(key, left);
        let value = cut(value, left - key.len());
        // An empty one has a cost too.
        left = left.saturating_sub((key.len() + value.len()).max(1));
        kept.push((key, value));
    }
    kept
}

fn to_json(fields: &[(&str, &str)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    serde_json::Value::Object(map).to_string()
}

/// Bytes of why something failed, in a component's words; the rest is cut.
pub(crate) const WHY: usize = 4096;

/// The first `max` bytes, to the end of a character.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Finds the last panic that a language's runtime wrote to standard error:
/// Rust's two lines, or `panic: ...` as Go and Zig have it.
fn panic_in<'l>(lines: impl Iterator<Item = &'l str>) -> Option<String> {
    let mut found = None;
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        if let Some((_, place)) = line.split_once("panicked at ")
            && line.starts_with("thread ")
        {
            let place = place.trim_end_matches(':');
            found = Some(match lines.peek() {
                Some(message) => format!("{message} (at {place})"),
                None => format!("panicked at {place}"),
            });
        } else if let Some(message) = line.strip_prefix("panic: ") {
            found = Some(message.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_found_on_standard_error() {
        fn check(lines: &[&str], expected: Option<&str>) {
            assert_eq!(panic_in(lines.iter().copied()).as_deref(), expected);
        }
        check(
            &["", "thread '<unnamed>' (1) panicked at src/lib.rs:5:9:", "boom", "note: run with"],
            Some("boom (at src/lib.rs:5:9)"),
        );
        check(&["panic: runtime error: index out of range", "", "goroutine 1"], {
            Some("runtime error: index out of range")
        });
        check(&["all is well", "he panicked at the sight"], None);
    }

    #[test]
    fn fields_share_what_room_there_is() {
        let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let fields = [field("a", "12"), field("b", "\u{e9}\u{e9}"), field("c", "3")];
        assert_eq!(cut_fields(&fields, 100), [("a", "12"), ("b", "\u{e9}\u{e9}"), ("c", "3")]);
        assert_eq!(cut_fields(&fields, 7), [("a", "12"), ("b", "\u{e9}"), ("c", "")]);
        assert_eq!(cut_fields(&fields, 2), [("a", "1")]);
        assert_eq!(cut_fields(&fields, 0), []);
        let empty = vec![field("", ""); 1000];
        assert_eq!(cut_fields(&empty, 10).len(), 10);
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
    }
}
