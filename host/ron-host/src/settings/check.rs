//! The file: read into a plan table by table, with every mistake in it kept.
//!
//! serde stops at the first mistake, so the tables of keys are walked instead.
//! What cannot be read leaves its field as it was, and the walk goes on.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ron_kernel::ServiceId;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{
    BUILD, BUILDS, CONFIG, DEFAULTS, HOST, HTTP, LISTENER, LISTENERS, OWN, PAIR, ROUTE, SERVICE,
    SHARED, SNI, STREAM, STREAM_ROUTE,
};
use super::kind::{Key, Kind, quoted, shown};
use super::mistake::{File, In, Mistake, Place};
use super::outside::Outside;
use super::read::Environment;
use crate::listener::Host;
use crate::plan::{Build, ListenerId, Plan, PlannedListener, PlannedPair, PlannedService, Tool};

/// Where each value that is no default was said, by its dotted key.
pub(crate) type Places = BTreeMap<String, Place>;

/// A walk over one file.
pub(super) struct Walk<'a> {
    pub(super) file: &'a File,
    pub(super) environment: &'a Environment,
    pub(super) places: &'a mut Places,
    pub(super) mistakes: &'a mut Vec<Mistake>,
    pub(super) outside: &'a mut Outside,
}

type Table<'a> = DeTable<'a>;
type Item<'a> = Spanned<DeValue<'a>>;

impl Walk<'_> {
    /// Reads the file into `plan`. Returns what `[defaults]` makes of a service,
    /// and the lines that are no TOML.
    pub(super) fn file(mut self, plan: &mut Plan) -> (PlannedService, BTreeSet<usize>) {
        let file = self.file;
        let (root, errors) = DeTable::parse_recoverable(&file.text);
        let mut broken = BTreeSet::new();
        for error in errors {
            let end = file.text.trim_end().len();
            let span = error.span().unwrap_or(end..end);
            if broken.insert(file.position(span.start).0) {
                let message = error.message();
                let (wrong, expected) = match message.split_once(", expected ") {
                    Some(parts) => parts,
                    None if message == "duplicate key" => (message, "each key once"),
                    None => (message, "TOML"),
                };
                self.wrong(span, "", wrong.to_owned(), &format!("expected {expected}"));
            }
        }
        broken.extend(orphans(&file.text, &broken));
        (self.root(root.get_ref(), plan), broken)
    }

    fn root(&mut self, root: &Table<'_>, plan: &mut Plan) -> PlannedService {
        let mut names: Vec<&str> = HOST.iter().map(|key| key.name).collect();
        names.extend([DEFAULTS.0, LISTENER.0, SERVICE.0]);
        let mut defaults = PlannedService::default();
        // First, whatever the order in the file.
        if let Some(item) = root.get(DEFAULTS.0)
            && let Some(table) = self.as_table(item, DEFAULTS.0)
        {
            self.table(&[SHARED], table, DEFAULTS.0, &[], &mut defaults);
        }
        for (key, item) in root {
            match key.get_ref().as_ref() {
                name if name == DEFAULTS.0 => {}
                name if name == LISTENER.0 => self.listeners(item, plan),
                name if name == SERVICE.0 => self.services(item, &defaults, plan),
                name => match HOST.iter().find(|known| known.name == name) {
                    Some(known) => self.key(known, item, name, plan),
                    None => {
                        let belongs = SHARED.iter().chain(OWN).any(|known| known.name == name);
                        let hint = "it belongs in [service.NAME]";
                        self.unknown(key, "", &names, Some(hint).filter(|_| belongs));
                    }
                },
            }
        }
        defaults
    }

    pub(super) fn services(&mut self, item: &Item<'_>, defaults: &PlannedService, plan: &mut Plan) {
        let Some(table) = self.as_table(item, SERVICE.0) else { return };
        for (key, item) in table {
            let path = join(SERVICE.0, key.get_ref());
            let id = match ServiceId::parse(key.get_ref()) {
                Ok(id) => id,
                Err(error) => {
                    let wrong = error.to_string();
                    self.wrong(key.span(), &path, wrong, "expected [service.NAME]");
                    continue;
                }
            };
            let Some(table) = self.as_table(item, &path) else { continue };
            self.places.insert(path.clone(), Place::File(key.span()));
            let mut service = defaults.clone();
            let others = [BUILD.0, CONFIG.0, HTTP.0, STREAM.0];
            self.table(&[OWN, SHARED], table, &path, &others, &mut service);
            if let Some(item) = table.get(HTTP.0) {
                service.http = self.routes(ROUTE, item, &join(&path, HTTP.0));
            }
            if let Some(item) = table.get(STREAM.0) {
                service.stream = self.routes(STREAM_ROUTE, item, &join(&path, STREAM.0));
            }
            if let Some(item) = table.get(BUILD.0) {
                service.build = self.build(item, &join(&path, BUILD.0));
            }
            if let Some(item) = table.get(CONFIG.0) {
                let path = join(&path, CONFIG.0);
                if let Some(table) = self.as_table(item, &path) {
                    service.config = self.entries(table, &path, &id);
                }
            }
            plan.services.insert(id, Arc::new(service));
        }
    }

    fn build(&mut self, item: &Item<'_>, path: &str) -> Option<Build> {
        let table = self.as_table(item, path)?;
        let mut build = Build::default();
        self.places.insert(path.to_owned(), Place::File(item.span()));
        let before = self.mistakes.len();
        self.table(&[BUILDS], table, path, &[], &mut build);
        if build.command.is_none() && self.mistakes.len() == before {
            let wrong = "there is no command".to_owned();
            self.wrong(item.span(), path, wrong, "expected command = \"...\"");
        }
        Some(build)
    }

    fn listeners(&mut self, item: &Item<'_>, plan: &mut Plan) {
        let Some(table) = self.as_table(item, LISTENER.0) else { return };
        for (key, item) in table {
            let path = join(LISTENER.0, key.get_ref());
            let id = match key.get_ref().parse::<ListenerId>() {
                Ok(id) => id,
                Err(wrong) => {
                    self.wrong(key.span(), &path, wrong, "expected [listener.NAME]");
                    continue;
                }
            };
            let Some(table) = self.as_table(item, &path) else { continue };
            self.places.insert(path.clone(), Place::File(key.span()));
            let mut listener = PlannedListener::default();
            self.table(&[LISTENERS], table, &path, &[SNI.0], &mut listener);
            if let Some(item) = table.get(SNI.0) {
                self.sni(item, &join(&path, SNI.0), &mut listener);
            }
            plan.listeners.insert(id, listener);
        }
    }

    fn sni(&mut self, item: &Item<'_>, path: &str, listener: &mut PlannedListener) {
        let Some(table) = self.as_table(item, path) else { return };
        for (key, item) in table {
            let path = join(path, key.get_ref());
            let host = match key.get_ref().parse::<Host>() {
                Ok(host) => host,
                Err(error) => {
                    let expected = "expected \"NAME\" = { cert = \"...\", key = \"...\" }";
                    self.wrong(key.span(), &path, error.to_string(), expected);
                    continue;
                }
            };
            let Some(table) = self.as_table(item, &path) else { continue };
            self.places.insert(path.clone(), Place::File(key.span()));
            let mut pair = PlannedPair::default();
            self.table(&[PAIR], table, &path, &[], &mut pair);
            listener.sni.insert(host, pair);
        }
    }

    /// An array of tables.
    fn routes<R: Default>(
        &mut self,
        keys: &'static [Key<R>],
        item: &Item<'_>,
        path: &str,
    ) -> Vec<R> {
        let Some(items) = item.get_ref().as_array() else {
            let wrong = format!("{} is not a list", shown(item.get_ref()));
            self.wrong(item.span(), path, wrong, &format!("expected [[{path}]]"));
            return vec![];
        };
        self.places.insert(path.to_owned(), Place::File(item.span()));
        let mut routes = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let mut route = R::default();
            if let Some(table) = self.as_table(item, &path) {
                self.places.insert(path.clone(), Place::File(item.span()));
                self.table(&[keys], table, &path, &[], &mut route);
            }
            routes.push(route);
        }
        routes
    }

    /// Reads a table by these keys; `others` are read by somebody else.
    fn table<T>(
        &mut self,
        keys: &[&'static [Key<T>]],
        table: &Table<'_>,
        path: &str,
        others: &[&'static str],
        to: &mut T,
    ) {
        let names: Vec<&str> = keys
            .iter()
            .copied()
            .flatten()
            .map(|key| key.name)
            .chain(others.iter().copied())
            .collect();
        for (key, item) in table {
            let name = key.get_ref().as_ref();
            match keys.iter().copied().flatten().find(|known| known.name == name) {
                Some(known) => self.key(known, item, &join(path, name), to),
                None if others.contains(&name) => {}
                None => self.unknown(key, path, &names, None),
            }
        }
    }

    fn key<T>(&mut self, key: &Key<T>, item: &Item<'_>, path: &str, to: &mut T) {
        match &key.kind {
            Kind::Table(keys) => {
                if let Some(table) = self.as_table(item, path) {
                    self.table(&[keys], table, path, &[], to);
                }
            }
            Kind::List(at) => {
                let expected = key.kind.expected(to);
                let Some(items) = item.get_ref().as_array() else {
                    let wrong = format!("{} is not a list", told(path, item.get_ref()));
                    return self.wrong(item.span(), path, wrong, &format!("expected {expected}"));
                };
                let list = at(to);
                list.clear();
                let mut taken = 0;
                for item in items {
                    let pushed = match item.get_ref().as_str() {
                        Some(text) => list.push(text),
                        None => Err(format!("{} is not a text", told(path, item.get_ref()))),
                    };
                    match pushed {
                        Ok(()) => {
                            let place = Place::File(item.span());
                            self.places.insert(format!("{path}[{taken}]"), place);
                            taken += 1;
                        }
                        Err(wrong) => {
                            self.wrong(item.span(), path, wrong, &format!("expected {expected}"));
                        }
                    }
                }
                self.places.insert(path.to_owned(), Place::File(item.span()));
            }
            Kind::Tools(at) => {
                let Some(table) = self.as_table(item, path) else { return };
                // As they stand in the file: one may be installed with another.
                let mut tools: Vec<_> = table.iter().collect();
                tools.sort_by_key(|(key, _)| key.span().start);
                for (key, item) in tools {
                    let path = join(path, key.get_ref());
                    match item.get_ref().as_str().filter(|install| !install.trim().is_empty()) {
                        Some(install) => at(to).push(Tool {
                            program: key.get_ref().to_string(),
                            install: install.to_owned(),
                        }),
                        None => {
                            let wrong = format!("{} is not a command", shown(item.get_ref()));
                            let expected = "expected the command that installs it";
                            self.wrong(item.span(), &path, wrong, expected);
                        }
                    }
                }
                self.places.insert(path.to_owned(), Place::File(item.span()));
            }
            kind => match kind.read(item.get_ref(), self.file.base(), to) {
                Ok(()) => {
                    self.places.insert(path.to_owned(), Place::File(item.span()));
                }
                Err(wrong) => {
                    let expected = format!("expected {}", kind.expected(to));
                    self.wrong(item.span(), path, wrong, &expected);
                }
            },
        }
    }

    /// A table, or a mistake.
    fn as_table<'t, 'i>(&mut self, item: &'t Item<'i>, path: &str) -> Option<&'t Table<'i>> {
        let table = item.get_ref().as_table();
        if table.is_none() {
            let wrong = format!("{} is not a table", shown(item.get_ref()));
            self.wrong(item.span(), path, wrong, "expected a table");
        }
        table
    }

    fn unknown(
        &mut self,
        key: &Spanned<Cow<'_, str>>,
        path: &str,
        names: &[&str],
        hint: Option<&str>,
    ) {
        let name = key.get_ref().as_ref();
        let expected = match (hint, nearest(name, names)) {
            (Some(hint), _) => hint.to_owned(),
            (None, Some(near)) => format!("the nearest known key is {near:?}"),
            (None, None) => format!("expected one of {}", names.join(", ")),
        };
        self.wrong(key.span(), &join(path, name), "there is no such key".into(), &expected);
    }

    pub(super) fn wrong(&mut self, span: Range<usize>, key: &str, wrong: String, expected: &str) {
        self.mistakes.push(Mistake {
            is: In::Settings,
            place: Place::File(span),
            key: key.to_owned(),
            wrong,
            expected: expected.to_owned(),
        });
    }
}

/// A value as a mistake tells it, unless it may be a secret.
fn told(path: &str, value: &DeValue<'_>) -> String {
    if may_be_secret(path) { "this".to_owned() } else { shown(value) }
}

/// Whether what is said there may be a secret: the value of a variable, an argument.
pub(super) fn may_be_secret(path: &str) -> bool {
    path.split(['.', '[']).any(|part| part == "env" || part == "args")
}

/// The lines of tables whose head is broken: whose they are is a guess.
fn orphans(text: &str, broken: &BTreeSet<usize>) -> Vec<usize> {
    let mut within = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim_start().starts_with('[') {
            within = broken.contains(&number);
        } else if within {
            found.push(number);
        }
    }
    found
}

/// A key within a table, as it is written in TOML.
pub(crate) fn join(path: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name = if !name.is_empty() && name.chars().all(bare) { name.into() } else { quoted(name) };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let near = names.iter().map(|other| (strsim::jaro_winkler(name, other), *other));
    // As clap has it.
    near.filter(|(near, _)| *near > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
