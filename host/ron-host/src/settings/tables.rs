//! Where the tables of a file begin, so that of one that was read before only those
//! need be read of which the text is another.
//!
//! A table reaches from its header to the next. What precedes a header that is still
//! there means what it meant, and what follows one does too, provided that all between
//! the two is whole tables again. So a file is taken apart at headers alone, and only
//! where every table that differs is one of a service, and no part of that service's is
//! anywhere else.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};
use toml_parser::{ParseError, Source};

use super::keys::SERVICE;

/// As deep as toml itself goes.
const DEPTH: u32 = 80;

/// How often what is to be read may grow.
const ROUNDS: usize = 8;

/// The headers of a file, as they stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tables(Vec<Header>);

/// Where a table begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    at: usize,
    /// The service that it belongs to, if it does.
    service: Option<Name>,
}

/// A service's name, short. Two that are alike are read together, which is no harm.
type Name = u64;

/// How two files differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Differs {
    /// What of the old one is replaced, and by what of the new one: whole tables.
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
    /// The services of which there are tables in either.
    pub(super) services: BTreeSet<String>,
    /// The headers of the new one.
    pub(super) tables: Tables,
}

impl Tables {
    /// The headers of a file that is TOML; `None` if services are spoken of without
    /// one of their own.
    pub(super) fn of(text: &str) -> Option<Self> {
        headers(text).map(|found| Self(found.into_iter().map(|(header, _)| header).collect()))
    }

    /// How `new` differs from `old`, whose headers these are, if it is in the tables of
    /// some services alone.
    pub(super) fn compare(&self, old: &str, new: &str) -> Option<Differs> {
        let Self(headers) = self;
        let before = common(old, new);
        let room = old.len().min(new.len()) - before;
        let after = common_end(old, new).min(room);
        // What is put before a header belongs to the table before.
        let mut first = headers.partition_point(|header| header.at < before).checked_sub(1)?;
        let mut end = headers.partition_point(|header| header.at < old.len() - after);
        // A service is read as a whole, and what lies between its tables along with it. Where
        // that leads on and on, reading all is shorter.
        let mut rounds = 0..ROUNDS;
        let known = loop {
            rounds.next()?;
            let known = names(&headers[first..end])?;
            let own = |header: &Header| header.service.is_some_and(|own| is_in(&known, own));
            let begins = headers.iter().position(own)?.min(first);
            let ends = headers.iter().rposition(own)?.max(end - 1) + 1;
            if (begins, ends) == (first, end) {
                break known;
            }
            (first, end) = (begins, ends);
        };
        let until = headers.get(end).map_or(old.len(), |header| header.at);
        let range = headers[first].at..until;
        let fresh = range.start..(new.len() - (old.len() - range.end));
        let text = new.get(fresh.clone())?;
        // The header that follows must be one still: nothing but blanks is before it.
        let line = text.rsplit('\n').next()?;
        if end < headers.len() && !line.bytes().all(|byte| matches!(byte, b' ' | b'\t')) {
            return None;
        }
        let found = self::headers(text)?;
        let own: Vec<Header> = found.iter().map(|(header, _)| *header).collect();
        let mut others = names(&own)?;
        others.retain(|name| !is_in(&known, *name));
        let mut rest = headers[..first].iter().chain(&headers[end..]);
        let taken = |header: &Header| header.service.is_some_and(|name| is_in(&others, name));
        if !others.is_empty() && rest.any(taken) {
            return None;
        }
        let known = self::headers(old.get(range.clone())?)?;
        let services = known.into_iter().chain(found.iter().cloned()).filter_map(|(_, name)| name);
        let services = services.collect();
        let moved = |header: &Header| Header {
            at: header.at - range.end + fresh.end,
            service: header.service,
        };
        let own = own
            .iter()
            .map(|header| Header { at: header.at + fresh.start, service: header.service });
        let tables = headers[..first].iter().copied().chain(own);
        let tables = Self(tables.chain(headers[end..].iter().map(moved)).collect());
        Some(Differs { old: range, new: fresh, services, tables })
    }
}

/// The services of these tables, sorted; `None` if one belongs to none.
fn names(headers: &[Header]) -> Option<Vec<Name>> {
    let mut names: Vec<Name> =
        headers.iter().map(|header| header.service).collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names)
}

fn is_in(sorted: &[Name], name: Name) -> bool {
    sorted.binary_search(&name).is_ok()
}

/// How many bytes are looked at in one go.
const STRIDE: usize = 1024;

/// How many bytes at the start of both are the same.
fn common(a: &str, b: &str) -> usize {
    let strides = a.as_bytes().chunks_exact(STRIDE).zip(b.as_bytes().chunks_exact(STRIDE));
    let at = strides.take_while(|(a, b)| a == b).count() * STRIDE;
    let rest = a.as_bytes()[at..].iter().zip(&b.as_bytes()[at..]);
    at + rest.take_while(|(a, b)| a == b).count()
}

/// How many bytes at the end of both are the same.
fn common_end(a: &str, b: &str) -> usize {
    let strides = a.as_bytes().rchunks_exact(STRIDE).zip(b.as_bytes().rchunks_exact(STRIDE));
    let at = strides.take_while(|(a, b)| a == b).count() * STRIDE;
    let (a, b) = (&a.as_bytes()[..a.len() - at], &b.as_bytes()[..b.len() - at]);
    let rest = a.iter().rev().zip(b.iter().rev());
    at + rest.take_while(|(a, b)| a == b).count()
}

/// Each header, with the name of the service that it belongs to.
fn headers(text: &str) -> Option<Vec<(Header, Option<String>)>> {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut found: Vec<(Header, Option<String>)> = Vec::new();
    // The keys of the header that is being read.
    let mut keys: Option<Vec<Cow<'_, str>>> = None;
    let mut plain = true;
    let mut errors: Option<ParseError> = None;
    {
        let mut receiver = |event: Event| match event.kind() {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                keys = Some(vec![]);
                found.push((Header { at: event.span().start(), service: None }, None));
            }
            EventKind::StdTableClose | EventKind::ArrayTableClose => {
                let keys = keys.take().unwrap_or_default();
                if keys.first().is_some_and(|key| key == SERVICE.0)
                    && let Some((header, name)) = found.last_mut()
                {
                    plain &= keys.len() > 1;
                    *name = keys.get(1).map(ToString::to_string);
                    header.service = name.as_deref().map(short);
                }
            }
            EventKind::SimpleKey => {
                let Some(raw) = source.get(event) else { return };
                let mut key = Cow::Borrowed("");
                raw.decode_key(&mut key, &mut ());
                match &mut keys {
                    Some(keys) => keys.push(key),
                    None => plain &= !found.is_empty() || key != SERVICE.0,
                }
            }
            _ => {}
        };
        let mut receiver = RecursionGuard::new(&mut receiver, DEPTH);
        parse_document(&tokens, &mut receiver, &mut errors);
    }
    (plain && errors.is_none()).then_some(found)
}

fn short(name: &str) -> Name {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
admin = '127.0.0.1:0'
[defaults]
memory = '1 MiB'
[service.a]
component = 'a.wasm'
[service.a.config]
text = \"\"\"
[service.no]
\"\"\"
[service.b]
component = 'b.wasm'
[[service.b.http]]
path = '/b'
[listener.l]
bind = '127.0.0.1:0'
[service.c]
component = 'c.wasm'
";

    /// What is read of both files, of which one is FILE with a part replaced.
    #[track_caller]
    fn check(what: &str, by: &str, expected: Option<(&str, &str)>) {
        let new = FILE.replacen(what, by, 1);
        assert_ne!(new, FILE);
        let tables = Tables::of(FILE).expect("they can be told apart");
        let found = tables.compare(FILE, &new);
        let parts = found.as_ref().map(|differs| {
            let heads = |text: &str| {
                let lines = text.lines().filter(|line| line.starts_with('['));
                lines.collect::<Vec<_>>().join(" ")
            };
            (heads(&FILE[differs.old.clone()]), heads(&new[differs.new.clone()]))
        });
        let expected = expected.map(|(old, new)| (old.to_owned(), new.to_owned()));
        assert_eq!(parts, expected);
        if let Some(differs) = found {
            let (old, new_range) = (differs.old, differs.new.clone());
            let put = [&FILE[..old.start], &new[new_range], &FILE[old.end..]].concat();
            assert_eq!(put, new, "the rest is the same");
            assert_eq!(Some(differs.tables), Tables::of(&new));
        }
    }

    #[test]
    fn what_differs_is_whole_tables_of_whole_services() {
        let a = "[service.a] [service.a.config] [service.no]";
        let b = "[service.b] [[service.b.http]]";
        let c = "[service.c]";
        check("c.wasm", "d.wasm", Some((c, c)));
        check("path = '/b'", "path = '/c'", Some((b, b)));
        check("a.wasm", "z.wasm", Some((a, a)));
        check("[service.no]", "[service.yes]", Some((a, &a.replace("no", "yes"))));
        // What precedes a header is the table's before.
        check("[service.b]", "x = 1\n[service.b]", Some((a, a)));
        let (old, new) = (b, "[service.d] [[service.b.http]]");
        check("[service.b]\n", "[service.d]\n", Some((old, new)));
        check("component = 'c.wasm'\n", "", Some((c, c)));
        check("[service.c]", "[service.d]\n[service.c]", Some((c, "[service.d] [service.c]")));
        check("[service.c]\ncomponent = 'c.wasm'\n", "", None);
        let both = format!("{a} {b}");
        check("[service.a]", "[service.b]", None);
        check(
            "component = 'b.wasm'\n[[service.b.http]]\npath = '/b'\n",
            "",
            Some((b, "[service.b]")),
        );
        check(
            "[service.a.config]\ntext = \"\"\"\n[service.no]\n\"\"\"\n[service.b]\n",
            "[service.b]\n",
            Some((&both, "[service.a] [service.b] [[service.b.http]]")),
        );
    }

    #[test]
    fn what_may_mean_something_else_is_not_told_apart() {
        check("1 MiB", "2 MiB", None);
        check("[listener.l]", "[listener.m]", None);
        check("[service.c]", "[listener.c]", None);
        check("[service.c]", "[service]\nc.critical = true\n[service.c]", None);
        // The header that follows is none any more.
        check("'/b'\n", "'/b' # ", None);
        check("[service.b]", "x = [service.b]", None);
        // A service that is elsewhere too.
        check("[service.c]", "[service.a]", None);
        check("c.wasm'", "c.wasm'\n[service.a.limits]", None);
        for whole in
            ["service = { a = { component = 'x' } }", "[service]\na.x = 1", "service.a.x = 1"]
        {
            assert_eq!(Tables::of(whole), None, "{whole}");
        }
        assert_eq!(Tables::of("x = [\n[service.a]\n"), None, "it is no TOML");
    }

    #[test]
    fn a_service_in_several_places_is_read_from_the_first_to_the_last() {
        let old = "[service.a]\n[service.b]\n[service.a.config]\nk = 1\n[service.c]\n";
        let new = old.replace("k = 1", "k = 2");
        let differs = Tables::of(old).expect("tables").compare(old, &new).expect("told apart");
        assert_eq!(&new[differs.new], "[service.a]\n[service.b]\n[service.a.config]\nk = 2\n");
        assert!(differs.services.iter().eq(["a", "b"]));
    }

    /// Where each service leads to the next, reading all is shorter than finding that out.
    #[test]
    fn a_long_chain_is_not_followed() {
        let chain = |value: u32| {
            let one =
                |n: u32| format!("[service.s{}]\n[service.s{n}.config]\nk = {value}\n", n + 1);
            String::from("[service.s0]\n") + &(0..100).map(one).collect::<String>()
        };
        let old = chain(1);
        let new = old.replacen("k = 1", "k = 2", 1);
        assert_eq!(Tables::of(&old).expect("tables").compare(&old, &new), None);
    }
}
