//! The watcher on a real filesystem. Every content carries its own checksum, so
//! that half of one shows.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ron_runtime::Digest;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Settled, Watcher};

/// When a test that waits is taken for hung.
const HUNG: Duration = Duration::from_secs(60);

/// A directory of its own, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ron-host-watch-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Content number `number`, some pages long.
fn content(number: u32) -> Vec<u8> {
    let body = format!("{number} ").repeat(4000);
    format!("{number}\n{body}\n{}", Digest::of(body.as_bytes())).into_bytes()
}

/// The number of a content, which must be whole.
fn number(bytes: &[u8]) -> u32 {
    let text = std::str::from_utf8(bytes).expect("text");
    let parts: Vec<&str> = text.split('\n').collect();
    let [number, body, digest] = parts[..] else { panic!("half of a content") };
    assert_eq!(Digest::of(body.as_bytes()).to_string(), digest, "half of a content");
    number.parse().expect("a number")
}

fn save(path: &Path, number: u32) {
    let beside = path.with_extension("new");
    fs::write(&beside, content(number)).expect("written");
    fs::rename(&beside, path).expect("renamed");
}

struct Watch {
    watcher: Watcher,
    settled: mpsc::Receiver<Settled>,
}

impl Watch {
    /// Of one file, whose content is known, by what the system tells alone.
    fn of(path: &Path) -> Self {
        Self::by(Watcher::start(true, Duration::from_secs(86_400)), path)
    }

    fn by((watcher, settled): (Watcher, mpsc::Receiver<Settled>), path: &Path) -> Self {
        let known = fs::read(path).ok().map(|bytes| Digest::of(&bytes));
        watcher.add(path, known);
        Self { watcher, settled }
    }

    async fn next(&mut self) -> Settled {
        timeout(HUNG, self.settled.recv()).await.expect("it hangs").expect("it watches")
    }

    /// Waits for this content, and says how many others came before it.
    async fn until(&mut self, last: u32) -> u32 {
        let mut before = 0;
        loop {
            let settled = self.next().await;
            assert_eq!(settled.digest, Digest::of(&settled.bytes));
            match number(&settled.bytes) {
                number if number == last => return before,
                number => assert!(number < last, "{number} comes after {last}"),
            }
            before += 1;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_renamed_over() {
    let scratch = Scratch::new("rename");
    let path = scratch.path().join("f");
    save(&path, 0);
    let mut watch = Watch::of(&path);
    for number in 1..=3 {
        save(&path, number);
        assert_eq!(watch.until(number).await, 0);
    }
}

/// The writer pauses for longer than any quiet time: only the last piece makes
/// it whole, and it is known to be the last because it is followed by the close.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_written_in_pieces() {
    let scratch = Scratch::new("pieces");
    let (path, other) = (scratch.path().join("f"), scratch.path().join("other"));
    save(&path, 0);
    save(&other, 0);
    let mut watch = Watch::of(&path);
    watch.watcher.add(&other, Some(Digest::of(&content(0))));
    // Watched: its first content is seen not to be news.
    save(&path, 1);
    watch.until(1).await;
    let whole = content(2);
    let mut file = fs::File::create(&path).expect("opened");
    for (index, piece) in whole.chunks(whole.len() / 3).enumerate() {
        file.write_all(piece).expect("written");
        file.flush().expect("flushed");
        // Another file settles meanwhile: as long as that takes, nothing is
        // said of this one.
        let told = 1 + u32::try_from(index).expect("few");
        save(&other, told);
        let settled = watch.next().await;
        assert_eq!((&settled.path, number(&settled.bytes)), (&other, told));
    }
    drop(file);
    assert_eq!(watch.until(2).await, 0);
}

/// As the kubelet does: everything lies in a directory of its own, `..data`
/// points there, and a new `..data` is renamed over it.
#[tokio::test]
async fn a_config_map() {
    let scratch = Scratch::new("configmap");
    let root = scratch.path();
    let publish = |number: u32| {
        let own = format!("..{number}");
        fs::create_dir(root.join(&own)).expect("made");
        fs::write(root.join(&own).join("ron.toml"), content(number)).expect("written");
        symlink(&own, root.join("..data_tmp")).expect("linked");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
        if number > 0 {
            fs::remove_dir_all(root.join(format!("..{}", number - 1))).expect("removed");
        }
    };
    publish(0);
    symlink("..data/ron.toml", root.join("ron.toml")).expect("linked");
    let mut watch = Watch::of(&root.join("ron.toml"));
    for number in 1..=3 {
        publish(number);
        assert_eq!(watch.until(number).await, 0);
    }
}

#[tokio::test]
async fn a_file_that_is_deleted_and_restored() {
    let scratch = Scratch::new("restore");
    let (path, other) = (scratch.path().join("f"), scratch.path().join("other"));
    save(&path, 1);
    save(&other, 0);
    let mut watch = Watch::of(&path);
    watch.watcher.add(&other, Some(Digest::of(&content(0))));
    fs::remove_file(&path).expect("removed");
    save(&path, 1);
    // The other one takes as long to settle, and was saved later.
    save(&other, 1);
    assert_eq!(watch.next().await.path, other);
    fs::remove_file(&path).expect("removed");
    save(&other, 2);
    assert_eq!(watch.next().await.path, other, "a file that is gone says nothing");
    save(&path, 2);
    assert_eq!(watch.next().await.path, path);
}

#[tokio::test]
async fn a_directory_that_is_replaced_or_not_there_yet() {
    let scratch = Scratch::new("directory");
    let directory = scratch.path().join("d");
    let path = directory.join("f");
    let mut watch = Watch::by(Watcher::new(), &path);
    for number in 1..=3 {
        let own = scratch.path().join(format!("d{number}"));
        fs::create_dir(&own).expect("made");
        save(&own.join("f"), number);
        if directory.exists() {
            fs::rename(&directory, scratch.path().join(format!("old{number}"))).expect("moved");
        }
        fs::rename(&own, &directory).expect("renamed");
        assert_eq!(watch.until(number).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_writes() {
    const WRITES: u32 = 1000;
    let scratch = Scratch::new("thousand");
    let path = scratch.path().join("f");
    save(&path, 0);
    let mut watch = Watch::of(&path);
    let writer = tokio::task::spawn_blocking(move || {
        for number in 1..=WRITES {
            // In place and by renaming, in turn.
            if number % 2 == 0 {
                fs::write(&path, content(number)).expect("written");
            } else {
                save(&path, number);
            }
        }
    });
    watch.until(WRITES).await;
    writer.await.expect("it writes");
    assert!(watch.settled.try_recv().is_err(), "nothing comes after the last");
}

#[tokio::test]
async fn a_filesystem_that_tells_nothing() {
    let scratch = Scratch::new("poll");
    let path = scratch.path().join("f");
    save(&path, 0);
    let (watcher, settled) = Watcher::start(false, Duration::from_millis(20));
    watcher.add(&path, None);
    let mut watch = Watch { watcher, settled };
    for number in 0..=3 {
        save(&path, number);
        assert_eq!(watch.until(number).await, 0);
    }
}

#[tokio::test]
async fn files_come_and_go() {
    let scratch = Scratch::new("come-and-go");
    let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
    save(&first, 0);
    save(&second, 0);
    let mut watch = Watch::of(&first);
    save(&first, 1);
    assert_eq!(watch.next().await.path, first);
    watch.watcher.add(&second, None);
    assert_eq!(watch.next().await.path, second, "its content is news");
    watch.watcher.remove(&first);
    save(&first, 2);
    save(&second, 2);
    assert_eq!(watch.next().await.path, second);
    watch.watcher.remove(&second);
    save(&second, 3);
    watch.watcher.add(&first, Some(Digest::of(&content(2))));
    save(&first, 3);
    let settled = watch.next().await;
    assert_eq!((settled.path, number(&settled.bytes)), (first, 3));
}

/// Only the newest version of a file waits for a receiver that does not come.
#[tokio::test]
async fn the_last_version_wins_over_those_that_wait() {
    let scratch = Scratch::new("queue");
    let (watcher, settled) = Watcher::start(false, Duration::from_millis(20));
    let mut watch = Watch { watcher, settled };
    let paths: Vec<PathBuf> =
        (0..super::QUEUE).map(|number| scratch.path().join(number.to_string())).collect();
    for path in &paths {
        save(path, 0);
        watch.watcher.add(path, None);
    }
    let waits = |watch: &Watch| {
        watch.watcher.shared.watched.lock().waiting.values().map(|own| number(&own.bytes)).collect()
    };
    // The queue is full of those; one file more waits, and changes.
    while watch.settled.len() < super::QUEUE {
        tokio::task::yield_now().await;
    }
    let late = scratch.path().join("late");
    watch.watcher.add(&late, None);
    for number in 0..3 {
        save(&late, number);
        loop {
            let waiting: Vec<u32> = waits(&watch);
            if waiting == [number] {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    for _ in &paths {
        assert_ne!(watch.next().await.path, late);
    }
    let settled = watch.next().await;
    assert_eq!((settled.path, number(&settled.bytes)), (late, 2));
}
