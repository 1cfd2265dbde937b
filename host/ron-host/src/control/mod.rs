//! The control API: an operator's way into a running host.
//!
//! HTTP and JSON over a unix socket that only the host's user can open, so that
//! `ron-host ctl` and other tools speak the same language, which `/openapi.json`
//! describes. Nothing of it is on the admin listener: who may read metrics may
//! not stop a service.

use std::time::Duration;

use ron_kernel::message::BusError;

mod bench;
pub(crate) mod client;
mod operator;
mod routes;
mod server;
mod socket;
mod stream;
pub(crate) mod wire;

/// Longest time that a request may wait for its answer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What the API and its counts call an error of the bus.
pub(crate) fn code(error: &BusError) -> &'static str {
    match error {
        BusError::Denied(_) => "denied",
        BusError::InvalidTopic(_) => "invalid-topic",
        BusError::PayloadTooLarge { .. } => "payload-too-large",
        BusError::Overloaded => "overloaded",
        BusError::Timeout => "timeout",
        BusError::NoResponder => "no-responder",
        BusError::Failed(_) => "failed",
        BusError::Limit(_) => "limit",
    }
}

pub(crate) use operator::Operator;
pub(crate) use server::Control;
pub(crate) use socket::{Socket, SocketError, default_path};
