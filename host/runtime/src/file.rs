//! Reading a file that somebody else says the name of.

use std::fs::{File, OpenOptions};
use std::io::{self, Error, Read};
use std::path::Path;

/// The content of a regular file of at most `limit` bytes.
///
/// It never waits: the other end of a pipe may be nobody's, and whoever reads may hold what
/// everybody needs.
///
/// # Errors
///
/// When it cannot be read, is a directory, a pipe or a device, or is larger.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !found.is_file() {
        return Err(Error::other("it is a pipe or a device, and no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(io::ErrorKind::FileTooLarge, format!("it is over {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    // To open a pipe would wait for its writer otherwise.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "abc").expect("written");
        assert_eq!(read_file(&at("file"), 3).expect("read"), b"abc");
        let error =
            |name: &str, limit| read_file(&at(name), limit).expect_err("no file").to_string();
        assert_eq!(error("file", 2), "it is over 2 bytes");
        assert_eq!(error(".", 9), "it is a directory");
        assert!(error("none", 9).starts_with("No such file"));
        #[cfg(unix)]
        {
            let pipe = at("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.is_ok_and(|status| status.success()));
            assert_eq!(error("pipe", 9), "it is a pipe or a device, and no regular file");
        }
    }
}
