//! What is read from outside: files, and the environment as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use ron_runtime::read_file;

/// Largest file that is read, in bytes: 16 MiB. Ten thousand services need a
/// fifth of that.
const MAX_FILE: u64 = 16 << 20;

/// Whether a file of that would not be read.
pub(super) fn is_too_long(text: &str) -> bool {
    text.len() as u64 > MAX_FILE
}

/// What a file holds.
pub(crate) fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    read_file(path, MAX_FILE)
}

/// A text file, or why there is none.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let bytes = bytes(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        format!("cannot be read: not UTF-8 from byte {}", error.utf8_error().valid_up_to() + 1)
    })
}

/// Whether a directory is there, or why there is none.
pub(super) fn directory(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err("not a directory".into()),
        Err(error) => Err(format!("cannot be used: {error}")),
    }
}

/// Whether there is something at `path`.
pub(super) fn exists(path: &Path) -> bool {
    fs::exists(path).unwrap_or(false)
}

/// The environment, read once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self(
            env::vars_os()
                .filter_map(|(name, own)| Some((name.into_string().ok()?, own)))
                .collect(),
        )
    }

    /// A variable, or why its value is no text.
    pub(super) fn text(&self, name: &str) -> Option<Result<&str, String>> {
        Some(self.0.get(name)?.to_str().ok_or_else(|| "is not UTF-8".to_owned()))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Where compiled components are kept when nobody says.
    pub(super) fn cache_dir(&self) -> Option<PathBuf> {
        let set = |name| self.0.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(base.join("ron-host"))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(vars: [(&str, &str); N]) -> Self {
        Self(vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
