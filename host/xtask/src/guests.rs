//! Builds the components into `target/components`.
//!
//! One cargo call for all of them: they share a target directory and every
//! dependency. What is an example or a test component is read from the
//! directories, so a new one needs no entry here.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::interpreted;
use crate::workspace::{cargo, root, run, target};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "guest";
/// Packages of test components, each with its directory.
const TESTS: [(&str, &str); 2] =
    [("test-guests", "tests/guests"), ("foreign-guests", "tests/foreign")];
/// Packages that are one test component.
const SINGLE_TESTS: [&str; 1] = ["conformance-rust"];

/// Which components to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those in `examples/`, in `tests/guests/` and in `tests/foreign/`.
    All,
    /// Those in `examples/`.
    Examples,
}

/// Builds components and returns the directory that holds them.
pub(crate) fn build(which: Which) -> Result<PathBuf, Error> {
    ensure_target()?;

    let built = target().join(TARGET).join(PROFILE);
    let mut cargo = for_target("build");
    cargo.arg("--lib");
    let mut components = Vec::new();
    for name in example_packages()? {
        cargo.args(["--package", &name]);
        components.push((built.clone(), name));
    }
    if which == Which::All {
        cargo.arg("--examples");
        for name in SINGLE_TESTS {
            cargo.args(["--package", name]);
            components.push((built.clone(), name.to_owned()));
        }
        for (package, directory) in TESTS {
            cargo.args(["--package", package]);
            let names = test_components(directory)?.into_iter();
            components.extend(names.map(|name| (built.join("examples"), name)));
        }
    }
    run(&mut cargo)?;

    let directory = target().join("components");
    fs::create_dir_all(&directory)
        .map_err(Error::io(format!("creating {}", directory.display())))?;
    let mut changed = 0;
    for (built, name) in &components {
        let artifact = artifact(built, name);
        if !artifact.is_file() {
            return Err(Error::Needs(format!(
                "cargo built no {}; does the manifest declare `{name}` with crate-type = [\"cdylib\"]?",
                artifact.display()
            )));
        }
        let component = directory.join(format!("{name}.wasm"));
        changed += usize::from(update(&artifact, &component)?);
    }
    if which == Which::All {
        interpreted::build(&directory)?;
    }
    eprintln!(
        "{:>12} {} components in {} ({changed} changed)",
        "Ready",
        components.len(),
        directory.display()
    );
    Ok(directory)
}

/// Runs clippy over the SDK and every component, for the target that they are
/// made for; a warning fails.
pub(crate) fn lint() -> Result<(), Error> {
    ensure_target()?;
    let mut cargo = for_target("clippy");
    cargo.args(["--lib", "--examples", "--package", "ron-guest"]);
    for package in TESTS.iter().map(|(package, _)| *package).chain(SINGLE_TESTS) {
        cargo.args(["--package", package]);
    }
    for name in example_packages()? {
        cargo.args(["--package", &name]);
    }
    run(cargo.args(["--", "-D", "warnings"]))
}

/// `cargo COMMAND` for components.
fn for_target(command: &str) -> Command {
    let mut cargo = cargo();
    cargo.args([command, "--target", TARGET, "--profile", PROFILE]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags());
    cargo
}

/// The flags that are set already, and the names of places: what stands in a backtrace is
/// relative to the repository, and a component is the same to the byte, with the same
/// digest, wherever the repository lies. cargo gives build scripts none of it.
fn rustflags() -> OsString {
    let set = env::var("CARGO_ENCODED_RUSTFLAGS").ok();
    let plain =
        || Some(env::var("RUSTFLAGS").ok()?.split_whitespace().collect::<Vec<_>>().join("\x1f"));
    let mut flags = OsString::from(set.or_else(plain).unwrap_or_default());
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let registry = home.map(|home| (home.join("registry/src"), "registry"));
    // Of several that fit, the last counts.
    let places = [(root().to_owned(), ""), (target(), "target")];
    for (from, to) in places.into_iter().chain(registry) {
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

/// The file that cargo makes of a component: of a library, unless it is a program.
fn artifact(directory: &Path, name: &str) -> PathBuf {
    let program = directory.join(format!("{name}.wasm"));
    match program.is_file() {
        true => program,
        false => directory.join(format!("{}.wasm", name.replace('-', "_"))),
    }
}

/// Each directory of `examples/`, and of an example of several parts, whose
/// manifest makes a component; its package has its name. Others are
/// deployments, or programs for this machine.
fn example_packages() -> Result<Vec<String>, Error> {
    let examples = root().join("examples");
    let makes_component = |directory: &Path| {
        let manifest = fs::read_to_string(directory.join("Cargo.toml"));
        manifest.is_ok_and(|manifest| manifest.contains("cdylib"))
    };
    let mut names = Vec::new();
    for name in list(&examples)? {
        let directory = examples.join(&name);
        if makes_component(&directory) {
            names.push(name);
        } else if !directory.join("Cargo.toml").exists() && directory.is_dir() {
            let parts = list(&directory)?;
            let parts = parts.iter().filter(|part| makes_component(&directory.join(part)));
            names.extend(parts.map(|part| format!("{name}-{part}")));
        }
    }
    Ok(names)
}

/// Each source file of a directory but the library that they share.
fn test_components(directory: &str) -> Result<Vec<String>, Error> {
    let mut names = list(&root().join(directory))?;
    names.retain(|name| name != "lib.rs");
    Ok(names.iter().filter_map(|name| name.strip_suffix(".rs")).map(str::to_owned).collect())
}

/// The names in a directory, in order.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let doing = || format!("reading {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io(doing()))? {
        let entry = entry.map_err(Error::io(doing()))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Makes `to` equal to `from`; says whether it was not.
///
/// An equal file keeps its time, and a changed one appears whole, by renaming:
/// a host that watches it must neither wake for nothing nor read half of it.
pub(crate) fn update(from: &Path, to: &Path) -> Result<bool, Error> {
    let bytes = fs::read(from).map_err(Error::io(format!("reading {}", from.display())))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let temporary = to.with_extension(format!("wasm.{}", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, to))
        .map_err(Error::io(format!("writing {}", to.display())))?;
    Ok(true)
}

/// Adds Rust's target for components where it is missing.
fn ensure_target() -> Result<(), Error> {
    if target_is_present()? {
        return Ok(());
    }
    eprintln!("{:>12} Rust's target {TARGET}", "Adding");
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(root()).status();
    if added.is_ok_and(|status| status.success()) && target_is_present()? {
        return Ok(());
    }
    Err(Error::Needs(format!(
        "components need Rust's target {TARGET}, which could not be added. With a network, run\n\n    \
         rustup target add {TARGET}\n\nand then this again. Where Rust came without rustup, install the package \
         that holds its standard library for {TARGET}."
    )))
}

fn target_is_present() -> Result<bool, Error> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root())
        .stderr(Stdio::null())
        .output()
        .map_err(Error::io("running rustc"))?;
    // A compiler too old for the target prints nothing; one without its
    // libraries prints where they would be.
    let directory = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(directory.trim()).is_dir())
}
