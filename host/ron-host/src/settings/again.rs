//! A file that was read before, but for the tables of some services: those alone are
//! read, so that what a reload costs follows the change and not the file.
//!
//! It is a short cut and never another way. Wherever it cannot be told that the rest
//! means what it meant, or anything is wrong, nothing comes of it, and the file is read
//! whole; what comes of it is what reading it whole would give.

use std::sync::Arc;

use ron_kernel::ServiceId;
use toml::de::DeTable;

use super::check::{Places, Walk};
use super::keys::SERVICE;
use super::tables::Differs;
use super::{File, Inputs, Settings, layers, reach, whole};
use crate::plan::Plan;

impl Inputs {
    /// What `file` says, when it said `before`.
    pub(super) fn again(&self, before: &Settings, file: &Arc<File>) -> Option<Settings> {
        let old = before.file.as_deref().filter(|old| old.path == file.path)?;
        if layers::speak_of_services(&self.flags, &self.environment)
            || !before.outside.is_still_so()
        {
            return None;
        }
        if old.text == file.text {
            return Some(Settings { file: Some(Arc::clone(file)), ..before.clone() });
        }
        let Differs { old: _, new, services, tables } =
            old.tables()?.compare(&old.text, &file.text)?;
        let root = DeTable::parse(file.text.get(new)?).ok()?;
        let (mut places, mut mistakes) = (Places::new(), Vec::new());
        let mut outside = (*before.outside).clone();
        let mut changed = Plan::default();
        let ids: Vec<ServiceId> =
            services.iter().map(|name| ServiceId::parse(name)).collect::<Result<_, _>>().ok()?;
        outside.forget(ids.iter());
        let mut walk = Walk {
            file,
            environment: &self.environment,
            places: &mut places,
            mistakes: &mut mistakes,
            outside: &mut outside,
        };
        if let Some(item) = root.get_ref().get(SERVICE.0) {
            walk.services(item, &before.defaults, &mut changed);
        }
        reach::look_up(&mut changed, &self.environment, file.base(), &mut outside);
        outside.tidy();
        let mut plan = before.plan.clone();
        for id in ids {
            match changed.services.remove(&id) {
                Some(service) => drop(plan.services.insert(id, service)),
                None => drop(plan.services.remove(&id)),
            }
        }
        whole::check_changed(&before.plan, &plan, &self.environment, &mut mistakes);
        if !mistakes.is_empty() {
            return None;
        }
        let ignored = layers::Layers::unknown(&self.environment, &file.text);
        file.know(tables);
        Some(Settings {
            plan,
            ignored,
            file: Some(Arc::clone(file)),
            inputs: self.clone(),
            defaults: Arc::clone(&before.defaults),
            outside: Arc::new(outside),
            places: Arc::default(),
        })
    }
}
