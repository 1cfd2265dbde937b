//! What is being compiled at this moment, for whoever waits for it: a component that brings
//! an interpreter takes many seconds, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// One component that is being compiled.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// Its file.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub bytes: u64,
}

/// All of them. A clone is the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiling(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    under_way: Vec<(u64, Compilation)>,
}

/// It is under way for as long as this is held.
pub(crate) struct UnderWay {
    compiling: Compiling,
    number: u64,
}

impl Compiling {
    pub(crate) fn begin(&self, path: &Path, bytes: usize) -> UnderWay {
        let mut list = self.0.lock();
        let number = list.next;
        list.next += 1;
        let (path, bytes) = (path.to_owned(), bytes as u64);
        list.under_way.push((number, Compilation { path, bytes }));
        UnderWay { compiling: self.clone(), number }
    }

    pub(crate) fn list(&self) -> Vec<Compilation> {
        self.0.lock().under_way.iter().map(|(_, one)| one.clone()).collect()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.compiling.0.lock().under_way.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_not_told() {
        let compiling = Compiling::default();
        let path = Path::new("a.wasm");
        let (one, other) = (compiling.begin(path, 1), compiling.begin(path, 2));
        drop(one);
        let left: Vec<u64> = compiling.list().iter().map(|one| one.bytes).collect();
        assert_eq!(left, [2]);
        drop(other);
        assert!(compiling.list().is_empty());
    }
}
