//! What is stronger than the file: the environment, and the flags above it.

use std::path::Path;
use std::sync::Arc;

use ron_kernel::ServiceId;
use toml::de::DeValue;

use super::check::{Places, join, nearest};
use super::keys::{CONFIG, HOST, SERVICE};
use super::kind::{Key, Kind};
use super::mistake::{In, Mistake, Place};
use super::read::Environment;
use crate::cli::{ComponentArg, Flags};
use crate::plan::{Entry, Plan, PlannedService, Secret};

/// What variables of a service's configuration begin with.
const CONFIG_PREFIX: &str = "RON_CONFIG__";

/// Whether one of these says something of a service.
pub(super) fn speak_of_services(flags: &Flags, environment: &Environment) -> bool {
    let Flags { components, set, optional, .. } = flags;
    !(components.is_empty() && set.is_empty() && optional.is_empty())
        || environment.names().any(|name| name.starts_with(CONFIG_PREFIX))
}

/// A plan that is being overruled.
pub(super) struct Layers<'a> {
    pub(super) plan: &'a mut Plan,
    pub(super) places: &'a mut Places,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

impl Layers<'_> {
    /// `--component`: a service more, or another component for one of the
    /// file's. Before the environment, which may speak of it.
    pub(super) fn components(&mut self, flags: &Flags, defaults: &PlannedService) {
        for arg in &flags.components {
            let flag = format!("--component {}", arg.text);
            let id = match name(arg) {
                Ok(id) => id,
                Err(wrong) => {
                    let expected = match arg.name {
                        Some(_) => "expected another NAME before the =",
                        None => "name it with NAME=PATH",
                    };
                    self.wrong(Place::Flag(flag), wrong, expected);
                    continue;
                }
            };
            let path = join(SERVICE.0, id.as_str());
            let key = join(&path, "component");
            let place = Place::Flag(flag);
            let service = self.plan.services.entry(id.clone());
            let service = Arc::make_mut(service.or_insert_with(|| Arc::new(defaults.clone())));
            if let Some(Place::Flag(_)) = self.places.get(&key) {
                let (one, other) = (service.component.display(), arg.path.display());
                let wrong = format!("two services are named {id}: {one} and {other}");
                self.wrong(place, wrong, "name one with --component NAME=PATH");
                continue;
            }
            service.component = arg.path.clone().into();
            self.places.entry(path).or_insert_with(|| place.clone());
            self.places.insert(key, place);
        }
    }

    /// Variables that look like the host's and are not: what is misspelt would be
    /// without effect, and without a word. Those that the `file` names are a service's,
    /// and Kubernetes has some for a service of such a name.
    pub(super) fn unknown(environment: &Environment, file: &str) -> Vec<String> {
        let mut known = Vec::new();
        names(HOST, "", &mut known);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let foreign = |name: &str| {
            // What a host that builds a component tells the build.
            name == "RON_HOST"
                || name.starts_with(CONFIG_PREFIX)
                || name.contains("_SERVICE_HOST")
                || name.contains("_SERVICE_PORT")
                || name.ends_with("_PORT")
                || name.contains("_PORT_")
                || file.contains(name)
        };
        let unknown = environment
            .names()
            .filter(|name| name.starts_with("RON_") && !known.contains(name) && !foreign(name));
        let told = unknown.map(|name| {
            let expected = match nearest(name, &known) {
                _ if name.starts_with("RON_SERVICE") => {
                    format!("of a service, {CONFIG_PREFIX}NAME__KEY alone can be said so")
                }
                Some(near) => format!("the nearest is {near}"),
                None => format!("there is {}", known.join(", ")),
            };
            format!("{name}: there is no such variable, and it is without effect; {expected}")
        });
        told.collect()
    }

    pub(super) fn environment(&mut self, environment: &Environment) {
        self.variables(HOST, "", environment);
        let own = |name: &&str| name.starts_with(CONFIG_PREFIX);
        for name in environment.names().filter(own) {
            let place = Place::Variable(name.to_owned());
            let rest = &name[CONFIG_PREFIX.len()..];
            // NAME and KEY may both have underscores, so a name is looked for.
            let found: Vec<(ServiceId, &str)> = (self.plan.services.keys())
                .filter_map(|id| {
                    let key = rest.strip_prefix(&shouted(id.as_str()))?.strip_prefix("__")?;
                    (!key.is_empty()).then(|| (id.clone(), key))
                })
                .collect();
            let [(id, key)] = &found[..] else {
                let wrong = match found.len() {
                    0 => "names no service".to_owned(),
                    count => format!("could mean {count} services"),
                };
                let there = self.services();
                let expected = format!("expected {CONFIG_PREFIX}NAME__KEY; {there}");
                self.wrong(place, wrong, &expected);
                continue;
            };
            match environment.text(name) {
                Some(Ok(text)) => {
                    let entries = self.plan.services.get(id).map(|service| &service.config);
                    let known = entries.and_then(|own| own.keys().find(|own| shouted(own) == *key));
                    let key = known.cloned().unwrap_or_else(|| key.to_lowercase());
                    self.entry(id, &key, text, place);
                }
                Some(Err(wrong)) => self.wrong(place, wrong, "expected a text"),
                None => {}
            }
        }
    }

    /// The host's own keys, each by its variable. An empty one is none.
    fn variables(&mut self, keys: &'static [Key<Plan>], path: &str, environment: &Environment) {
        for key in keys {
            let path = join(path, key.name);
            if let Kind::Table(keys) = key.kind {
                self.variables(keys, &path, environment);
                continue;
            }
            let name = variable(&path);
            let place = Place::Variable(name.clone());
            let text = match environment.text(&name) {
                None | Some(Ok("")) => continue,
                Some(Ok(text)) => text,
                Some(Err(wrong)) => {
                    let expected = format!("expected {}", key.kind.expected(self.plan));
                    self.wrong(place, wrong, &expected);
                    continue;
                }
            };
            // A variable has text alone, where a file has other values too.
            let value = match (&key.kind, text.parse()) {
                (Kind::Bool(_), Ok(value)) => DeValue::Boolean(value),
                _ => DeValue::String(text.into()),
            };
            match key.kind.read(&value, Path::new(""), self.plan) {
                Ok(()) => {
                    self.places.insert(path, place);
                }
                Err(wrong) => {
                    let expected = format!("expected {}", key.kind.expected(self.plan));
                    self.wrong(place, wrong, &expected);
                }
            }
        }
    }

    pub(super) fn flags(&mut self, flags: &Flags) {
        let Flags {
            // Which file; see `Inputs`.
            config: _,
            // How files are dealt with; see `deployment.rs`.
            last_good: _,
            watch: _,
            components: _,
            set,
            optional,
            on_critical,
            admin,
            http,
            tls_self_signed,
            control,
            log_format,
            log_level,
            access_log,
            metrics_detail,
            cache_dir,
            no_cache,
        } = flags;
        let plan = &mut *self.plan;
        let mut said = |key: &str, flag: &str| {
            self.places.insert(key.to_owned(), Place::Flag(flag.to_owned()));
        };
        if let Some(http) = http {
            plan.http = Some(*http);
            said("http", "--http");
        }
        plan.tls_self_signed |= tls_self_signed;
        if let Some(admin) = admin {
            plan.admin = *admin;
            said("admin", "--admin");
        }
        if let Some(path) = control {
            plan.control = Some(path.clone().into());
            said("control", "--control");
        }
        if let Some(format) = log_format {
            plan.log.format = *format;
            said("log.format", "--log-format");
        }
        if let Some(level) = log_level {
            plan.log.written.level = *level;
            said("log.level", "--log-level");
        }
        if *access_log {
            plan.log.written.access = true;
            said("log.access", "--access-log");
        }
        if let Some(on_critical) = on_critical {
            plan.on_critical = *on_critical;
            said("on_critical", "--on-critical");
        }
        if let Some(detail) = metrics_detail {
            plan.metrics_detail = *detail;
            said("metrics_detail", "--metrics-detail");
        }
        if let Some(directory) = cache_dir {
            plan.cache_dir = Some(directory.clone().into());
            said("cache_dir", "--cache-dir");
        }
        if *no_cache {
            plan.cache_dir = None;
            said("cache_dir", "--no-cache");
        }
        for set in set {
            let place = Place::Flag(format!("--set {}.{}", set.service, set.key));
            match self.plan.services.keys().find(|id| id.as_str() == set.service).cloned() {
                Some(id) => self.entry(&id, &set.key, &set.value, place),
                None => self.wrong(place, "there is no such service".into(), &self.services()),
            }
        }
        for name in optional {
            let place = Place::Flag(format!("--optional {name}"));
            match self.plan.services.get_mut(name.as_str()).map(Arc::make_mut) {
                Some(service) => {
                    service.critical = false;
                    self.places.insert(join(&join(SERVICE.0, name), "critical"), place);
                }
                None => self.wrong(place, "there is no such service".into(), &self.services()),
            }
        }
    }

    /// A value of a service's configuration. What is a secret stays one.
    fn entry(&mut self, id: &ServiceId, key: &str, text: &str, place: Place) {
        let Some(service) = self.plan.services.get_mut(id).map(Arc::make_mut) else { return };
        let entry = match service.config.get(key) {
            Some(Entry::Secret(_)) => Entry::Secret(Secret::new(text.to_owned())),
            Some(Entry::Open(_)) | None => Entry::Open(text.to_owned()),
        };
        service.config.insert(key.to_owned(), entry);
        self.places.insert(join(&join(&join(SERVICE.0, id.as_str()), CONFIG.0), key), place);
    }

    fn services(&self) -> String {
        there_is(self.plan)
    }

    fn wrong(&mut self, place: Place, wrong: String, expected: &str) {
        let expected = expected.to_owned();
        self.mistakes.push(Mistake {
            is: In::Settings,
            place,
            key: String::new(),
            wrong,
            expected,
        });
    }
}

/// The variables of these keys.
fn names(keys: &[Key<Plan>], path: &str, to: &mut Vec<String>) {
    for key in keys {
        let path = join(path, key.name);
        match key.kind {
            Kind::Table(keys) => names(keys, &path, to),
            _ => to.push(variable(&path)),
        }
    }
}

/// The variable of a key of the host's.
fn variable(path: &str) -> String {
    format!("RON_{}", shouted(path))
}

/// The services that there are, as far as somebody would read on.
pub(super) fn there_is(plan: &Plan) -> String {
    const NAMED: usize = 10;
    let names: Vec<&str> = plan.services.keys().map(ServiceId::as_str).take(NAMED).collect();
    match plan.services.len() {
        0 => "there is none".into(),
        all if all > NAMED => format!("there is {} and {} more", names.join(", "), all - NAMED),
        _ => format!("there is {}", names.join(", ")),
    }
}

/// As it is written in the name of a variable.
fn shouted(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn name(arg: &ComponentArg) -> Result<ServiceId, String> {
    let text = match (&arg.name, arg.path.file_stem()) {
        (Some(name), _) => name.clone(),
        (None, Some(stem)) => stem.to_string_lossy().into_owned(),
        // `.`, `..` or `/`: a directory, which loading it tells better than a word about
        // its name.
        (None, None) => "component".to_owned(),
    };
    ServiceId::parse(&text).map_err(|error| error.to_string())
}
