//! How many files and connections the process may have open.
//!
//! The usual soft limit, 1,024, is below what one listener allows its clients, and who
//! runs out cannot accept on the admin listener either. Go and Java raise it to the hard
//! limit at their start; so does this.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for other things than connections of listeners.
const RESERVE: u64 = 256;

/// Raises the limit as far as it may be, and gives it; `None` is no limit.
pub(crate) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        // What there was before is in force still.
        Err(_) => current,
    }
}

/// Tells that so many connections are more than there can be.
pub(crate) fn compare(limit: Option<u64>, connections: u64) {
    if let Some(limit) = limit
        && connections > 0
        && connections.saturating_add(RESERVE) > limit
    {
        tracing::warn!(
            limit,
            connections,
            "listeners allow more connections than this process may have open; raise its limit of \
             open files (ulimit -n, LimitNOFILE), or lower limits.connections"
        );
    }
}
