//! `ron-host compile`: compiles components ahead of time, into the cache that a host looks
//! in.

use std::path::PathBuf;
use std::time::Instant;

use ron_runtime::Component;

use crate::components;
use crate::exit::Failure;
use crate::host;
use crate::plan::Plan;
use crate::report;

/// Compiles each, unless the cache has it. One that cannot be does not stop the others.
pub(crate) async fn compile(plan: &Plan, components: Vec<PathBuf>) -> Result<(), Failure> {
    if plan.cache_dir.is_none() {
        return Err(Failure::config("there is no cache; expected --cache-dir or HOME"));
    }
    let runtime = host::runtime(plan)?;
    let mut failed = Vec::new();
    for path in components {
        let (own, name) = (runtime.clone(), path.display().to_string());
        let began = Instant::now();
        let loading = tokio::task::spawn_blocking(move || Component::load(&own, &path));
        match components::telling(&runtime, || None, loading)
            .await
            .map_err(|error| Failure::host("compiling ended early", error))?
        {
            Ok(loaded) => {
                let (digest, cached) = (loaded.digest(), loaded.from_cache());
                report::compiled(plan.log.format, &name, digest, began.elapsed(), cached);
            }
            Err(error) => failed.push((name, error.into())),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Components(failed)) }
}
