//! A service's own table, and the secrets in it.

use std::collections::BTreeMap;

use ron_kernel::ServiceId;
use ron_kernel::config::entry_text;
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::{Walk, join};
use super::mistake::Place;
use crate::plan::{Entry, Secret};

/// Where a secret is.
enum Source<'a> {
    File(&'a str),
    Variable(&'a str),
}

impl Walk<'_> {
    /// Reads `[service.NAME.config]`, which is at `path`.
    pub(super) fn entries(
        &mut self,
        table: &DeTable<'_>,
        path: &str,
        of: &ServiceId,
    ) -> BTreeMap<String, Entry> {
        let mut entries = BTreeMap::new();
        for (key, item) in table {
            let path = join(path, key.get_ref());
            let entry = match source(item.get_ref()) {
                Ok(Some(source)) => self.secret(&source, of),
                Ok(None) => json(item.get_ref()).map(|value| Entry::Open(entry_text(&value))),
                Err(wrong) => Err((wrong, SECRET.to_owned())),
            };
            match entry {
                Ok(entry) => {
                    self.places.insert(path, Place::File(item.span()));
                    entries.insert(key.get_ref().to_string(), entry);
                }
                Err((wrong, expected)) => self.wrong(item.span(), &path, wrong, &expected),
            }
        }
        entries
    }

    fn secret(&mut self, source: &Source<'_>, of: &ServiceId) -> Result<Entry, (String, String)> {
        let text = match source {
            Source::File(path) => {
                let path = self.file.base().join(path);
                return self.outside.secret(path.clone(), of).map(Entry::Secret).map_err(|why| {
                    let expected = "expected a file with the secret, relative to this file";
                    (format!("{}: {why}", path.display()), expected.to_owned())
                });
            }
            Source::Variable(name) => {
                let expected = || "expected a variable of the host's environment".to_owned();
                match self.environment.text(name) {
                    Some(Ok("")) => return Err((format!("${name} is empty"), expected())),
                    Some(Ok(text)) => text.to_owned(),
                    Some(Err(wrong)) => return Err((format!("${name} {wrong}"), expected())),
                    None => return Err((format!("${name} is not set"), expected())),
                }
            }
        };
        Ok(Entry::Secret(Secret::new(text)))
    }
}

const SECRET: &str = "expected { file = \"PATH\" } or { env = \"NAME\" }";

/// Where the secret is, if the value is one: a table of `file` or `env` alone.
fn source<'a>(value: &'a DeValue<'_>) -> Result<Option<Source<'a>>, String> {
    let Some(table) = value.as_table() else { return Ok(None) };
    let of = |name: &str| table.get(name).map(Spanned::get_ref);
    match (of("file"), of("env"), table.len()) {
        (Some(DeValue::String(path)), None, 1) if !path.is_empty() => Ok(Some(Source::File(path))),
        (None, Some(DeValue::String(name)), 1) if !name.is_empty() => {
            Ok(Some(Source::Variable(name)))
        }
        (Some(_), Some(_), 2) => Err("a secret is in one place".into()),
        (Some(_), None, 1) | (None, Some(_), 1) => Err("a secret's place is a text".into()),
        _ => Ok(None),
    }
}

/// A value as JSON, or what JSON has no word for.
fn json(value: &DeValue<'_>) -> Result<Value, (String, String)> {
    let unfit = |value: &dyn std::fmt::Display| {
        (format!("{value} is no number of JSON"), "expected one of 64 bits".to_owned())
    };
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let (text, radix) = (number.as_str(), number.radix());
            let value = i64::from_str_radix(text, radix)
                .map(Number::from)
                .or_else(|_| u64::from_str_radix(text, radix).map(Number::from));
            Value::Number(value.map_err(|_| unfit(&number))?)
        }
        DeValue::Float(number) => {
            let finite = number.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(finite.ok_or_else(|| unfit(&number))?)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let own = |(key, item): (&Spanned<_>, &Spanned<_>)| {
                json(item.get_ref()).map(|value| (ToString::to_string(key.get_ref()), value))
            };
            Value::Object(table.iter().map(own).collect::<Result<Map<_, _>, _>>()?)
        }
    })
}
