//! What components are made from: which files there are, and word of their change.
//!
//! A source is a file, a directory with all below it, or `*.EXT`: every file of that ending
//! in a directory and below it.
//!
//! A watch says that something may have changed, of a directory and all below it. What
//! counts is what is in the files then: an editor that saves nothing new starts no build.
//! Where the system tells nothing, as on a network's filesystem, they are looked at every
//! [`POLL`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use ron_runtime::Digest;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How often files are looked at, whatever is told of them.
const POLL: Duration = Duration::from_secs(2);
/// How long nothing must be told before it is believed: editors save in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// What tools leave beside sources. Hidden files are passed over too.
const LITTER: [&str; 3] = ["node_modules", "target", "__pycache__"];
/// Most files that are looked at of one service.
const MOST: usize = 20_000;

/// What the files are: each with its size, when it changed, which file it is, and what is in
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Found>);

/// A file as it was found.
#[derive(Clone, Debug)]
struct Found {
    stamp: Stamp,
    /// Nothing, where it cannot be read.
    content: Option<Digest>,
}

/// Two are the same that have the same in them.
impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for Found {}

type Stamp = (u64, Option<SystemTime>, u64);

/// A source that ends in `*.EXT`, as its directory and the ending.
pub(super) fn ending(source: &Path) -> Option<(&Path, &str)> {
    let ending = source.file_name()?.to_str()?.strip_prefix("*.")?;
    Some((source.parent()?, ending))
}

impl Snapshot {
    /// That of sources, but for one file: what is made of them may lie among them. What is
    /// as it was `before` is not read again.
    pub(super) fn of<'p>(
        sources: impl IntoIterator<Item = &'p Path>,
        but: &Path,
        before: Option<&Self>,
    ) -> Self {
        let mut found = Self::default();
        for source in sources {
            let (path, ending) = ending(source).map_or((source, None), |(p, e)| (p, Some(e)));
            found.add(path, ending, but, before);
        }
        found
    }

    fn add(&mut self, path: &Path, ending: Option<&str>, but: &Path, before: Option<&Self>) {
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            // One that has just gone is not there.
            let Ok(about) = fs::metadata(&path) else { continue };
            if !about.is_dir() {
                let fits =
                    ending.is_none_or(|ending| path.extension().is_some_and(|e| e == ending));
                if fits && path != but && self.0.len() < MOST {
                    let stamp = stamp(&about);
                    let known = before.and_then(|before| before.0.get(&path));
                    let content = match known.filter(|known| known.stamp == stamp) {
                        Some(known) => known.content,
                        None => fs::read(&path).ok().map(|bytes| Digest::of(&bytes)),
                    };
                    self.0.insert(path, Found { stamp, content });
                }
                continue;
            }
            let Ok(entries) = fs::read_dir(&path) else { continue };
            let is_source = |name: &str| !name.starts_with('.') && !LITTER.contains(&name);
            open.extend(
                entries
                    .flatten()
                    .filter(|entry| is_source(&entry.file_name().to_string_lossy()))
                    // A link to a directory may lead back here.
                    .filter(|entry| !is_linked_directory(&entry.path()))
                    .map(|entry| entry.path()),
            );
        }
    }

    /// Whether there are any, and none has changed since then.
    pub(super) fn is_older_than(&self, time: SystemTime) -> bool {
        let older = |found: &Found| found.stamp.1.is_some_and(|changed| changed < time);
        !self.0.is_empty() && self.0.values().all(older)
    }

    /// The files that came, went or are others.
    pub(super) fn changed_since<'s>(&'s self, before: &'s Self) -> BTreeSet<&'s Path> {
        let (old, new) = (&before.0, &self.0);
        let others = new.iter().filter(|(path, found)| old.get(*path) != Some(found));
        let gone = old.iter().filter(|(path, _)| !new.contains_key(*path));
        others.chain(gone).map(|(path, _)| path.as_path()).collect()
    }
}

fn is_linked_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) && path.is_dir()
}

#[cfg(unix)]
fn stamp(about: &fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    (about.len(), about.modified().ok(), about.ino())
}

#[cfg(not(unix))]
fn stamp(about: &fs::Metadata) -> Stamp {
    (about.len(), about.modified().ok(), 0)
}

/// Word of changes, for as long as it is held.
pub(super) struct Watch {
    news: Arc<Notify>,
    events: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let news = Arc::new(Notify::new());
        let heard = Arc::clone(&news);
        let events = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                heard.notify_one();
            }
        });
        let unheard = |error: &notify::Error| {
            tracing::warn!(
                "sources cannot be watched: {error}; they are looked at every {} s instead",
                POLL.as_secs()
            );
        };
        Self { news, events: events.inspect_err(unheard).ok(), watched: BTreeSet::new() }
    }

    /// Hears of these files and directories, too.
    pub(super) fn add(&mut self, path: &Path) {
        // An editor replaces a file: it is heard of in its directory.
        let (place, mode) = match (ending(path), path.is_dir()) {
            (Some((directory, _)), _) => (directory, RecursiveMode::Recursive),
            (None, true) => (path, RecursiveMode::Recursive),
            (None, false) => (path.parent().unwrap_or(path), RecursiveMode::NonRecursive),
        };
        if let Some(events) = &mut self.events
            && !self.watched.contains(path)
        {
            match events.watch(place, mode) {
                Ok(()) => drop(self.watched.insert(path.to_owned())),
                // What is not there yet is looked for.
                Err(error) => tracing::debug!("{} is not watched: {error}", path.display()),
            }
        }
    }

    /// Waits until something may have changed, and then until it is quiet.
    pub(super) async fn news(&self) {
        // No word is looked after as well.
        let _ = timeout(POLL, self.news.notified()).await;
        while timeout(QUIET, self.news.notified()).await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_leave_is_no_source() {
        let place = tempfile::tempdir().expect("a directory");
        let place = place.path();
        let put = |name: &str, text: &str| {
            let path = place.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        for name in ["src/a.py", "src/deep/b.py", "src/node_modules/x.js", "src/.swp", "one.txt"] {
            put(name, "1");
        }
        put("src/made.wasm", "1");
        let (src, one, made) =
            (place.join("src"), place.join("one.txt"), place.join("src/made.wasm"));
        let sources = [src.as_path(), one.as_path(), Path::new("/nowhere")];
        let look = |before| Snapshot::of(sources, &made, before);
        let before = look(None);
        assert_eq!(before.0.len(), 3, "{before:?}");

        put("src/node_modules/x.js", "22");
        put("src/made.wasm", "22");
        // Saved as it was.
        put("src/a.py", "1");
        assert_eq!(look(Some(&before)), before);

        put("src/deep/b.py", "22");
        put("src/new.py", "1");
        fs::remove_file(&one).expect("removed");
        let after = look(Some(&before));
        let changed = after.changed_since(&before);
        let expected = [one.clone(), src.join("deep/b.py"), src.join("new.py")];
        assert_eq!(changed, expected.iter().map(PathBuf::as_path).collect());
    }
    #[test]
    fn an_ending_is_of_all_files_below() {
        let place = tempfile::tempdir().expect("a directory");
        let place = place.path();
        for name in ["app.py", "deep/er/help.py", "deep/note.txt", "target/x.py", ".venv/y.py"] {
            let path = place.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, "1").expect("written");
        }
        let found = |source: &str| {
            let found = Snapshot::of([place.join(source).as_path()], Path::new(""), None);
            let name = |path: &PathBuf| path.strip_prefix(place).expect("below").to_owned();
            found.0.keys().map(name).collect::<Vec<_>>()
        };
        assert_eq!(found("*.py"), [Path::new("app.py"), Path::new("deep/er/help.py")]);
        assert_eq!(found("deep/*.py"), [Path::new("deep/er/help.py")]);
        assert_eq!(found("deep/note.txt"), [Path::new("deep/note.txt")]);
        assert!(found("*.rs").is_empty());
    }
}
