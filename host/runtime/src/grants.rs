//! What one service may reach outside of itself, topics aside: those are the
//! kernel's.

use std::fmt;
use std::path::PathBuf;

use crate::peer::Peer;

/// The grants of one service. Nothing is granted by default; a component that
/// imports what it was not granted runs, and is refused when it calls.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Its arguments. The one before them, the name that a program is called by, is
    /// the service's.
    pub args: Vec<String>,
    /// Its environment: names and values.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub dirs: Vec<Directory>,
    /// Whom on the network it may speak to, over HTTP and TCP. One that is named itself,
    /// by name or address, may be anywhere; a pattern leads to public addresses alone.
    pub outbound: Vec<Peer>,
    /// Names of the buckets of `wasi:keyvalue` that it shares with others; one of its own
    /// it has anyway.
    pub buckets: Vec<String>,
}

/// Without the values of its environment, of which any may be a secret.
impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, env, dirs, outbound, buckets } = self;
        let env: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Grants")
            .field("args", args)
            .field("env", &env)
            .field("dirs", dirs)
            .field("outbound", outbound)
            .field("buckets", buckets)
            .finish()
    }
}

/// A directory of the host's, as a service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// On the host.
    pub host: PathBuf,
    /// What the service calls it.
    pub guest: String,
    /// Whether it may change what is in it.
    pub writable: bool,
}
