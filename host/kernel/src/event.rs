//! What the kernel announces: one closed enum, frozen.

use serde::{Deserialize, Serialize};

use crate::crash::CrashReason;

/// The name under which the kernel announces that its own bus lost events.
/// No service can have it: see [`ServiceId`](crate::ServiceId).
pub const BUS_OVERFLOW: &str = "bus-overflow";

/// An announcement of the kernel's.
///
/// Serialised externally tagged, with the variants' own names:
/// `{"ServiceCrashed":{"service":"pricing","reason":{"panic":{"message":".."}}}}`,
/// `"Shutdown"`. Names and fields are frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelEvent {
    /// A service became ready, or stopped being so.
    Health {
        /// The service's name.
        service: String,
        /// Whether it is ready now.
        ok: bool,
    },
    /// A new version of the configuration is in force.
    ConfigUpdated {
        /// Monotonic; see [`Config`](crate::Config).
        version: u64,
    },
    /// A service crashed. What follows (a restart, quarantine) is the
    /// supervisor's, and shows in `Health`.
    ServiceCrashed {
        /// The service's name, or `bus-overflow`.
        service: String,
        /// Why.
        reason: CrashReason,
    },
    /// The host drains and ends.
    Shutdown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &KernelEvent, json: &str) {
        assert_eq!(serde_json::to_string(event).expect("an event serialises"), json);
        assert_eq!(&serde_json::from_str::<KernelEvent>(json).expect("and reads back"), event);
    }

    #[test]
    fn json_is_externally_tagged_and_stable() {
        check(
            &KernelEvent::Health { service: "a".into(), ok: true },
            r#"{"Health":{"service":"a","ok":true}}"#,
        );
        check(&KernelEvent::ConfigUpdated { version: 7 }, r#"{"ConfigUpdated":{"version":7}}"#);
        check(
            &KernelEvent::ServiceCrashed {
                service: "a".into(),
                reason: CrashReason::panic("boom"),
            },
            r#"{"ServiceCrashed":{"service":"a","reason":{"panic":{"message":"boom"}}}}"#,
        );
        check(&KernelEvent::Shutdown, r#""Shutdown""#);
    }
}
