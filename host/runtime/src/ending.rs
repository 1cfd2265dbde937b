//! From the way a call failed to the reason that is announced.
//!
//! The engine's view is often not the cause: a panic, an allocator without
//! memory and a deliberate abort all look like `unreachable`. What the host
//! saw besides, the panic's text, a growth it refused, decides between them.

use std::time::Duration;

use ron_kernel::service::{Crash, CrashDetail};
use ron_kernel::{CallKind, CrashReason, TrapCode};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::digest::Digest;
use crate::state::HostState;

/// Frames kept of a backtrace; recursion has many more.
const FRAMES: usize = 64;

/// Characters of a function's name.
const NAME: usize = 100;

/// How a call failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The engine says so.
    Call(wasmtime::Error),
    /// It was given up from outside, in a host call that did not return.
    Late,
}

/// What the host saw of the call.
pub(crate) struct Seen<'s> {
    pub(crate) state: &'s HostState,
    pub(crate) call: CallKind,
    pub(crate) limit: Duration,
    pub(crate) topic: Option<&'s str>,
    pub(crate) digest: Digest,
}

impl Seen<'_> {
    /// The crash, with all that is known of it.
    pub(crate) fn crash(&self, failed: &Failed) -> Crash {
        self.state.stdout.finish();
        self.state.stderr.finish();
        let backtrace = match failed {
            Failed::Call(error) => error.downcast_ref::<WasmBacktrace>().map(frames),
            Failed::Late => None,
        };
        let detail = CrashDetail {
            backtrace: backtrace.unwrap_or_default(),
            last_log: self.state.log.last_lines(),
            topic: self.topic.map(str::to_owned),
            memory: Some(self.state.limiter.memory()),
            digest: Some(self.digest.to_string()),
        };
        let reason = match failed {
            Failed::Late => CrashReason::deadline(self.call, self.limit),
            Failed::Call(error) => self.reason(error),
        };
        Crash { reason, detail: Some(Box::new(detail)) }
    }

    fn reason(&self, error: &wasmtime::Error) -> CrashReason {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return CrashReason::Exit { code: exit.0 };
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return CrashReason::Host {
                message: format!("no room for one more instance: {}", error.root_cause()),
            };
        }
        let Some(trap) = error.downcast_ref::<Trap>() else {
            // A host function's own error, an argument over its limit.
            let code = TrapCode::ComponentModel;
            return CrashReason::Trap { code, message: error.root_cause().to_string() };
        };
        let code = match trap {
            Trap::Interrupt => return CrashReason::deadline(self.call, self.limit),
            Trap::StackOverflow => return CrashReason::StackOverflow,
            Trap::UnreachableCodeReached => {
                let log = &self.state.log;
                if self.state.limiter.refused()
                    && (log.panic().is_none() || log.says_out_of_memory())
                {
                    return CrashReason::MemoryLimit { limit: self.state.limiter.memory_limit() };
                }
                if let Some(message) = log.panic() {
                    return CrashReason::Panic { message };
                }
                TrapCode::Unreachable
            }
            Trap::MemoryOutOfBounds => TrapCode::MemoryOutOfBounds,
            Trap::TableOutOfBounds => TrapCode::TableOutOfBounds,
            Trap::IndirectCallToNull => TrapCode::IndirectCallToNull,
            Trap::BadSignature => TrapCode::BadSignature,
            Trap::IntegerOverflow => TrapCode::IntegerOverflow,
            Trap::IntegerDivisionByZero => TrapCode::IntegerDivisionByZero,
            Trap::BadConversionToInteger => TrapCode::BadConversionToInteger,
            Trap::CannotEnterComponent
            | Trap::CannotLeaveComponent
            | Trap::CannotBlockSyncTask
            | Trap::InvalidChar
            | Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::UnalignedPointer => TrapCode::ComponentModel,
            // `Trap` may grow; its text is kept.
            _ => TrapCode::Other,
        };
        CrashReason::Trap { code, message: trap.to_string() }
    }
}

/// One line a frame: the function, and its place where the component has DWARF.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let all = backtrace.frames();
    let mut lines: Vec<String> = Vec::new();
    for frame in all.iter().take(FRAMES) {
        let index = lines.len();
        let symbols = frame.symbols();
        if symbols.is_empty() {
            let name = frame
                .func_name()
                .map_or_else(|| format!("wasm function {}", frame.func_index()), demangle);
            lines.push(format!("{index}: {name}"));
        }
        // One frame of code may be several of source, inlined.
        for symbol in symbols {
            let name = symbol.name().or_else(|| frame.func_name()).unwrap_or("<unknown>");
            let name = demangle(name);
            let place = match (symbol.file(), symbol.line()) {
                (Some(file), Some(line)) => format!(" at {file}:{line}"),
                _ => String::new(),
            };
            lines.push(format!("{}: {name}{place}", lines.len()));
        }
    }
    if all.len() > FRAMES {
        lines.push(format!("... and {} more frames", all.len() - FRAMES));
    }
    lines
}

/// A name as its author wrote it. Generic arguments can make one longer than
/// the rest of the report together, so it ends after [`NAME`] characters.
fn demangle(name: &str) -> String {
    let mut name = rustc_demangle::try_demangle(name)
        .map_or_else(|_| name.to_owned(), |demangled| format!("{demangled:#}"));
    if let Some((end, _)) = name.char_indices().nth(NAME) {
        name.truncate(end);
        name.push_str("...");
    }
    name
}
