//! What this service says of itself.
//!
//! The host adds what it sees: a service that is down, restarting or past a
//! deadline is not ready, whatever it says.

use crate::bindings::service::ron::kernel::health::{Status, report};

/// All is well. A service that says nothing is taken to be.
pub fn ok() {
    report(Status::Ok, None);
}

/// Works, with less than usual: ready, and shown as degraded.
pub fn degraded(detail: &str) {
    report(Status::Degraded, Some(detail));
}

/// Cannot do its work: not ready. The service is not restarted for it.
pub fn failing(detail: &str) {
    report(Status::Failing, Some(detail));
}
