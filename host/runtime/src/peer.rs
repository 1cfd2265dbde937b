//! Somebody on the network, as a grant names them and as a guest asks for them.
//!
//! A grant names a host as it stands, everybody below a domain, an address, or
//! everybody. Nothing here looks a name up: what a name leads to is judged when it
//! was resolved, in `reach.rs`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Bytes of a host's name, and of one of its labels.
const NAME: (usize, usize) = (253, 63);

/// Whom a service may speak to: a host's name, `*.` and a domain, `*`, or an
/// address; an IPv6 address stands in brackets. A port after a colon is the one
/// port that is meant; without it, all are.
///
/// Names are compared in lower case, and a dot at the end says nothing. `*.` stands
/// for any number of labels, and not for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    text: Box<str>,
    pub(crate) host: Granted,
    pub(crate) port: Option<u16>,
}

/// The host of a [`Peer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// Everybody who is public.
    Any,
    /// All below that domain that are public.
    Below(Box<str>),
    /// That host, wherever its name leads.
    Name(Box<str>),
    /// That address, whatever it is.
    Address(IpAddr),
}

/// Whom a guest wants to speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// In lower case.
    Name(Box<str>),
    /// An IPv4 address within an IPv6 one is that IPv4 address.
    Address(IpAddr),
}

/// Why a text names no [`Peer`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PeerError {
    /// `https://...`.
    #[error("it has a scheme; a host and a port are meant")]
    Scheme,
    /// A colon, and after it no number from 1 to 65535.
    #[error("{0:?} is no port")]
    Port(String),
    /// `::1`.
    #[error("an IPv6 address stands in brackets, as [::1]:443")]
    Brackets,
    /// Neither a name nor an address.
    #[error("{0:?} is no host's name and no address")]
    Host(String),
}

impl Peer {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        if text.contains("://") {
            return Err(PeerError::Scheme);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(PeerError::Brackets);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None => None,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(PeerError::Port(port.to_owned())),
                Ok(port) => Some(port),
            },
        };
        let wrong = || PeerError::Host(host.to_owned());
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => Granted::Any,
            Some(domain) => Granted::Below(name(domain).ok_or_else(wrong)?),
            None => match Target::parse(host).ok_or_else(wrong)? {
                Target::Name(name) => Granted::Name(name),
                Target::Address(address) => Granted::Address(address),
            },
        };
        Ok(Self { text: text.into(), host, port })
    }
}

impl Target {
    /// A host as it stands in a URI or is looked up; `None` if it is none.
    pub(crate) fn parse(host: &str) -> Option<Self> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = match bare {
            Some(bare) => Some(bare.parse::<Ipv6Addr>().ok()?.into()),
            None => host.parse::<IpAddr>().ok(),
        };
        match address {
            Some(address) => Some(Self::Address(address.to_canonical())),
            None => name(host).map(Self::Name),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A name in its one form. One whose last label is a number is none: resolvers
/// read `127.1` and `0x7f000001` as addresses.
fn name(text: &str) -> Option<Box<str>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= NAME.1
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let last = text.rsplit('.').next()?;
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
        || last.strip_prefix("0X").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let fits = text.len() <= NAME.0 && text.split('.').all(label) && !number;
    fits.then(|| text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_name_a_domain_or_an_address() {
        #[track_caller]
        fn check(text: &str, host: Granted, port: Option<u16>) {
            let peer: Peer = text.parse().expect(text);
            assert_eq!((&peer.host, peer.port, peer.text()), (&host, port, text));
        }
        fn address(text: &str) -> Granted {
            Granted::Address(text.parse().expect("an address"))
        }
        check("api.example:443", Granted::Name("api.example".into()), Some(443));
        check("API.Example.", Granted::Name("api.example".into()), None);
        check("localhost:1", Granted::Name("localhost".into()), Some(1));
        check("_srv.x-y.example", Granted::Name("_srv.x-y.example".into()), None);
        check("*.example.com", Granted::Below("example.com".into()), None);
        check("*.Example.com:8443", Granted::Below("example.com".into()), Some(8443));
        check("*", Granted::Any, None);
        check("*:443", Granted::Any, Some(443));
        check("10.0.0.5:8080", address("10.0.0.5"), Some(8080));
        check("10.0.0.5", address("10.0.0.5"), None);
        check("[::1]:9000", address("::1"), Some(9000));
        check("[::1]", address("::1"), None);
        check("[::ffff:10.0.0.5]:80", address("10.0.0.5"), Some(80));
    }

    #[test]
    fn what_is_no_grant_says_why() {
        #[track_caller]
        fn check(text: &str, expected: PeerError) {
            assert_eq!(text.parse::<Peer>(), Err(expected), "{text}");
        }
        let host = |text: &str| PeerError::Host(text.into());
        check("https://api.example", PeerError::Scheme);
        check("::1", PeerError::Brackets);
        check("a:0", PeerError::Port("0".into()));
        check("a:65536", PeerError::Port("65536".into()));
        check("a:http", PeerError::Port("http".into()));
        check("a:", PeerError::Port(String::new()));
        check("", host(""));
        check("a b", host("a b"));
        check("a:b:1", host("a:b"));
        check("a.*.example", host("a.*.example"));
        check("*.*", host("*.*"));
        check("*.10", host("*.10"));
        check("*.", host("*."));
        check("-a", host("-a"));
        check("a..b", host("a..b"));
        check("127.1:80", host("127.1"));
        check("0x7f000001", host("0x7f000001"));
        check("a.0X7F", host("a.0X7F"));
        check("10.0.0.5/8", host("10.0.0.5/8"));
        check("[fe80::1%eth0]", host("[fe80::1%eth0]"));
        check("[10.0.0.5]:80", host("[10.0.0.5]"));
        check("bücher.example", host("bücher.example"));
    }

    #[test]
    fn a_target_has_one_form() {
        assert_eq!(Target::parse("A.Example."), Some(Target::Name("a.example".into())));
        let four = Target::Address([127, 0, 0, 1].into());
        assert_eq!(Target::parse("[::ffff:127.0.0.1]"), Some(four.clone()));
        assert_eq!(Target::parse("127.0.0.1"), Some(four));
        assert_eq!(Target::parse("[::1]").map(|one| one.to_string()), Some("[::1]".into()));
        for none in ["", "2130706433", "127.1", "0x7f.1", "user@host", "a/b"] {
            assert_eq!(Target::parse(none), None, "{none}");
        }
    }
}
