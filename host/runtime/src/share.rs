//! What a service has of the host's that outlives its stores: every incarnation,
//! replica and instance of it shares that, and it goes with the host.
//!
//! It is found by the service's name, and only when it is needed: a service that
//! asks nobody anything, and keeps nothing, never comes here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use ron_kernel::ServiceId;

use crate::bucket::Bucket;

/// Denials that are told of one service, each once; what is past it is counted.
const TOLD: usize = 64;

/// The shares of all services.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    services: Mutex<HashMap<ServiceId, Arc<Share>>>,
    /// What several services may share, by name. As many as configuration names.
    buckets: Mutex<HashMap<String, Arc<Bucket>>>,
}

impl Shares {
    pub(crate) fn of(&self, service: &ServiceId) -> Arc<Share> {
        let mut all = self.services.lock();
        match all.get(service) {
            Some(share) => Arc::clone(share),
            None => Arc::clone(all.entry(service.clone()).or_default()),
        }
    }

    /// The bucket of that name.
    pub(crate) fn bucket(&self, name: &str) -> Arc<Bucket> {
        Arc::clone(self.buckets.lock().entry(name.to_owned()).or_default())
    }
}

/// One service's.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Requests to others that are under way.
    requests: AtomicUsize,
    told: Mutex<HashSet<String>>,
    bucket: Arc<Bucket>,
}

impl Share {
    /// What it keeps for itself.
    pub(crate) fn bucket(&self) -> &Arc<Bucket> {
        &self.bucket
    }

    /// Whether this was not told of the service before.
    pub(crate) fn is_news(&self, what: &str) -> bool {
        let mut told = self.told.lock();
        told.len() < TOLD && !told.contains(what) && told.insert(what.to_owned())
    }

    /// A place for one more request, of at most so many.
    pub(crate) fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let more = |count: usize| (count < most).then_some(count + 1);
        let entered = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// Kept by a request for as long as it is under way.
#[derive(Debug)]
pub(crate) struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).expect("a name")
    }

    #[test]
    fn places_are_a_services_own_and_come_back() {
        let shares = Shares::default();
        let (one, other) = (shares.of(&id("one")), shares.of(&id("other")));
        let first = one.enter(2).expect("there is room");
        let second = shares.of(&id("one")).enter(2).expect("for a second");
        assert!(one.enter(2).is_none());
        assert!(other.enter(2).is_some());
        drop(first);
        assert!(one.enter(2).is_some());
        drop(second);
        assert!(one.enter(0).is_none());
    }

    #[test]
    fn a_denial_is_told_once_and_only_so_many() {
        let share = Share::default();
        assert!(share.is_news("a") && !share.is_news("a") && share.is_news("b"));
        for n in 0..2 * TOLD {
            share.is_news(&n.to_string());
        }
        assert_eq!(share.told.lock().len(), TOLD);
    }
}
