//! What the host is told: flags, environment, file and defaults, in this order
//! of strength, made into one [`Plan`].
//!
//! All that is wrong is told at once, wherever it stands; a plan is whole or
//! there is none. [`keys`] is the one table of what can be said. A file that was read
//! before is read [`again`] only where it changed.

mod again;
mod check;
mod choice;
mod components;
mod entries;
mod keys;
mod kind;
mod layers;
mod listeners;
mod mistake;
mod outside;
mod reach;
mod read;
mod schema;
mod show;
mod tables;
mod whole;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub(crate) use check::{Places, join};
pub(crate) use mistake::{File, In, Mistake, Place, Unfit, Wrong};
pub(crate) use read::{Environment, bytes};
pub(crate) use schema::schema;

use self::outside::Outside;
use crate::cli::Flags;
use crate::exit::Failure;
use crate::plan::{FilePath, Plan, PlannedService};

/// The file that is looked for in the working directory.
const FILE: &str = "ron.toml";

/// Where settings are taken from; the same for as long as the host runs.
#[derive(Clone)]
pub(crate) struct Inputs {
    flags: Arc<Flags>,
    environment: Arc<Environment>,
    file: Option<PathBuf>,
}

/// What is in force, and where each value was said.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) plan: Plan,
    pub(crate) file: Option<Arc<File>>,
    /// What was said and is without effect.
    pub(crate) ignored: Vec<String>,
    /// What was read besides the file.
    pub(crate) outside: Arc<Outside>,
    inputs: Inputs,
    /// What `[defaults]` makes of a service.
    defaults: Arc<PlannedService>,
    /// See [`places`](Self::places).
    places: Arc<OnceLock<Places>>,
}

/// The environment has secrets, and flags may have.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Inputs {
    /// Flags and environment, and the file that the flags name. Without one,
    /// and without a component, it is the working directory's, which may be missing
    /// where something is kept in its place.
    pub(crate) fn new(flags: Flags, environment: Environment) -> Self {
        let kept = || flags.last_good.as_deref().is_some_and(read::exists);
        let here = || {
            let file = Path::new(FILE);
            let there = flags.components.is_empty() && (read::exists(file) || kept());
            there.then(|| file.to_owned())
        };
        let file = flags.config.clone().or_else(here);
        Self { flags: Arc::new(flags), environment: Arc::new(environment), file }
    }

    /// Whether nobody says what to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_none() && self.flags.components.is_empty()
    }

    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether component files are watched too.
    pub(crate) fn watches(&self) -> bool {
        self.flags.watch
    }

    /// Where the last good configuration is kept.
    pub(crate) fn last_good(&self) -> Option<&Path> {
        self.flags.last_good.as_deref()
    }

    /// Checks all, with the file's text that was read just now; `before` are the settings
    /// that were read last.
    pub(crate) fn check_text(&self, text: &[u8], before: &Settings) -> Result<Settings, Wrong> {
        match (&self.file, std::str::from_utf8(text)) {
            (Some(path), Ok(text)) if !read::is_too_long(text) => {
                let file = Arc::new(File::new(path.clone(), text.to_owned()));
                self.again(before, &file).map_or_else(|| self.check(Some(file)), Ok)
            }
            // It says what is wrong with it.
            _ => self.read(),
        }
    }

    /// Reads the file and checks all.
    pub(crate) fn read(&self) -> Result<Settings, Wrong> {
        let Some(path) = &self.file else { return self.check(None) };
        match read::text(path) {
            Ok(text) => self.check(Some(Arc::new(File::new(path.clone(), text)))),
            Err(wrong) => {
                let place = Place::Unread(path.clone());
                let expected = "expected a configuration file".to_owned();
                let (is, key) = (In::Settings, String::new());
                let mistake = Mistake { is, place, key, wrong, expected };
                let said = self.check(None).unwrap_or_else(|wrong| *wrong.said);
                Err(Wrong::new(vec![mistake], said))
            }
        }
    }

    /// Checks all, with a file that was read before. The files that it names as
    /// secrets are read here.
    pub(crate) fn check(&self, file: Option<Arc<File>>) -> Result<Settings, Wrong> {
        let cache_dir = self.environment.cache_dir().map(FilePath::from);
        let mut plan = Plan { cache_dir, ..Plan::default() };
        let mut places = Places::new();
        let mut mistakes = Vec::new();
        let mut outside = Outside::default();
        let (mut defaults, mut broken) = (PlannedService::default(), BTreeSet::new());
        if let Some(file) = &file {
            let environment = &self.environment;
            let walk = check::Walk {
                file,
                environment,
                places: &mut places,
                mistakes: &mut mistakes,
                outside: &mut outside,
            };
            (defaults, broken) = walk.file(&mut plan);
        }
        let mut layers =
            layers::Layers { plan: &mut plan, places: &mut places, mistakes: &mut mistakes };
        layers.components(&self.flags, &defaults);
        layers.environment(&self.environment);
        layers.flags(&self.flags);
        let base = file.as_ref().map_or(Path::new(""), |file| file.base());
        reach::look_up(&mut plan, &self.environment, base, &mut outside);
        whole::check(&plan, &self.environment, &places, &mut mistakes);
        let text = file.as_ref().map_or("", |file| &file.text);
        let ignored = layers::Layers::unknown(&self.environment, text);
        let settings = Settings {
            plan,
            file: file.clone(),
            ignored,
            outside: Arc::new(outside),
            inputs: self.clone(),
            defaults: Arc::new(defaults),
            places: Arc::new(OnceLock::from(places)),
        };
        if mistakes.is_empty() {
            return Ok(settings);
        }
        if let Some(file) = &file {
            // What else is wrong in a line that is no TOML is a guess.
            let line = |span: &Range<usize>| file.position(span.start).0;
            mistakes.retain(|mistake| match &mistake.place {
                Place::File(span) => mistake.key.is_empty() || !broken.contains(&line(span)),
                _ => true,
            });
        }
        Err(Wrong::new(mistakes, settings))
    }
}

impl Settings {
    /// Where each value that is no default was said. Of a file that was read in part it is
    /// found when somebody asks, which is when something is wrong, or to be shown.
    pub(crate) fn places(&self) -> &Places {
        self.places.get_or_init(|| {
            let said = match self.inputs.check(self.file.clone()) {
                Ok(settings) => settings,
                // What was read besides the file is gone since.
                Err(wrong) => *wrong.said,
            };
            said.places.get().cloned().unwrap_or_default()
        })
    }

    /// Mistakes where those keys were said.
    pub(crate) fn mistakes(&self, unfit: Vec<Unfit>) -> Vec<Mistake> {
        let mistake = |Unfit { key, wrong, expected }| {
            let place = self.places().get(&key).cloned().unwrap_or(Place::Default);
            Mistake { is: In::Settings, place, key, wrong, expected }
        };
        unfit.into_iter().map(mistake).collect()
    }

    /// Refuses what was said, if there is anything that does not fit.
    pub(crate) fn fits(&self, unfit: Vec<Unfit>) -> Result<(), Failure> {
        if unfit.is_empty() { Ok(()) } else { Err(self.unfit(unfit)) }
    }

    /// Refuses what was said, for all of that.
    pub(crate) fn unfit(&self, unfit: Vec<Unfit>) -> Failure {
        Failure::Settings(Wrong::new(self.mistakes(unfit), self.clone()))
    }
}

#[cfg(test)]
mod tests;
