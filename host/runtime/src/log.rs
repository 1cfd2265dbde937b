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
        if fields.iter().any(|(key, value)| key == PANIC_FIELD && value == "true") {
            let place = fields.iter().find(|(key, _)| key == "location");
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
        let fields = (!fields.is_empty()).then(|| to_json(fields));
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

fn to_json(fields: &[(String, String)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    serde_json::Value::Object(map).to_string()
}

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
    fn a_cut_keeps_characters_whole() {
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
    }
}
