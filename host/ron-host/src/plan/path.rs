//! A file or directory of the host's, by the path that was said.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf, absolute};

/// A path as it was said. Two are the same when they lead to the same name from
/// where the host runs: one that is relative to `ron.toml`, and the same one written
/// in full, as the last good configuration and `ron-host ctl` have it, are no change.
#[derive(Clone, Default)]
pub(crate) struct FilePath(PathBuf);

impl FilePath {
    /// Whether it leads there.
    pub(crate) fn is(&self, other: &Path) -> bool {
        // Nearly all are spelled alike, and need not be looked at twice.
        self.0 == other || matches!((absolute(&self.0), absolute(other)), (Ok(a), Ok(b)) if a == b)
    }
}

impl PartialEq for FilePath {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for FilePath {}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl<P: Into<PathBuf>> From<P> for FilePath {
    fn from(path: P) -> Self {
        Self(path.into())
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_however_it_is_spelled() {
        fn check(one: &str, other: &str, same: bool) {
            assert_eq!(FilePath::from(one) == FilePath::from(other), same, "{one} {other}");
        }
        let here = absolute("a/b.wasm").expect("there is a working directory");
        check("a/b.wasm", "a/b.wasm", true);
        check("a/b.wasm", "./a//b.wasm", true);
        check("a/b.wasm", here.to_str().expect("text"), true);
        check("a/b.wasm", "/a/b.wasm", false);
        check("a/b.wasm", "b.wasm", false);
        check("", "", true);
        check("", "a", false);
    }
}
