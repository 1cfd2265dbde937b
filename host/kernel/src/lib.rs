//! `ron-kernel`: the small core that hosts many services in one process.
//!
//! It holds what every service needs from a host and nothing of how a service
//! is written: an event [`Bus`], [mailboxes](message) and [topics](topic)
//! for messages between services, supervision with back-off, budget and
//! quarantine, [`HealthState`], [`Metrics`] with the HTTP endpoints `/metrics`,
//! `/healthz` and `/readyz`, a versioned [`Config`], and
//! [`wait_for_ctrl_c`]. There is no WebAssembly in it: `ron-runtime` runs
//! components on top, and a native service is a struct that implements
//! [`Service`].
//!
//! # The frozen surface
//!
//! The names re-exported at this root that the list below gives are frozen:
//! [`Bus`], [`KernelEvent`], [`Metrics`], [`HealthState`], [`Config`],
//! [`wait_for_ctrl_c`] and [`TlsServerConfig`].

#![warn(missing_docs)]

pub mod bus;
pub mod config;
pub mod crash;
pub mod event;
pub mod health;
pub mod http;
mod kernel;
pub mod message;
pub mod metrics;
pub mod service;
pub mod shutdown;
pub mod supervisor;
mod timer;
pub mod tls;
pub mod topic;
mod turn;

pub use bus::{Bus, Subscription};
pub use config::Config;
pub use crash::{CallKind, CrashReason, TrapCode};
pub use event::KernelEvent;
pub use health::HealthState;
pub use kernel::Kernel;
pub use metrics::Metrics;
pub use service::{Context, Generation, Incoming, Service, ServiceId};
pub use shutdown::wait_for_ctrl_c;
pub use supervisor::{ServiceSpec, Supervisor};
pub use timer::TimerError;
pub use tls::{TlsServerConfig, TlsSource};
