//! The configuration that was applied last, kept in a file: what a host that is
//! restarted onto a broken `ron.toml` starts with.
//!
//! It is the text of the file, under a line that says which file it was, because
//! the paths in it are relative to that. Values that are read from elsewhere, as
//! secrets are, are not in it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::exit::{Exit, Failure, chain};
use crate::logging::Format;
use crate::report;
use crate::settings::{File, Inputs, Settings};

const HEAD: &str = "# The last good configuration of ron-host, from ";

/// Where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct LastGood {
    path: PathBuf,
}

/// Why it could not be read or written.
#[derive(Debug, Error)]
pub(crate) enum LastGoodError {
    #[error("{path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path}: not a configuration that was kept by ron-host; expected one, or no file, and it \
         is left as it is"
    )]
    Malformed { path: PathBuf },
}

impl LastGood {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Replaces what is kept, whole or not at all.
    pub(crate) fn write(&self, file: &File) -> Result<(), LastGoodError> {
        let io = |source| LastGoodError::Io { path: self.path.clone(), source };
        let of = std::path::absolute(&file.path).map_err(io)?;
        let text = format!("{HEAD}{}\n{}", of.display(), file.text);
        if fs::read_to_string(&self.path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut beside = tempfile::Builder::new()
            .prefix(".ron-host-")
            .tempfile_in(directory.unwrap_or(Path::new(".")))
            .map_err(io)?;
        beside.write_all(text.as_bytes()).map_err(io)?;
        beside.as_file().sync_all().map_err(io)?;
        beside.persist(&self.path).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// What is kept; `None` where nothing is.
    pub(crate) fn read(&self) -> Result<Option<File>, LastGoodError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LastGoodError::Io { path: self.path.clone(), source }),
        };
        // Somebody made room for it.
        if text.is_empty() {
            return Ok(None);
        }
        let kept = text.split_once('\n').and_then(|(head, text)| {
            let of = head.strip_prefix(HEAD)?;
            Some(File::new(of.into(), text.to_owned()))
        });
        kept.map(Some).ok_or_else(|| LastGoodError::Malformed { path: self.path.clone() })
    }
}

/// Refuses a file that is somebody else's: it would be replaced.
pub(crate) fn check(inputs: &Inputs) -> Result<(), Failure> {
    let Some(path) = inputs.last_good() else { return Ok(()) };
    let kept = LastGood::new(path.to_owned()).read();
    kept.map(drop).map_err(|error| Failure::config(format!("--last-good {}", chain(&error))))
}

/// What was good last, in place of what is `broken`: whatever of the configuration cannot
/// be used, but not the host's own failure. `None` where nothing is kept.
pub(crate) fn instead(
    inputs: &Inputs,
    broken: &Failure,
    format: Format,
) -> Result<Option<Settings>, Failure> {
    let path = inputs.last_good().filter(|_| broken.exit() != Exit::CriticalService);
    let Some(path) = path else { return Ok(None) };
    let kept = LastGood::new(path.to_owned()).read().map_err(|error| {
        report::failure(format, broken);
        Failure::config(chain(&error))
    })?;
    let Some(kept) = kept else { return Ok(None) };
    report::falls_back(format, broken, path);
    inputs.check(Some(Arc::new(kept))).map(Some).map_err(Failure::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let kept = LastGood::new(directory.path().join("kept.toml"));
        assert!(kept.read().expect("it is not there").is_none());
        for text in ["a = 1\n", "b = 2"] {
            let file = File::new(directory.path().join("ron.toml"), text.to_owned());
            kept.write(&file).expect("written");
            let read = kept.read().expect("read").expect("it is there");
            assert_eq!((&read.path, &read.text), (&file.path, &file.text));
        }
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 1);
        fs::write(directory.path().join("kept.toml"), "a = 1").expect("written");
        assert!(matches!(kept.read(), Err(LastGoodError::Malformed { .. })));
    }
}
