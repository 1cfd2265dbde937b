//! The newest log records of each service, for whoever asks, and those to come.
//!
//! Bounded for each service in records and in bytes, and by that over all: the
//! more services there are, the fewer bytes each has from its next record on. A
//! follower that falls behind misses the oldest and is told how many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

/// Records kept for each service.
const RECORDS: usize = 512;
/// Bytes kept for all services together.
const BYTES: usize = 64 << 20;
/// Bytes kept for each service, at least and at most.
const BYTES_EACH: (usize, usize) = (4 << 10, 256 << 10);
/// Records that wait for a follower.
const FOLLOWED: usize = 256;
/// Under this name the host's own records are kept; no service can have it.
pub(crate) const HOST: &str = "host";

/// A record as one line of JSON, shared by all who read it.
pub(crate) type Line = Arc<str>;

/// The newest records. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<HashMap<String, Ring>>>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// There once somebody followed.
    followers: Option<broadcast::Sender<Line>>,
}

impl Recent {
    pub(super) fn keep(&self, service: Option<&str>, line: impl Into<Line>) {
        let line = line.into();
        let mut rings = self.0.lock();
        let budget = (BYTES / (rings.len() + 1)).clamp(BYTES_EACH.0, BYTES_EACH.1);
        let ring = ring(&mut rings, service.unwrap_or(HOST));
        if let Some(followers) = &ring.followers
            && followers.send(Arc::clone(&line)).is_err()
        {
            ring.followers = None;
        }
        ring.bytes += line.len();
        ring.lines.push_back(line);
        // One record is kept, however long it is.
        while ring.lines.len() > 1 && (ring.lines.len() > RECORDS || ring.bytes > budget) {
            if let Some(oldest) = ring.lines.pop_front() {
                ring.bytes -= oldest.len();
            }
        }
    }

    /// The newest `count` records of a service, oldest first.
    pub(crate) fn newest(&self, service: &str, count: usize) -> Vec<Line> {
        self.0.lock().get(service).map_or_else(Vec::new, |ring| ring.newest(count))
    }

    /// [`newest`](Self::newest), and what comes after those.
    pub(crate) fn follow(
        &self,
        service: &str,
        count: usize,
    ) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let mut rings = self.0.lock();
        let ring = ring(&mut rings, service);
        let followers = ring.followers.get_or_insert_with(|| broadcast::Sender::new(FOLLOWED));
        let receiver = followers.subscribe();
        (ring.newest(count), receiver)
    }
}

fn ring<'r>(rings: &'r mut HashMap<String, Ring>, service: &str) -> &'r mut Ring {
    if !rings.contains_key(service) {
        rings.insert(service.to_owned(), Ring::default());
    }
    rings.get_mut(service).expect("it was inserted where it was missing")
}

impl Ring {
    fn newest(&self, count: usize) -> Vec<Line> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn the_newest_are_kept_within_bounds() {
        let recent = Recent::default();
        for number in 0..RECORDS + 5 {
            recent.keep(Some("a"), number.to_string());
        }
        recent.keep(None, "own");
        let lines = recent.newest("a", usize::MAX);
        assert_eq!((lines.len(), &*lines[0]), (RECORDS, "5"));
        assert_eq!(texts(&recent.newest("a", 2)), ["515", "516"]);
        assert_eq!(texts(&recent.newest(HOST, 9)), ["own"]);
        assert!(recent.newest("b", 9).is_empty());
        for _ in 0..3 {
            recent.keep(Some("a"), "x".repeat(BYTES_EACH.1));
        }
        assert_eq!(recent.newest("a", usize::MAX).len(), 1);
    }

    #[test]
    fn the_more_services_the_fewer_bytes_each() {
        let recent = Recent::default();
        let services = 20_000;
        for service in 0..services {
            let name = service.to_string();
            for _ in 0..20 {
                recent.keep(Some(&name), "x".repeat(1 << 10));
            }
        }
        let all: usize =
            (0..services).map(|name| recent.newest(&name.to_string(), usize::MAX).len()).sum();
        assert!(all << 10 <= 3 * BYTES, "{all} KiB");
    }

    #[test]
    fn a_follower_sees_what_comes_and_what_it_missed() {
        let recent = Recent::default();
        recent.keep(Some("a"), "1");
        let (before, mut follower) = recent.follow("a", 9);
        assert_eq!(texts(&before), ["1"]);
        recent.keep(Some("b"), "x");
        recent.keep(Some("a"), "2");
        assert_eq!(follower.try_recv().as_deref(), Ok("2"));
        for number in 0..FOLLOWED + 3 {
            recent.keep(Some("a"), number.to_string());
        }
        assert_eq!(follower.try_recv(), Err(broadcast::error::TryRecvError::Lagged(3)));
        assert_eq!(follower.try_recv().as_deref(), Ok("3"));
        drop(follower);
        recent.keep(Some("a"), "nobody follows");
    }
}
