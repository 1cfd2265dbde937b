//! What a service's grants name of the host's, found: variables by the host's
//! environment, directories from where the file is.
//!
//! The plan has what is meant and not what was said, so that a variable with another
//! value is another grant. What is not there stays as it was said, and
//! [`whole`](super::whole) tells of it.

use std::path::Path;

use super::read::Environment;
use crate::plan::{Plan, Secret};

/// Fills in what each service of `plan` was granted. `base` is what paths are
/// relative to.
pub(super) fn look_up(plan: &mut Plan, environment: &Environment, base: &Path) {
    for service in plan.services.values_mut() {
        for variable in &mut service.grants.env {
            if variable.value.is_none()
                && let Some(Ok(text)) = environment.text(&variable.name)
            {
                variable.value = Some(Secret::new(text.to_owned()));
            }
        }
        for directory in &mut service.grants.dirs {
            directory.host = base.join(&*directory.host).into();
        }
    }
}
