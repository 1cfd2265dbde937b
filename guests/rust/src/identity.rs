//! Who this instance is.

use crate::bindings::service::ron::kernel::identity;

/// One running instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The service's name in the configuration.
    pub service: String,
    /// Grows with each restart and each hot swap of the service.
    pub generation: u64,
    /// Which of the service's replicas, from 0.
    pub replica: u32,
}

/// Who this instance is. It never changes while the instance lives.
pub fn get() -> Instance {
    let identity::Instance { service, generation, replica } = identity::get();
    Instance { service, generation, replica }
}
