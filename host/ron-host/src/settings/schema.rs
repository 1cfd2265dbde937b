//! JSON Schema of `ron.toml`, from the table of its keys: what an editor checks
//! and completes by.

use serde_json::{Map, Value, json};

use super::keys::{
    BUILD, BUILDS, CONFIG, DEFAULTS, HOST, HTTP, LISTENER, LISTENERS, OWN, PAIR, ROUTE, SERVICE,
    SHARED, SNI, STREAM, STREAM_ROUTE,
};
use super::kind::{Key, Kind};
use crate::plan::{
    Build, Plan, PlannedListener, PlannedPair, PlannedRoute, PlannedService, PlannedStream,
};

/// The schema of the whole file.
pub(crate) fn schema() -> Value {
    let described = |mut schema: Value, about: &str| {
        schema["description"] = json!(format!("{about}."));
        schema
    };
    let service = &mut PlannedService::default();
    let shared = properties(SHARED, service);
    let mut own = properties(OWN, service);
    own.extend(shared.clone());
    own.insert(CONFIG.0.into(), described(json!({"type": "object"}), CONFIG.1));
    let mut build = table(BUILDS, &mut Build::default());
    build["required"] = json!(["command"]);
    own.insert(BUILD.0.into(), described(build, BUILD.1));
    for (of, routes) in [
        (HTTP, table(ROUTE, &mut PlannedRoute::default())),
        (STREAM, table(STREAM_ROUTE, &mut PlannedStream::default())),
    ] {
        let mut routes = json!({"type": "array", "items": routes});
        routes["items"]["required"] = json!(["listener"]);
        own.insert(of.0.into(), described(routes, of.1));
    }
    let mut listener = properties(LISTENERS, &mut PlannedListener::default());
    let pair = table(PAIR, &mut PlannedPair::default());
    let sni = json!({"type": "object", "additionalProperties": pair});
    listener.insert(SNI.0.into(), described(sni, SNI.1));
    let mut listener = closed(listener);
    listener["required"] = json!(["bind"]);
    let listeners = json!({
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "additionalProperties": listener,
    });
    let mut host = properties(HOST, &mut Plan::default());
    host.insert(DEFAULTS.0.into(), described(closed(shared), DEFAULTS.1));
    let services = json!({
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "additionalProperties": closed(own),
    });
    host.insert(LISTENER.0.into(), described(listeners, LISTENER.1));
    host.insert(SERVICE.0.into(), described(services, SERVICE.1));
    let mut schema = closed(host);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("ron.toml");
    schema
}

/// The schema of one table.
pub(super) fn table<T>(keys: &'static [Key<T>], of: &mut T) -> Value {
    closed(properties(keys, of))
}

fn closed(properties: Map<String, Value>) -> Value {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn properties<T>(keys: &'static [Key<T>], of: &mut T) -> Map<String, Value> {
    let own = |key: &Key<T>| {
        let mut schema = key.kind.schema(of);
        let about = match key.kind {
            Kind::Table(_) => format!("{}.", key.about),
            _ => format!("{}: {}.", key.about, key.kind.expected(of)),
        };
        schema["description"] = json!(about);
        if let Some(default) = key.kind.show(of) {
            schema["default"] = default;
        }
        (key.name.to_owned(), schema)
    };
    keys.iter().map(own).collect()
}
