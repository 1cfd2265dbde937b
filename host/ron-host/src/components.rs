//! Loading components: off the host's threads, each file once, and every failure
//! kept. `settings/components.rs` tells of them.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use bytesize::ByteSize;
use ron_kernel::ServiceId;
use ron_runtime::{Compilation, Component, Digest, Kind, LoadError, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::interval_at;

use crate::exit::Failure;
use crate::plan::PlannedService;

/// How long nothing is said of a component that is being compiled, and how often then.
const PATIENCE: Duration = Duration::from_secs(2);
const TELL: Duration = Duration::from_secs(5);
/// Components that are named then.
const NAMED: usize = 5;

/// A component, and what loading it was like.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) component: Component,
    pub(crate) took: Duration,
    /// Its file, just before it was read.
    pub(crate) stamp: Option<Stamp>,
}

/// What of a file changes with its content, so that a thousand files need not be
/// read to find the one that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Which file it is, and when that last changed: a copy may have the time of
    /// the file before it.
    place: (u64, i64, i64),
}

impl Stamp {
    /// That of a file; `None` where there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            (found.ino(), found.ctime(), found.ctime_nsec())
        };
        #[cfg(not(unix))]
        let place = (0, 0, 0);
        Some(Self { bytes: found.len(), modified: found.modified().ok(), place })
    }
}

/// The component of each service.
pub(crate) type Components = BTreeMap<ServiceId, Loaded>;

/// What came of loading.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    pub(crate) loaded: Components,
    pub(crate) failed: BTreeMap<ServiceId, Arc<LoadError>>,
}

impl Loading {
    /// What those are that were loaded.
    pub(crate) fn kinds(&self) -> BTreeMap<ServiceId, Kind> {
        self.loaded.iter().map(|(id, one)| (id.clone(), one.component.kind())).collect()
    }
}

/// Loads what these services run. A component that is `known`, which is asked if there is
/// anything to load, is not loaded again, and a file that several services share is read once.
pub(crate) async fn load(
    runtime: &Runtime,
    services: impl IntoIterator<Item = (&ServiceId, &Arc<PlannedService>)>,
    known: impl FnOnce() -> Vec<Component>,
) -> Result<Loading, Failure> {
    let mut files: HashMap<(PathBuf, Option<Digest>), Vec<ServiceId>> = HashMap::new();
    for (id, service) in services {
        let file = (service.component.to_path_buf(), service.digest);
        files.entry(file).or_default().push(id.clone());
    }
    if files.is_empty() {
        return Ok(Loading::default());
    }
    let known = Arc::new(known());
    let (count, mut set) = (files.len(), JoinSet::new());
    // As many at a time as there are processors: to compile takes a hundred megabytes and
    // more, and a thousand at a time would take no less time.
    let places = Arc::new(Semaphore::new(thread::available_parallelism().map_or(2, NonZero::get)));
    for ((path, pin), ids) in files {
        let (runtime, known) = (runtime.clone(), Arc::clone(&known));
        let places = Arc::clone(&places);
        set.spawn(async move {
            let _place = places.acquire_owned().await;
            let loading = spawn_blocking(move || {
                let began = Instant::now();
                let stamp = Stamp::of(&path);
                let known = |digest: &Digest| {
                    known.iter().find(|component| component.digest() == *digest).cloned()
                };
                let component = Component::load_known(&runtime, &path, pin.as_ref(), known);
                (ids, component.map(|component| Loaded { component, took: began.elapsed(), stamp }))
            });
            loading.await
        });
    }
    let mut loading = Loading::default();
    let (mut all, done) = (Vec::new(), AtomicUsize::new(0));
    let joining = async {
        while let Some(joined) = set.join_next().await {
            all.push(joined.flatten());
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let how_far = || (count > 1).then(|| (done.load(Ordering::Relaxed), count));
    telling(runtime, how_far, joining).await;
    for joined in all {
        match joined.map_err(|error| Failure::host("a component's loading ended early", error))? {
            (ids, Ok(one)) => loading.loaded.extend(ids.into_iter().map(|id| (id, one.clone()))),
            (ids, Err(error)) => {
                let error = Arc::new(error);
                loading.failed.extend(ids.into_iter().map(|id| (id, Arc::clone(&error))));
            }
        }
    }
    Ok(loading)
}

/// Does something that may compile, and says what is being compiled for long meanwhile;
/// and of how many components how many are loaded, where there are several.
pub(crate) async fn telling<T>(
    runtime: &Runtime,
    how_far: impl Fn() -> Option<(usize, usize)>,
    doing: impl Future<Output = T>,
) -> T {
    let (mut doing, began) = (pin!(doing), Instant::now());
    let mut patience = interval_at(tokio::time::Instant::now() + PATIENCE, TELL);
    loop {
        tokio::select! {
            done = &mut doing => return done,
            _ = patience.tick() => tell_progress(runtime, began, how_far()),
        }
    }
}

/// Says what is being compiled for long, to whoever waits for it.
fn tell_progress(runtime: &Runtime, began: Instant, how_far: Option<(usize, usize)>) {
    let all = runtime.compiling();
    if all.is_empty() {
        return;
    }
    let name = |one: &Compilation| {
        let size = ByteSize(one.bytes).display().iec();
        format!("{} ({size})", one.path.file_name().unwrap_or_default().to_string_lossy())
    };
    let mut names: Vec<String> = all.iter().take(NAMED).map(name).collect();
    if all.len() > NAMED {
        names.push(format!("{} more", all.len() - NAMED));
    }
    let (names, seconds) = (names.join(", "), began.elapsed().as_secs());
    let of = how_far.map(|(done, count)| format!("; {done} of {count} are loaded"));
    let of = of.unwrap_or_default();
    tracing::info!("compiling for {seconds} s: {names}{of}; next time they come from the cache");
}
