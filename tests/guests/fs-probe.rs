//! At `guest.NAME.probe` reaches for what lies outside, and answers a line for
//! each try: `WHAT: got ...` or `WHAT: refused ...`. The payload is an address
//! to connect to.

use std::fmt::{Display, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::{env, fs};

use ron_guest::{Error, Message, Reply, Service};

struct FsProbe;

impl Service for FsProbe {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["probe"])?;
        Ok(FsProbe)
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let address = message.text()?;
        let mut report = String::new();
        line(&mut report, "read", fs::read("/etc/passwd").map(|bytes| bytes.len()));
        line(&mut report, "write", fs::write("/tmp/fs-probe", "x").map(|()| "through"));
        line(&mut report, "list", fs::read_dir("/").map(|entries| entries.count()));
        line(&mut report, "environment", env::vars().next().map(|(name, _)| name).ok_or("empty"));
        line(&mut report, "connect", TcpStream::connect(address).map(|_| "through"));
        line(&mut report, "listen", TcpListener::bind("127.0.0.1:0").map(|_| "through"));
        line(&mut report, "resolve", "localhost:80".to_socket_addrs().map(|found| found.count()));
        Ok(report.into())
    }
}

fn line(report: &mut String, what: &str, result: Result<impl Display, impl Display>) {
    let _ = match result {
        Ok(found) => writeln!(report, "{what}: got {found}"),
        Err(error) => writeln!(report, "{what}: refused {error}"),
    };
}

ron_guest::service!(FsProbe);
