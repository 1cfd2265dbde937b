//! Timers that wake an idle service.
//!
//! One that fires is delivered to [`Service::message`](crate::Service::message)
//! as a message without payload; [`Message::timer`](crate::Message::timer) tells
//! its name. A timer set again under its name replaces the earlier one. Timers
//! end with the instance that set them, so set them in `start`.
//!
//! Times are kept in whole milliseconds, rounded up.

use std::time::Duration;

use crate::bindings::service::ron::kernel::timer;
use crate::bus::Error;

/// Fires once. The name is one token of a topic.
pub fn after(name: &str, delay: Duration) -> Result<(), Error> {
    Ok(timer::after(name, millis(delay))?)
}

/// Fires each period. A tick that finds its predecessor still queued is
/// dropped, so a slow service is not buried.
pub fn every(name: &str, period: Duration) -> Result<(), Error> {
    Ok(timer::every(name, millis(period))?)
}

/// Ends a timer. One that does not exist is no error.
pub fn cancel(name: &str) {
    timer::cancel(name);
}

/// Whole milliseconds, rounded up so that a short time is not none at all.
pub(crate) fn millis(time: Duration) -> u64 {
    time.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_is_not_none() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(1)), 1);
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
