//! What is in force and where it was said, as TOML for people and JSON for
//! programs. Secrets are masked in both.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::check::join;
use super::keys::{
    BUILD, BUILDS, CONFIG, DEFAULTS, HOST, HTTP, LISTENER, LISTENERS, OWN, PAIR, SERVICE, SHARED,
    SNI, STREAM,
};
use super::kind::{Key, Kind, MASK};
use super::mistake::Place;
use crate::listener::Host;
use crate::plan::{Entry, ListenerId, PlannedRoute, PlannedService, PlannedStream};

/// Where origins stand, at the most.
const WIDTH: usize = 60;

/// One value in force.
struct Line {
    /// Its table, which is a header of its own.
    table: String,
    key: String,
    value: Option<Value>,
    secret: bool,
    place: Option<Place>,
    /// It is another than what is said, since somebody swapped, or it was put back.
    overruled: bool,
}

impl Settings {
    /// All that is in force, as a file that says it.
    pub(crate) fn toml(&self) -> String {
        self.written(&self.lines())
    }

    /// The same as a list of values.
    pub(crate) fn json(&self) -> Value {
        self.listed(&self.lines())
    }

    /// Both, of what is in force where something else may be `said`.
    pub(crate) fn beside(&self, said: &Self) -> (String, Value) {
        let mut lines = self.lines();
        let said: BTreeMap<_, _> = said
            .lines()
            .into_iter()
            .map(|line| ((line.table, line.key), (line.value, line.secret)))
            .collect();
        for line in &mut lines {
            let own = (line.value.clone(), line.secret);
            let key = (line.table.clone(), line.key.clone());
            line.overruled = said.get(&key) != Some(&own);
        }
        (self.written(&lines), self.listed(&lines))
    }

    fn written(&self, lines: &[Line]) -> String {
        let mut text = String::new();
        for lines in lines.chunk_by(|one, other| one.table == other.table) {
            if let Some(Line { table, .. }) = lines.first().filter(|line| !line.table.is_empty()) {
                text += &format!("\n[{table}]\n");
            }
            let said = |line: &Line| match &line.value {
                Some(value) => format!("{} = {}", line.key, written(value)),
                None => format!("# {} is not set", line.key),
            };
            let width = lines.iter().map(|line| said(line).chars().count()).max().unwrap_or(0);
            let width = width.min(WIDTH);
            for line in lines {
                let secret = if line.secret { "secret, " } else { "" };
                let origin = self.origin(line);
                text += &format!("{:<width$}  # {secret}{origin}\n", said(line));
            }
        }
        text
    }

    fn listed(&self, lines: &[Line]) -> Value {
        let one = |line: &Line| {
            let key = if line.table.is_empty() {
                line.key.clone()
            } else {
                format!("{}.{}", line.table, line.key)
            };
            json!({
                "key": key,
                "value": line.value,
                "secret": line.secret,
                "origin": self.origin(line),
            })
        };
        Value::Array(lines.iter().map(one).collect())
    }

    fn origin(&self, line: &Line) -> String {
        match (line.overruled, &self.file) {
            (true, Some(file)) => format!("not what {} says", file.path.display()),
            (true, None) => "not what was said".to_owned(),
            (false, _) => self.place(line.place.as_ref()),
        }
    }

    /// Where that is, for a person.
    pub(super) fn place(&self, place: Option<&Place>) -> String {
        match (place, &self.file) {
            (Some(Place::File(span)), Some(file)) => {
                format!("{}:{}", file.path.display(), file.position(span.start).0)
            }
            (Some(Place::Flag(name) | Place::Variable(name)), _) => name.clone(),
            _ => "default".into(),
        }
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut plan = self.plan.clone();
        // Tables of the host are tables; those of a service are dotted keys.
        for key in HOST {
            let (table, keys) = match &key.kind {
                Kind::Table(keys) => (key.name, *keys),
                _ => ("", std::slice::from_ref(key)),
            };
            self.keys(keys, table, "", &[table], &mut plan, &mut lines);
        }
        // A file has its keys before its tables.
        lines.sort_by_key(|line| !line.table.is_empty());
        for (id, listener) in &self.plan.listeners {
            let table = join(LISTENER.0, id.as_str());
            let mut listener = listener.clone();
            self.keys(LISTENERS, &table, "", &[&table], &mut listener, &mut lines);
            for (host, pair) in &mut listener.sni {
                let path = join(SNI.0, &host.to_string());
                self.keys(PAIR, &table, &path, &[&table], pair, &mut lines);
            }
        }
        for (id, service) in &self.plan.services {
            let table = join(SERVICE.0, id.as_str());
            let mut service = PlannedService::clone(service);
            for (keys, tables) in [(OWN, &[table.as_str()][..]), (SHARED, &[&table, DEFAULTS.0])] {
                self.keys(keys, &table, "", tables, &mut service, &mut lines);
            }
            let requests: Vec<Value> = service.http.iter().map(route).collect();
            let connections: Vec<Value> = service.stream.iter().map(stream).collect();
            for ((key, _), routes) in [(HTTP, requests), (STREAM, connections)] {
                if !routes.is_empty() {
                    lines.push(Line {
                        key: key.to_owned(),
                        value: Some(routes.into()),
                        secret: false,
                        place: self.places().get(&join(&table, key)).cloned(),
                        overruled: false,
                        table: table.clone(),
                    });
                }
            }
            if let Some(build) = &mut service.build {
                let table = join(&table, BUILD.0);
                self.keys(BUILDS, &table, "", &[&table], build, &mut lines);
            }
            let table = join(&table, CONFIG.0);
            for (key, entry) in &service.config {
                let path = join(&table, key);
                let secret = matches!(entry, Entry::Secret(_));
                lines.push(Line {
                    key: join("", key),
                    value: Some(json!(if secret { MASK } else { entry.text() })),
                    secret,
                    place: self.places().get(&path).cloned(),
                    overruled: false,
                    table: table.clone(),
                });
            }
        }
        lines
    }

    /// One line for each key; it was said in one of `tables`, or nowhere.
    fn keys<T>(
        &self,
        keys: &'static [Key<T>],
        table: &str,
        path: &str,
        tables: &[&str],
        of: &mut T,
        lines: &mut Vec<Line>,
    ) {
        for key in keys {
            let path = join(path, key.name);
            if let Kind::Table(keys) = &key.kind {
                self.keys(keys, table, &path, tables, of, lines);
                continue;
            }
            let said = |table: &&str| {
                let dot = if table.is_empty() { "" } else { "." };
                self.places().get(&format!("{table}{dot}{path}")).cloned()
            };
            let place = tables.iter().find_map(said);
            let value = key.kind.show(of);
            if value.is_some() || place.is_some() {
                let table = table.to_owned();
                let (secret, overruled) = (false, false);
                lines.push(Line { table, key: path, value, secret, place, overruled });
            }
        }
    }
}

fn route(route: &PlannedRoute) -> Value {
    let shown = json!({"path": route.path.to_string()});
    from(shown, route.listener.as_ref(), route.host.as_ref())
}

fn stream(route: &PlannedStream) -> Value {
    from(json!({}), route.listener.as_ref(), route.host.as_ref())
}

/// Where a route leads from.
fn from(mut shown: Value, listener: Option<&ListenerId>, host: Option<&Host>) -> Value {
    if let Some(listener) = listener {
        shown["listener"] = json!(listener.as_str());
    }
    if let Some(host) = host {
        shown["host"] = json!(host.to_string());
    }
    shown
}

/// A value as TOML has it, which is JSON but for one character and the look.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{key} = {}", written(value));
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string().replace('\u{7f}', "\\u007f"),
    }
}
