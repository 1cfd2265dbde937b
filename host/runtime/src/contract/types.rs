//! The contract as data: the table that `build.rs` writes from `wit/`.

use std::fmt;

/// What a host offers and what it calls.
#[derive(Clone, Copy)]
pub(super) struct Contract {
    /// What a component may import.
    pub(super) imports: &'static [Interface],
    /// What the host looks for among a component's exports.
    pub(super) exports: &'static [Interface],
}

pub(super) struct Interface {
    /// With its package, without its version.
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) resources: &'static [&'static str],
    pub(super) functions: &'static [Function],
}

pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) is_async: bool,
    pub(super) parameters: &'static [(&'static str, Type)],
    pub(super) result: Option<Type>,
}

/// A type, with the name that it has in WIT where it needs one. It holds no cycle,
/// because WIT has none.
#[allow(dead_code, reason = "the contract is not made of all that WIT has")]
pub(super) enum Type {
    Bool,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F32,
    F64,
    Char,
    String,
    List(&'static Type),
    Option(&'static Type),
    Result(Option<&'static Type>, Option<&'static Type>),
    Tuple(&'static [Type]),
    Record(&'static str, &'static [(&'static str, Type)]),
    Variant(&'static str, &'static [(&'static str, Option<Type>)]),
    Enum(&'static str, &'static [&'static str]),
    Flags(&'static str, &'static [&'static str]),
    /// By the name that the resource has in the interface of the function.
    Own(&'static str),
    Borrow(&'static str),
}

include!(concat!(env!("OUT_DIR"), "/contract.rs"));

/// As WIT writes it; the alternate form says what a name stands for.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, kind: &str, name: &str| match f.alternate() {
            true => write!(f, "{kind} {name}"),
            false => f.write_str(name),
        };
        match self {
            Self::Bool => f.write_str("bool"),
            Self::U8 => f.write_str("u8"),
            Self::U16 => f.write_str("u16"),
            Self::U32 => f.write_str("u32"),
            Self::U64 => f.write_str("u64"),
            Self::S8 => f.write_str("s8"),
            Self::S16 => f.write_str("s16"),
            Self::S32 => f.write_str("s32"),
            Self::S64 => f.write_str("s64"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("string"),
            Self::List(of) => write!(f, "list<{of}>"),
            Self::Option(of) => write!(f, "option<{of}>"),
            Self::Result(None, None) => f.write_str("result"),
            Self::Result(Some(ok), None) => write!(f, "result<{ok}>"),
            Self::Result(None, Some(err)) => write!(f, "result<_, {err}>"),
            Self::Result(Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
            Self::Tuple(types) => {
                let types: Vec<String> = types.iter().map(ToString::to_string).collect();
                write!(f, "tuple<{}>", types.join(", "))
            }
            Self::Record(name, _) => named(f, "record", name),
            Self::Variant(name, _) => named(f, "variant", name),
            Self::Enum(name, _) => named(f, "enum", name),
            Self::Flags(name, _) => named(f, "flags", name),
            Self::Own(name) => write!(f, "own<{name}>"),
            Self::Borrow(name) => write!(f, "borrow<{name}>"),
        }
    }
}
