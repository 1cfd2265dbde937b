//! What the host offers to components: `ron:kernel`'s imports, WASI 0.2 and 0.3, and what
//! other hosts have beside it.
//!
//! [`bus`] is on the path of every message and written by hand; the others go
//! through the generated traits, here.
//!
//! An instance that is made for a request has them too, and speaks for its service:
//! it publishes within the service's grants and rate, and the last word of any
//! instance on the service's health counts. What it cannot have is what outlives it:
//! subscriptions and timers are answered with an error, and cancelling a timer does
//! nothing.

mod adopted;
mod bus;
pub(crate) mod consumer;
mod incoming;
pub(crate) mod keyvalue;
pub(crate) mod outbound;
pub(crate) mod outgoing;
pub(crate) mod sockets;

use ron_kernel::TimerError;
use ron_kernel::health::Status;
use ron_kernel::service::ContextHandle;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::{config, health, identity, log, metrics, stream, timer, types};
use crate::contract;
use crate::log::{Level, Source, cut};
use crate::state::HostState;

/// Bytes of a health report's detail; the rest is cut.
const DETAIL: usize = 1024;

/// What is said to a component that wants messages and has no way to be given any:
/// one that is made anew for each request.
const NO_MESSAGES: &str = "messages and timers are delivered to on-message, which this component \
                           does not have: it does not export ron:kernel/lifecycle";

/// Links all of it.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // What they import of wasi:io and the like is there already.
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    incoming::add_to_linker(linker)?;
    sockets::add_to_linker(linker)?;
    bus::add_to_linker(linker)?;
    adopted::add_to_linker(linker)?;
    types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    health::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    identity::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    timer::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    stream::types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    Ok(())
}

/// Links WASI 0.3, whose calls need an engine that can have several under way. It
/// denies what 0.2 does: both look at the same grants.
pub(crate) fn add_concurrent_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    sockets::add_concurrent_to_linker(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)
}

/// Whether an import of that name is linked, in whatever version: which of them
/// fit is told by the contract, and for WASI by the linker.
pub(crate) fn offers(import: &str) -> bool {
    let (interface, _) = contract::split(import);
    let package = interface.split_once('/').map(|(package, _)| package);
    contract::offers(interface)
        || adopted::OFFERED.contains(&interface)
        || matches!(
            package,
            Some(
                "wasi:io"
                    | "wasi:cli"
                    | "wasi:clocks"
                    | "wasi:random"
                    | "wasi:filesystem"
                    | "wasi:sockets"
                    | "wasi:http"
            )
        )
}

impl types::Host for HostState {}

impl stream::types::Host for HostState {}

impl config::Host for HostState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.kernel.config().get(self.kernel.id.as_str(), &key).map(str::to_owned))
    }

    fn entries(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let own = self.kernel.config().service(self.kernel.id.as_str());
        Ok(own.entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn version(&mut self) -> wasmtime::Result<u64> {
        Ok(self.kernel.config().version())
    }
}

impl health::Host for HostState {
    fn report(&mut self, status: health::Status, detail: Option<String>) -> wasmtime::Result<()> {
        let status = match status {
            health::Status::Ok => Status::Ok,
            health::Status::Degraded => Status::Degraded,
            health::Status::Failing => Status::Failing,
        };
        let detail = detail.map(|detail| cut(&detail, DETAIL).to_owned());
        self.kernel.report_health(status, detail);
        Ok(())
    }
}

impl identity::Host for HostState {
    fn get(&mut self) -> wasmtime::Result<identity::Instance> {
        Ok(identity::Instance {
            service: self.kernel.id.as_str().to_owned(),
            generation: self.kernel.generation().0,
            replica: u32::try_from(self.kernel.replica).unwrap_or(u32::MAX),
        })
    }
}

impl log::Host for HostState {
    fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.record(Source::Log, level, &message, &fields);
        Ok(())
    }
}

/// A service's metrics answer nothing, so what is wrong with one is logged, at
/// the rate of all its log records.
impl HostState {
    fn note<E: std::fmt::Display>(&self, name: &str, result: Result<(), E>) {
        if let Err(error) = result {
            let message = format!("metric {name:?} is not recorded: {error}");
            self.log.record(Source::Log, Level::Warn, &message, &[]);
        }
    }
}

impl metrics::Host for HostState {
    fn add(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        delta: u64,
    ) -> wasmtime::Result<()> {
        self.note(&name, self.series().add(&name, &labels, delta));
        Ok(())
    }

    fn set(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    ) -> wasmtime::Result<()> {
        self.note(&name, self.series().set(&name, &labels, value));
        Ok(())
    }

    fn observe(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    ) -> wasmtime::Result<()> {
        self.note(&name, self.series().observe(&name, &labels, value));
        Ok(())
    }
}

fn timer_error(error: TimerError) -> types::BusError {
    match error {
        TimerError::Name(_) => types::BusError::InvalidTopic(error.to_string()),
        _ => types::BusError::Other(error.to_string()),
    }
}

impl HostState {
    fn timer(
        &self,
        set: impl FnOnce(&ContextHandle) -> Result<(), TimerError>,
    ) -> Result<(), types::BusError> {
        match self.takes_messages {
            true => set(&self.kernel).map_err(timer_error),
            false => Err(types::BusError::Other(NO_MESSAGES.to_owned())),
        }
    }
}

impl timer::Host for HostState {
    fn after(
        &mut self,
        name: String,
        delay_ms: u64,
    ) -> wasmtime::Result<Result<(), types::BusError>> {
        Ok(self.timer(|kernel| kernel.timer_after(&name, delay_ms)))
    }

    fn every(
        &mut self,
        name: String,
        period_ms: u64,
    ) -> wasmtime::Result<Result<(), types::BusError>> {
        Ok(self.timer(|kernel| kernel.timer_every(&name, period_ms)))
    }

    fn cancel(&mut self, name: String) -> wasmtime::Result<()> {
        self.kernel.timer_cancel(&name);
        Ok(())
    }
}
