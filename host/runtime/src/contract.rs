//! Whether a component fits the contract: its types beside those of `wit/`.
//!
//! wasmtime compares the same types, but those of exports only when a component
//! is first instantiated, which is too late to refuse it, and it says of two types
//! that they differ and not where. So they are compared here, from what wasmtime
//! knows of a component anyway, whether it was compiled now or comes from the
//! cache. What a component may differ in is left alone: an interface that it does
//! not use, a function that it does not import, what a parameter is called.
//!
//! WASI's interfaces are the linker's to compare.

mod compare;
mod found;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;

use wasmtime::Engine;
use wasmtime::component::types::{Component, ComponentInstance, ComponentItem};

use self::compare::Resources;
use self::found::short;
use self::types::{CONTRACT, Contract, Interface};

/// One thing in which a component does not fit this host's contract.
///
/// `Display` tells all of it, beginning with the name of the interface:
/// `ron:kernel/lifecycle@1.0.0#on-message: parameter "message": field "payload" is
/// string, expected list<u8>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Whether the component imports or exports the interface.
    pub side: Side,
    /// The interface as the component names it, with its version.
    pub interface: String,
    /// Which of its functions; `None` where it is the whole interface.
    pub function: Option<String>,
    /// Where in the function's type, from the outside; empty for all of it.
    pub path: Vec<Part>,
    /// What does not fit there.
    pub problem: Problem,
}

/// A direction of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the host offers.
    Import,
    /// What the host calls.
    Export,
}

/// A step into the type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A parameter, by the contract's name for it.
    Parameter(String),
    /// What the function returns.
    Result,
    /// What a `result` holds when it is good.
    Ok,
    /// What a `result` holds when it is not.
    Error,
    /// The elements of a list.
    Element,
    /// What an `option` may hold.
    Value,
    /// An item of a tuple, from 0.
    Item(usize),
    /// A field or a case, by its name.
    Member(Member, String),
}

/// What a type with named members is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// Of a record.
    Field,
    /// Of a variant or an enum.
    Case,
    /// Of flags.
    Flag,
}

/// What does not fit. What is found is the component's, what is expected the
/// contract's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The interface is there, in a version that is not compatible.
    Version {
        /// The version that the contract has.
        offered: &'static str,
    },
    /// Something else stands under the name of an interface or a function.
    Kind {
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The host would call it.
    NotExported,
    /// The host does not have it.
    NotOffered {
        /// The version of the interface that the contract has.
        version: &'static str,
    },
    /// One is asynchronous and the other is not.
    Async {
        /// Whether it is the component's.
        found: bool,
    },
    /// So many parameters are not what is passed. Each with its name and type.
    Parameters {
        /// The component's.
        found: Vec<String>,
        /// The contract's.
        expected: Vec<String>,
    },
    /// Another type, both as WIT writes them; `nothing` where there is none.
    Type {
        /// The component's.
        found: String,
        /// The contract's.
        expected: String,
    },
    /// The same kind of type with other members.
    Members {
        /// What they are.
        of: Member,
        /// Those that the contract has alone.
        missing: Vec<String>,
        /// Those that the component has alone.
        unknown: Vec<String>,
    },
    /// The same members one after the other in another way.
    Order {
        /// What they are.
        of: Member,
        /// The component's order.
        found: Vec<String>,
        /// The contract's order.
        expected: Vec<String>,
    },
}

/// All in which a component does not fit.
pub(crate) fn check(engine: &Engine, component: &Component) -> Vec<Mismatch> {
    against(&CONTRACT, engine, component)
}

/// Whether the contract offers an interface of that name, in whatever version.
pub(crate) fn offers(interface: &str) -> bool {
    CONTRACT.imports.iter().any(|own| own.name == interface)
}

/// The name and the version of an interface; the latter is empty if it has none.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn against(contract: &Contract, engine: &Engine, component: &Component) -> Vec<Mismatch> {
    let mut all = Vec::new();
    for expected in contract.exports {
        let named = component.exports(engine).map(|(name, _)| name);
        let mut named: Vec<&str> = named.filter(|name| split(name).0 == expected.name).collect();
        // As wasmtime chooses: the very version, or else the latest that is
        // compatible.
        named.sort_by_key(|name| {
            let version = split(name).1;
            let fits = track(version).is_some() && track(version) == track(expected.version);
            (version == expected.version, fits, numbers(version))
        });
        let Some(name) = named.pop() else { continue };
        let Some(found) = component.get_export(engine, name) else { continue };
        interface(Side::Export, name, &found.ty, expected, engine, &mut all);
    }
    for (name, found) in component.imports(engine) {
        let expected = contract.imports.iter().find(|own| own.name == split(name).0);
        let Some(expected) = expected else { continue };
        interface(Side::Import, name, &found.ty, expected, engine, &mut all);
    }
    all
}

fn interface(
    side: Side,
    name: &str,
    found: &ComponentItem,
    expected: &Interface,
    engine: &Engine,
    all: &mut Vec<Mismatch>,
) {
    let mut tell = |function: Option<&str>, path, problem| {
        let (interface, function) = (name.to_owned(), function.map(str::to_owned));
        all.push(Mismatch { side, interface, function, path, problem });
    };
    let version = split(name).1;
    if version != expected.version
        && (track(version).is_none() || track(version) != track(expected.version))
    {
        return tell(None, Vec::new(), Problem::Version { offered: expected.version });
    }
    let ComponentItem::ComponentInstance(found) = found else {
        let problem = Problem::Kind { found: kind(found), expected: "an interface" };
        return tell(None, Vec::new(), problem);
    };
    let resources = resources(found, expected, engine);
    for function in expected.functions {
        match found.get_export(engine, function.name).map(|found| found.ty) {
            Some(ComponentItem::ComponentFunc(found)) => {
                for (path, problem) in compare::function(&found, function, &resources) {
                    tell(Some(function.name), path, problem);
                }
            }
            Some(other) => {
                let problem = Problem::Kind { found: kind(&other), expected: "a function" };
                tell(Some(function.name), Vec::new(), problem);
            }
            None if side == Side::Export => {
                tell(Some(function.name), Vec::new(), Problem::NotExported);
            }
            // It does not need all that is offered.
            None => {}
        }
    }
    if side == Side::Export {
        return;
    }
    for (name, item) in found.exports(engine) {
        let known = match item.ty {
            // The types of functions were compared with these.
            ComponentItem::Type(_) => true,
            ComponentItem::Resource(_) => expected.resources.contains(&name),
            _ => expected.functions.iter().any(|function| function.name == name),
        };
        if !known {
            let problem = Problem::NotOffered { version: expected.version };
            tell(Some(name), Vec::new(), problem);
        }
    }
}

/// What a component's interface has under the names of the contract's resources.
/// Those that are of another interface stand there too.
fn resources(found: &ComponentInstance, expected: &Interface, engine: &Engine) -> Resources {
    let one = |name: &&'static str| match found.get_export(engine, name)?.ty {
        ComponentItem::Resource(resource) => Some((*name, resource)),
        _ => None,
    };
    expected.resources.iter().filter_map(one).collect()
}

/// What all versions that are compatible with this one begin with: `1`, `0.2`,
/// `0.0.3`. `None` for one that is compatible with itself alone.
fn track(version: &str) -> Option<&str> {
    let plain = version.split('+').next()?;
    if plain.is_empty() || plain.contains('-') {
        return None;
    }
    let ends = plain.match_indices('.').map(|(at, _)| at).chain([plain.len()]);
    let mut tracks = ends.map(|end| &plain[..end]);
    tracks.find(|track| !track.bytes().all(|byte| byte == b'0' || byte == b'.'))
}

/// What versions are compared by.
fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap_or(0)).collect()
}

fn kind(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentFunc(_) | ComponentItem::CoreFunc(_) => "a function",
        ComponentItem::Module(_) => "a module",
        ComponentItem::Component(_) => "a component",
        ComponentItem::ComponentInstance(_) => "an interface",
        ComponentItem::Type(_) => "a type",
        ComponentItem::Resource(_) => "a resource",
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = short(&self.interface);
        if let Problem::Version { offered } = self.problem {
            let verb = match self.side {
                Side::Import => "imports",
                Side::Export => "exports",
            };
            return write!(f, "{verb} {interface}, this host offers {offered}");
        }
        f.write_str(&interface)?;
        if let Some(function) = &self.function {
            write!(f, "#{}", short(function))?;
        }
        for part in &self.path {
            write!(f, ": {part}")?;
        }
        // Of all of it: there is no subject that the verb could follow.
        f.write_str(if self.path.is_empty() { ": " } else { " " })?;
        write!(f, "{}", self.problem)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => write!(f, "parameter {name:?}"),
            Self::Result => f.write_str("result"),
            Self::Ok => f.write_str("ok"),
            Self::Error => f.write_str("error"),
            Self::Element => f.write_str("element"),
            Self::Value => f.write_str("value"),
            Self::Item(n) => write!(f, "item {n}"),
            Self::Member(member, name) => write!(f, "{} {name:?}", member.word()),
        }
    }
}

impl Member {
    fn word(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Case => "case",
            Self::Flag => "flag",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { offered } => write!(f, "this host offers {offered}"),
            Self::Kind { found, expected } => write!(f, "is {found}, expected {expected}"),
            Self::NotExported => f.write_str("is not exported"),
            Self::NotOffered { version } => {
                write!(f, "is imported, this host's {version} lacks it")
            }
            Self::Async { found: true } => f.write_str("is async, expected a synchronous function"),
            Self::Async { found: false } => {
                f.write_str("is synchronous, expected an async function")
            }
            Self::Parameters { found, expected } => write!(
                f,
                "has the parameters ({}), expected ({})",
                list(found, str::to_owned),
                list(expected, str::to_owned)
            ),
            Self::Type { found, expected } => write!(f, "is {found}, expected {expected}"),
            Self::Members { of, missing, unknown } => {
                if !missing.is_empty() {
                    write!(f, "lacks {} {}", of.word(), list(missing, quoted))?;
                }
                if !missing.is_empty() && !unknown.is_empty() {
                    f.write_str(" and ")?;
                }
                if !unknown.is_empty() {
                    write!(f, "has unknown {} {}", of.word(), list(unknown, quoted))?;
                }
                Ok(())
            }
            Self::Order { of, found, expected } => write!(
                f,
                "has its {}s in the order {}, expected {}",
                of.word(),
                list(found, short),
                list(expected, short)
            ),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("{:?}", short(name))
}

/// As many as a person reads.
fn list(all: &[String], each: fn(&str) -> String) -> String {
    const SHOWN: usize = 16;
    let mut text: Vec<String> = all.iter().take(SHOWN).map(|name| each(name)).collect();
    if all.len() > SHOWN {
        text.push(format!("and {} more", all.len() - SHOWN));
    }
    text.join(", ")
}

/// Mismatches in one line.
pub(crate) fn sentence(mismatches: &[Mismatch]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = mismatches.iter().take(SHOWN).map(ToString::to_string).collect();
    let mut text = shown.join("; ");
    if mismatches.len() > SHOWN {
        text.push_str(&format!("; and {} more", mismatches.len() - SHOWN));
    }
    text
}
