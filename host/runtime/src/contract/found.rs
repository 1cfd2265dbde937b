//! The types of a component as text.

use wasmtime::component::types::Type;

/// Types within types that are written; the rest is `...`.
const DEPTH: usize = 4;
/// Members of one type that are written.
const MEMBERS: usize = 4;

/// A type as WIT would write it, without the name that only its author knows, and
/// no longer than a person reads.
pub(super) fn describe(ty: &Type) -> String {
    at(ty, DEPTH)
}

fn at(ty: &Type, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "...".to_owned() };
    let of = |ty: &Type| at(ty, depth);
    let or_none = |ty: Option<Type>| ty.map_or_else(|| "_".to_owned(), |ty| of(&ty));
    let payload = |ty: Option<Type>| ty.map_or_else(String::new, |ty| format!("<{}>", of(&ty)));
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::U8 => "u8".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::U64 => "u64".to_owned(),
        Type::S8 => "s8".to_owned(),
        Type::S16 => "s16".to_owned(),
        Type::S32 => "s32".to_owned(),
        Type::S64 => "s64".to_owned(),
        Type::Float32 => "f32".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Char => "char".to_owned(),
        Type::String => "string".to_owned(),
        Type::List(list) => format!("list<{}>", of(&list.ty())),
        Type::FixedLengthList(list) => format!("list<{}, {}>", of(&list.ty()), list.len()),
        Type::Map(map) => format!("map<{}, {}>", of(&map.key()), of(&map.value())),
        Type::Option(option) => format!("option<{}>", of(&option.ty())),
        Type::Result(result) => match (result.ok(), result.err()) {
            (None, None) => "result".to_owned(),
            (ok, None) => format!("result<{}>", or_none(ok)),
            (ok, err) => format!("result<{}, {}>", or_none(ok), or_none(err)),
        },
        Type::Tuple(tuple) => {
            format!("tuple<{}>", some(tuple.types().map(|ty| of(&ty))))
        }
        Type::Record(record) => {
            format!("record {{ {} }}", some(record.fields().map(|field| short(field.name))))
        }
        Type::Variant(variant) => {
            format!("variant {{ {} }}", some(variant.cases().map(|case| short(case.name))))
        }
        Type::Enum(names) => format!("enum {{ {} }}", some(names.names().map(short))),
        Type::Flags(names) => format!("flags {{ {} }}", some(names.names().map(short))),
        Type::Own(_) => "own<resource>".to_owned(),
        Type::Borrow(_) => "borrow<resource>".to_owned(),
        Type::Future(future) => format!("future{}", payload(future.ty())),
        Type::Stream(stream) => format!("stream{}", payload(stream.ty())),
        Type::ErrorContext => "error-context".to_owned(),
    }
}

/// The first ones.
fn some(mut all: impl Iterator<Item = String>) -> String {
    let mut text: Vec<String> = all.by_ref().take(MEMBERS).collect();
    if all.next().is_some() {
        text.push("...".to_owned());
    }
    text.join(", ")
}

/// A name of a component's, which may have 100,000 bytes.
pub(super) fn short(name: &str) -> String {
    const BYTES: usize = 64;
    match name.get(..BYTES) {
        Some(start) if start.len() < name.len() => format!("{start}..."),
        _ => name.to_owned(),
    }
}
