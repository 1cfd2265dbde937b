//! The one way out for log records, whichever facade they come through.

pub(crate) use crate::bindings::service::ron::kernel::log::Level;

#[cfg(not(test))]
pub(crate) use crate::bindings::service::ron::kernel::log::write;

#[cfg(test)]
pub(crate) use capture::write;

/// Stands in for the host, so that unit tests see what would be logged.
#[cfg(test)]
pub(crate) mod capture {
    use std::cell::RefCell;
    use std::fmt::Write;

    use super::Level;

    thread_local! {
        static RECORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
        let mut record = format!("{level:?} {message}");
        for (name, value) in fields {
            write!(record, " {name}={value}").expect("a string takes all");
        }
        RECORDS.with_borrow_mut(|records| records.push(record));
    }

    /// What this thread has logged since it last asked.
    pub(crate) fn take() -> Vec<String> {
        RECORDS.take()
    }
}
