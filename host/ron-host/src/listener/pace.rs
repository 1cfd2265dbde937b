//! How long a client's body is waited for: for some of it, and for all of it.
//!
//! All waits together have the limit that one has, and more for what has come. A client
//! that sends a byte now and then would otherwise hold a place for as long as it likes, and
//! a few of them all places of a listener. What the service takes to read is not the
//! client's.

use std::time::Duration;

use tokio::time::Instant;

/// What a body is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For any more of it; and in all, before any of it has come.
    pub(super) idle: Duration,
    /// Bytes that buy another second; none is needed where it is 0.
    pub(super) rate: u64,
}

/// One body's account.
#[derive(Debug)]
pub(super) struct Pace {
    patience: Patience,
    came: u64,
    waited: Duration,
    /// Since when it is waited for.
    since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, came: 0, waited: Duration::ZERO, since: None }
    }

    /// It is waited for at `now`; answers until when. None is for a clock that does not get
    /// there.
    pub(super) fn waits(&mut self, now: Instant) -> Option<Instant> {
        let Patience { idle, rate } = self.patience;
        let since = *self.since.get_or_insert(now);
        let earned = match rate {
            0 => Duration::MAX,
            rate => Duration::from_secs_f64(self.came as f64 / rate as f64),
        };
        let left = idle.saturating_add(earned).saturating_sub(self.waited);
        since.checked_add(idle.min(left))
    }

    /// So many bytes came at `now`.
    pub(super) fn came(&mut self, bytes: u64, now: Instant) {
        self.came += bytes;
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience { idle: SECOND.saturating_mul(10), rate: 1000 };

    /// Bytes at that interval, until it is waited no more; how many came, and when it was
    /// given up.
    fn drip(patience: Patience, bytes: u64, interval: Duration) -> (u64, Duration) {
        let (start, mut pace) = (Instant::now(), Pace::new(patience));
        let mut now = start;
        for count in 0..10_000 {
            let until = pace.waits(now).expect("soon");
            assert_eq!(pace.waits(now + interval / 2), Some(until), "asked again");
            if until < now + interval {
                return (count * bytes, until - start);
            }
            now += interval;
            pace.came(bytes, now);
        }
        (u64::MAX, Duration::MAX)
    }

    #[test]
    fn a_body_that_trickles_has_its_time_and_no_more() {
        assert_eq!(drip(PATIENCE, 0, 100 * SECOND), (0, 10 * SECOND), "nothing");
        let (came, at) = drip(PATIENCE, 1, SECOND);
        assert_eq!(came, 10);
        assert!(at > 10 * SECOND && at < 11 * SECOND, "{at:?}");
        // Each byte buys its part of a second.
        let (came, at) = drip(PATIENCE, 500, SECOND);
        assert_eq!((came, at), (9500, 19 * SECOND + SECOND / 2));
        assert_eq!(drip(PATIENCE, 1000, SECOND).0, u64::MAX, "as fast as it has to be");
    }

    #[test]
    fn each_wait_has_a_limit_whatever_came_before() {
        let mut pace = Pace::new(PATIENCE);
        let now = Instant::now();
        pace.came(1_000_000, now);
        assert_eq!(pace.waits(now), Some(now + 10 * SECOND));
        let slow = Patience { rate: 0, ..PATIENCE };
        assert_eq!(drip(slow, 1, 9 * SECOND).0, u64::MAX, "there is no rate");
        assert_eq!(drip(slow, 1, 11 * SECOND), (0, 10 * SECOND));
    }

    #[test]
    fn what_the_service_takes_is_not_the_clients() {
        let mut pace = Pace::new(PATIENCE);
        let now = Instant::now();
        pace.waits(now);
        pace.came(1, now + SECOND);
        // It reads on after an hour.
        let later = now + 3600 * SECOND;
        let until = pace.waits(later).expect("soon");
        assert!(until > later + 9 * SECOND && until < later + 10 * SECOND);
    }
}
