//! This service's own metrics, exposed by the host at `/metrics` with a
//! `service` label.
//!
//! Names follow Prometheus. Past the service's limit of series a value goes to
//! the series whose labels all read `other`.

use crate::bindings::service::ron::kernel::metrics;

/// Adds to a counter.
///
/// ```no_run
/// ron_guest::metrics::add("orders_total", &[("region", "eu")], 1);
/// ```
pub fn add(name: &str, labels: &[(&str, &str)], delta: u64) {
    metrics::add(name, labels, delta);
}

/// Sets a gauge.
pub fn set(name: &str, labels: &[(&str, &str)], value: f64) {
    metrics::set(name, labels, value);
}

/// Observes a value in a histogram; seconds for times.
pub fn observe(name: &str, labels: &[(&str, &str)], value: f64) {
    metrics::observe(name, labels, value);
}
