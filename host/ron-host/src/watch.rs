//! Watching files whose content is in force: `ron.toml`, components.
//!
//! A file is watched by name in its directory and in that of each link on the
//! way to it (`links.rs` says why), and looked at every [`POLL`] besides, since a
//! network filesystem tells nothing. What counts is the content: one that two
//! reads agree on and that is another than the last is passed on, as
//! `settling.rs` decides. A file that is missing or cannot be read says nothing,
//! and what is in force stays in force.
//!
//! Nobody is ever behind by more than one version: what waits for the receiver
//! is replaced by what comes after it.

mod links;
mod settling;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use ron_runtime::{Digest, read_file};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use self::settling::{Action, DEBOUNCE, Input, Settling};

/// How often files are looked at, whatever is told of them.
const POLL: Duration = Duration::from_secs(2);
/// Settled files that wait for the receiver, besides one for each file.
const QUEUE: usize = 16;
/// Largest file that is read, in bytes: that of a component.
const MAX_FILE: u64 = 256 << 20;
/// Whether the system tells that a writer closed a file.
const CLOSES_ARE_TOLD: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A file's new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The file, as it was given to [`Watcher::add`].
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
}

/// Watches files for as long as it is held.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Watched>,
    /// Something was heard, or files were added.
    news: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    files: BTreeMap<PathBuf, File>,
    /// Which files a name on the way to them decides.
    by_name: HashMap<PathBuf, Vec<PathBuf>>,
    /// What the receiver has no room for yet.
    waiting: BTreeMap<PathBuf, Settled>,
}

#[derive(Debug)]
struct File {
    settling: Settling<Digest>,
    heard: Option<Input<Digest>>,
    names: BTreeSet<PathBuf>,
    stamp: Option<Stamp>,
    /// What was said of its not being readable, which is said once.
    trouble: Option<String>,
}

/// What changes with the content, where a filesystem is any good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Device and inode, and when that last changed.
    place: (u64, u64, i64, i64),
}

impl Watcher {
    /// Watches nothing yet. Settled contents come out of the receiver.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Settled>) {
        Self::start(true, POLL)
    }

    fn start(events: bool, poll: Duration) -> (Self, mpsc::Receiver<Settled>) {
        let shared = Arc::new(Shared::default());
        let directories = Arc::new(Mutex::new(Directories::new(events, &shared)));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        task.spawn(run(Arc::clone(&shared), directories, sender, poll));
        (Self { shared, _task: task }, receiver)
    }

    /// Watches a file. With `known`, its content is news when it is another
    /// than that; otherwise it is news as soon as it is there.
    pub(crate) fn add(&self, path: impl Into<PathBuf>, known: Option<Digest>) {
        let file = File {
            settling: Settling::new(known),
            heard: Some(Input::Touched),
            names: BTreeSet::new(),
            stamp: None,
            trouble: None,
        };
        self.shared.watched.lock().files.insert(path.into(), file);
        self.shared.news.notify_one();
    }

    /// Watches these files, with what is known of them, and no others. One that
    /// is watched already stays as it is.
    pub(crate) fn only(&self, files: BTreeMap<PathBuf, Option<Digest>>) {
        let (gone, watched): (Vec<PathBuf>, BTreeSet<PathBuf>) = {
            let watched = self.shared.watched.lock();
            let gone = watched.files.keys().filter(|path| !files.contains_key(*path)).cloned();
            (gone.collect(), watched.files.keys().cloned().collect())
        };
        for path in gone {
            self.remove(&path);
        }
        for (path, digest) in files {
            if !watched.contains(&path) {
                self.add(path, digest);
            }
        }
    }

    /// Somebody else has taken what a file held, or found nothing that could be read. What
    /// waits for the receiver is older, or the same; what the file holds now is looked at.
    pub(crate) fn taken(&self, path: &Path, content: Option<Digest>) {
        let mut watched = self.shared.watched.lock();
        if let Some(file) = watched.files.get_mut(path) {
            file.settling.taken(content);
            file.heard.get_or_insert(Input::Touched);
            watched.waiting.remove(path);
        }
        drop(watched);
        self.shared.news.notify_one();
    }

    /// Ends the watch on a file.
    pub(crate) fn remove(&self, path: &Path) {
        let mut watched = self.shared.watched.lock();
        watched.files.remove(path);
        watched.waiting.remove(path);
        watched.index();
        // The task lets go of the directories.
        drop(watched);
        self.shared.news.notify_one();
    }
}

async fn run(
    shared: Arc<Shared>,
    directories: Arc<Mutex<Directories>>,
    sender: mpsc::Sender<Settled>,
    poll: Duration,
) {
    let mut poll = interval(poll);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (wake, waiting) = {
            let watched = shared.watched.lock();
            let wake = watched.files.values().filter_map(|file| file.settling.wake()).min();
            (wake, !watched.waiting.is_empty())
        };
        let elapsed = async {
            match wake {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut look = false;
        tokio::select! {
            () = shared.news.notified() => {}
            () = elapsed => {}
            _ = poll.tick() => look = true,
            room = sender.reserve(), if waiting => {
                // Nobody listens any more.
                let Ok(room) = room else { return };
                if let Some((_, settled)) = shared.watched.lock().waiting.pop_first() {
                    room.send(settled);
                }
                continue;
            }
        }
        let (shared, directories) = (Arc::clone(&shared), Arc::clone(&directories));
        let stepped = tokio::task::spawn_blocking(move || {
            if look {
                shared.look();
            }
            shared.step(&mut directories.lock());
        });
        if let Err(error) = stepped.await {
            tracing::error!(%error, "files could not be looked at");
        }
    }
}

impl Watched {
    /// Finds anew which names belong to which files.
    fn index(&mut self) {
        self.by_name.clear();
        for (path, file) in &self.files {
            for name in &file.names {
                self.by_name.entry(name.clone()).or_default().push(path.clone());
            }
        }
    }

    fn hear(&mut self, name: &Path, input: &Input<Digest>) {
        for path in self.by_name.get(name).into_iter().flatten() {
            if let Some(file) = self.files.get_mut(path) {
                file.heard = Some(input.clone());
            }
        }
    }
}

impl Shared {
    /// What the system says. Runs on a thread of its own, and takes only the
    /// lock that is never held for long.
    fn heard(&self, event: notify::Result<notify::Event>) {
        let mut watched = self.watched.lock();
        match event {
            Ok(event) if !event.need_rescan() => {
                let Some(input) = meaning(event.kind) else { return };
                for name in &event.paths {
                    watched.hear(name, &input);
                }
            }
            // Events were lost: everything may have changed.
            Ok(_) | Err(_) => {
                for file in watched.files.values_mut() {
                    file.heard = Some(Input::Touched);
                }
            }
        }
        drop(watched);
        self.news.notify_one();
    }

    /// Looks at every file for what nothing told of.
    fn look(&self) {
        let paths: Vec<(PathBuf, Option<Stamp>)> = {
            let watched = self.watched.lock();
            watched.files.iter().map(|(path, file)| (path.clone(), file.stamp.clone())).collect()
        };
        for (path, before) in paths {
            let now = stamp(&path);
            if now != before
                && let Some(file) = self.watched.lock().files.get_mut(&path)
            {
                file.stamp = now;
                file.heard.get_or_insert(Input::FoundChanged);
            }
        }
    }

    /// Steps every machine, and reads what is to be read.
    fn step(&self, directories: &mut Directories) {
        let mut due: Vec<PathBuf> = Vec::new();
        {
            let mut watched = self.watched.lock();
            let now = Instant::now();
            for (path, file) in &mut watched.files {
                if let Some(heard) = file.heard.take() {
                    file.settling.step(heard, now);
                }
                if file.settling.step(Input::Elapsed, now) == Some(Action::Read) {
                    due.push(path.clone());
                }
            }
        }
        for path in &due {
            self.read(path, directories);
        }
        let names: BTreeSet<PathBuf> = {
            let watched = self.watched.lock();
            watched.by_name.keys().cloned().collect()
        };
        directories.keep(&names);
    }

    fn read(&self, path: &Path, directories: &mut Directories) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let names = links::names(&absolute);
        // Watched first, read then: no change falls between the two.
        {
            let mut watched = self.watched.lock();
            if let Some(file) = watched.files.get_mut(path)
                && file.names != names
            {
                file.names.clone_from(&names);
                watched.index();
            }
        }
        directories.watch(&names);
        let before = stamp(path);
        let read = read(path);
        let unsettled = stamp(path) != before || before.as_ref().is_some_and(Stamp::is_fresh);
        let mut watched = self.watched.lock();
        // It may have been taken off meanwhile.
        let Some(file) = watched.files.get_mut(path) else { return };
        // What could not be read, though it is there, is tried again at each look.
        file.stamp = before.filter(|_| read.is_ok());
        let now = Instant::now();
        // What happened during the read makes it out of date.
        if let Some(heard) = file.heard.take() {
            file.settling.step(heard, now);
        } else if unsettled {
            file.settling.step(Input::FoundChanged, now);
        }
        let bytes = file.or_trouble(path, read);
        let digest = bytes.as_deref().map(Digest::of);
        let action = file.settling.step(Input::Read(digest), now);
        if let (Some(Action::Emit), Some(bytes), Some(digest)) = (action, bytes, digest) {
            let settled = Settled { path: path.to_owned(), bytes, digest };
            watched.waiting.insert(path.to_owned(), settled);
        }
    }
}

impl File {
    fn or_trouble(&mut self, path: &Path, read: io::Result<Bytes>) -> Option<Bytes> {
        let error = match read {
            Ok(bytes) => {
                self.trouble = None;
                return Some(bytes);
            }
            Err(error) => error,
        };
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!("{}: cannot be read: {text}; what is in force stays", path.display());
            self.trouble = Some(text);
        }
        None
    }
}

/// What an event says of the names in it, if anything.
fn meaning(kind: EventKind) -> Option<Input<Digest>> {
    match kind {
        EventKind::Modify(ModifyKind::Data(_)) if CLOSES_ARE_TOLD => Some(Input::Written),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Input::Touched),
        // That somebody reads it, as this watcher does.
        EventKind::Access(_) => None,
        _ => Some(Input::Touched),
    }
}

#[cfg(unix)]
fn place(found: &fs::Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn place(_: &fs::Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

impl Stamp {
    /// Whether it changed within the quiet time, whatever was told: on a busy machine
    /// what a writer does comes before the word of it. A time that is yet to come is
    /// another machine's clock, and says nothing.
    fn is_fresh(&self) -> bool {
        let age = self.modified.and_then(|at| SystemTime::now().duration_since(at).ok());
        age.is_some_and(|age| age < DEBOUNCE)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp { bytes: found.len(), modified: found.modified().ok(), place: place(&found) })
}

fn read(path: &Path) -> io::Result<Bytes> {
    read_file(path, MAX_FILE).map(Bytes::from)
}

/// The directories that are watched.
#[derive(Debug)]
struct Directories {
    /// `None` where the system has no events to give: files are looked at
    /// every [`POLL`] then.
    events: Option<RecommendedWatcher>,
    /// Each with its place, which tells when it was replaced.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    warned: bool,
}

impl Directories {
    fn new(events: bool, shared: &Arc<Shared>) -> Self {
        let heard = Arc::downgrade(shared);
        let handler = move |event| {
            if let Some(shared) = heard.upgrade() {
                shared.heard(event);
            }
        };
        let mut directories = Self { events: None, watched: BTreeMap::new(), warned: false };
        if events {
            match notify::recommended_watcher(handler) {
                Ok(events) => directories.events = Some(events),
                Err(error) => directories.warn(&error),
            }
        }
        directories
    }

    /// Watches the directories that these names lie in.
    fn watch(&mut self, names: &BTreeSet<PathBuf>) {
        for directory in names.iter().filter_map(|name| name.parent()) {
            let Ok(found) = fs::metadata(directory) else { continue };
            let (device, inode, ..) = place(&found);
            if self.watched.get(directory) == Some(&(device, inode)) {
                continue;
            }
            let Some(events) = &mut self.events else { continue };
            if self.watched.remove(directory).is_some() {
                // It was replaced; the old one's watch may have ended by itself.
                drop(events.unwatch(directory));
            }
            match events.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(directory.to_owned(), (device, inode))),
                Err(error) => self.warn(&error),
            }
        }
    }

    /// Lets go of the directories in which none of these names lies.
    fn keep(&mut self, names: &BTreeSet<PathBuf>) {
        let Some(events) = &mut self.events else { return };
        self.watched.retain(|directory, _| {
            let keep = names.iter().any(|name| name.parent() == Some(directory));
            if !keep {
                // One that is gone is not watched already.
                drop(events.unwatch(directory));
            }
            keep
        });
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "files cannot be watched: {error}; they are looked at every {} s instead",
                POLL.as_secs()
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
