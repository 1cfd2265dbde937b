//! Whether a service may speak to somebody on the network: pure, from what was
//! granted and where a name led.
//!
//! Two questions, because a name is not yet an address. Before it is resolved:
//! whether it was granted at all; else a lookup would carry away what is in the
//! name. After that: whether what it led to is fit for the grant. A pattern is a
//! grant for what is public, so nobody gets at the neighbours of the host, or at the
//! metadata service of a cloud, through a name that he makes up. Who was named
//! himself is meant wherever he is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::peer::{Granted, Peer, Target};

/// How a target was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its own name or address.
    Itself,
    /// By a pattern that it fits.
    Pattern,
}

/// What kind of address one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Public,
    Loopback,
    /// The metadata services of clouds among them.
    LinkLocal,
    /// RFC 1918, unique local and site local addresses.
    Private,
    /// Shared by a carrier's customers: 100.64.0.0/10.
    Carrier,
    Unspecified,
    Multicast,
    Documentation,
    /// For no host, or for nobody yet.
    Reserved,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::Carrier => "an address of a carrier's own",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Documentation => "an address for documentation",
            Self::Reserved => "a reserved address",
        })
    }
}

/// How that target was granted, if it was.
pub(crate) fn named(peers: &[Peer], target: &Target, port: u16) -> Option<Named> {
    let mut pattern = None;
    for peer in peers.iter().filter(|peer| peer.port.is_none_or(|own| own == port)) {
        match (&peer.host, target) {
            (Granted::Name(own), Target::Name(name)) if own == name => return Some(Named::Itself),
            (Granted::Address(own), Target::Address(address)) if own == address => {
                return Some(Named::Itself);
            }
            (Granted::Below(domain), Target::Name(name)) if below(name, domain) => {
                pattern = Some(Named::Pattern);
            }
            (Granted::Any, _) => pattern = Some(Named::Pattern),
            _ => {}
        }
    }
    pattern
}

/// Whether a name may be looked up: it was granted for some port.
pub(crate) fn may_resolve(peers: &[Peer], name: &str) -> bool {
    peers.iter().any(|peer| match &peer.host {
        Granted::Any => true,
        Granted::Below(domain) => below(name, domain),
        Granted::Name(own) => **own == *name,
        Granted::Address(_) => false,
    })
}

/// Whether a target that was granted so may be spoken to at the address that it
/// led to; or what is wrong with the address.
pub(crate) fn permitted(
    peers: &[Peer],
    how: Named,
    address: IpAddr,
    port: u16,
) -> Result<(), Class> {
    let address = address.to_canonical();
    let itself = || named(peers, &Target::Address(address), port) == Some(Named::Itself);
    match class(address) {
        Class::Public => Ok(()),
        _ if how == Named::Itself || itself() => Ok(()),
        class => Err(class),
    }
}

fn below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// What kind of address it is. One that has an IPv4 address in it is of that one's
/// kind, because that is where it leads.
pub(crate) fn class(address: IpAddr) -> Class {
    match address.to_canonical() {
        IpAddr::V4(address) => class4(address),
        IpAddr::V6(address) => class6(address),
    }
}

fn class4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [0, ..] => Class::Unspecified,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Carrier,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        // IETF protocols, 6to4 relays, AS112, benchmarks.
        [192, 0, 0, _] | [192, 88, 99, _] | [192, 31, 196, _] | [192, 52, 193, _] => {
            Class::Reserved
        }
        [192, 175, 48, _] | [198, 18 | 19, ..] => Class::Reserved,
        [224..=239, ..] => Class::Multicast,
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn class6(address: Ipv6Addr) -> Class {
    let four = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        class4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // IPv4-compatible, translated (SIIT), NAT64.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        // A network's own NAT64: where its IPv4 address lies is its secret.
        [0x64, 0xff9b, 1, ..] => Class::Private,
        // 6to4.
        [0x2002, high, low, ..] => four(high, low),
        // Teredo has the client's address with all bits turned.
        [0x2001, 0, _, _, _, _, high, low] => four(!high, !low),
        // ISATAP, with the address's universal bit or without.
        [.., 0 | 0x200, 0x5efe, high, low] if four(high, low) != Class::Public => four(high, low),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Documentation,
        // IETF protocols: 2001::/23.
        [0x2001, 0..=0x1ff, ..] => Class::Reserved,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // The one part that is given out.
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(texts: &[&str]) -> Vec<Peer> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn every_address_has_a_class() {
        #[track_caller]
        fn check(expected: Class, addresses: &[&str]) {
            for text in addresses {
                assert_eq!(class(text.parse().expect(text)), expected, "{text}");
            }
        }
        check(
            Class::Public,
            &[
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.1",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2606:4700:4700::1111",
                "2a00:1450:4001::200e",
                "::ffff:8.8.8.8",
                "64:ff9b::8.8.8.8",
                "2002:808:808::1",
            ],
        );
        check(Class::Loopback, &["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"]);
        check(Class::Loopback, &["::127.0.0.1", "64:ff9b::7f00:1", "::ffff:0:127.0.0.1"]);
        check(Class::Loopback, &["2002:7f00:1::", "2001:0:1:2:3:4:80ff:fffe"]);
        check(Class::Loopback, &["2606:4700::5efe:7f00:1", "2606:4700::200:5efe:127.0.0.1"]);
        check(Class::LinkLocal, &["169.254.0.1", "169.254.169.254", "fe80::1", "febf::1"]);
        check(Class::LinkLocal, &["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]);
        check(Class::LinkLocal, &["2002:a9fe:a9fe::1"]);
        check(Class::Private, &["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255"]);
        check(Class::Private, &["192.168.0.1", "192.168.255.255", "fc00::1", "fdff::1"]);
        check(Class::Private, &["fec0::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]);
        check(Class::Private, &["2002:a00:1::1", "64:ff9b:1::8.8.8.8", "fd00:ec2::254"]);
        check(Class::Carrier, &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]);
        check(Class::Unspecified, &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"]);
        check(Class::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"]);
        check(Class::Documentation, &["192.0.2.1", "198.51.100.1", "203.0.113.1"]);
        check(Class::Documentation, &["2001:db8::1", "3fff::1", "3fff:fff::1"]);
        check(Class::Reserved, &["192.0.0.1", "192.88.99.1", "198.18.0.1", "198.19.255.255"]);
        check(Class::Reserved, &["240.0.0.1", "255.255.255.255", "2001:2::1", "2001:10::1"]);
        check(Class::Reserved, &["100::1", "4000::1", "5f00::1", "1::1", "e000::1"]);
    }

    #[test]
    fn a_grant_is_for_whom_it_names() {
        #[track_caller]
        fn check(peers: &[Peer], host: &str, port: u16, expected: Option<Named>) {
            let target = Target::parse(host).expect(host);
            assert_eq!(named(peers, &target, port), expected, "{host}:{port}");
        }
        let all = peers(&["api.example:443", "db.internal", "*.example.com", "10.0.0.5:8080"]);
        check(&all, "api.example", 443, Some(Named::Itself));
        check(&all, "API.example.", 443, Some(Named::Itself));
        check(&all, "api.example", 80, None);
        check(&all, "xapi.example", 443, None);
        check(&all, "api.example.evil", 443, None);
        check(&all, "db.internal", 5432, Some(Named::Itself));
        check(&all, "a.example.com", 1, Some(Named::Pattern));
        check(&all, "b.a.example.com", 1, Some(Named::Pattern));
        check(&all, "example.com", 1, None);
        check(&all, "aexample.com", 1, None);
        check(&all, "10.0.0.5", 8080, Some(Named::Itself));
        check(&all, "[::ffff:10.0.0.5]", 8080, Some(Named::Itself));
        check(&all, "[64:ff9b::10.0.0.5]", 8080, None);
        check(&all, "10.0.0.5", 80, None);
        check(&all, "8.8.8.8", 443, None);
        check(&[], "api.example", 443, None);
        let any = peers(&["*:443", "a.example"]);
        check(&any, "8.8.8.8", 443, Some(Named::Pattern));
        check(&any, "8.8.8.8", 80, None);
        check(&any, "a.example", 443, Some(Named::Itself));
        assert!(may_resolve(&all, "db.internal") && may_resolve(&all, "a.example.com"));
        assert!(!may_resolve(&all, "other.internal") && !may_resolve(&all, "example.com"));
        assert!(may_resolve(&any, "whatever"));
    }

    #[test]
    fn a_pattern_is_for_what_is_public() {
        #[track_caller]
        fn check(grants: &[&str], host: &str, led_to: &str, expected: Result<(), Class>) {
            let (peers, port) = (peers(grants), 80);
            let target = Target::parse(host).expect(host);
            let how = named(&peers, &target, port).expect("it is granted");
            let address = led_to.parse().expect(led_to);
            assert_eq!(permitted(&peers, how, address, port), expected, "{host} -> {led_to}");
        }
        check(&["*.example.com"], "a.example.com", "8.8.8.8", Ok(()));
        check(&["*.example.com"], "a.example.com", "127.0.0.1", Err(Class::Loopback));
        check(&["*.example.com"], "a.example.com", "::ffff:10.1.1.1", Err(Class::Private));
        check(&["*.example.com"], "a.example.com", "64:ff9b::a9fe:a9fe", Err(Class::LinkLocal));
        check(&["*"], "169.254.169.254", "169.254.169.254", Err(Class::LinkLocal));
        check(&["*"], "localhost", "::1", Err(Class::Loopback));
        check(&["*"], "rebind.example", "100.64.0.1", Err(Class::Carrier));
        check(&["*"], "x.example", "0.0.0.0", Err(Class::Unspecified));
        check(&["*"], "x.example", "224.0.0.1", Err(Class::Multicast));
        check(&["*"], "x.example", "2001:db8::1", Err(Class::Documentation));
        // Named as itself, or as the address.
        check(&["localhost:80"], "localhost", "127.0.0.1", Ok(()));
        check(&["*", "a.internal"], "a.internal", "10.0.0.5", Ok(()));
        check(&["*", "10.0.0.5:80"], "a.internal", "10.0.0.5", Ok(()));
        check(&["*", "10.0.0.5:81"], "a.internal", "10.0.0.5", Err(Class::Private));
        check(&["169.254.169.254"], "169.254.169.254", "169.254.169.254", Ok(()));
    }
}
