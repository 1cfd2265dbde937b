//! Builds the components that have tools of their own, as their authors would: with
//! `ron-host build`, which reads from a project's `ron.toml` how. They are those of
//! `tests/conformance`, and for each language what `ron-host new` begins.
//!
//! A project is built in a copy below `target/`, so that tools and what they leave lie
//! there. `examples/pipeline` is built where it is, as a part of the workspace. What a tool
//! is missing for is skipped, and told.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::guests::{list, update};
use crate::workspace::{root, run, status, target};

/// Where the projects are.
const PROJECTS: &str = "tests/conformance";
/// What all of them are made with.
const SDKS: [&str; 2] = ["guests", "wit"];
/// By this `ron-host build` says that a tool is missing and could not be installed.
const UNAVAILABLE: i32 = 69;
/// What tools leave, which is no source and is kept from one build to the next.
const LITTER: [&str; 7] =
    ["node_modules", "__pycache__", ".venv", ".zig-cache", ".sdk", ".built", "target"];
/// The languages that `ron-host new` knows.
const LANGUAGES: [&str; 8] =
    ["rust", "python", "javascript", "typescript", "c", "cpp", "zig", "go"];

/// Builds each project's components into `components`.
pub(crate) fn build(host: &Path, components: &Path) -> Result<(), Error> {
    let builder = Builder { host, components };
    for name in list(&root().join(PROJECTS))? {
        let project = root().join(PROJECTS).join(&name);
        if project.join("ron.toml").is_file() {
            builder.project(&name, &project)?;
        }
    }
    LANGUAGES.iter().try_for_each(|language| builder.template(language))?;
    builder.pipeline()
}

/// The example of several languages.
pub(crate) fn pipeline() -> PathBuf {
    root().join("examples/pipeline")
}

struct Builder<'a> {
    host: &'a Path,
    components: &'a Path,
}

impl Builder<'_> {
    /// Builds a project of the repository's, in a copy.
    fn project(&self, name: &str, project: &Path) -> Result<(), Error> {
        let copy = languages().join(name);
        let stamp = copy.join(".inputs");
        self.build(&copy, &stamp, &inputs(Some(project))?, || {
            for file in files(project)? {
                let to = copy.join(&file);
                let parent = to.parent().unwrap_or(&copy);
                let doing = format!("creating {}", parent.display());
                fs::create_dir_all(parent).map_err(Error::io(doing))?;
                update(&project.join(&file), &to)?;
            }
            Ok(())
        })
    }

    /// Builds what `ron-host new` begins, as its author would.
    fn template(&self, language: &str) -> Result<(), Error> {
        let name = format!("greeter-{language}");
        let project = languages().join(&name);
        let stamp = project.join(".inputs");
        self.build(&project, &stamp, &inputs(None)?, || {
            let kept = languages().join(format!(".{name}.kept"));
            let doing = || Error::io(format!("preparing {}", project.display()));
            fs::create_dir_all(&kept).map_err(doing())?;
            move_litter(&project, &kept).map_err(doing())?;
            if project.exists() {
                fs::remove_dir_all(&project).map_err(doing())?;
            }
            let mut new = Command::new(self.host);
            new.args(["new", "--lang", language, &name]).current_dir(languages());
            run(new.stdout(Stdio::null()))?;
            move_litter(&kept, &project).map_err(doing())
        })
    }

    fn pipeline(&self) -> Result<(), Error> {
        let project = pipeline();
        // What it made may have been thrown away there.
        let stamp = project.join(".built/.inputs");
        self.build(&project, &stamp, &inputs(Some(&project))?, || Ok(()))
    }

    /// Builds the project that `prepare` brings up to date, unless the stamp says that it
    /// was built from the same.
    fn build(
        &self,
        project: &Path,
        stamp: &Path,
        inputs: &str,
        prepare: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if fs::read_to_string(stamp).is_ok_and(|known| known == inputs) {
            return Ok(());
        }
        let name = project.file_name().unwrap_or_default().to_string_lossy();
        eprintln!("{:>12} the components of {name}", "Building");
        prepare()?;
        // `ron-host build` checks what it made, and the cache of whoever runs this is not
        // for that.
        let mut build = Command::new(self.host);
        build.arg("build").arg("--config").arg(project.join("ron.toml"));
        build.arg("--cache-dir").arg(target().join("tmp/compiled"));
        // A target directory of the caller's is not the project's.
        build.env_remove("CARGO_TARGET_DIR");
        let ended = status(&mut build)?;
        match ended.code() {
            Some(0) => {}
            Some(UNAVAILABLE) => {
                eprintln!("{:>12} the components of {name}: see above", "Skipped");
                return Ok(());
            }
            _ => return Err(Error::failed(&build, ended)),
        }
        for file in list(project)?.iter().filter(|file| file.ends_with(".wasm")) {
            update(&project.join(file), &self.components.join(file))?;
        }
        fs::write(stamp, inputs).map_err(Error::io(format!("writing {}", stamp.display())))
    }
}

fn languages() -> PathBuf {
    target().join("languages")
}

/// Moves what tools left, which takes long to make, out of the way and back.
fn move_litter(from: &Path, to: &Path) -> io::Result<()> {
    for name in LITTER {
        if from.join(name).exists() && !to.join(name).exists() {
            fs::rename(from.join(name), to.join(name))?;
        }
    }
    Ok(())
}

/// A number that changes with anything that a project is made of, besides its SDK.
fn inputs(project: Option<&Path>) -> Result<String, Error> {
    let mut hasher = DefaultHasher::new();
    let sdks = SDKS.map(|directory| root().join(directory));
    for directory in project.into_iter().chain(sdks.iter().map(PathBuf::as_path)) {
        for file in files(directory)? {
            let path = directory.join(&file);
            let text = fs::read(&path).map_err(Error::io(format!("reading {}", path.display())))?;
            (file, text).hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Every file below a directory, relative to it and in order, but what tools leave.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(place) = open.pop() {
        for name in list(&directory.join(&place))? {
            let path = place.join(&name);
            let whole = directory.join(&path);
            if whole.is_dir() {
                if !LITTER.contains(&name.as_str()) && !whole.is_symlink() {
                    open.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
