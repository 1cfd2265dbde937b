//! What a service's grants name of the host's, found: variables by the host's
//! environment, directories from where the file is.
//!
//! The plan has what is meant and not what was said, so that a variable with another
//! value is another grant. What is not there stays as it was said, and
//! [`whole`](super::whole) tells of it.

use std::path::Path;
use std::sync::Arc;

use ron_kernel::ServiceId;

use super::outside::Outside;
use super::read::Environment;
use crate::plan::{Grants, Plan, Secret};

/// Fills in what each service of `plan` was granted. `base` is what paths are
/// relative to, and the directories are noted in `outside`.
pub(super) fn look_up(
    plan: &mut Plan,
    environment: &Environment,
    base: &Path,
    outside: &mut Outside,
) {
    let names = |grants: &Grants| !grants.env.is_empty() || !grants.dirs.is_empty();
    let all = plan.services.iter().filter(|(_, service)| names(&service.grants));
    let all: Vec<ServiceId> = all.map(|(id, _)| id.clone()).collect();
    for id in all {
        let Some(service) = plan.services.get_mut(&id).map(Arc::make_mut) else { continue };
        for variable in &mut service.grants.env {
            if variable.value.is_none()
                && let Some(Ok(text)) = environment.text(&variable.name)
            {
                variable.value = Some(Secret::new(text.to_owned()));
            }
        }
        for directory in &mut service.grants.dirs {
            directory.host = base.join(&*directory.host).into();
            outside.directory(directory.host.to_path_buf(), &id);
        }
    }
}
