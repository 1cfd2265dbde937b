//! What is wrong with the components that settings name, by where they were said.

use std::sync::Arc;

use ron_kernel::ServiceId;
use ron_runtime::{Kind, LoadError};

use super::Settings;
use super::check::join;
use super::keys::SERVICE;
use super::kind::size;
use super::mistake::{In, Mistake, Place, Unfit, Wrong};
use crate::author;
use crate::components::{Components, Loading};
use crate::exit::{Failure, chain};

impl Settings {
    /// The components, or all that is wrong with them and all else that is `unfit`.
    pub(crate) fn whole(&self, loading: Loading, unfit: Vec<Unfit>) -> Result<Components, Failure> {
        let mistakes = [self.mistakes_of(&loading), self.mistakes(unfit)].concat();
        match mistakes.is_empty() {
            true => Ok(loading.loaded),
            false => Err(Failure::Settings(Wrong::new(mistakes, self.clone()))),
        }
    }

    /// A mistake for each service whose component cannot be loaded, or does not fit what
    /// else is said of it.
    pub(crate) fn mistakes_of(&self, loading: &Loading) -> Vec<Mistake> {
        let failed = loading.failed.iter().map(|(id, error)| self.unloadable(id, error));
        // What is to be run by the clock must be something that has an end.
        let loaded = || {
            let own = |id| self.plan.services.get(id);
            loading.loaded.iter().filter_map(move |(id, one)| Some((id, own(id)?, &one.component)))
        };
        let endless = loaded().filter_map(|(id, service, component)| {
            let kind = component.kind();
            (service.schedule.is_some() && kind != Kind::Job).then(|| {
                let (place, key) = self.said(id, "schedule");
                let wrong = "its component is no job".to_owned();
                let expected = "expected one that exports wasi:cli/run, or no schedule".to_owned();
                Mistake { is: In::Settings, place, key, wrong, expected }
            })
        });
        let starved = loaded().filter_map(|(id, service, component)| {
            let begins_with = component.begins_with();
            (begins_with > service.limits.memory).then(|| {
                let (place, key) = self.said(id, "memory");
                let (has, needs) = (size(service.limits.memory), size(begins_with));
                let wrong = format!("its component begins with {needs}, and {has} is its limit");
                let expected = format!("expected memory = \"{needs}\", or more");
                Mistake { is: In::Settings, place, key, wrong, expected }
            })
        });
        failed.chain(endless).chain(starved).collect()
    }

    fn unloadable(&self, id: &ServiceId, error: &Arc<LoadError>) -> Mistake {
        let (key, otherwise) = match &**error {
            LoadError::OtherDigest { .. } => ("digest", "expected the component's digest"),
            LoadError::Read { .. } => ("component", "expected a WebAssembly component"),
            // What is wrong with the others says what is expected, or all there is to say.
            _ => ("component", ""),
        };
        let (place, key) = self.said(id, key);
        let text = chain(&**error);
        // What an error expects, or has found, stands at its end.
        let (wrong, expected) = ["; expected ", "; it "]
            .iter()
            .find_map(|end| text.find(end))
            .map_or((text.as_str(), otherwise), |at| (&text[..at], &text[at + 2..]));
        let (mut wrong, mut expected) = (wrong.to_owned(), expected.to_owned());
        if let Some(help) = author::advice(error) {
            let end = if expected.is_empty() { &mut wrong } else { &mut expected };
            end.push_str(&format!("; to mend it, {help}"));
        }
        Mistake { is: In::Component, place, key, wrong, expected }
    }

    /// Where a key of a service was said.
    fn said(&self, id: &ServiceId, key: &str) -> (Place, String) {
        let key = join(&join(SERVICE.0, id.as_str()), key);
        let place = match self.places().get(&key) {
            Some(place @ Place::File(_)) => place.clone(),
            _ => Place::Service(id.to_string()),
        };
        (place, key)
    }
}
