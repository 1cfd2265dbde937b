//! Where a file is to be watched: by name, in every directory on its way.
//!
//! A watch on the file itself misses that another one is renamed over it. A
//! watch on its directory misses that a link on the way to it is pointed
//! elsewhere, which is how a ConfigMap is updated (`ron.toml` is a link to
//! `..data/ron.toml`, and `..data` the one that is replaced). So the path is
//! walked as the kernel walks it, and each link on it counts as much as its end.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Most links on one way, as in Linux.
const LINKS: usize = 40;

/// The names on the way to `path` that decide what it is: each link, and the
/// end. Each lies in a directory that exists and is no link itself. Where the
/// way is broken, the first name that is missing is the end.
pub(super) fn names(path: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    let mut at = PathBuf::new();
    let mut ahead: VecDeque<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Prefix(_) | Component::RootDir) => {
                at.push(&part);
                continue;
            }
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            Some(Component::CurDir) | None => continue,
            Some(Component::Normal(_)) => {}
        }
        let next = at.join(&part);
        match fs::symlink_metadata(&next) {
            Ok(found) if found.is_symlink() && links < LINKS => {
                links += 1;
                names.insert(next.clone());
                let Ok(target) = fs::read_link(&next) else { return names };
                if target.is_absolute() {
                    at = PathBuf::new();
                }
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            Ok(_) if ahead.is_empty() => {
                names.insert(next.clone());
                at = next;
            }
            Ok(_) => at = next,
            Err(_) => {
                names.insert(next);
                return names;
            }
        }
    }
    names
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components().map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tests::Scratch;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_link_counts_and_the_end() {
        let scratch = Scratch::new("links");
        let root = scratch.path().canonicalize().expect("it is there");
        fs::create_dir_all(root.join("..1")).expect("made");
        fs::write(root.join("..1/f"), "").expect("written");
        symlink("..1", root.join("..data")).expect("linked");
        symlink("..data/f", root.join("f")).expect("linked");
        symlink(root.join("f"), root.join("absolute")).expect("linked");
        symlink("round", root.join("round")).expect("linked");
        let check = |path: &str, expected: &[&str]| {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|name| root.join(name)).collect();
            assert_eq!(names(&root.join(path)), expected, "{path}");
        };
        check("..1/f", &["..1/f"]);
        check("f", &["f", "..data", "..1/f"]);
        check("absolute", &["absolute", "f", "..data", "..1/f"]);
        check("./..1/../f", &["f", "..data", "..1/f"]);
        check("round", &["round"]);
        check("missing/deep/f", &["missing"]);
    }
}
