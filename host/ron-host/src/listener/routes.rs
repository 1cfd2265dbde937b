//! Which service a request goes to, or a connection of a listener of byte streams.
//!
//! A table in the order in which it is searched, so that the first that fits is the
//! right one: an exact host before a wildcard, a longer wildcard before a shorter, and
//! both before a route of any host; within one host the longer path first. A host with
//! routes of its own does not hide those of any host: what no path of it fits goes on.
//!
//! Paths are compared as they were sent, whole segments at a time, with nothing
//! decoded and no `..` resolved: the service sees the same bytes, so that it is not the
//! table that would have to guess what they mean.
//!
//! A connection has no path, and its host is the name that it asks for in its TLS
//! handshake: its table is the same with the path that is the beginning of all.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::RwLock;
use ron_kernel::ServiceId;

use super::answer::Answer;

/// Whose requests a route takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// This name.
    Exact(String),
    /// Every name below this one: `example.com` of `*.example.com`.
    Below(String),
}

/// A host of a route that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host: expected a name as in \"api.example\", or \"*.example\" for all below it"
)]
pub(crate) struct HostError(String);

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let name = text.strip_prefix("*.").unwrap_or(text).to_ascii_lowercase();
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
        let edges = name.starts_with('.') || name.ends_with('.');
        // An address in brackets has colons, a name with a colon would have a port.
        let port = name.contains(':') && !(name.starts_with('[') && name.ends_with(']'));
        if name.is_empty() || !name.chars().all(part) || edges || port || name.contains("..") {
            return Err(HostError(text.to_owned()));
        }
        Ok(if text.starts_with("*.") { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl Host {
    /// Of two that fit, the one of the higher rank is meant.
    pub(super) fn rank(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(name) => name.len(),
        }
    }

    /// Whether this name, in lower case, is meant.
    pub(super) fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

/// The beginning of a path, up to a whole segment. `/` is the beginning of all, and
/// the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathPrefix(String);

/// A path of a route that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path: expected one that begins with \"/\", without \"?\" and \"#\"")]
pub(crate) struct PathError(String);

impl FromStr for PathPrefix {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let good = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
        if !text.starts_with('/') || !text.bytes().all(good) {
            return Err(PathError(text.to_owned()));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl PathPrefix {
    fn fits(&self, path: &str) -> bool {
        path.strip_prefix(self.0.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.0.is_empty())
    }
}

/// One way to a service; `A` is what answers there.
pub(crate) struct Route<A: ?Sized = dyn Answer> {
    /// Any, where it is `None`.
    pub(crate) host: Option<Host>,
    /// What the path begins with.
    pub(crate) path: PathPrefix,
    /// Which service this is.
    pub(crate) service: ServiceId,
    /// What answers for it.
    pub(crate) answer: Arc<A>,
}

impl<A: ?Sized> fmt::Debug for Route<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_ref().map_or_else(|| "*".to_owned(), Host::to_string);
        write!(f, "{host}{} -> {}", self.path, self.service)
    }
}

/// Two routes of the same host and path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("services {first} and {second} both take {place}; a host and path leads to one of them")]
pub(crate) struct Twice {
    place: String,
    first: ServiceId,
    second: ServiceId,
}

/// All routes of a listener, in the order in which they are tried.
pub(crate) struct Routes<A: ?Sized = dyn Answer>(Vec<Arc<Route<A>>>);

impl<A: ?Sized> fmt::Debug for Routes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Routes").field(&self.0).finish()
    }
}

impl<A: ?Sized> Default for Routes<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: ?Sized> Routes<A> {
    /// A table of these, in any order.
    ///
    /// # Errors
    ///
    /// When two of them are for the same host and path.
    pub(crate) fn new(routes: impl IntoIterator<Item = Route<A>>) -> Result<Self, Twice> {
        let mut routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        routes.sort_by_key(|route| {
            // No host has the rank of a wildcard of no length, which there is none of.
            let host = route.host.as_ref();
            let host = (Reverse(host.map_or(0, Host::rank)), host.map(Host::to_string));
            (host, Reverse(route.path.0.len()), route.path.0.clone())
        });
        for pair in routes.windows(2) {
            if (&pair[0].host, &pair[0].path) == (&pair[1].host, &pair[1].path) {
                let host =
                    pair[0].host.as_ref().map_or_else(|| "any host, ".to_owned(), Host::to_string);
                let place = format!("{host}{}", pair[0].path);
                let [first, second] = [0, 1].map(|index| pair[index].service.clone());
                return Err(Twice { place, first, second });
            }
        }
        Ok(Self(routes))
    }

    /// Where a request to `host`, in lower case and without a port, and `path` goes.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<Arc<Route<A>>> {
        let fits = |route: &&Arc<Route<A>>| {
            route.host.as_ref().is_none_or(|own| own.fits(host)) && route.path.fits(path)
        };
        self.0.iter().find(fits).cloned()
    }
}

/// The routes that are in force, to be replaced as a whole while requests run. A
/// request that found its route keeps it.
pub(crate) struct RouteTable<A: ?Sized = dyn Answer>(Arc<RwLock<Arc<Routes<A>>>>);

impl<A: ?Sized> Default for RouteTable<A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<A: ?Sized> Clone for RouteTable<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: ?Sized> RouteTable<A> {
    /// From now on these.
    pub(crate) fn replace(&self, routes: Routes<A>) {
        *self.0.write() = Arc::new(routes);
    }

    /// Those of now.
    pub(crate) fn current(&self) -> Arc<Routes<A>> {
        Arc::clone(&self.0.read())
    }
}
