//! A component's own imports and exports, by name, read before it is compiled.

use wasmparser::{Chunk, Parser, Payload};

use crate::contract;

/// The names, in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Surface<'c> {
    pub(crate) imports: Vec<&'c str>,
    pub(crate) exports: Vec<&'c str>,
}

impl Surface<'_> {
    /// Whether it exports that interface, in whatever version.
    pub(crate) fn has_export(&self, interface: &str) -> bool {
        self.exports.iter().any(|export| contract::split(export).0 == interface)
    }

    /// Whether it exports the interface of that name in a version that begins so.
    pub(crate) fn has_export_of(&self, interface: &str, version: &str) -> bool {
        self.exports.iter().any(|export| {
            let (own, of) = contract::split(export);
            own == interface && of.starts_with(version)
        })
    }

    /// Whether anything of it is of WASI 0.3, which needs calls that can wait for
    /// each other.
    pub(crate) fn is_concurrent(&self) -> bool {
        self.imports.iter().chain(&self.exports).any(|name| {
            let (interface, version) = contract::split(name);
            interface.starts_with("wasi:") && version.starts_with("0.3.")
        })
    }
}

/// What a component imports and exports; nothing of one that is damaged. What is
/// nested in it is skipped.
pub(crate) fn surface(component: &[u8]) -> Option<Surface<'_>> {
    let mut parser = Parser::new(0);
    let mut rest = component;
    let mut surface = Surface::default();
    loop {
        let (consumed, payload) = match parser.parse(rest, true).ok()? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            Chunk::NeedMoreData(_) => return None,
        };
        rest = rest.get(consumed..)?;
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    surface.imports.push(import.ok()?.name.name);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    surface.exports.push(export.ok()?.name.name);
                }
            }
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                rest = rest.get(unchecked_range.len()..)?;
            }
            Payload::End(_) => return Some(surface),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_wasi_0_3_is_concurrent() {
        fn check(imports: &[&str], exports: &[&str], concurrent: bool) {
            let surface = Surface { imports: imports.to_vec(), exports: exports.to_vec() };
            assert_eq!(surface.is_concurrent(), concurrent, "{surface:?}");
        }
        check(&["wasi:io/poll@0.2.3"], &["ron:kernel/lifecycle@1.0.0"], false);
        check(&["acme:a/b@0.3.0"], &["wasi:http/incoming-handler@0.2.0"], false);
        check(&["wasi:clocks/monotonic-clock@0.3.0"], &["ron:kernel/lifecycle@1.0.0"], true);
        check(&[], &["wasi:http/handler@0.3.0-rc-2026-03-15"], true);
    }

    #[test]
    fn only_a_components_own_names_are_its_names() {
        let text = r#"(component
            (import "acme:c/d@1.0.0" (instance))
            (component (import "x" (instance $i)) (export "inner" (instance $i)))
            (core module (func (export "core")))
            (instance $one)
            (export "acme:a/b@1.0.0" (instance $one))
            (core module (memory 1))
            (export "second" (instance $one)))"#;
        let bytes = wat::parse_str(text).expect("it is valid");
        let found = surface(&bytes).expect("it parses");
        assert_eq!(found.imports, ["acme:c/d@1.0.0"]);
        assert_eq!(found.exports, ["acme:a/b@1.0.0", "second"]);
        assert!(found.has_export("acme:a/b") && !found.has_export("acme:a"));
        // At the end of a section it is whole, and has the names before.
        let cut: Vec<_> = (0..bytes.len()).map(|end| surface(&bytes[..end])).collect();
        assert!(cut.iter().flatten().all(|found| found.exports.len() <= 2));
        let whole = cut.iter().flatten().count();
        assert!(whole <= 10, "cut within a section, nothing is told: {whole}");
    }
}
