//! Whose turn it is to change a service: changes of one service come one after the
//! other, and wait for no change of another.
//!
//! A turn is held from before a new version is looked at until it has taken over or was
//! refused, and that may be as long as a start takes. A reload holds the turns of all
//! that it changes; since reloads come one after the other, nobody else ever waits for a
//! turn while holding one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ron_kernel::ServiceId;
use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// See this module's header.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeMap<ServiceId, Weak<Lock>>>);

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held")] OwnedMutexGuard<()>);

impl Turns {
    /// Waits for the turn to change that service. Who asked first has it first.
    pub(crate) async fn of(&self, service: &ServiceId) -> Turn {
        let lock = {
            let mut all = self.0.lock();
            match all.get(service).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    // A name that nobody uses any more is not kept for ever.
                    if all.len().is_power_of_two() {
                        all.retain(|_, lock| lock.strong_count() > 0);
                    }
                    let lock = Arc::<Lock>::default();
                    all.insert(service.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        Turn(lock.lock_owned().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).expect("a name")
    }

    #[test]
    fn a_turn_is_of_one_service() {
        let turns = Turns::default();
        let (a, b) = (id("a"), id("b"));
        let first = turns.of(&a).now_or_never().expect("nobody has it");
        assert!(turns.of(&a).now_or_never().is_none(), "it is somebody's");
        assert!(turns.of(&b).now_or_never().is_some(), "that is another");
        let mut second = Box::pin(turns.of(&a));
        assert!((&mut second).now_or_never().is_none());
        for n in 0..1000 {
            drop(turns.of(&id(&format!("s{n}"))).now_or_never().expect("nobody has it"));
        }
        assert!(turns.of(&a).now_or_never().is_none(), "what is held is not forgotten");
        assert!(turns.0.lock().len() <= 4, "all else is");
        drop(first);
        assert!(second.now_or_never().is_some(), "it has come");
    }
}
