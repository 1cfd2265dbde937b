//! Why a message was not handled.

use std::fmt;

use crate::bindings::service::ron::kernel::types::Failure;
use crate::bus;

/// Why a message was not handled, and whether to deliver it again.
///
/// `?` turns any [`std::error::Error`] into a rejection whose text is the chain
/// of its sources, since most errors come back when the message does. The
/// exception are bus errors that [pass with time](bus::Error::is_transient),
/// anywhere in that chain: they retry. To decide for yourself, write
/// `.map_err(Error::retry)?` or `.map_err(Error::reject)?`.
///
/// To convert from every error, this type is none itself; it displays as its
/// text. From `start`, `save` and `restore` the text alone counts.
pub struct Error {
    text: String,
    retry: bool,
}

impl Error {
    /// Deliver the message again, up to the service's `max_deliveries`.
    pub fn retry(text: impl fmt::Display) -> Self {
        Error { text: text.to_string(), retry: true }
    }

    /// Do not deliver the message again: it goes to the service's dead letters.
    pub fn reject(text: impl fmt::Display) -> Self {
        Error { text: text.to_string(), retry: false }
    }

    /// Whether the message is to be delivered again.
    pub fn is_retry(&self) -> bool {
        self.retry
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut retry = false;
        let mut link: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = link {
            retry |= error.downcast_ref::<bus::Error>().is_some_and(bus::Error::is_transient);
            link = error.source();
            if let Some(source) = link {
                text.push_str(": ");
                text.push_str(&source.to_string());
            }
        }
        Error { text, retry }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.retry { "Retry" } else { "Reject" };
        f.debug_tuple(verdict).field(&self.text).finish()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.retry { Failure::Retry(error.text) } else { Failure::Reject(error.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Asking(bus::Error);

    impl fmt::Display for Asking {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("asking for stock")
        }
    }

    impl std::error::Error for Asking {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn check(error: impl Into<Error>, expected: &str) {
        assert_eq!(format!("{:?}", error.into()), expected);
    }

    #[test]
    fn question_mark_rejects_unless_time_may_help() {
        check(
            "x".parse::<u8>().expect_err("x is no number"),
            r#"Reject("invalid digit found in string")"#,
        );
        check(bus::Error::Timeout, r#"Retry("no answer came in time")"#);
        check(bus::Error::Denied("not granted".into()), r#"Reject("denied: not granted")"#);
        check(
            Asking(bus::Error::Overloaded),
            r#"Retry("asking for stock: a mailbox is full, or this service publishes too fast")"#,
        );
    }

    #[test]
    fn the_author_decides_otherwise() {
        check(Error::retry("later"), r#"Retry("later")"#);
        check(Error::reject(bus::Error::Timeout), r#"Reject("no answer came in time")"#);
    }
}
