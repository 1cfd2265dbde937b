//! How an author mends a component that is not loaded, in the words of its language.

use ron_runtime::{LoadError, Toolchain, made_with};

/// What to do, if somebody can be told by the file itself.
pub(crate) fn advice(error: &LoadError) -> Option<String> {
    let path = match error {
        LoadError::Contract { path, .. }
        | LoadError::OtherWorld { path, .. }
        | LoadError::CoreModule { path } => path,
        _ => return None,
    };
    let toolchain = made_with(&std::fs::read(path).ok()?)?;
    Some(match error {
        LoadError::Contract { .. } => format!(
            "have the contract of this host with `ron-host sdk --lang {} sdk`, and build again",
            name(toolchain)
        ),
        LoadError::CoreModule { .. } => into_component(toolchain).to_owned(),
        _ => into_service(toolchain).to_owned(),
    })
}

fn name(toolchain: Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Rust => "rust",
        Toolchain::Python => "python",
        Toolchain::JavaScript => "javascript",
        Toolchain::Go => "go",
        Toolchain::C => "c",
    }
}

fn into_component(toolchain: Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Rust => "build for `--target wasm32-wasip2`",
        Toolchain::Python => "build with `.venv/bin/python sdk/build.py -o NAME.wasm`",
        Toolchain::JavaScript => "build with `node sdk/build.js FILE -o NAME.wasm`",
        Toolchain::Go | Toolchain::C => {
            "make it a component with `ron-host componentize CORE -o NAME.wasm`"
        }
    }
}

pub(super) fn into_service(toolchain: Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Rust => {
            "name the service with `ron_guest::service!(NAME);`, in a package whose crate-type is \
             \"cdylib\""
        }
        Toolchain::Python => {
            "componentize `ron.entry` and not a module of your own, as \
             `.venv/bin/python sdk/build.py -o NAME.wasm` does"
        }
        Toolchain::JavaScript => {
            "build with `node sdk/build.js FILE -o NAME.wasm`, where FILE has the service as its \
             default export"
        }
        Toolchain::Go => {
            "hand the service over with `ron.Run` in main, and make the module a component with \
             `ron-host componentize`"
        }
        Toolchain::C => {
            "link the files of sdk/, and make the module a component with `ron-host componentize`"
        }
    }
}
