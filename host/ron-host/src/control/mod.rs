//! The control API: an operator's way into a running host.
//!
//! HTTP and JSON over a unix socket that only the host's user can open, so that
//! `ron-host ctl` and other tools speak the same language, which `/openapi.json`
//! describes. Nothing of it is on the admin listener: who may read metrics may
//! not stop a service.

use std::time::Duration;

pub(crate) mod client;
mod operator;
mod routes;
mod server;
mod socket;
mod stream;
pub(crate) mod wire;

/// Longest time that a request may wait for its answer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(crate) use operator::Operator;
pub(crate) use server::Control;
pub(crate) use socket::{Socket, SocketError, default_path};
