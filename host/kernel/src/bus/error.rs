//! Why a subscription returned no event. Lag is an answer and not a failure: it
//! is where a loss becomes visible.

#[cfg(doc)]
use super::{Bus, Subscription};

/// Why [`Subscription::recv`] returned no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// So many events were overwritten before this subscription received them.
    #[error("{0} events were lost to lag")]
    Lagged(u64),
    /// The bus is gone and all its events were received.
    #[error("the bus is closed")]
    Closed,
}

/// Why [`Subscription::try_recv`] returned no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// There is none now.
    #[error("no event is waiting")]
    Empty,
    /// So many events were overwritten before this subscription received them.
    #[error("{0} events were lost to lag")]
    Lagged(u64),
    /// The bus is gone and all its events were received.
    #[error("the bus is closed")]
    Closed,
}

/// Why [`Subscription::recv_with_timeout`] returned no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// None came in time.
    #[error("no event came in time")]
    Timeout,
    /// The bus is gone and all its events were received.
    #[error("the bus is closed")]
    Closed,
}

/// The bus is gone and all its events were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus is closed")]
pub struct Closed;
