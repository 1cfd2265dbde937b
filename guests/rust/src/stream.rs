//! Handle the connections of a listener of byte streams.
//!
//! ```
//! # mod echo {
//! use ron_guest::Error;
//! use ron_guest::stream::{Connection, Handler, Input, Output};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn handle(_: Connection, mut input: Input, mut output: Output) -> Result<(), Error> {
//!         std::io::copy(&mut input, &mut output)?;
//!         Ok(())
//!     }
//! }
//!
//! ron_guest::connections!(Echo);
//! # }
//! # fn main() {}
//! ```
//!
//! Each connection has an instance of its own: what one keeps in a `static`, no
//! other sees. The two directions are independent. [`Input`] is at its end when
//! the client has sent all, and [`Output`] takes bytes all the same; dropping the
//! `Output` tells the client that nothing more comes, and the `Input` reads on.

use std::fmt;
use std::io::{self, Read, Write};

pub use crate::bindings::stream::ron::stream::types::{Connection, TlsInfo};
use crate::bindings::stream::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::{Error, logger, panic};

/// What handles connections.
pub trait Handler {
    /// One connection, from its beginning to its end.
    ///
    /// It may wait as long as it likes. Computing for longer than the service's
    /// handler deadline without waiting for anything ends it, as a panic does:
    /// the connection is cut, and no other notices.
    ///
    /// # Errors
    ///
    /// The host logs what it says. The connection ends as it does without.
    fn handle(connection: Connection, input: Input, output: Output) -> Result<(), Error>;
}

/// What the client sends.
pub struct Input(InputStream);

/// What the client is sent. The host holds 64 KiB of it and sends them by itself;
/// [`flush`](Write::flush) waits until they are sent.
pub struct Output(OutputStream);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").finish_non_exhaustive()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Read for Input {
    /// Waits for bytes; 0 when the client has sent all.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.0.blocking_read(buffer.len() as u64) {
            Ok(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Err(StreamError::Closed) => Ok(0),
            Err(error) => Err(told(error)),
        }
    }
}

impl Output {
    /// How much may be written now without waiting: nothing, while the client takes
    /// nothing.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub fn permit(&mut self) -> io::Result<usize> {
        self.0.check_write().map(|bytes| bytes as usize).map_err(told)
    }

    /// Waits until some may be written, or the connection is broken.
    pub fn permitted(&mut self) {
        self.0.subscribe().block();
    }
}

impl Write for Output {
    /// Waits until the host takes some.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let permit = self.permit()?.min(bytes.len());
            if permit > 0 || bytes.is_empty() {
                return self.0.write(&bytes[..permit]).map(|()| permit).map_err(told);
            }
            self.permitted();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.blocking_flush().map_err(told)
    }
}

fn told(error: StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe.into(),
        StreamError::LastOperationFailed(error) => io::Error::other(error.to_debug_string()),
    }
}

/// What `connections!` expands to a call of; never called by hand.
#[doc(hidden)]
pub fn handle<H: Handler>(
    home: &'static str,
    connection: Connection,
    input: InputStream,
    output: OutputStream,
) -> Result<(), String> {
    panic::install();
    logger::install(home);
    #[cfg(feature = "tracing")]
    crate::trace::install(home);
    H::handle(connection, Input(input), Output(output)).map_err(|error| error.to_string())
}

/// Makes the crate a component that handles connections with the named
/// [`Handler`](crate::stream::Handler).
///
/// Once in a crate, and only in the crate that is built as a `cdylib`.
#[macro_export]
macro_rules! connections {
    ($handler:ty) => {
        const _: () = {
            struct Component;

            impl $crate::bindings::stream::exports::ron::stream::connection_handler::Guest
                for Component
            {
                fn handle(
                    connection: $crate::stream::Connection,
                    input: $crate::bindings::stream::wasi::io::streams::InputStream,
                    output: $crate::bindings::stream::wasi::io::streams::OutputStream,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    let home = ::core::env!("CARGO_CRATE_NAME");
                    $crate::stream::handle::<$handler>(home, connection, input, output)
                }
            }

    $crate::bindings::stream::export!(Component with_types_in $crate::bindings::stream);
        };
    };
}
