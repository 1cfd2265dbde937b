//! Writes the contract's interfaces as a table that `src/contract.rs` compares
//! components with, so that no host parses WIT when it starts.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use wit_parser::{
    FunctionKind, Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId, WorldItem, WorldKey,
};

/// The same as `src/bindings.rs` generates from: a directory for each package.
const WIT: [&str; 2] = ["../../wit", "../../wit/stream"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut wit = Resolve::default();
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for directory in WIT {
        println!("cargo::rerun-if-changed={directory}");
        let (package, _) = wit.push_dir(directory)?;
        for world in wit.packages[package].worlds.values() {
            let world = &wit.worlds[*world];
            for (items, all) in [(&world.imports, &mut imports), (&world.exports, &mut exports)] {
                for (name, item) in items {
                    match (name, item) {
                        // What is WASI's is the linker's to compare.
                        (WorldKey::Interface(_), WorldItem::Interface { id, .. }) => {
                            if wit.interfaces[*id].package == Some(package) && !all.contains(id) {
                                all.push(*id);
                            }
                        }
                        _ => return Err(format!("world {}: only interfaces", world.name).into()),
                    }
                }
            }
        }
    }
    let text = format!(
        "pub(super) const CONTRACT: Contract = Contract {{\n    imports: {},\n    exports: {},\n}};\n",
        interfaces(&wit, &imports)?,
        interfaces(&wit, &exports)?
    );
    let directory = env::var_os("OUT_DIR").ok_or("cargo says where to write")?;
    fs::write(Path::new(&directory).join("contract.rs"), text)?;
    Ok(())
}

fn interfaces(wit: &Resolve, ids: &[InterfaceId]) -> Result<String, Box<dyn Error>> {
    let mut text = "&[\n".to_owned();
    for id in ids {
        let interface = &wit.interfaces[*id];
        let name = wit.id_of(*id).ok_or("an interface has a name")?;
        let (name, version) = name.split_once('@').ok_or("a package has a version")?;
        let resources = interface.types.values().filter(|id| is_resource(wit, **id));
        let resources: Vec<&String> =
            resources.filter_map(|id| wit.types[*id].name.as_ref()).collect();
        writeln!(
            text,
            "Interface {{ name: {name:?}, version: {version:?}, resources: &{resources:?}, \
             functions: &["
        )?;
        for function in interface.functions.values() {
            let name = &function.name;
            let is_async = matches!(
                function.kind,
                FunctionKind::AsyncFreestanding
                    | FunctionKind::AsyncMethod(_)
                    | FunctionKind::AsyncStatic(_)
            );
            let result = optional(wit, function.result.as_ref(), "")?;
            write!(text, "Function {{ name: {name:?}, is_async: {is_async}, parameters: &[")?;
            for parameter in &function.params {
                write!(text, "({:?}, {}), ", parameter.name, of(wit, &parameter.ty)?)?;
            }
            writeln!(text, "], result: {result} }},")?;
        }
        writeln!(text, "] }},")?;
    }
    text.push(']');
    Ok(text)
}

/// Its own, or one of another interface that it uses.
fn is_resource(wit: &Resolve, id: TypeId) -> bool {
    match wit.types[id].kind {
        TypeDefKind::Resource => true,
        TypeDefKind::Type(Type::Id(id)) => is_resource(wit, id),
        _ => false,
    }
}

fn optional(wit: &Resolve, ty: Option<&Type>, by: &str) -> Result<String, Box<dyn Error>> {
    Ok(match ty {
        Some(ty) => format!("Some({by}{})", of(wit, ty)?),
        None => "None".to_owned(),
    })
}

/// A type as `src/contract/types.rs` has it.
fn of(wit: &Resolve, ty: &Type) -> Result<String, Box<dyn Error>> {
    let id = match ty {
        Type::Id(id) => *id,
        Type::ErrorContext => return Err("the host has no error-context".into()),
        // The same names.
        primitive => return Ok(format!("Type::{primitive:?}")),
    };
    let defined = &wit.types[id];
    let name = defined.name.as_deref().unwrap_or_default();
    Ok(match &defined.kind {
        TypeDefKind::Type(ty) => of(wit, ty)?,
        TypeDefKind::List(ty) => format!("Type::List(&{})", of(wit, ty)?),
        TypeDefKind::Option(ty) => format!("Type::Option(&{})", of(wit, ty)?),
        TypeDefKind::Result(result) => format!(
            "Type::Result({}, {})",
            optional(wit, result.ok.as_ref(), "&")?,
            optional(wit, result.err.as_ref(), "&")?
        ),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> =
                tuple.types.iter().map(|ty| of(wit, ty)).collect::<Result<_, _>>()?;
            format!("Type::Tuple(&[{}])", types.join(", "))
        }
        TypeDefKind::Record(record) => {
            let mut fields = String::new();
            for field in &record.fields {
                write!(fields, "({:?}, {}), ", field.name, of(wit, &field.ty)?)?;
            }
            format!("Type::Record({name:?}, &[{fields}])")
        }
        TypeDefKind::Variant(variant) => {
            let mut cases = String::new();
            for case in &variant.cases {
                write!(cases, "({:?}, {}), ", case.name, optional(wit, case.ty.as_ref(), "")?)?;
            }
            format!("Type::Variant({name:?}, &[{cases}])")
        }
        TypeDefKind::Enum(one) => {
            let cases: Vec<&String> = one.cases.iter().map(|case| &case.name).collect();
            format!("Type::Enum({name:?}, &{cases:?})")
        }
        TypeDefKind::Flags(flags) => {
            let flags: Vec<&String> = flags.flags.iter().map(|flag| &flag.name).collect();
            format!("Type::Flags({name:?}, &{flags:?})")
        }
        TypeDefKind::Handle(handle) => {
            let (kind, resource) = match handle {
                Handle::Own(id) => ("Own", id),
                Handle::Borrow(id) => ("Borrow", id),
            };
            let name = wit.types[*resource].name.as_deref().ok_or("a resource has a name")?;
            format!("Type::{kind}({name:?})")
        }
        other => return Err(format!("src/contract has no {}", other.as_str()).into()),
    })
}
