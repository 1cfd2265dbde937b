//! What a listener allows its clients, and the accounts of each of them.
//!
//! A client is an IPv4 address, or the /64 of an IPv6 address: whoever has one of its
//! addresses has all. Both tables are bounded: the connections' by the connections that
//! there are, the rates' by forgetting.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a listener allows. Nothing of it is unlimited, except the rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections at the same time. One more waits to be accepted.
    pub(crate) connections: usize,
    /// Those of one client. One more is closed.
    pub(crate) per_ip: usize,
    /// Requests that are being answered at the same time; 503 past it.
    pub(crate) requests: usize,
    /// Those of one client, over all its connections; 429 past it.
    pub(crate) requests_per_ip: usize,
    /// Requests a second of one client, as many of them at once; 429 past it.
    pub(crate) rate: Option<NonZeroU32>,
    /// From a connection's start to the end of the first request's headers, and from
    /// the first byte of another request to the end of its headers.
    pub(crate) header_timeout: Duration,
    /// For a TLS handshake, from the connection's start.
    pub(crate) handshake_timeout: Duration,
    /// How long a connection may be without a request, a body without any more of it
    /// (408), and an answer without the client's taking more of it.
    pub(crate) idle_timeout: Duration,
    /// Bytes of a request's body; 413 past it.
    pub(crate) body: u64,
    /// Bytes a second that a body has to come with, on average over the time that it is
    /// waited for beyond `idle_timeout` (408); 0 is none.
    pub(crate) body_rate: u64,
}

impl Default for Limits {
    /// One client has as many requests as one HTTP/2 connection of it may have, an eighth
    /// of all.
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_ip: 256,
            requests: 1_000,
            requests_per_ip: 128,
            rate: None,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            body: 8 * 1024 * 1024,
            body_rate: 1024,
        }
    }
}

/// Whose connections and requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(IpAddr);

impl From<Client> for ron_runtime::Client {
    fn from(client: Client) -> Self {
        Self(client.0)
    }
}

impl From<IpAddr> for Client {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
            ip => ip,
        })
    }
}

/// The connections of each client.
#[derive(Clone, Debug)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<Client, usize>>>,
}

/// One connection's place among its client's.
#[derive(Debug)]
pub(crate) struct Place(Places, Client);

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place, unless the client has all of its own.
    pub(super) fn take(&self, client: Client) -> Option<Place> {
        let mut taken = self.taken.lock();
        let own = taken.entry(client).or_default();
        if *own >= self.most {
            // An entry of nothing is not kept: that is what bounds the table.
            if *own == 0 {
                taken.remove(&client);
            }
            return None;
        }
        *own += 1;
        Some(Place(self.clone(), client))
    }

    #[cfg(test)]
    fn clients(&self) -> usize {
        self.taken.lock().len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock();
        let Some(own) = taken.get_mut(&self.1) else { return };
        *own -= 1;
        if *own == 0 {
            taken.remove(&self.1);
        }
    }
}

/// Clients whose rate is remembered in one half of the table.
const REMEMBERED: usize = 32 * 1024;

/// How fast each client asks.
///
/// Each has as many requests as it may make in a second, and gets them back at that
/// pace. Remembered is only when it will have all of them again, which is all there is
/// to know (the "generic cell rate algorithm").
///
/// The table has two halves. When the newer is full the older is forgotten, and with
/// it who has not asked while as many others did: such a one begins anew. That may
/// give more than the rate to somebody who has tens of thousands of addresses, who has
/// as many rates anyway; it never takes anything from anybody.
#[derive(Debug)]
pub(super) struct Rates {
    /// Between two requests at the full rate.
    interval: Duration,
    remembered: usize,
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    newer: HashMap<Client, Instant>,
    older: HashMap<Client, Instant>,
}

impl Rates {
    pub(super) fn new(rate: NonZeroU32) -> Self {
        Self::remembering(rate, REMEMBERED)
    }

    fn remembering(rate: NonZeroU32, remembered: usize) -> Self {
        let interval = Duration::from_secs(1) / rate.get();
        Self { interval, remembered, halves: Mutex::default() }
    }

    /// Counts a request at `now`.
    ///
    /// # Errors
    ///
    /// How long the client has to wait until it may make one. This one does not count.
    pub(super) fn ask(&self, client: Client, now: Instant) -> Result<(), Duration> {
        let mut halves = self.halves.lock();
        let Halves { newer, older } = &mut *halves;
        let full = newer.get(&client).or_else(|| older.get(&client)).copied();
        let next = full.unwrap_or(now).max(now) + self.interval;
        // A second's worth of requests may come at once.
        let ahead = next - now;
        let most = self.interval.max(Duration::from_secs(1));
        if ahead > most {
            return Err(ahead - most);
        }
        if newer.len() >= self.remembered && !newer.contains_key(&client) {
            *older = std::mem::take(newer);
        }
        newer.insert(client, next);
        Ok(())
    }

    #[cfg(test)]
    fn clients(&self) -> usize {
        let halves = self.halves.lock();
        halves.newer.len() + halves.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_its_own() {
        let check = |one: &str, other: &str, same: bool| {
            assert_eq!(client(one) == client(other), same, "{one} {other}");
        };
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8::1", "2001:db8::ffff:0:0:2", true);
        check("2001:db8:0:1::1", "2001:db8::1", false);
    }

    #[test]
    fn each_client_has_its_places_and_gives_them_back() {
        let places = Places::new(2);
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let first = places.take(one).expect("the first");
        let second = places.take(one).expect("the second");
        assert!(places.take(one).is_none(), "all are taken");
        let others = places.take(other).expect("another's are its own");
        drop(first);
        let third = places.take(one).expect("there is one again");
        drop((second, third, others));
        assert_eq!(places.clients(), 0, "nothing is kept of who is gone");
        assert!(Places::new(0).take(one).is_none());
    }

    #[test]
    fn a_second_of_requests_may_come_at_once_and_then_at_the_rate() {
        let rates = Rates::new(NonZeroU32::new(4).expect("not zero"));
        let (one, start) = (client("192.0.2.1"), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for _ in 0..4 {
            assert_eq!(rates.ask(one, start), Ok(()));
        }
        assert_eq!(rates.ask(one, start), Err(Duration::from_millis(250)));
        assert_eq!(rates.ask(one, at(100)), Err(Duration::from_millis(150)), "a refusal is free");
        assert_eq!(rates.ask(client("192.0.2.2"), start), Ok(()));
        assert_eq!(rates.ask(one, at(250)), Ok(()));
        assert!(rates.ask(one, at(499)).is_err());
        assert_eq!(rates.ask(one, at(500)), Ok(()));
        for _ in 0..4 {
            assert_eq!(rates.ask(one, at(60_000)), Ok(()), "no more is saved up");
        }
        assert!(rates.ask(one, at(60_000)).is_err());
    }

    #[test]
    fn whose_rate_is_remembered_is_bounded() {
        let rates = Rates::remembering(NonZeroU32::MIN, 10);
        let now = Instant::now();
        let slow = client("192.0.2.1");
        for index in 0..100_u32 {
            let other = Client(IpAddr::from(index.to_be_bytes()));
            assert_eq!(rates.ask(other, now), Ok(()));
            assert!(rates.clients() <= 20, "{}", rates.clients());
            // Who goes on asking is not forgotten.
            assert_eq!(rates.ask(slow, now + Duration::from_secs(u64::from(index))), Ok(()));
            assert!(rates.ask(slow, now + Duration::from_secs(u64::from(index))).is_err());
        }
    }
}
