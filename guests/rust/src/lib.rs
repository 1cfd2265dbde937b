//! Write a service for ron-host in Rust: a struct, a trait and one macro.
//!
//! ```
//! use std::time::Duration;
//!
//! use ron_guest::{Error, Message, Reply, Service, bus, config, health, log, metrics, timer};
//!
//! struct Orders {
//!     open: u64,
//! }
//!
//! impl Service for Orders {
//!     /// Runs in each new instance; what it returns is the service's state.
//!     fn start() -> Result<Self, Error> {
//!         bus::subscribe("orders.*.created")?;
//!         timer::every("report", Duration::from_secs(10))?;
//!         Ok(Orders { open: 0 })
//!     }
//!
//!     fn message(&mut self, message: Message) -> Result<Reply, Error> {
//!         if message.timer() == Some("report") {
//!             metrics::set("orders_open", &[], self.open as f64);
//!             return Ok(Reply::none());
//!         }
//!         // `?` rejects a message that can never be handled ...
//!         let order = message.text()?;
//!         let limit = config::parse("max_open")?.unwrap_or(1_000);
//!         if self.open >= limit {
//!             health::degraded("too many open orders");
//!             // ... and this has it delivered again.
//!             return Err(Error::retry(format!("{limit} orders are open")));
//!         }
//!         self.open += 1;
//!         log::info!(attempt = message.attempt; "accepted {order}");
//!         Ok("accepted".into())
//!     }
//! }
//!
//! ron_guest::service!(Orders);
//! # fn main() {}
//! ```
//!
//! Build it as a `cdylib` with `cargo build --target wasm32-wasip2`: the file
//! that comes out is the component.
//!
//! The host calls a service once at a time, so there is nothing to lock. What a
//! handler returns decides what becomes of its message: a [`Reply`] settles it,
//! [`Error::retry`] has it delivered again, [`Error::reject`] sends it to the
//! service's dead letters. A panic ends the instance: the host reads its text
//! in the log, starts a new instance and delivers the message again.
//!
//! Records of the [`log`] macros go to the host, at every level; the host
//! filters them. With the feature `tracing` so do the events of the `tracing`
//! crate. What is printed to stdout and stderr is logged too, a record a line.
//!
//! A component that handles the connections of a listener of byte streams is
//! another kind: see `stream`, with the feature of that name.
//!
//! Outside Wasm everything here compiles, and whatever would call the host
//! panics: keep what you want to unit-test apart from such calls.

#![warn(missing_docs)]

mod batch;
#[doc(hidden)]
pub mod bindings;
pub mod bus;
pub mod config;
mod error;
mod event;
#[doc(hidden)]
pub mod export;
pub mod health;
pub mod identity;
mod logger;
mod message;
pub mod metrics;
mod panic;
mod record;
mod service;
#[cfg(feature = "stream")]
pub mod stream;
pub mod timer;
#[cfg(feature = "tracing")]
mod trace;

pub use batch::{Batch, Entry, Outcomes};
pub use error::Error;
pub use event::{CrashReason, Event};
pub use log;
pub use message::{Message, Reply};
pub use service::{Bulk, Handover, Service};
