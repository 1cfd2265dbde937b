//! What a component was made with, as compilers write it into its `producers` sections.
//! For advice alone: nothing depends on it, and it may be absent or wrong.

use std::collections::BTreeSet;

use wasmparser::{KnownCustom, Parser, Payload};

/// What makes components of one language's sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustc.
    Rust,
    /// componentize-py.
    Python,
    /// componentize-js, or componentize-qjs.
    JavaScript,
    /// Go's own compiler.
    Go,
    /// clang, or zig: C, C++ and Zig look alike.
    C,
}

/// What the file was made with, a component or a core module, if it says.
#[must_use]
pub fn made_with(bytes: &[u8]) -> Option<Toolchain> {
    let mut names = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        // What is damaged says nothing.
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        for field in fields.into_iter().flatten() {
            names.extend(field.values.into_iter().flatten().map(|value| value.name));
        }
    }
    told_by(&names)
}

/// The languages of what is linked along stand there too, so the narrowest comes first.
fn told_by(names: &BTreeSet<&str>) -> Option<Toolchain> {
    let has = |name: &str| names.iter().any(|own| own.starts_with(name));
    Some(match () {
        () if has("Go cmd/compile") => Toolchain::Go,
        // The engine's own languages are C and Rust.
        () if has("ComponentizeJS") || has("JavaScript") => Toolchain::JavaScript,
        () if has("componentize-py") || has("component-init") => Toolchain::Python,
        () if has("wit-bindgen-rust") => Toolchain::Rust,
        () if has("C11") || has("C_plus_plus") || has("C99") => Toolchain::C,
        // QuickJS comes compiled, without a word of itself.
        () if has("rustc") && has("wit-component") => Toolchain::JavaScript,
        () if has("rustc") => Toolchain::Rust,
        () => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_told_by_what_it_writes() {
        fn check(names: &[&str], expected: Option<Toolchain>) {
            assert_eq!(told_by(&names.iter().copied().collect()), expected, "{names:?}");
        }
        check(&[], None);
        check(&["Rust", "rustc", "wit-bindgen-rust", "C11", "clang"], Some(Toolchain::Rust));
        check(&["Rust", "rustc", "component-init-transform"], Some(Toolchain::Python));
        check(&["Rust", "C11", "JavaScript", "ComponentizeJS"], Some(Toolchain::JavaScript));
        check(&["Rust", "rustc", "wit-component"], Some(Toolchain::JavaScript));
        check(&["Go", "Go cmd/compile", "rustc", "wit-component"], Some(Toolchain::Go));
        check(&["C11", "clang", "rustc", "wit-component"], Some(Toolchain::C));
    }

    #[test]
    fn what_says_nothing_is_of_no_toolchain() {
        assert_eq!(made_with(b"\0asm\x01\0\0\0"), None);
        assert_eq!(made_with(b"broken"), None);
    }
}
