//! How a service stands, for whoever asks: all that a table of services shows.

use std::sync::Arc;
use std::time::Duration;

use crate::health::Status;
use crate::message::Stats;
use crate::service::{Generation, ServiceId};

/// How one service stood when it was asked for.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Which service.
    pub service: ServiceId,
    /// Its state's [label](super::machine::State::label).
    pub state: &'static str,
    /// Whether it is ready.
    pub ok: bool,
    /// Whether the host is not ready without it.
    pub critical: bool,
    /// What it says of its own health.
    pub status: Status,
    /// Why it is as it is, where that is known.
    pub detail: Option<String>,
    /// The current incarnation, or the last one.
    pub generation: Generation,
    /// What runs, or ran last: `b3:<hex>` of a component.
    pub digest: Option<Arc<str>>,
    /// For how long the incarnation has been running.
    pub uptime: Option<Duration>,
    /// Restarts after a crash, since the host knows it.
    pub restarts: u64,
    /// Bytes of memory that the incarnation has in use, if there is one.
    pub memory: Option<u64>,
    /// What its mailbox has seen.
    pub mailbox: Stats,
}
