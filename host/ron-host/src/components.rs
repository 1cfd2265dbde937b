//! Loading components: off the host's threads, each file once, and every failure
//! kept. `settings/components.rs` tells of them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ron_kernel::ServiceId;
use ron_runtime::{Component, Digest, LoadError, Runtime};
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::plan::PlannedService;

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

/// Loads what these services run. A component that is `known` is not loaded
/// again, and a file that several services share is read once.
pub(crate) async fn load(
    runtime: &Runtime,
    services: impl IntoIterator<Item = (&ServiceId, &PlannedService)>,
    known: Vec<Component>,
) -> Result<Loading, Failure> {
    let mut files: HashMap<(PathBuf, Option<Digest>), Vec<ServiceId>> = HashMap::new();
    for (id, service) in services {
        let file = (service.component.to_path_buf(), service.digest);
        files.entry(file).or_default().push(id.clone());
    }
    let known = Arc::new(known);
    let mut set = JoinSet::new();
    for ((path, pin), ids) in files {
        let (runtime, known) = (runtime.clone(), Arc::clone(&known));
        set.spawn_blocking(move || {
            let began = Instant::now();
            let stamp = Stamp::of(&path);
            let known = |digest: &Digest| {
                known.iter().find(|component| component.digest() == *digest).cloned()
            };
            let component = Component::load_known(&runtime, &path, pin.as_ref(), known);
            (ids, component.map(|component| Loaded { component, took: began.elapsed(), stamp }))
        });
    }
    let mut loading = Loading::default();
    while let Some(joined) = set.join_next().await {
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
