//! This service's own table of the configuration, `[service.NAME.config]`.
//!
//! A call reads the newest values in force.
//! [`Event::ConfigUpdated`](crate::Event::ConfigUpdated) tells when they change.

use std::any::type_name;
use std::fmt;
use std::str::FromStr;

use crate::bindings::service::ron::kernel::config;

/// The value of `key`: a string as it stands, any other TOML value as its JSON
/// text.
pub fn get(key: &str) -> Option<String> {
    config::get(key)
}

/// The value of `key` as a `T`, or `None` where the key is absent.
///
/// ```no_run
/// # use ron_guest::{Error, config};
/// # fn start() -> Result<(), Error> {
/// let retries: u32 = config::parse("retries")?.unwrap_or(3);
/// # Ok(())
/// # }
/// ```
pub fn parse<T>(key: &str) -> Result<Option<T>, Error>
where
    T: FromStr<Err: fmt::Display>,
{
    get(key).map(|value| parse_value(key, value)).transpose()
}

/// All keys and their values.
pub fn entries() -> Vec<(String, String)> {
    config::entries()
}

/// Monotonic; grows by at least one with each applied change.
pub fn version() -> u64 {
    config::version()
}

/// A value that is not what the service expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    key: String,
    value: String,
    expected: &'static str,
    reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { key, value, expected, reason } = self;
        write!(f, "config `{key}`: expected {expected}, found `{value}` ({reason})")
    }
}

impl std::error::Error for Error {}

fn parse_value<T>(key: &str, value: String) -> Result<T, Error>
where
    T: FromStr<Err: fmt::Display>,
{
    value.parse().map_err(|reason: T::Err| Error {
        key: key.to_owned(),
        reason: reason.to_string(),
        expected: type_name::<T>().rsplit("::").next().unwrap_or("valid value"),
        value,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn check<T: FromStr<Err: fmt::Display> + fmt::Debug>(value: &str, expected: &str) {
        let text = match parse_value::<T>("key", value.into()) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn an_error_names_key_value_and_expectation() {
        check::<u64>("5", "5");
        check::<u64>(
            "soon",
            "config `key`: expected u64, found `soon` (invalid digit found in string)",
        );
        check::<IpAddr>(
            "here",
            "config `key`: expected IpAddr, found `here` (invalid IP address syntax)",
        );
    }
}
