//! What one service may reach outside of itself, topics aside: those are the
//! kernel's.

use std::path::PathBuf;

/// The grants of one service. Nothing is granted by default; a component that
/// imports what it was not granted runs, and is refused when it calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Its arguments, the name that it was called by not among them.
    pub args: Vec<String>,
    /// Its environment: names and values.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub dirs: Vec<Directory>,
    /// Who on the network it may speak to.
    pub outbound: Vec<Peer>,
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

/// Somebody on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// A host's name in lower case, or an address.
    pub host: String,
    /// The one port that is meant; any, when it is not said.
    pub port: Option<u16>,
}
