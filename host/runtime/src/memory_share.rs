//! The memory of a service that has many instances, told as one number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ron_kernel::service::ContextHandle;

/// What one instance has of the memory of all. It is given back with its store.
pub(crate) struct MemoryShare {
    kernel: Arc<ContextHandle>,
    total: Arc<AtomicU64>,
    own: AtomicU64,
}

impl MemoryShare {
    /// That of an instance which has none yet, of those that have `total` bytes.
    pub(crate) fn new(kernel: Arc<ContextHandle>, total: Arc<AtomicU64>) -> Self {
        Self { kernel, total, own: AtomicU64::new(0) }
    }

    /// The instance has so many bytes now.
    pub(crate) fn grown_to(&self, bytes: u64) {
        let grown = bytes.saturating_sub(self.own.swap(bytes, Ordering::Relaxed));
        self.kernel.report_memory(self.total.fetch_add(grown, Ordering::Relaxed) + grown);
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        let own = self.own.load(Ordering::Relaxed);
        let left = self.total.fetch_sub(own, Ordering::Relaxed).saturating_sub(own);
        self.kernel.report_memory(left);
    }
}
