//! The public listeners of a plan, and the routes that lead from them to services.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::FilePath;
use crate::listener::{Host, Limits, Pair, PathPrefix, TlsFiles};

/// A listener's name: up to 64 letters, digits, `-` and `_`, as a service's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenerId(String);

impl ListenerId {
    /// The one that `--http` makes.
    pub(crate) fn http() -> Self {
        Self("http".into())
    }

    /// The admin listener, where all are told of together.
    pub(crate) fn admin() -> Self {
        Self("admin".into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListenerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            let cut: String = text.chars().take(80).collect();
            return Err(format!("{cut:?} is no listener's name"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A public listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedListener {
    /// Where it listens; that it is said is checked with the file.
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) tls: PlannedTls,
    /// The certificate for each name that a client may ask for.
    pub(crate) sni: BTreeMap<Host, PlannedPair>,
    pub(crate) limits: Limits,
    /// What a TLS handshake offers; for byte streams, since HTTP offers its own.
    pub(crate) alpn: Vec<Alpn>,
}

/// A protocol that a TLS handshake agrees on, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alpn(pub(crate) String);

/// The TLS of a listener, as it is said: all in files, or made by the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedTls {
    pub(crate) pair: PlannedPair,
    pub(crate) client_ca: Option<FilePath>,
    pub(crate) self_signed: bool,
}

/// A certificate's file and its key's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedPair {
    pub(crate) cert: Option<FilePath>,
    pub(crate) key: Option<FilePath>,
}

impl PlannedPair {
    /// Both, if both are said.
    pub(crate) fn pair(&self) -> Option<Pair> {
        let (cert, key) = (self.cert.as_ref()?.to_path_buf(), self.key.as_ref()?.to_path_buf());
        Some(Pair { cert, key })
    }
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// There is none: it speaks in clear.
    None,
    /// From these files.
    Files(TlsFiles),
    /// The host makes one at each start.
    SelfSigned,
}

impl PlannedTls {
    /// What it comes to, with those for other names.
    pub(crate) fn source(&self, sni: &BTreeMap<Host, PlannedPair>) -> Tls {
        match self.pair.pair() {
            Some(pair) => {
                let sni = sni.iter().filter_map(|(host, own)| Some((host.clone(), own.pair()?)));
                let client_ca = self.client_ca.as_ref().map(|path| path.to_path_buf());
                let sni = sni.collect();
                Tls::Files(TlsFiles { pair, client_ca, sni })
            }
            None if self.self_signed => Tls::SelfSigned,
            None => Tls::None,
        }
    }
}

impl PlannedListener {
    /// Where its certificates come from.
    pub(crate) fn source(&self) -> Tls {
        self.tls.source(&self.sni)
    }
}

/// A way from a listener to a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedRoute {
    /// That it is said is checked with the file.
    pub(crate) listener: Option<ListenerId>,
    /// Any, where it is not said.
    pub(crate) host: Option<Host>,
    pub(crate) path: PathPrefix,
}

/// A way of connections from a listener to a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedStream {
    /// That it is said is checked with the file.
    pub(crate) listener: Option<ListenerId>,
    /// Any, where it is not said.
    pub(crate) host: Option<Host>,
}
