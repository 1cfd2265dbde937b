//! Builds the components of `tests/foreign` that are written in languages with tools of
//! their own: JavaScript and Python.
//!
//! The tools come from their registries, in pinned versions, into `target/tools`. A
//! machine without `npm` or `python3`, or whose registries cannot be reached, goes
//! without those components, and is told so;
//! the tests that run them say it again. A component is built anew when its sources are
//! others, since that takes half a minute.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::error::Error;
use crate::workspace::{root, run, target};

/// One component.
struct Recipe {
    /// Its name, and its file's.
    name: &'static str,
    /// In `tests/foreign`.
    directory: &'static str,
    /// What must be on PATH.
    program: &'static str,
    /// Which versions of the tools; in that directory.
    pins: &'static [&'static str],
    /// Installs the tools of `from` in `to`.
    install: fn(from: &Path, to: &Path) -> Result<(), Error>,
    /// Makes the component `to`, with the tools of `tools`.
    build: fn(from: &Path, tools: &Path, to: &Path) -> Command,
}

const RECIPES: [Recipe; 2] = [
    Recipe {
        name: "fetch-event",
        directory: "javascript",
        program: "npm",
        pins: &["package.json", "package-lock.json"],
        install: |from, to| {
            for file in ["package.json", "package-lock.json"] {
                fs::copy(from.join(file), to.join(file))
                    .map_err(Error::io(format!("copying {file}")))?;
            }
            let quiet = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
            run(Command::new("npm").args(quiet).current_dir(to))
        },
        build: |from, tools, to| {
            let mut command = Command::new("node");
            let cli = "node_modules/@bytecodealliance/componentize-js/src/cli.js";
            command.arg(tools.join(cli)).arg(from.join("fetch-event.js"));
            command.arg("--wit").arg(wit()).args(["--world-name", "hello", "--out"]).arg(to);
            command
        },
    },
    Recipe {
        name: "python-http",
        directory: "python",
        program: "python3",
        pins: &["requirements.txt"],
        install: |from, to| {
            let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            let mut pip = Command::new("python3");
            pip.args(quiet).arg("--target").arg(to.join("site"));
            // As root it warns of what `--target` has settled.
            run(pip.arg("--root-user-action=ignore").arg("-r").arg(from.join("requirements.txt")))
        },
        build: |from, tools, to| {
            let mut command = Command::new("python3");
            command.env("PYTHONPATH", tools.join("site")).env("PYTHONDONTWRITEBYTECODE", "1");
            command.arg(tools.join("site/bin/componentize-py")).arg("--wit-path").arg(wit());
            command.args(["--world", "hello", "componentize", "app", "--python-path"]);
            command.arg(from).arg("--output").arg(to);
            command
        },
    },
];

fn wit() -> PathBuf {
    root().join("tests/foreign/wit")
}

/// Builds those that can be built here into `components`, and says which cannot.
pub(crate) fn build(components: &Path) -> Result<(), Error> {
    for recipe in RECIPES {
        recipe.make(components)?;
    }
    Ok(())
}

impl Recipe {
    fn make(&self, components: &Path) -> Result<(), Error> {
        let Self { name, program, .. } = self;
        let from = root().join("tests/foreign").join(self.directory);
        let tools = target().join("tools").join(self.directory);
        let to = components.join(format!("{name}.wasm"));
        let inputs = self.inputs(&from)?;
        let stamp = target().join("tools").join(format!("{name}.inputs"));
        if to.is_file() && fs::read_to_string(&stamp).is_ok_and(|known| known == inputs) {
            return Ok(());
        }
        let here = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if !here.is_ok_and(|status| status.success()) {
            eprintln!("{:>12} {name}.wasm: {program} is not on PATH", "Skipped");
            return Ok(());
        }
        // A registry that cannot be reached stops nobody who builds the rest.
        if let Err(error) = self.tools(&from, &tools) {
            eprintln!("{:>12} {name}.wasm: its tools could not be fetched: {error}", "Skipped");
            return Ok(());
        }
        eprintln!("{:>12} {name}.wasm", "Building");
        // From a copy: Python leaves what it has compiled beside its sources.
        let sources = target().join("tools").join(format!("{name}-sources"));
        let doing = format!("copying the sources of {name}");
        let _ = fs::remove_dir_all(&sources);
        let copied = fs::create_dir_all(&sources).and_then(|()| {
            files(&from)?
                .iter()
                .try_for_each(|file| fs::copy(from.join(file), sources.join(file)).map(drop))
        });
        copied.map_err(Error::io(doing))?;
        run((self.build)(&sources, &tools, &to).stdout(Stdio::null()))?;
        fs::write(&stamp, inputs).map_err(Error::io(format!("writing {}", stamp.display())))
    }

    /// Installs the tools, unless those of these versions are there.
    fn tools(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let pins = read(from, self.pins)?;
        let stamp = to.join("installed");
        if fs::read_to_string(&stamp).is_ok_and(|known| known == pins) {
            return Ok(());
        }
        let doing = format!("preparing {}", to.display());
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).map_err(Error::io(doing))?;
        eprintln!("{:>12} the tools for {}", "Fetching", self.directory);
        (self.install)(from, to)?;
        fs::write(&stamp, pins).map_err(Error::io(format!("writing {}", stamp.display())))
    }

    /// Everything that the component is made of.
    fn inputs(&self, from: &Path) -> Result<String, Error> {
        let names = files(from).map_err(Error::io(format!("reading {}", from.display())))?;
        let own = read(from, &names)?;
        Ok(own + &read(&wit(), &["world.wit"])?)
    }
}

/// The names of a directory's files, in order.
fn files(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// These files, one after the other.
fn read(directory: &Path, names: &[impl AsRef<str>]) -> Result<String, Error> {
    let mut all = String::new();
    for name in names {
        let path = directory.join(name.as_ref());
        let text = fs::read_to_string(&path);
        all += &text.map_err(Error::io(format!("reading {}", path.display())))?;
    }
    Ok(all)
}
