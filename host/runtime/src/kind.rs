//! What a component is, from what it exports.
//!
//! Nobody says it with a flag: a component that was built for another host runs
//! here as it is. The names are read before compiling, because how a component's
//! exports are called decides what it is compiled for.

use wasmparser::{Chunk, Parser, Payload};

use crate::contract;

/// The export that makes a component a service, in whatever version.
pub(crate) const LIFECYCLE: &str = "ron:kernel/lifecycle";
/// The export of a component that answers HTTP requests, WASI 0.2.
pub(crate) const INCOMING_HANDLER: &str = "wasi:http/incoming-handler";

/// What runs a component, and what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exports `ron:kernel/lifecycle`: one instance with a state and a mailbox.
    Service,
    /// Exports `wasi:http/incoming-handler`: an instance for each request.
    Http,
}

impl Kind {
    /// The kind of a component with those exports, if there is one for them.
    pub(crate) fn of<'e>(exports: impl IntoIterator<Item = &'e str>) -> Option<Self> {
        let mut kind = None;
        for export in exports {
            match contract::split(export).0 {
                LIFECYCLE => return Some(Self::Service),
                INCOMING_HANDLER => kind = Some(Self::Http),
                _ => {}
            }
        }
        kind
    }
}

/// The names of a component's exports; none of one that is damaged. What is nested
/// in it is skipped.
pub(crate) fn exports(component: &[u8]) -> Option<Vec<&str>> {
    let mut parser = Parser::new(0);
    let mut rest = component;
    let mut names = Vec::new();
    loop {
        let (consumed, payload) = match parser.parse(rest, true).ok()? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            Chunk::NeedMoreData(_) => return None,
        };
        rest = rest.get(consumed..)?;
        match payload {
            Payload::ComponentExportSection(section) => {
                for export in section {
                    names.push(export.ok()?.name.name);
                }
            }
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                rest = rest.get(unchecked_range.len()..)?;
            }
            Payload::End(_) => return Some(names),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exports_say_what_a_component_is() {
        fn check(exports: &[&str], kind: Option<Kind>) {
            assert_eq!(Kind::of(exports.iter().copied()), kind, "{exports:?}");
        }
        check(&[], None);
        check(&["acme:elsewhere/thing@0.1.0"], None);
        check(&["ron:kernel/lifecycle@1.0.0"], Some(Kind::Service));
        check(&["wasi:http/incoming-handler@0.2.3"], Some(Kind::Http));
        // One state: requests are calls on the service's instance.
        let both = ["wasi:http/incoming-handler@0.2.3", "ron:kernel/lifecycle@1.0.0"];
        check(&both, Some(Kind::Service));
    }

    #[test]
    fn only_a_components_own_exports_are_its_exports() {
        let text = r#"(component
            (component (instance $i) (export "inner" (instance $i)))
            (core module (func (export "core")))
            (instance $one)
            (export "acme:a/b@1.0.0" (instance $one))
            (core module (memory 1))
            (export "second" (instance $one)))"#;
        let bytes = wat::parse_str(text).expect("it is valid");
        assert_eq!(exports(&bytes).expect("it parses"), ["acme:a/b@1.0.0", "second"]);
        // At the end of a section it is whole, and has the exports before.
        let cut: Vec<_> = (0..bytes.len()).map(|end| exports(&bytes[..end])).collect();
        assert!(cut.iter().flatten().all(|names| names.len() <= 2));
        let whole = cut.iter().flatten().count();
        assert!(whole <= 10, "cut within a section, nothing is told: {whole}");
    }
}
