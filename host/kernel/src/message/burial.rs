//! The word that is said of a message that goes to the dead letters.
//!
//! A service may fail at every message, and a record for each would be all that is written.
//! So it is one record a second and service, with how many there were besides; the counter
//! has them all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Address, Message};
use crate::service::ServiceId;

/// Between two records.
const EVERY: Duration = Duration::from_secs(1);
/// Characters of a reason that are told.
const TOLD: usize = 200;

/// Of one service.
#[derive(Debug, Default)]
pub(super) struct Burials(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// When the last record was written.
    at: Option<Instant>,
    /// Messages since then.
    untold: u64,
}

impl Told {
    fn may_tell(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= EVERY)
    }

    /// One more, and how many were not told of before it, if it is told.
    fn tell(&mut self, told: bool, now: Instant) -> Option<u64> {
        if !told {
            self.untold += 1;
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// What would be told of a message.
pub(super) struct About {
    address: Arc<Address>,
    id: u64,
    deliveries: u32,
    why: String,
}

impl Burials {
    /// What is to be told of a message, should it go to the dead letters; nothing, where
    /// enough was told just now.
    pub(super) fn about(&self, message: &Message, why: &str) -> Option<About> {
        self.0.lock().may_tell(Instant::now()).then(|| About {
            address: Arc::clone(&message.address),
            id: message.id,
            deliveries: message.attempt,
            why: why.chars().take(TOLD).collect(),
        })
    }

    /// It did go there.
    pub(super) fn tell(&self, service: &ServiceId, about: Option<About>) {
        let before = self.0.lock().tell(about.is_some(), Instant::now());
        if let (Some(before), Some(About { address, id, deliveries, why })) = (before, about) {
            let more = (before > 0).then_some(before);
            tracing::warn!(
                %service,
                topic = &*address.topic,
                id,
                deliveries,
                others_before = more,
                "a message went to the dead letters: {why}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_and_the_others_are_counted() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut bury = |after: u64| {
            let now = start + Duration::from_millis(after);
            let may = told.may_tell(now);
            told.tell(may, now)
        };
        assert_eq!(bury(0), Some(0));
        assert_eq!(bury(1), None);
        assert_eq!(bury(999), None);
        assert_eq!(bury(1000), Some(2));
        assert_eq!(bury(2500), Some(0));
    }
}
