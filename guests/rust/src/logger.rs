//! Sends the records of the `log` crate to the host.

use std::fmt;

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Metadata, Record};

use crate::record;

/// Makes the `log` macros reach the host. `home` is the service's own crate.
///
/// Every level passes: the host filters, so that a level can change while the
/// service runs.
pub(crate) fn install(home: &'static str) {
    // A service may have installed a logger of its own before; that one stays.
    if log::set_boxed_logger(Box::new(Logger { home })).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

struct Logger {
    home: &'static str,
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut fields = Fields::default();
        let _ = record.key_values().visit(&mut fields);
        // The service's name says it already where the crate itself is speaking.
        if record.target() != self.home {
            fields.push("target", record.target());
        }
        let level = match record.level() {
            Level::Trace => record::Level::Trace,
            Level::Debug => record::Level::Debug,
            Level::Info => record::Level::Info,
            Level::Warn => record::Level::Warn,
            Level::Error => record::Level::Error,
        };
        match record.args().as_str() {
            Some(text) => record::write(level, text, &fields.borrow()),
            None => record::write(level, &record.args().to_string(), &fields.borrow()),
        }
    }

    fn flush(&self) {}
}

/// Names and values as the host takes them. No fields cost no allocation.
#[derive(Clone, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.0.push((name.into(), value.to_string()));
    }

    /// Adds others; of two with one name the later stands.
    #[cfg(feature = "tracing")]
    pub(crate) fn append(&mut self, others: Fields) {
        self.0.retain(|(name, _)| others.0.iter().all(|(other, _)| other != name));
        self.0.extend(others.0);
    }

    pub(crate) fn borrow(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.push(key.as_str(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::Log;

    use super::*;
    use crate::record::capture;

    fn check(target: &str, record: &[(&str, &str)], message: fmt::Arguments<'_>, expected: &str) {
        let record = Record::builder()
            .target(target)
            .level(Level::Info)
            .key_values(&record)
            .args(message)
            .build();
        Logger { home: "orders" }.log(&record);
        assert_eq!(capture::take(), [expected]);
    }

    #[test]
    fn key_values_become_fields_and_strangers_are_named() {
        check("orders", &[], format_args!("ready"), "Level::Info ready");
        check(
            "orders::stock",
            &[("sku", "a1")],
            format_args!("{} left", 3),
            "Level::Info 3 left sku=a1 target=orders::stock",
        );
    }
}
