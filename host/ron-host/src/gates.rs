//! The ways to services that answer requests or handle connections, by name.
//!
//! A listener and a service need not know when the other comes: a gate is there
//! from the first time that one of them names it, and nobody has entered it while
//! the service does not run.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ron_kernel::ServiceId;
use ron_runtime::{Gate, Traffic};

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

    /// The same, for whoever must not keep them.
    pub(crate) fn weak(&self) -> WeakGates {
        WeakGates(Arc::downgrade(&self.0))
    }
}

/// Gates that go when nobody else has them.
pub(crate) struct WeakGates(Weak<Mutex<BTreeMap<ServiceId, Gate>>>);

impl WeakGates {
    /// What went through those of services of byte streams.
    pub(crate) fn traffic(&self) -> Vec<(ServiceId, Traffic)> {
        let Some(gates) = self.0.upgrade() else { return vec![] };
        let gates = gates.lock();
        gates.iter().filter_map(|(id, gate)| Some((id.clone(), gate.traffic()?))).collect()
    }

    /// How many instances each has lost to clients.
    pub(crate) fn abandoned(&self) -> Vec<(ServiceId, u64)> {
        let Some(gates) = self.0.upgrade() else { return vec![] };
        let gates = gates.lock();
        gates.iter().filter_map(|(id, gate)| Some((id.clone(), gate.abandoned()?))).collect()
    }
}
