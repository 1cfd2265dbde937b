//! `ron-host componentize`: from the core module that a compiler makes to a component.
//!
//! What compilers for C, Zig and Go make imports WASI's first preview, and knows nothing
//! of worlds. The world is written into the module, and wasmtime's adapter leads from the
//! one WASI to the other: what `wasm-tools component embed` and `component new` do, without
//! another program to install.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ron_runtime::made_with;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, SourceMap};

use super::advice::into_service;
use super::language;

/// What is to be made of what.
#[derive(Debug, clap::Args)]
pub(crate) struct Componentize {
    /// The core module
    #[arg(value_name = "CORE")]
    pub(crate) core: PathBuf,

    /// Where the component is written
    #[arg(short, long, value_name = "COMPONENT")]
    pub(crate) output: PathBuf,

    /// A world that it is written for; repeatable, for several together: service,
    /// stateful-service, bulk-service [default: what the module says, or else exports]
    #[arg(long = "world", value_name = "WORLD")]
    pub(crate) worlds: Vec<String>,

    /// The directory with the worlds [default: the contract of this host]
    #[arg(long, value_name = "DIR")]
    pub(crate) wit: Option<PathBuf>,
}

/// Makes a component's file of a core module's.
pub(crate) fn componentize(wanted: &Componentize) -> anyhow::Result<()> {
    let Componentize { core, output, worlds, wit } = wanted;
    let name = core.display();
    let module = fs::read(core).with_context(|| format!("{name}: cannot be read"))?;
    if wasmparser_says_component(&module) {
        bail!("{name}: is a component already; expected a core module");
    }
    let component = encode(module, worlds, wit.as_deref())
        .with_context(|| format!("{name}: cannot be made a component"))?;
    // Whole or not at all: a host may watch it.
    let unfinished = output.with_extension(format!("wasm.{}", std::process::id()));
    let written = fs::write(&unfinished, component).and_then(|()| fs::rename(&unfinished, output));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("{}: cannot be written", output.display()))
}

/// The version field of a component's file has the layer in its upper half.
fn wasmparser_says_component(bytes: &[u8]) -> bool {
    bytes.get(..8) == Some(b"\0asm\x0d\0\x01\0")
}

/// The optional exports, and the worlds that have them.
const OPTIONAL: [(&str, &str); 2] =
    [("ron:kernel/handover@", "stateful-service"), ("ron:kernel/bulk@", "bulk-service")];
/// The export that every service has, and its world.
const SERVICE: (&str, &str) = ("ron:kernel/lifecycle@", "service");

fn encode(mut module: Vec<u8>, worlds: &[String], wit: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut worlds: Vec<&str> = worlds.iter().map(String::as_str).collect();
    if wit.is_none() && !(worlds.is_empty() && says_its_world(&module)) {
        let exports = exports(&module)?;
        let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
        for (export, world) in OPTIONAL.into_iter().filter(|(export, _)| has(export)) {
            if worlds.is_empty() || worlds.contains(&world) {
                continue;
            }
            // It would be left out without a word.
            let interface = export.trim_end_matches('@');
            bail!(
                "it exports {interface}, which is in no world that is named; expected --world {world}"
            );
        }
        if worlds.is_empty() && has(SERVICE.0) {
            let own = OPTIONAL.iter().filter(|(export, _)| has(export)).map(|(_, world)| *world);
            worlds = std::iter::once(SERVICE.1).chain(own).collect();
        }
    }
    if !worlds.is_empty() {
        let (resolve, package) = resolve(wit)?;
        for world in worlds {
            let id = resolve.select_world(&[package], Some(world)).with_context(|| {
                let known: Vec<&str> =
                    resolve.packages[package].worlds.keys().map(String::as_str).collect();
                format!("there is no world {world:?}; expected one of {}", known.join(", "))
            })?;
            embed_component_metadata(&mut module, &resolve, id, StringEncoding::UTF8)?;
        }
    } else if !says_its_world(&module) {
        let unsaid = "it does not say for which world it is";
        match made_with(&module) {
            // A world would have nothing to export there.
            Some(toolchain) => bail!("{unsaid}; to mend it, {}", into_service(toolchain)),
            None => bail!("{unsaid}; expected --world, such as --world service"),
        }
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&module)?;
    encoder = encoder
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    encoder.encode()
}

/// The worlds, and the package that is asked for them.
fn resolve(wit: Option<&Path>) -> anyhow::Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let package = match wit {
        Some(directory) => {
            let pushed = resolve.push_dir(directory);
            pushed.with_context(|| format!("{}: is no WIT", directory.display()))?.0
        }
        None => {
            let mut sources = SourceMap::default();
            // Below it are other packages.
            for (name, text) in language::contract().filter(|(name, _)| !name.contains('/')) {
                sources.push_str(&name, String::from_utf8_lossy(&text));
            }
            let group = sources.parse().map_err(|(_, error)| error)?;
            resolve.push_group(group)?
        }
    };
    Ok((resolve, package))
}

/// The names that a core module exports.
fn exports(module: &[u8]) -> anyhow::Result<Vec<&str>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(section) = payload? {
            for export in section {
                names.push(export?.name);
            }
        }
    }
    Ok(names)
}

/// Whether a compiler or a linker wrote the world into it.
fn says_its_world(module: &[u8]) -> bool {
    wit_component::metadata::decode(module).is_ok_and(|(found, _)| found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(module: &[u8], worlds: &[&str]) -> String {
        let worlds: Vec<String> = worlds.iter().map(|world| (*world).to_owned()).collect();
        let refused = encode(module.to_vec(), &worlds, None).expect_err("it is none");
        format!("{refused:#}")
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let empty = b"\0asm\x01\0\0\0";
        assert!(refusal(empty, &[]).contains("expected --world"));
        assert!(refusal(empty, &["servise"]).contains("stateful-service"));
        let missing = refusal(empty, &["service"]);
        assert!(missing.contains("ron:kernel/lifecycle@1.0.0"), "{missing}");
    }
}
