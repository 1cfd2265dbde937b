//! Why a service stopped running: closed data, with one stable label a cause.
//!
//! A crash reason is not an error that somebody handles. It is what the
//! supervisor decides by, what an operator reads at night and what a metric
//! counts, so it is an enum whose [`label`](CrashReason::label) set is known at
//! compile time: `service_crashes_total{reason}` cannot grow without bound,
//! whatever a guest does.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The WebAssembly trap that ended an instance.
///
/// The codes are those of the WebAssembly specification and of the component
/// model; what has no name here is [`TrapCode::Other`], and its text is kept in
/// [`CrashReason::Trap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TrapCode {
    /// The `unreachable` instruction, or an abort that compiles to it.
    Unreachable,
    /// A read or write outside linear memory.
    MemoryOutOfBounds,
    /// An access outside a table.
    TableOutOfBounds,
    /// An indirect call through an empty table slot.
    IndirectCallToNull,
    /// An indirect call with another signature than the callee's.
    BadSignature,
    /// Integer arithmetic overflowed (`i32::MIN / -1`).
    IntegerOverflow,
    /// An integer division by zero.
    IntegerDivisionByZero,
    /// A float that does not fit the integer it was converted to.
    BadConversionToInteger,
    /// A rule of the component model was broken: a bad string, list or handle,
    /// or a call while leaving or entering was not allowed.
    ComponentModel,
    /// Any other trap.
    Other,
}

impl TrapCode {
    const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "trap-unreachable",
            Self::MemoryOutOfBounds => "trap-memory-out-of-bounds",
            Self::TableOutOfBounds => "trap-table-out-of-bounds",
            Self::IndirectCallToNull => "trap-indirect-call-to-null",
            Self::BadSignature => "trap-bad-signature",
            Self::IntegerOverflow => "trap-integer-overflow",
            Self::IntegerDivisionByZero => "trap-integer-division-by-zero",
            Self::BadConversionToInteger => "trap-bad-conversion-to-integer",
            Self::ComponentModel => "trap-component-model",
            Self::Other => "trap-other",
        }
    }
}

/// Which call of a service ran past its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    /// Creating the instance and `lifecycle.start`.
    Start,
    /// `lifecycle.on-message`, `lifecycle.on-event` or `bulk.on-batch`.
    Handler,
    /// `lifecycle.stop`.
    Stop,
    /// `handover.save` or `handover.restore`.
    Handover,
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Handler => "handler",
            Self::Stop => "stop",
            Self::Handover => "handover",
        })
    }
}

/// Why a service stopped running.
///
/// Serialised with the variant's name as the tag, in kebab case:
/// `{"panic":{"message":"boom"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CrashReason {
    /// WebAssembly trapped, for a reason that has no variant of its own below.
    Trap {
        /// Which trap.
        code: TrapCode,
        /// The engine's text of it.
        message: String,
    },
    /// The service's own code panicked.
    Panic {
        /// The panic's text, with its place where that is known.
        message: String,
    },
    /// A call did not end within its deadline.
    Deadline {
        /// The call that was cut short.
        call: CallKind,
        /// The deadline it had, in milliseconds.
        limit_ms: u64,
    },
    /// The service asked for more memory than its limit and could not go on.
    MemoryLimit {
        /// The limit, in bytes, over all memories of the instance.
        limit: u64,
    },
    /// The call stack was exhausted.
    StackOverflow,
    /// The service ended its own process.
    Exit {
        /// The exit code; WASI 0.2 knows only 0 and 1.
        code: i32,
    },
    /// The service ended with an error of its own. A handler's error that is
    /// answered for (`reject`, `retry`) ends nothing and is not a crash.
    Handler {
        /// The error's text.
        message: String,
    },
    /// `start` answered with an error.
    Start {
        /// The error's text.
        message: String,
    },
    /// The component does not fit this host: an import that is not offered, an
    /// export that is missing or of another type.
    Link {
        /// What does not fit.
        message: String,
    },
    /// The host could not keep the service running, through no fault of the
    /// service: no room for an instance, a fault of the host's own. It spends
    /// nothing of the budget for restarts.
    Host {
        /// What happened.
        message: String,
    },
    /// Not a service's end: events of the kernel's bus were lost to slow
    /// subscribers. Announced under the service name `bus-overflow`.
    BusOverflow {
        /// Events lost since the last such announcement, over all subscribers.
        dropped: u64,
    },
}

impl CrashReason {
    /// A panic, with its text.
    pub fn panic(message: impl Into<String>) -> Self {
        Self::Panic { message: message.into() }
    }

    /// A call that ran past `limit`.
    #[must_use]
    pub fn deadline(call: CallKind, limit: Duration) -> Self {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Self::Deadline { call, limit_ms }
    }

    /// The stable, machine-readable name: the `reason` label of
    /// `service_crashes_total` and the `label` of the WIT's `crash-reason`.
    ///
    /// The set is closed. A label never changes its meaning; new ones may come.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Trap { code, .. } => code.label(),
            Self::Panic { .. } => "panic",
            Self::Deadline { .. } => "deadline",
            Self::MemoryLimit { .. } => "memory-limit",
            Self::StackOverflow => "stack-overflow",
            Self::Exit { .. } => "exit",
            Self::Handler { .. } => "handler-error",
            Self::Start { .. } => "start-failed",
            Self::Link { .. } => "link-failed",
            Self::Host { .. } => "host-fault",
            Self::BusOverflow { .. } => "bus-overflow",
        }
    }
}

/// What a person reads; the label is not repeated in it.
impl fmt::Display for CrashReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap { message, .. }
            | Self::Panic { message }
            | Self::Handler { message }
            | Self::Start { message }
            | Self::Link { message }
            | Self::Host { message } => f.write_str(message),
            Self::Deadline { call, limit_ms } => {
                write!(f, "{call} did not end within {:?}", Duration::from_millis(*limit_ms))
            }
            Self::MemoryLimit { limit } => {
                write!(f, "wanted more memory than its limit of {limit} bytes")
            }
            Self::StackOverflow => f.write_str("call stack exhausted"),
            Self::Exit { code } => write!(f, "exited with code {code}"),
            Self::BusOverflow { dropped } => {
                write!(f, "{dropped} events were lost to slow subscribers")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: CrashReason, label: &str, text: &str, json: &str) {
        assert_eq!(reason.label(), label);
        assert_eq!(reason.to_string(), text);
        let written = serde_json::to_string(&reason).expect("a reason serialises");
        assert_eq!(written, json);
        let read: CrashReason = serde_json::from_str(json).expect("its JSON reads back");
        assert_eq!(read, reason);
    }

    #[test]
    fn labels_texts_and_json_are_stable() {
        check(
            CrashReason::Trap { code: TrapCode::Unreachable, message: "wasm trap".into() },
            "trap-unreachable",
            "wasm trap",
            r#"{"trap":{"code":"unreachable","message":"wasm trap"}}"#,
        );
        check(CrashReason::panic("boom"), "panic", "boom", r#"{"panic":{"message":"boom"}}"#);
        check(
            CrashReason::deadline(CallKind::Handler, Duration::from_secs(5)),
            "deadline",
            "handler did not end within 5s",
            r#"{"deadline":{"call":"handler","limit_ms":5000}}"#,
        );
        check(
            CrashReason::MemoryLimit { limit: 65_536 },
            "memory-limit",
            "wanted more memory than its limit of 65536 bytes",
            r#"{"memory-limit":{"limit":65536}}"#,
        );
        check(
            CrashReason::StackOverflow,
            "stack-overflow",
            "call stack exhausted",
            r#""stack-overflow""#,
        );
        check(
            CrashReason::Exit { code: 1 },
            "exit",
            "exited with code 1",
            r#"{"exit":{"code":1}}"#,
        );
    }
}
