//! The manifest of the Rust SDK outside of its workspace: what it inherits there is
//! written out, so that every version stands in one place.

use toml::{Table, Value};

/// The workspace's own.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");

/// The manifest of a package of this workspace as one that stands alone.
pub(super) fn standing_alone(manifest: &str) -> String {
    let parse = |text: &str| text.parse::<Table>().expect("cargo reads it, so it is TOML");
    let workspace = parse(WORKSPACE);
    let inherited = |table: &str, key: &str| {
        let value = workspace.get("workspace").and_then(|all| all.get(table)?.get(key));
        value.cloned().expect("cargo reads it, so what is inherited is there")
    };
    let mut manifest = parse(manifest);
    // What its author lints is not what the SDK's do.
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        let keys: Vec<String> = package
            .iter()
            .filter(|(_, value)| inherits(value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let value = inherited("package", &key);
            package.insert(key, value);
        }
    }
    if let Some(Value::Table(dependencies)) = manifest.get_mut("dependencies") {
        for (name, value) in dependencies {
            if !inherits(value) {
                continue;
            }
            let mut whole = match inherited("dependencies", name) {
                Value::Table(whole) => whole,
                version => Table::from_iter([("version".to_owned(), version)]),
            };
            let own = value.as_table().into_iter().flatten();
            whole.extend(
                own.filter(|(key, _)| *key != "workspace")
                    .map(|(key, own)| (key.clone(), own.clone())),
            );
            *value = Value::Table(whole);
        }
    }
    manifest.to_string()
}

fn inherits(value: &Value) -> bool {
    value.get("workspace") == Some(&Value::Boolean(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inherited_is_written_out() {
        let alone = standing_alone(
            "[package]
            name = 'own'
            edition.workspace = true
            [dependencies]
            log.workspace = true
            tracing-core = { workspace = true, optional = true }
            [lints]
            workspace = true",
        );
        let alone: Table = alone.parse().expect("TOML");
        assert_eq!(alone["package"]["edition"].as_str(), Some("2024"));
        assert_eq!(alone["dependencies"]["log"]["features"][0].as_str(), Some("kv"));
        let core = &alone["dependencies"]["tracing-core"];
        assert_eq!((core["optional"].as_bool(), core.get("workspace")), (Some(true), None));
        assert!(core["version"].is_str() && !alone.contains_key("lints"));
    }
}
