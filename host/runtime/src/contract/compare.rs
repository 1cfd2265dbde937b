//! A function of a component beside the contract's: every place where they
//! differ.
//!
//! The walk follows the contract's types, which are small, and looks at as much
//! of the component's as stands beside them: a component cannot make it long.

use wasmtime::component::ResourceType;
use wasmtime::component::types::{ComponentFunc, Type as Found};

use super::found::{describe, short};
use super::types::{Function, Type};
use super::{Member, Part, Problem};

/// Where within a function, from the outside, and what does not fit there.
pub(super) type Differences = Vec<(Vec<Part>, Problem)>;

/// What the component's interface calls its resources.
pub(super) type Resources = Vec<(&'static str, ResourceType)>;

pub(super) fn function(
    found: &ComponentFunc,
    expected: &Function,
    resources: &Resources,
) -> Differences {
    let mut differences = Differences::new();
    if found.async_() != expected.is_async {
        differences.push((Vec::new(), Problem::Async { found: found.async_() }));
    }
    if found.params().len() == expected.parameters.len() {
        // Their names are not compared: nothing is passed by name.
        for ((_, found), (name, expected)) in found.params().zip(expected.parameters) {
            let part = Part::Parameter((*name).to_owned());
            differences.extend(within(part, compare(&found, expected, resources)));
        }
    } else {
        let one = |name: &str, ty: String| format!("{name}: {ty}");
        let expected = expected.parameters.iter();
        differences.push((
            Vec::new(),
            Problem::Parameters {
                found: found.params().map(|(name, ty)| one(&short(name), describe(&ty))).collect(),
                expected: expected.map(|(name, ty)| one(name, ty.to_string())).collect(),
            },
        ));
    }
    let result = found.results().next();
    let result = optional(result.as_ref(), expected.result.as_ref(), resources);
    differences.extend(within(Part::Result, result));
    differences
}

fn compare(found: &Found, expected: &Type, resources: &Resources) -> Differences {
    let same = match (found, expected) {
        (Found::Bool, Type::Bool)
        | (Found::U8, Type::U8)
        | (Found::U16, Type::U16)
        | (Found::U32, Type::U32)
        | (Found::U64, Type::U64)
        | (Found::S8, Type::S8)
        | (Found::S16, Type::S16)
        | (Found::S32, Type::S32)
        | (Found::S64, Type::S64)
        | (Found::Float32, Type::F32)
        | (Found::Float64, Type::F64)
        | (Found::Char, Type::Char)
        | (Found::String, Type::String) => true,
        (Found::Own(found), Type::Own(name)) | (Found::Borrow(found), Type::Borrow(name)) => {
            resources.iter().any(|(own, resource)| own == name && resource == found)
        }
        (Found::List(list), Type::List(element)) => {
            let element = compare(&list.ty(), element, resources);
            return unnamed(found, expected, vec![(Part::Element, element)]);
        }
        (Found::Option(option), Type::Option(value)) => {
            let value = compare(&option.ty(), value, resources);
            return unnamed(found, expected, vec![(Part::Value, value)]);
        }
        (Found::Result(result), Type::Result(ok, err)) => {
            let ok = optional(result.ok().as_ref(), *ok, resources);
            let err = optional(result.err().as_ref(), *err, resources);
            return unnamed(found, expected, vec![(Part::Ok, ok), (Part::Error, err)]);
        }
        (Found::Tuple(tuple), Type::Tuple(types)) if tuple.types().len() == types.len() => {
            let items = tuple.types().zip(*types).enumerate();
            let items = items.map(|(n, (found, expected))| {
                (Part::Item(n), compare(&found, expected, resources))
            });
            return unnamed(found, expected, items.collect());
        }
        (Found::Record(record), Type::Record(_, fields)) => {
            let found = record.fields().map(|field| (field.name.to_owned(), Some(field.ty)));
            let expected = fields.iter().map(|(name, ty)| (*name, Some(ty)));
            return members(Member::Field, found.collect(), expected.collect(), resources);
        }
        (Found::Variant(variant), Type::Variant(_, cases)) => {
            let found = variant.cases().map(|case| (case.name.to_owned(), case.ty));
            let expected = cases.iter().map(|(name, ty)| (*name, ty.as_ref()));
            return members(Member::Case, found.collect(), expected.collect(), resources);
        }
        (Found::Enum(found), Type::Enum(_, names)) => {
            let found = found.names().map(|name| (name.to_owned(), None));
            let expected = names.iter().map(|name| (*name, None));
            return members(Member::Case, found.collect(), expected.collect(), resources);
        }
        (Found::Flags(found), Type::Flags(_, names)) => {
            let found = found.names().map(|name| (name.to_owned(), None));
            let expected = names.iter().map(|name| (*name, None));
            return members(Member::Flag, found.collect(), expected.collect(), resources);
        }
        _ => false,
    };
    if same { Vec::new() } else { other(describe(found), format!("{expected:#}")) }
}

/// What may be absent: the result of a function, the payload of a case.
fn optional(found: Option<&Found>, expected: Option<&Type>, resources: &Resources) -> Differences {
    let nothing = || "nothing".to_owned();
    match (found, expected) {
        (Some(found), Some(expected)) => compare(found, expected, resources),
        (None, None) => Vec::new(),
        (Some(found), None) => other(describe(found), nothing()),
        (None, Some(expected)) => other(nothing(), format!("{expected:#}")),
    }
}

/// The fields, cases or flags of a type, which are told from each other by name.
fn members(
    of: Member,
    found: Vec<(String, Option<Found>)>,
    expected: Vec<(&'static str, Option<&'static Type>)>,
    resources: &Resources,
) -> Differences {
    let mut differences = Differences::new();
    let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
    let unknown: Vec<String> = owned(
        &mut (found.iter().map(|(name, _)| &name[..]))
            .filter(|name| !expected.iter().any(|(own, _)| own == name)),
    );
    let missing: Vec<String> = owned(
        &mut (expected.iter().map(|(name, _)| *name))
            .filter(|name| !found.iter().any(|(own, _)| own == name)),
    );
    let same_order = || found.iter().map(|(name, _)| &name[..]).eq(expected.iter().map(|e| e.0));
    if !unknown.is_empty() || !missing.is_empty() {
        differences.push((Vec::new(), Problem::Members { of, missing, unknown }));
    } else if !same_order() {
        let found = owned(&mut found.iter().map(|(name, _)| &name[..]));
        let expected = owned(&mut expected.iter().map(|(name, _)| *name));
        differences.push((Vec::new(), Problem::Order { of, found, expected }));
    }
    for (name, expected) in expected {
        if let Some((_, found)) = found.iter().find(|(own, _)| own == name) {
            let part = Part::Member(of, name.to_owned());
            differences.extend(within(part, optional(found.as_ref(), expected, resources)));
        }
    }
    differences
}

/// What differs in the parts of a type that has no name of its own, such as
/// `list<u8>`: told of the whole of it, as its author wrote it, unless it is
/// something within a type that has a name.
fn unnamed(found: &Found, expected: &Type, parts: Vec<(Part, Differences)>) -> Differences {
    let mut all = parts.iter().flat_map(|(_, differences)| differences).peekable();
    let plain = all.peek().is_some()
        && all.all(|(path, problem)| path.is_empty() && matches!(problem, Problem::Type { .. }));
    if plain {
        return other(describe(found), format!("{expected:#}"));
    }
    parts.into_iter().flat_map(|(part, differences)| within(part, differences)).collect()
}

fn other(found: String, expected: String) -> Differences {
    vec![(Vec::new(), Problem::Type { found, expected })]
}

fn within(part: Part, differences: Differences) -> impl Iterator<Item = (Vec<Part>, Problem)> {
    differences.into_iter().map(move |(mut path, problem)| {
        path.insert(0, part.clone());
        (path, problem)
    })
}
