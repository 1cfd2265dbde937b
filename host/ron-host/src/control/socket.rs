//! The control socket's place in the filesystem: where it is, that only its
//! user can open it, and whose it is when there is one already.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::sleep;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;
/// How often, and how long apart, the directory's lock is tried: it is held
/// for as long as a bind takes.
const TRIES: u32 = 50;
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Why there is no control socket.
#[derive(Debug, Error)]
pub(crate) enum SocketError {
    /// A host is there, and goes on.
    #[error(
        "{path}: another host listens there, and goes on; give this one a socket of its own \
         with --control PATH"
    )]
    Live { path: PathBuf },
    /// Something else is there, and stays.
    #[error("{path}: is there and is no socket; move it, or give another with --control PATH")]
    NotASocket { path: PathBuf },
    /// Others could open what lies in it.
    #[error(
        "{directory}: is not a directory of this user's alone (mode 0700); remove it, or give a \
         socket elsewhere with --control PATH"
    )]
    Open { directory: PathBuf },
    /// The system says no.
    #[error(
        "{path}: the control socket cannot be made; expected --control PATH in a directory that \
         this user may write to, of 107 bytes at most"
    )]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// `$XDG_RUNTIME_DIR/ron-host/control.sock`, or the like in a directory of this
/// user's in the temporary directory. Host and client find it the same way.
pub(crate) fn default_path() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let directory = match runtime.filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("ron-host"),
        None => std::env::temp_dir().join(format!("ron-host-{}", rustix::process::geteuid())),
    };
    directory.join("control.sock")
}

/// A bound control socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) place: Place,
}

/// A control socket's file, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode: another host may have taken the place since.
    id: (u64, u64),
}

impl Socket {
    /// Binds the default socket, in a directory that is made where it is
    /// missing.
    pub(crate) async fn bind_default() -> Result<Self, SocketError> {
        let path = default_path();
        let directory = path.parent().unwrap_or(Path::new("/"));
        private(directory)?;
        Self::bind(&path).await
    }

    /// Binds a socket of mode 0600, in place of one that nobody listens on.
    pub(crate) async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let lock = File::open(directory).map_err(failed)?;
        // Two hosts that start together must not take each other's socket for
        // a dead one: between bind and listen it looks like that.
        let mut tries = 0;
        while lock.try_lock().is_err() && tries < TRIES {
            tries += 1;
            sleep(TRY_AGAIN).await;
        }
        if let Ok(found) = fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(SocketError::NotASocket { path: path.to_owned() });
            }
            match UnixStream::connect(path).await {
                Ok(_) => return Err(SocketError::Live { path: path.to_owned() }),
                // Somebody listens, and is behind.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(SocketError::Live { path: path.to_owned() });
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(failed(error)),
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(path).map_err(failed)?;
        // Before anybody can connect.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        let found = fs::symlink_metadata(path).map_err(failed)?;
        let place = Place { path: path.to_owned(), id: (found.dev(), found.ino()) };
        Ok(Self { listener, place })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let own = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.id);
        if own {
            // One that stays is a dead host's socket, which the next replaces.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Makes `directory` for this user alone; one that is there must be so already.
fn private(directory: &Path) -> Result<(), SocketError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SocketError::Io { path: directory.to_owned(), source: error });
        }
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(directory)
        .map_err(|source| SocketError::Io { path: directory.to_owned(), source })?;
    let mine = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && mine && found.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(SocketError::Open { directory: directory.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tests::Scratch;

    #[tokio::test]
    async fn a_socket_is_its_users_alone_and_goes_with_its_host() {
        let scratch = Scratch::new("socket");
        let path = scratch.path().join("s");
        let socket = Socket::bind(&path).await.expect("bound");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let refused = Socket::bind(&path).await.expect_err("it is live");
        assert!(matches!(refused, SocketError::Live { .. }), "{refused}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_nobody_listens_on_is_replaced_and_nothing_else() {
        let scratch = Scratch::new("stale");
        let path = scratch.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let replaced = Socket::bind(&path).await.expect("it was stale");
        // Somebody removed it, and another host took the place.
        fs::remove_file(&path).expect("removed");
        let other = Socket::bind(&path).await.expect("bound");
        drop(replaced);
        UnixStream::connect(&path).await.expect("the other one's stays");
        drop(other);
        fs::write(&path, "precious").expect("written");
        let refused = Socket::bind(&path).await.expect_err("it is a file");
        assert!(matches!(refused, SocketError::NotASocket { .. }), "{refused}");
        assert_eq!(fs::read(&path).expect("it is there"), b"precious");
    }

    #[test]
    fn a_directory_that_others_can_open_is_not_used() {
        let scratch = Scratch::new("private");
        let directory = scratch.path().join("d");
        private(&directory).expect("made");
        private(&directory).expect("there already");
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("set");
        let refused = private(&directory).expect_err("others can open it");
        assert!(matches!(refused, SocketError::Open { .. }), "{refused}");
        let link = scratch.path().join("l");
        std::os::unix::fs::symlink("d", &link).expect("linked");
        private(&link).expect_err("a link may be anybody's");
    }
}
