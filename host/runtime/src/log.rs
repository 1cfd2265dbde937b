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
/// The field by which an SDK says that a record is a panic: its language's own, which
/// ends the instance. It is `true`, or [`OUT_OF_MEMORY`].
const PANIC_FIELD: &str = "ron.panic";
/// What that field is when the language says that it got no more memory.
const OUT_OF_MEMORY: &str = "out-of-memory";
/// The field with the author's file and line.
const PLACE_FIELD: &str = "location";
/// The field with the language's own stack, a line for each frame.
const TRACEBACK_FIELD: &str = "traceback";

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
    panic: Option<Panic>,
}

/// What a service said of its own end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Panic {
    /// With its place, where that is known.
    pub(crate) message: String,
    /// The stack as the service's language has it, where it says.
    pub(crate) traceback: Vec<String>,
    /// Whether it says that it got no more memory.
    pub(crate) out_of_memory: bool,
}

impl Panic {
    /// What an SDK told in a record with these fields, if that is a panic.
    fn told(message: &str, fields: &[(&str, &str)]) -> Option<Self> {
        let of = |name| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let out_of_memory = match of(PANIC_FIELD)? {
            "true" => false,
            OUT_OF_MEMORY => true,
            _ => return None,
        };
        let message = match of(PLACE_FIELD) {
            Some(place) => format!("{message} (at {place})"),
            None => message.to_owned(),
        };
        let traceback = of(TRACEBACK_FIELD).into_iter().flat_map(str::lines).map(str::to_owned);
        Some(Self { message, traceback: traceback.collect(), out_of_memory })
    }
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
        let mut fields = cut_fields(fields, state.max_bytes - message.len());
        if let Some(panic) = Panic::told(message, &fields) {
            state.panic = Some(panic);
            // It is in the record of the crash, which follows.
            fields.retain(|(key, _)| *key != TRACEBACK_FIELD);
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

    /// The panic that the service told of in a record of its own.
    pub(crate) fn told(&self) -> Option<Panic> {
        self.0.lock().panic.clone()
    }

    /// The panic that the service's language wrote to standard error.
    pub(crate) fn printed(&self) -> Option<String> {
        let state = self.0.lock();
        let stderr = state.last.iter().filter(|(source, _)| *source == Source::Stderr);
        panic_in(stderr.map(|(_, line)| line.as_str()))
    }

    /// The text of either.
    pub(crate) fn panic(&self) -> Option<String> {
        self.told().map(|panic| panic.message).or_else(|| self.printed())
    }

    /// Whether an allocator said that it got no memory.
    pub(crate) fn says_out_of_memory(&self) -> bool {
        let state = self.0.lock();
        state.panic.as_ref().is_some_and(|panic| panic.out_of_memory)
            || state.last.iter().any(|(_, line)| {
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
    fn an_sdk_tells_of_a_panic() {
        fn check(fields: &[(&str, &str)], expected: Option<(&str, &[&str], bool)>) {
            let told = Panic::told("boom", fields);
            let told = told.as_ref().map(|panic| {
                let traceback: Vec<&str> = panic.traceback.iter().map(String::as_str).collect();
                (panic.message.as_str(), traceback, panic.out_of_memory)
            });
            assert_eq!(told, expected.map(|(text, lines, memory)| (text, lines.to_vec(), memory)));
        }
        check(&[], None);
        check(&[("ron.panic", "false"), ("traceback", "x")], None);
        check(&[("ron.panic", "true")], Some(("boom", &[], false)));
        check(
            &[("traceback", "a\n  b\n"), ("ron.panic", "true"), ("location", "app.py:3")],
            Some(("boom (at app.py:3)", &["a", "  b"], false)),
        );
        check(&[("ron.panic", "out-of-memory")], Some(("boom", &[], true)));
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
