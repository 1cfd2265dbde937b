//! What can be told of a component without running it.

use std::path::Path;

use crate::component::{Component, LoadError, read};
use crate::contract;
use crate::digest::Digest;
use crate::engine::Runtime;
use crate::host;
use crate::kind::Kind;
use crate::surface::{Surface, surface};

/// What a component is, wants and lacks.
#[derive(Debug)]
pub struct Inspection {
    /// The digest of its file.
    pub digest: Digest,
    /// The size of its file in bytes.
    pub size: u64,
    /// What it would be run as; `None` if there is nothing to run it for.
    pub kind: Option<Kind>,
    /// What it exports, by name.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Why it would not be loaded; `None` if it would.
    pub refused: Option<LoadError>,
}

/// Something that a component imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name, with the version.
    pub name: String,
    /// Whether this host has it, in whatever version.
    pub offered: bool,
    /// The keys of a service that say how much of it is granted; empty for what
    /// every service may use.
    pub grants: &'static [&'static str],
}

/// The grants behind what is imported; the first that fits counts.
const GRANTS: &[(&str, &[&str])] = &[
    ("ron:kernel/bus", &["grants.publish", "grants.subscribe"]),
    ("wasmcloud:messaging/consumer", &["grants.publish"]),
    ("wasi:cli/environment", &["args", "grants.env"]),
    ("wasi:filesystem/", &["grants.dirs"]),
    ("wasi:http/outgoing-handler", &["grants.outbound"]),
    ("wasi:http/client", &["grants.outbound"]),
    ("wasi:keyvalue/", &["grants.buckets"]),
    ("wasi:sockets/", &["grants.outbound"]),
];

impl Import {
    fn of(name: &str) -> Self {
        let interface = contract::split(name).0;
        let fits = |prefix: &str| match prefix.ends_with('/') {
            true => interface.starts_with(prefix),
            false => interface == prefix,
        };
        let grants = GRANTS.iter().find(|(prefix, _)| fits(prefix)).map(|(_, grants)| *grants);
        let grants = grants.unwrap_or_default();
        Self { name: name.to_owned(), offered: host::offers(name), grants }
    }
}

/// Looks at the file of a component. It is compiled as for a start, since only the
/// compiler knows all that can be wrong, and nothing of it runs.
///
/// # Errors
///
/// When there is no component to be told of. One that is there and would be refused
/// is told with the reason.
pub fn inspect(runtime: &Runtime, path: &Path) -> Result<Inspection, LoadError> {
    let bytes = read(path)?;
    let loaded = Component::from_bytes(runtime, path, &bytes);
    let Some(Surface { imports, exports }) = surface(&bytes) else {
        // What is no component was refused for that, and said so best.
        let malformed = || LoadError::Malformed {
            path: path.to_owned(),
            source: wasmtime::Error::msg("it ends too early"),
        };
        return Err(loaded.err().unwrap_or_else(malformed));
    };
    if let Err(error @ (LoadError::CoreModule { .. } | LoadError::NotAComponent { .. })) = loaded {
        return Err(error);
    }
    Ok(Inspection {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        kind: Kind::of(exports.iter().copied()),
        exports: exports.into_iter().map(str::to_owned).collect(),
        imports: imports.into_iter().map(Import::of).collect(),
        refused: loaded.err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_lead_to_their_grants() {
        fn check(name: &str, offered: bool, grants: &[&str]) {
            let import = Import::of(name);
            assert_eq!((import.offered, import.grants), (offered, grants), "{name}");
        }
        check("ron:kernel/log@1.0.0", true, &[]);
        check("ron:kernel/bus@1.0.0", true, &["grants.publish", "grants.subscribe"]);
        check("wasi:filesystem/preopens@0.2.6", true, &["grants.dirs"]);
        check("wasi:sockets/tcp@0.2.0", true, &["grants.outbound"]);
        check("wasi:http/types@0.2.0", true, &[]);
        check("wasi:http/outgoing-handler@0.2.0", true, &["grants.outbound"]);
        check("acme:db/sql@1.0.0", false, &[]);
        check("sql", false, &[]);
    }
}
