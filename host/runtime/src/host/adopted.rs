//! `wasi:config`, `wasi:logging` and the linking of all that other hosts have beside
//! WASI 0.2.

use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker};

use crate::adopted::logging::logging::{self, Level as WasiLevel};
use crate::adopted::{config, keyvalue, messaging};
use crate::log::{Level, Source};
use crate::state::HostState;

/// What is offered of them; versions are the linker's affair.
pub(super) const OFFERED: &[&str] = &[
    "wasi:config/store",
    "wasi:keyvalue/store",
    "wasi:keyvalue/atomics",
    "wasi:keyvalue/batch",
    "wasi:logging/logging",
    "wasmcloud:messaging/types",
    "wasmcloud:messaging/consumer",
];

pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    config::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    keyvalue::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    keyvalue::atomics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    keyvalue::batch::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    logging::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    // As wasmCloud's components import it.
    linker.instance("wasi:logging/logging")?.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, HostState>,
         (level, context, message): (WasiLevel, String, String)| {
            logging::Host::log(store.data_mut(), level, context, message)
        },
    )?;
    messaging::types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    messaging::consumer::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    Ok(())
}

impl config::store::Host for HostState {
    fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<String>, config::store::Error>> {
        Ok(Ok(crate::bindings::config::Host::get(self, key)?))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::store::Error>> {
        Ok(Ok(crate::bindings::config::Host::entries(self)?))
    }
}

impl logging::Host for HostState {
    fn log(&mut self, level: WasiLevel, context: String, message: String) -> wasmtime::Result<()> {
        let (level, critical) = match level {
            WasiLevel::Trace => (Level::Trace, false),
            WasiLevel::Debug => (Level::Debug, false),
            WasiLevel::Info => (Level::Info, false),
            WasiLevel::Warn => (Level::Warn, false),
            WasiLevel::Error => (Level::Error, false),
            // The host has no level above: it is told by a field.
            WasiLevel::Critical => (Level::Error, true),
        };
        let mut fields = Vec::new();
        if !context.is_empty() {
            fields.push(("context".to_owned(), context));
        }
        if critical {
            fields.push(("critical".to_owned(), "true".to_owned()));
        }
        self.log.record(Source::Log, level, &message, &fields);
        Ok(())
    }
}
