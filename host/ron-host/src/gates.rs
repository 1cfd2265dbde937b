//! The ways to services that answer requests, by name.
//!
//! A listener and a service need not know when the other comes: a gate is there
//! from the first time that one of them names it, and nobody has entered it while
//! the service does not run.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ron_kernel::ServiceId;
use ron_runtime::Gate;

/// Clones are the same gates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Arc<Mutex<BTreeMap<ServiceId, Gate>>>);

impl Gates {
    /// The gate of that service.
    pub(crate) fn of(&self, service: &ServiceId) -> Gate {
        self.0.lock().entry(service.clone()).or_default().clone()
    }

    /// The service is gone for good.
    pub(crate) fn forget(&self, service: &ServiceId) {
        self.0.lock().remove(service);
    }
}
