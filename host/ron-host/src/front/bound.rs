//! A socket that is listened on, kept apart from who accepts.
//!
//! Who accepts may be replaced, for other limits or another certificate, and the socket
//! goes on listening: what connects meanwhile waits in its queue.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::settings::Unfit;

/// Connections that wait to be accepted; the system may have a lower limit.
const BACKLOG: u32 = 4096;

/// See this module's header.
#[derive(Debug)]
pub(crate) struct Bound(std::net::TcpListener);

impl Bound {
    /// Listens at that address, and accepts nothing yet.
    pub(crate) fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A port that a host before left is free at once.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self(socket.listen(BACKLOG)?.into_std()?))
    }

    /// The same socket once more.
    pub(crate) fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// For whoever accepts.
    pub(crate) fn listener(&self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.0.try_clone()?)
    }

    /// With the port that was bound.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// An address that cannot be listened on, by the key that says it.
pub(crate) fn unbound(key: &str, address: SocketAddr, error: &io::Error) -> Unfit {
    let flag = match key {
        "admin" => "--admin ",
        "http" => "--http ",
        _ => "",
    };
    let any = SocketAddr::new(address.ip(), 0);
    let expected = match error.kind() {
        ErrorKind::AddrInUse => {
            format!("expected a free address, such as {flag}{any} for any free port")
        }
        ErrorKind::AddrNotAvailable => "expected an address of this machine".to_owned(),
        ErrorKind::PermissionDenied => "expected a port that this user may use".to_owned(),
        _ => String::new(),
    };
    let wrong = format!("{address} cannot be listened on: {error}");
    Unfit { key: key.to_owned(), wrong, expected }
}
