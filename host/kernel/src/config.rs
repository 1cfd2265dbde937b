//! The configuration in force: a version, and a table for each service.
//!
//! It is a holder and neither a reader of files nor a validator: what is put in
//! here was validated as a whole before, so there is never a half-applied state
//! to see. A reader takes a [`snapshot`](Config::snapshot) and has values and
//! version that belong together for as long as it likes; the lock is held for
//! the cloning of one pointer. There is no subscription: that something changed
//! is announced as [`KernelEvent::ConfigUpdated`](crate::KernelEvent).
//!
//! A version shares with the one before what did not change: what a change costs
//! follows the change, and not the number of services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use parking_lot::RwLock;

/// The newest configuration. Clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Config {
    newest: Arc<RwLock<Arc<ConfigSnapshot>>>,
}

/// One version of the configuration; it never changes.
#[derive(Debug, Default)]
pub struct ConfigSnapshot {
    version: u64,
    services: OrdMap<String, Arc<ServiceConfig>>,
    /// What a service without a table has.
    empty: Arc<ServiceConfig>,
}

/// A service's own table, `[service.NAME.config]`: strings by key.
///
/// A string of the file stands as it is; any other value as its JSON text, see
/// [`entry_text`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceConfig {
    entries: BTreeMap<String, String>,
}

/// What [`Config::replace`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The version in force now.
    pub version: u64,
    /// The services whose table changed. A table that came or went is a change
    /// unless it is empty, which is the same as none. Empty exactly when the
    /// version stayed.
    pub changed: BTreeSet<String>,
}

impl Config {
    /// Nothing, at version 0. The first real configuration is version 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The version in force. It only grows, by one with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.newest.read().version
    }

    /// All that is in force, under one version.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ConfigSnapshot> {
        Arc::clone(&self.newest.read())
    }

    /// The table of `service`; an empty one if it has none.
    #[must_use]
    pub fn service(&self, service: &str) -> Arc<ServiceConfig> {
        self.snapshot().service(service)
    }

    /// One value. A reader of several wants a [`snapshot`](Self::snapshot).
    #[must_use]
    pub fn get(&self, service: &str, key: &str) -> Option<String> {
        self.newest.read().services.get(service)?.get(key).map(str::to_owned)
    }

    /// Put all tables in force at once, in place of all that were.
    ///
    /// The version grows by one when some table changed and stays when none
    /// did, so that applying the same file twice announces nothing. Tables that
    /// did not change stay the same allocation.
    pub fn replace(&self, services: BTreeMap<String, BTreeMap<String, String>>) -> Replaced {
        let mut newest = self.newest.write();
        let (proposed, changed) = newest.with(services);
        if !changed.is_empty() {
            *newest = Arc::new(proposed);
        }
        Replaced { version: newest.version, changed }
    }

    /// What would be in force after [`replace`](Self::replace) with these
    /// tables, under the next version, whether or not one of them changed.
    #[must_use]
    pub fn propose(
        &self,
        services: BTreeMap<String, BTreeMap<String, String>>,
    ) -> Arc<ConfigSnapshot> {
        Arc::new(self.newest.read().with(services).0)
    }

    /// What would be in force, under the next version, with these tables in place of
    /// the ones that those services have, and no change for any other.
    #[must_use]
    pub fn propose_changes(
        &self,
        changed: impl IntoIterator<Item = (String, BTreeMap<String, String>)>,
    ) -> Arc<ConfigSnapshot> {
        let newest = self.newest.read();
        let mut services = newest.services.clone();
        for (name, entries) in changed {
            let table = ServiceConfig { entries };
            if table.entries.is_empty() {
                services.remove(&name);
            } else if services.get(&name).is_none_or(|known| **known != table) {
                services.insert(name, Arc::new(table));
            }
        }
        let (version, empty) = (newest.version + 1, Arc::clone(&newest.empty));
        Arc::new(ConfigSnapshot { version, services, empty })
    }

    /// Puts what was [proposed](Self::propose) in force; returns the version.
    /// What somebody else put in force since is overtaken.
    pub fn apply(&self, proposed: &ConfigSnapshot) -> u64 {
        let mut newest = self.newest.write();
        let version = proposed.version.max(newest.version + 1);
        *newest = Arc::new(ConfigSnapshot {
            version,
            services: proposed.services.clone(),
            empty: Arc::clone(&proposed.empty),
        });
        version
    }
}

impl ConfigSnapshot {
    /// The next version, with these tables; and whose changed.
    fn with(
        &self,
        services: BTreeMap<String, BTreeMap<String, String>>,
    ) -> (Self, BTreeSet<String>) {
        let mut changed = BTreeSet::new();
        let services: OrdMap<_, _> = services
            .into_iter()
            .filter(|(_, entries)| !entries.is_empty())
            .map(|(name, entries)| {
                let table = ServiceConfig { entries };
                match self.services.get(&name).filter(|known| ***known == table) {
                    Some(known) => (name, Arc::clone(known)),
                    None => {
                        changed.insert(name.clone());
                        (name, Arc::new(table))
                    }
                }
            })
            .collect();
        changed.extend(self.services.keys().filter(|name| !services.contains_key(*name)).cloned());
        let (version, empty) = (self.version + 1, Arc::clone(&self.empty));
        (Self { version, services, empty }, changed)
    }

    /// The version that these values belong to.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The table of `service`; an empty one if it has none.
    #[must_use]
    pub fn service(&self, service: &str) -> Arc<ServiceConfig> {
        Arc::clone(self.services.get(service).unwrap_or(&self.empty))
    }

    /// One value.
    #[must_use]
    pub fn get(&self, service: &str, key: &str) -> Option<&str> {
        self.services.get(service)?.get(key)
    }
}

impl ServiceConfig {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// All keys and values, by key.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The text that a service reads for a value of its table: a string as it
/// stands, anything else as its JSON.
#[must_use]
pub fn entry_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Tables = BTreeMap<String, BTreeMap<String, String>>;

    fn tables(services: &[(&str, &[(&str, &str)])]) -> Tables {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        services
            .iter()
            .map(|(name, entries)| ((*name).to_owned(), entries.iter().map(own).collect()))
            .collect()
    }

    fn check(
        config: &Config,
        services: &[(&str, &[(&str, &str)])],
        version: u64,
        changed: &[&str],
    ) {
        let replaced = config.replace(tables(services));
        assert_eq!(replaced.version, version);
        assert_eq!(config.version(), version);
        assert!(replaced.changed.iter().eq(changed), "{:?}", replaced.changed);
    }

    #[test]
    fn the_version_grows_when_something_changed() {
        let config = Config::new();
        assert_eq!(config.version(), 0);
        check(&config, &[], 0, &[]);
        check(&config, &[("a", &[("k", "1")]), ("b", &[("k", "1")])], 1, &["a", "b"]);
        check(&config, &[("a", &[("k", "1")]), ("b", &[("k", "1")])], 1, &[]);
        check(&config, &[("a", &[("k", "2")]), ("b", &[("k", "1")])], 2, &["a"]);
        check(&config, &[("a", &[("k", "2")])], 3, &["b"]);
        check(&config, &[("a", &[("k", "2")]), ("b", &[])], 3, &[]);
        check(&config, &[("a", &[])], 4, &["a"]);
        let proposed = config.propose(tables(&[("a", &[])]));
        assert_eq!((proposed.version(), config.version()), (5, 4), "nothing is in force yet");
        assert_eq!(config.clone().apply(&proposed), 5);
        assert_eq!(config.version(), 5);
        assert_eq!(config.apply(&proposed), 6, "versions only grow");
    }

    #[test]
    fn a_change_of_some_tables_leaves_the_others() {
        let config = Config::new();
        let before = [("a", &[("k", "1")][..]), ("b", &[("k", "1")]), ("c", &[("k", "1")])];
        config.replace(tables(&before));
        let old = config.snapshot();
        let changes = [("a", &[("k", "2")][..]), ("b", &[]), ("c", &[("k", "1")]), ("d", &[])];
        let proposed = config.propose_changes(tables(&changes));
        assert_eq!((proposed.version(), config.version()), (2, 1), "nothing is in force yet");
        assert_eq!(config.apply(&proposed), 2);
        assert_eq!(config.get("a", "k").as_deref(), Some("2"));
        assert_eq!(config.get("b", "k"), None);
        assert!(Arc::ptr_eq(&old.service("c"), &config.service("c")), "unchanged, so shared");
        let whole = config.propose(tables(&[("a", &[("k", "2")]), ("c", &[("k", "1")])]));
        assert!(whole.services == config.snapshot().services, "as if all had been said");
    }

    #[test]
    fn a_snapshot_does_not_change() {
        let config = Config::new();
        config.replace(tables(&[("a", &[("k", "1")]), ("b", &[("k", "1")])]));
        let old = config.snapshot();
        config.replace(tables(&[("a", &[("k", "2"), ("l", "3")]), ("b", &[("k", "1")])]));
        assert_eq!((old.version(), old.get("a", "k")), (1, Some("1")));
        assert_eq!(config.get("a", "k").as_deref(), Some("2"));
        assert!(config.service("a").entries().eq([("k", "2"), ("l", "3")]));
        assert!(Arc::ptr_eq(&old.service("b"), &config.service("b")), "unchanged, so shared");
        assert_eq!(config.service("c").entries().len(), 0);
        assert_eq!(config.get("c", "k"), None);
    }

    #[test]
    fn a_string_stands_as_it_is_and_the_rest_as_json() {
        for (value, text) in [
            (json!("a \"b\"\n"), "a \"b\"\n"),
            (json!(""), ""),
            (json!(10), "10"),
            (json!(1.5), "1.5"),
            (json!(true), "true"),
            (json!(["a", 1]), r#"["a",1]"#),
            (json!({"k": "v"}), r#"{"k":"v"}"#),
        ] {
            assert_eq!(entry_text(&value), text);
        }
    }
}
