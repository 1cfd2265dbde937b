//! Carries the text of a panic to the host before the trap that follows it.

use std::panic::{self, PanicHookInfo};

use crate::record::{self, Level};

/// Replaces the default hook. That one prints to stderr, which the host would
/// log a second time.
pub(crate) fn install() {
    panic::set_hook(Box::new(report));
}

/// By the field `ron.panic` the host knows the record for the reason of the
/// crash; the trap itself says only `unreachable`.
fn report(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("panicked with a value that is not text");
    let location = panic.location().map(ToString::to_string);
    let mut fields = vec![("ron.panic", "true")];
    if let Some(location) = &location {
        fields.push(("location", location));
    }
    record::write(Level::Error, message, &fields);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::capture;

    #[test]
    fn the_host_learns_text_and_place() {
        let before = panic::take_hook();
        install();
        let line = line!() + 1;
        let _ = panic::catch_unwind(|| panic!("{} orders lost", 3));
        panic::set_hook(before);
        let records = capture::take();
        assert_eq!(records.len(), 1);
        assert!(
            records[0].starts_with("Level::Error 3 orders lost ron.panic=true location="),
            "{records:?}"
        );
        assert!(records[0].contains(&format!("panic.rs:{line}:")), "{records:?}");
    }
}
