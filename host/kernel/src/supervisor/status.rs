//! How a service stands, for whoever asks: all that a table of services shows.

use std::time::Duration;

use super::swap::Version;
use crate::health::Status;
use crate::message::Stats;
use crate::service::{Generation, ServiceId};

/// How one service stood when it was asked for: its only replica, or all of
/// them together.
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
    /// The current incarnation, or the last one; of replicas, the newest.
    pub generation: Generation,
    /// What runs, or ran last: `b3:<hex>` of a component.
    pub version: Version,
    /// For how long the incarnation has been running; of replicas, the oldest.
    pub uptime: Option<Duration>,
    /// Restarts after a crash, since the host knows it.
    pub restarts: u64,
    /// Bytes of memory that the incarnations have in use, if there are any.
    pub memory: Option<u64>,
    /// What its mailbox has seen.
    pub mailbox: Stats,
    /// Each replica; at least one.
    pub replicas: Vec<ReplicaStatus>,
}

/// How one replica of a service stood. As [`ServiceStatus`] says it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are ServiceStatus'")]
pub struct ReplicaStatus {
    /// Which, from 0.
    pub replica: usize,
    pub state: &'static str,
    pub status: Status,
    pub detail: Option<String>,
    pub generation: Generation,
    pub version: Version,
    pub uptime: Option<Duration>,
    pub restarts: u64,
    pub memory: Option<u64>,
}
