//! The kinds of values that a key can have: how each is read, shown, described
//! to a person and to a machine.
//!
//! A key leads to its field by a function, and the field's type decides what
//! the key can be. So reading, showing and the schema cannot drift apart.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use ron_kernel::ServiceId;
use ron_kernel::topic::TopicFilter;
use ron_runtime::{Digest, Peer, Schedule};
use serde_json::{Value, json};
use toml::de::DeValue;

use super::choice::Choice;
use crate::listener::{Host, PathPrefix};
use crate::plan::{
    Alpn, Argument, Bucket, BuildCommand, Directory, FilePath, ListenerId, Secret, SourcePath,
    Tool, Variable,
};

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";

/// The way from a table to one of its fields.
pub(super) type At<T, V> = fn(&mut T) -> &mut V;

/// One key of a table.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    /// One sentence, without a full stop.
    pub(super) about: &'static str,
    pub(super) kind: Kind<T>,
}

/// What a key's value is. Numbers have a least and a most.
pub(super) enum Kind<T: 'static> {
    Bool(At<T, bool>),
    Count(At<T, dyn Number>, u64, u64),
    /// Bytes.
    Size(At<T, dyn Number>, u64, u64),
    Time(At<T, Duration>, Duration, Duration),
    Choice(At<T, dyn Choice>),
    Address(At<T, SocketAddr>),
    /// One that need not be said.
    MaybeAddress(At<T, Option<SocketAddr>>),
    /// A file that must be named.
    File(At<T, FilePath>),
    /// A file that need not be, and what is in it.
    MaybeFile(At<T, Option<FilePath>>, &'static str),
    Text(At<T, dyn Text>),
    Directory(At<T, Option<FilePath>>),
    Digest(At<T, Option<Digest>>),
    List(At<T, dyn List>),
    /// Programs, each with the command that installs it.
    Tools(At<T, Vec<Tool>>),
    Table(&'static [Key<T>]),
}

/// An unsigned integer of any width.
pub(super) trait Number {
    fn get(&self) -> u64;
    fn set(&mut self, value: u64);
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn get(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }

            fn set(&mut self, value: u64) {
                *self = <$type>::try_from(value).unwrap_or(<$type>::MAX);
            }
        }
    )*};
}

number!(u32, u64, usize);

/// 0 is none.
impl Number for Option<NonZeroU32> {
    fn get(&self) -> u64 {
        self.map_or(0, |number| number.get().into())
    }

    fn set(&mut self, value: u64) {
        *self = NonZeroU32::new(u32::try_from(value).unwrap_or(u32::MAX));
    }
}

/// A text that means something.
pub(super) trait Text {
    /// Takes it in, or says what is wrong with it.
    fn set(&mut self, text: &str) -> Result<(), String>;
    /// Nothing, where nothing is said.
    fn text(&self) -> Option<String>;
    /// What it is.
    fn is(&self) -> &'static str;
}

macro_rules! text {
    ($type:ty, $is:literal) => {
        impl Text for Option<$type> {
            fn set(&mut self, text: &str) -> Result<(), String> {
                let unfit = |_| format!("{} is not {}", quoted(text), short($is));
                *self = Some(text.parse().map_err(unfit)?);
                Ok(())
            }

            fn text(&self) -> Option<String> {
                self.as_ref().map(ToString::to_string)
            }

            fn is(&self) -> &'static str {
                $is
            }
        }
    };
}

/// What something is, without the example.
fn short(is: &str) -> &str {
    is.split_once(',').map_or(is, |(is, _)| is)
}

text!(ListenerId, "the name of a listener");
text!(Host, "a host's name, such as \"api.example\", or \"*.example\" for all below it");

impl Text for Option<Schedule> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let unfit = |error| format!("{} is not a schedule: {error}", quoted(text));
        *self = Some(text.parse().map_err(unfit)?);
        Ok(())
    }

    fn text(&self) -> Option<String> {
        self.as_ref().map(ToString::to_string)
    }

    fn is(&self) -> &'static str {
        "minute, hour, day of the month, month and day of the week in UTC, such as \"*/5 * * * *\", \
         with seconds before them or without"
    }
}

impl Text for Option<BuildCommand> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let fits = !text.trim().is_empty() && !text.contains('\0');
        *self = Some(fits.then(|| BuildCommand(text.to_owned())).ok_or("it is no command")?);
        Ok(())
    }

    fn text(&self) -> Option<String> {
        self.as_ref().map(|command| command.0.clone())
    }

    fn is(&self) -> &'static str {
        "a command line for `sh`"
    }
}

impl Text for PathPrefix {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let unfit = |_| format!("{} is not {}", quoted(text), short(self.is()));
        *self = text.parse().map_err(unfit)?;
        Ok(())
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn is(&self) -> &'static str {
        "the beginning of a path, such as \"/v1\""
    }
}

/// A list of texts that mean something.
pub(super) trait List {
    fn clear(&mut self);
    /// Takes one in, or says what is wrong with it.
    fn push(&mut self, text: &str) -> Result<(), String>;
    fn texts(&self) -> Vec<String>;
    /// What the list is of.
    fn of(&self) -> &'static str;
}

/// One text of a [`List`].
pub(super) trait Element: Sized {
    /// In the plural.
    const OF: &'static str;
    fn read(text: &str) -> Result<Self, String>;
    fn text(&self) -> &str;
}

impl<E: Element> List for Vec<E> {
    fn clear(&mut self) {
        Vec::clear(self);
    }

    fn push(&mut self, text: &str) -> Result<(), String> {
        Vec::push(self, E::read(text)?);
        Ok(())
    }

    fn texts(&self) -> Vec<String> {
        self.iter().map(|element| element.text().to_owned()).collect()
    }

    fn of(&self) -> &'static str {
        E::OF
    }
}

impl Element for ServiceId {
    const OF: &'static str = "names of services";

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn text(&self) -> &str {
        self.as_str()
    }
}

impl Element for TopicFilter {
    const OF: &'static str = "topic filters, such as \"orders.>\"";

    fn read(text: &str) -> Result<Self, String> {
        let filter = Self::parse(text)
            .map_err(|error| format!("{} is not a topic filter: {error}", quoted(text)))?;
        if filter.is_hosts() {
            return Err(format!("{} is the host's own", quoted(text)));
        }
        Ok(filter)
    }

    fn text(&self) -> &str {
        self.as_str()
    }
}

macro_rules! element {
    ($type:ident, $of:literal, $what:literal, $fits:expr) => {
        impl Element for $type {
            const OF: &'static str = $of;

            fn read(text: &str) -> Result<Self, String> {
                let fits: fn(&str) -> bool = $fits;
                match !text.is_empty() && !text.chars().any(char::is_control) && fits(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(format!("{} is not {}", quoted(text), $what)),
                }
            }

            fn text(&self) -> &str {
                &self.0
            }
        }
    };
}

element!(Argument, "arguments", "an argument", |_| true);
element!(SourcePath, "files, directories and \"*.EXT\", relative to this file", "a path", |_| true);

impl Element for Directory {
    const OF: &'static str = "directories, such as \"assets\" or \"state::/data:rw\"";

    fn read(text: &str) -> Result<Self, String> {
        let (path, writable) = match text.strip_suffix(":rw") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let (host, guest) = path.split_once("::").unwrap_or((path, path));
        if host.is_empty() || guest.is_empty() || text.chars().any(char::is_control) {
            return Err(format!("{} is not a directory", quoted(text)));
        }
        let (host, guest) = (FilePath::from(host), guest.to_owned());
        Ok(Self { said: text.to_owned(), host, guest, writable })
    }

    fn text(&self) -> &str {
        &self.said
    }
}

/// What stands after `=` may be a secret, and is in no mistake.
impl Element for Variable {
    const OF: &'static str = "variables, each NAME or NAME=value";

    fn read(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let fits = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fits {
            // Without a `=` it may be a value as well.
            return Err(match value {
                Some(_) => format!("{} is not a variable's name", quoted(name)),
                None => "this is not a variable's name".to_owned(),
            });
        }
        if value.is_some_and(|value| value.contains('\0')) {
            return Err(format!("the value of {name} has a character that none may have"));
        }
        let shown = if value.is_some() { format!("{name}={MASK}") } else { name.to_owned() };
        let value = value.map(|value| Secret::new(value.to_owned()));
        Ok(Self { name: name.to_owned(), value, shown })
    }

    fn text(&self) -> &str {
        &self.shown
    }
}

// Its length is one byte in the handshake.
element!(Alpn, "names of protocols, such as \"mqtt\"", "a protocol's name", |text| {
    text.len() <= 255
});
element!(Bucket, "names of buckets", "a bucket's name", |text| {
    text != "default"
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
});

impl Element for Peer {
    const OF: &'static str = "hosts, with a port or without";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| {
            let such = "a host, such as \"example.org:443\"";
            format!("{} is not {such}: {error}", quoted(text))
        })
    }

    fn text(&self) -> &str {
        Peer::text(self)
    }
}

impl<T> Kind<T> {
    /// Puts a value that is no list and no table in its place, or says what is
    /// wrong with it. `base` is what paths are relative to.
    pub(super) fn read(&self, given: &DeValue<'_>, base: &Path, to: &mut T) -> Result<(), String> {
        let text = given.as_str();
        let unfit = || format!("{} is not {}", shown(given), self.noun());
        match self {
            Self::Bool(at) => *at(to) = given.as_bool().ok_or_else(unfit)?,
            Self::Count(at, least, most) => {
                let number = given.as_integer().ok_or_else(unfit)?;
                let value = i128::from_str_radix(number.as_str(), number.radix());
                let value = value.unwrap_or(i128::MAX);
                at(to).set(within(given, value, i128::from(*least), i128::from(*most))? as u64);
            }
            Self::Size(at, least, most) => {
                let size = text.and_then(|text| text.parse::<ByteSize>().ok()).ok_or_else(unfit)?;
                at(to).set(within(given, size.as_u64(), *least, *most)?);
            }
            Self::Time(at, least, most) => {
                let time = text.and_then(|text| humantime::parse_duration(text).ok());
                *at(to) = within(given, time.ok_or_else(unfit)?, *least, *most)?;
            }
            Self::Choice(at) => {
                if !text.is_some_and(|text| at(to).choose(text)) {
                    return Err(unfit());
                }
            }
            Self::Address(at) => {
                *at(to) = text.and_then(|text| text.parse().ok()).ok_or_else(unfit)?;
            }
            Self::MaybeAddress(at) => {
                *at(to) = Some(text.and_then(|text| text.parse().ok()).ok_or_else(unfit)?);
            }
            Self::Text(at) => at(to).set(text.ok_or_else(unfit)?)?,
            Self::File(at) => *at(to) = path(text, base).ok_or_else(unfit)?,
            Self::MaybeFile(at, _) | Self::Directory(at) => {
                *at(to) = Some(path(text, base).ok_or_else(unfit)?)
            }
            Self::Digest(at) => {
                *at(to) = Some(text.and_then(|text| text.parse().ok()).ok_or_else(unfit)?);
            }
            Self::List(_) | Self::Tools(_) | Self::Table(_) => return Err(unfit()),
        }
        Ok(())
    }

    /// What is in force, in the form in which it is written; nothing where
    /// nothing is said, and for a table.
    pub(super) fn show(&self, of: &mut T) -> Option<Value> {
        Some(match self {
            Self::Bool(at) => json!(*at(of)),
            Self::Count(at, ..) => json!(at(of).get()),
            Self::Size(at, ..) => json!(size(at(of).get())),
            Self::Time(at, ..) => json!(time(*at(of))),
            Self::Choice(at) => json!(at(of).name()),
            Self::Address(at) => json!(at(of)),
            Self::MaybeAddress(at) => json!(at(of).as_ref()?),
            Self::File(at) => json!(Some(&**at(of)).filter(|path| !path.as_os_str().is_empty())?),
            Self::MaybeFile(at, _) | Self::Directory(at) => json!(at(of).as_deref()?),
            Self::Text(at) => json!(at(of).text()?),
            Self::Digest(at) => json!(at(of).as_ref()?),
            Self::List(at) => json!(at(of).texts()),
            Self::Tools(at) => {
                let own = |tool: &Tool| (tool.program.clone(), json!(tool.install));
                Value::Object(at(of).iter().map(own).collect())
            }
            Self::Table(_) => return None,
        })
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Count(..) => "a whole number",
            Self::Size(..) => "a size",
            Self::Time(..) => "a duration",
            Self::Choice(_) => "one of the choices",
            Self::Address(_) | Self::MaybeAddress(_) => "an address with a port",
            Self::File(_) | Self::MaybeFile(..) | Self::Directory(_) => "a path",
            Self::Text(_) => "a text",
            Self::Digest(_) => "a digest",
            Self::List(_) => "a list",
            Self::Tools(_) | Self::Table(_) => "a table",
        }
    }

    /// What is expected, after "expected".
    pub(super) fn expected(&self, of: &mut T) -> String {
        match self {
            Self::Bool(_) | Self::Table(_) => self.noun().into(),
            Self::Count(_, least, most) => format!("a whole number from {least} to {most}"),
            Self::Size(_, least, most) => {
                format!("a size from {} to {}, such as \"64 MiB\"", size(*least), size(*most))
            }
            Self::Time(_, least, most) => {
                format!("a duration from {} to {}, such as \"5s\"", time(*least), time(*most))
            }
            Self::Choice(at) => {
                let names: Vec<String> =
                    at(of).names().iter().map(|name| format!("{name:?}")).collect();
                names.join(" or ")
            }
            Self::Address(_) => "an address with a port, such as \"127.0.0.1:9600\"".into(),
            Self::MaybeAddress(_) => "an address with a port, such as \"0.0.0.0:8080\"".into(),
            Self::File(_) => "the path of a component, relative to this file".into(),
            Self::Directory(_) => "the path of a directory, relative to this file".into(),
            Self::MaybeFile(_, of) => format!("the path of {of}, relative to this file"),
            Self::Text(at) => at(of).is().into(),
            Self::Digest(_) => "b3: and 64 hexadecimal digits".into(),
            Self::List(at) => format!("a list of {}", at(of).of()),
            Self::Tools(_) => {
                "programs with the commands that install them, such as { npm = \"apt \
                              install npm\" }"
                    .into()
            }
        }
    }

    /// JSON Schema of one value, without description and default.
    pub(super) fn schema(&self, of: &mut T) -> Value {
        match self {
            Self::Bool(_) => json!({"type": "boolean"}),
            Self::Count(_, least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            Self::Size(..) => json!({"type": "string", "pattern": r"^\s*[0-9.]+\s*[A-Za-z]*\s*$"}),
            Self::Time(..) => {
                json!({"type": "string", "pattern": r"^\s*([0-9.]+\s*[A-Za-zµ]+\s*)+$"})
            }
            Self::Choice(at) => json!({"enum": at(of).names()}),
            Self::Address(_)
            | Self::MaybeAddress(_)
            | Self::File(_)
            | Self::MaybeFile(..)
            | Self::Text(_)
            | Self::Directory(_) => {
                json!({"type": "string", "minLength": 1})
            }
            Self::Digest(_) => json!({"type": "string", "pattern": "^b3:[0-9A-Fa-f]{64}$"}),
            Self::List(_) => json!({"type": "array", "items": {"type": "string", "minLength": 1}}),
            Self::Tools(_) => {
                let command = json!({"type": "string", "minLength": 1});
                json!({"type": "object", "additionalProperties": command})
            }
            Self::Table(keys) => super::schema::table(keys, of),
        }
    }
}

fn path(text: Option<&str>, base: &Path) -> Option<FilePath> {
    text.filter(|text| !text.is_empty()).map(|text| base.join(text).into())
}

fn within<V: PartialOrd>(given: &DeValue<'_>, value: V, least: V, most: V) -> Result<V, String> {
    if value < least {
        return Err(format!("{} is too little", shown(given)));
    }
    if value > most {
        return Err(format!("{} is too much", shown(given)));
    }
    Ok(value)
}

/// A text of a user's, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() {
        format!("\"{}...\"", cut.escape_debug())
    } else {
        format!("{cut:?}")
    }
}

/// A value of a user's, in a few words.
pub(super) fn shown(given: &DeValue<'_>) -> String {
    match given {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Bytes as they are written: exactly, in the largest unit that can.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |&(_, shift): &(&str, u32)| bytes != 0 && bytes.is_multiple_of(1 << shift);
    match units.into_iter().find(|unit| fits(unit)) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

/// A duration as it is written.
pub(super) fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
