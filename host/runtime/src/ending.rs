//! From the way a call failed to the reason that is announced.
//!
//! The engine's view is often not the cause: a panic, an allocator without
//! memory and a deliberate abort all look like `unreachable`. What the host
//! saw besides, the panic's text, a growth it refused, decides between them.

use std::time::Duration;

use ron_kernel::service::{Crash, CrashDetail, LateBacktrace};
use ron_kernel::{CallKind, CrashReason, TrapCode};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::component::Component;
use crate::log::Panic;
use crate::state::{Unreached, Witness};
use crate::symbols::Stack;

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
    pub(crate) witness: &'s Witness,
    pub(crate) call: CallKind,
    pub(crate) limit: Duration,
    pub(crate) topic: Option<&'s str>,
    pub(crate) component: &'s Component,
}

impl Seen<'_> {
    /// The crash, with all that is known of it.
    pub(crate) fn crash(&self, failed: &Failed) -> Crash {
        self.witness.stdout.finish();
        self.witness.stderr.finish();
        let told = self.witness.log.told();
        let traceback = told.as_ref().map(|panic| panic.traceback.clone()).unwrap_or_default();
        let stack = match failed {
            // The frames of an interpreter say nothing to who wrote what it runs.
            Failed::Call(error) if traceback.is_empty() => {
                error.downcast_ref::<WasmBacktrace>().map(Stack::of)
            }
            Failed::Call(_) | Failed::Late => None,
        };
        let detail = CrashDetail {
            backtrace: stack.as_ref().map_or(traceback, Stack::names),
            last_log: self.witness.log.last_lines(),
            topic: self.topic.map(str::to_owned),
            memory: Some(self.witness.memory.bytes()),
            digest: Some(self.component.digest().to_string()),
            corr_id: None,
        };
        let reason = match failed {
            Failed::Late => CrashReason::deadline(self.call, self.limit),
            Failed::Call(error) => self.reason(error, told),
        };
        Crash {
            reason,
            detail: Some(Box::new(detail)),
            backtrace: stack.map(|stack| self.places(stack)),
        }
    }

    /// Where in its source the component was, for when there is time for it.
    fn places(&self, stack: Stack) -> LateBacktrace {
        let symbols = self.component.runtime().symbols().clone();
        let source = self.component.source().clone();
        LateBacktrace::new(move || symbols.places(&source, &stack))
    }

    fn reason(&self, error: &wasmtime::Error, told: Option<Panic>) -> CrashReason {
        let trap = error.downcast_ref::<Trap>();
        if let Some(Trap::Interrupt) = trap {
            return CrashReason::deadline(self.call, self.limit);
        }
        let Witness { log, memory, .. } = self.witness;
        // An allocator that got nothing aborts, and so does a language's panic; which of
        // the two it was is said in the log.
        let ends_itself = matches!(trap, Some(Trap::UnreachableCodeReached)) || told.is_some();
        if ends_itself && memory.refused() && (log.panic().is_none() || log.says_out_of_memory()) {
            return CrashReason::MemoryLimit { limit: memory.limit };
        }
        // A language without a trap of its own exits.
        if let Some(panic) = told {
            return CrashReason::Panic { message: panic.message };
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return CrashReason::Exit { code: exit.0 };
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return CrashReason::Host {
                message: format!(
                    "no room for one more instance: {}; see engine.max_services",
                    error.root_cause()
                ),
            };
        }
        if let Some(unreached) = error.downcast_ref::<Unreached>() {
            return CrashReason::Start { message: unreached.to_string() };
        }
        if memory.is_being_made() {
            if memory.refused() {
                return CrashReason::MemoryLimit { limit: memory.limit };
            }
            if let Some(message) = want_of_memory(error) {
                return CrashReason::Host { message };
            }
        }
        let Some(trap) = trap else {
            // A host function's own error, an argument over its limit.
            let code = TrapCode::ComponentModel;
            return CrashReason::Trap { code, message: error.root_cause().to_string() };
        };
        let code = match trap {
            Trap::StackOverflow => return CrashReason::StackOverflow,
            Trap::UnreachableCodeReached => match log.printed() {
                Some(message) => return CrashReason::Panic { message },
                None => TrapCode::Unreachable,
            },
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

/// What the system said that has no memory for an instance. wasmtime keeps no more of it
/// than its text.
fn want_of_memory(error: &wasmtime::Error) -> Option<String> {
    let cause = error.root_cause().to_string();
    let wanted = cause.contains("os error 12") || cause.contains("out of memory");
    wanted.then(|| format!("the host has no memory for an instance: {cause}"))
}
