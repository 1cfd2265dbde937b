//! What systemd is told by a host that it started, over the socket that it listens on; and
//! that its unit is one.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::deployment::{deployment, start, value};

/// Where a service manager listens.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        Self(socket)
    }

    /// The next thing that it is told, besides that the host lives.
    fn next(&self) -> String {
        loop {
            let told = self.told();
            if told != "WATCHDOG=1\n" {
                return told;
            }
        }
    }

    fn told(&self) -> String {
        let mut bytes = [0; 1024];
        let count = self.0.recv(&mut bytes).expect("it is told");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

#[test]
fn systemd_is_told_what_the_host_is_at() {
    let directory = deployment("systemd", &["probe"], "");
    value(&directory, "one");
    let path = directory.join("notify");
    let manager = Manager::at(&path);
    let socket = path.to_str().expect("a path");
    let host = start(&directory, "", &[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "100000")]);
    let host = host.ready();
    assert_eq!(manager.next(), "READY=1\nSTATUS=1 services\n");
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1\n");
    }
    host.signal("HUP");
    let reloading = manager.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.next(), "READY=1\n");
    host.signal("TERM");
    assert_eq!(manager.next(), "STOPPING=1\n");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn the_unit_is_one() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/ron-host.service");
    let verify = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let Ok(verify) = verify else {
        println!("skipped: there is no systemd-analyze");
        return;
    };
    let told = String::from_utf8_lossy(&verify.stderr);
    let wrong: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("ron-host.service"))
        // The program is not installed here, and systemd before 253 knows no notify-reload.
        .filter(|line| !line.contains("is not executable") && !line.contains("notify-reload"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
