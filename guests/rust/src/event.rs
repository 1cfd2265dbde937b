//! What the kernel announces.

use crate::bindings::service::ron::kernel::types;

/// Something that the kernel announced to every service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A service became able or unable to do its work.
    Health {
        /// The service's name.
        service: String,
        /// Whether it is ready now.
        ok: bool,
    },
    /// New values are in force; [`config`](crate::config) reads them.
    ConfigUpdated {
        /// The version of the configuration that is now in force.
        version: u64,
    },
    /// A service stopped running when it should not have.
    ServiceCrashed {
        /// The service's name.
        service: String,
        /// What ended it.
        reason: CrashReason,
    },
    /// The host is about to stop every service.
    Shutdown,
}

/// Why a service stopped running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReason {
    /// A stable, machine-readable name: `trap-unreachable`, `deadline`,
    /// `memory-limit`, `panic`, ... New labels may appear.
    pub label: String,
    /// What a person should read: the panic message, the exit code, the limit.
    pub message: String,
}

impl From<types::KernelEvent> for Event {
    fn from(event: types::KernelEvent) -> Self {
        match event {
            types::KernelEvent::Health(types::HealthChanged { service, ok }) => {
                Event::Health { service, ok }
            }
            types::KernelEvent::ConfigUpdated(version) => Event::ConfigUpdated { version },
            types::KernelEvent::ServiceCrashed(types::ServiceCrashed { service, reason }) => {
                let types::CrashReason { label, message } = reason;
                Event::ServiceCrashed { service, reason: CrashReason { label, message } }
            }
            types::KernelEvent::Shutdown => Event::Shutdown,
        }
    }
}
