//! `ron-host new` and `ron-host sdk`: what an author begins with, written to a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ron_kernel::ServiceId;
use thiserror::Error;

use super::language::{Language, ProjectFile};

/// What stands in a template for the service's name.
const NAME: &str = "{{name}}";
/// The same, as languages have it whose names have no `-`.
const IDENTIFIER: &str = "{{identifier}}";
/// What tells a directory that holds an SDK.
const MARK: &str = "wit/service.wit";
/// What a project in Rust is pinned by.
const LOCK: &str = "Cargo.lock";
/// Where the SDK of a project is.
const SDK: &str = "sdk";

/// Why nothing was written.
#[derive(Debug, Error)]
pub(crate) enum ProjectError {
    /// The name is none for a service, or none for a package of each language.
    #[error(
        "{0:?} cannot be a service's name; expected small letters, digits and '-', a letter first, \
         at most 64"
    )]
    Name(String),
    /// The name is another's already.
    #[error("{name:?} cannot be a service's name: {why}; expected another")]
    Taken {
        /// The name.
        name: String,
        /// Whose it is.
        why: &'static str,
    },
    /// Something has that name.
    #[error("{} is there already; nothing was written", .0.display())]
    Exists(PathBuf),
    /// A directory that is something else.
    #[error(
        "{} holds something else than an SDK; expected a new directory, or one with {MARK}; nothing \
         was written",
        .0.display()
    )]
    NotAnSdk(PathBuf),
    /// The machine refused.
    #[error("{} cannot be written", path.display())]
    Io {
        /// What was being written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Begins a project: a directory of that name in `place`, with the template of the
/// language and its SDK. It appears whole, or not at all.
pub(crate) fn new(language: Language, name: &str, place: &Path) -> Result<PathBuf, ProjectError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits);
    if !fits || name.len() > 64 {
        return Err(ProjectError::Name(name.to_owned()));
    }
    let taken = match ServiceId::parse(name) {
        // One of such letters is refused for what it means.
        Err(_) => Some("it is the host's own"),
        Ok(_) if language == Language::Rust && name == "ron-guest" => Some("it is the SDK's"),
        Ok(_) => None,
    };
    if let Some(why) = taken {
        return Err(ProjectError::Taken { name: name.to_owned(), why });
    }
    let project = place.join(name);
    // A link that leads nowhere is something too.
    if fs::symlink_metadata(&project).is_ok() {
        return Err(ProjectError::Exists(project));
    }
    let mut files = language.template();
    for (path, text) in &mut files {
        if let Ok(template) = std::str::from_utf8(text) {
            let filled = template.replace(NAME, name).replace(IDENTIFIER, &name.replace('-', "_"));
            let filled = if path == LOCK { in_order(&filled) } else { filled };
            *text = filled.into_bytes().into();
        }
        *path = path.replace(NAME, name);
    }
    files.extend(language.sdk().into_iter().map(|(path, text)| (format!("{SDK}/{path}"), text)));
    let unfinished = place.join(format!(".{name}.{}", std::process::id()));
    let written = write(&unfinished, &files).and_then(|()| {
        let moved = fs::rename(&unfinished, &project);
        moved.map_err(|source| ProjectError::Io { path: project.clone(), source })
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    written.map(|()| project)
}

/// A lock file whose packages are in the order in which cargo has them, which the name of
/// the project's own decides: the first build changes nothing of it.
fn in_order(lock: &str) -> String {
    let mut parts = lock.trim_end().split("\n\n[[package]]\n");
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<&str> = parts.collect();
    packages.sort_by_key(|package| package.lines().next());
    let packages = packages.into_iter().map(|package| format!("\n\n[[package]]\n{package}"));
    format!("{head}{}\n", packages.collect::<String>())
}

/// Writes the language's SDK to a directory, over an earlier one. What is there besides
/// stays.
pub(crate) fn sdk(language: Language, directory: &Path) -> Result<(), ProjectError> {
    let refused = |source| ProjectError::Io { path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_some() && !directory.join(MARK).is_file() {
                return Err(ProjectError::NotAnSdk(directory.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    write(directory, &language.sdk())
}

fn write(directory: &Path, files: &[ProjectFile]) -> Result<(), ProjectError> {
    for (name, text) in files {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        // A file that is the same keeps its time: nobody builds for nothing.
        let same = || fs::read(&path).is_ok_and(|present| present == **text);
        let written = fs::create_dir_all(parent)
            .and_then(|()| if same() { Ok(()) } else { fs::write(&path, text) });
        written.map_err(|source| ProjectError::Io { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_new_or_is_not_made() {
        let place = tempfile::tempdir().expect("a directory");
        let project = new(Language::Rust, "order-book", place.path()).expect("made");
        let text = fs::read_to_string(project.join("ron.toml")).expect("written");
        assert!(text.contains("[service.order-book]") && !text.contains("{{"), "{text}");
        assert!(project.join(".gitignore").is_file() && project.join("sdk/wit/bus.wit").is_file());
        fs::write(project.join("ron.toml"), "mine").expect("written");
        let again = new(Language::Python, "order-book", place.path());
        assert!(matches!(again, Err(ProjectError::Exists(_))), "{again:?}");
        assert_eq!(fs::read_to_string(project.join("ron.toml")).expect("kept"), "mine");
        let left: Vec<_> = fs::read_dir(place.path()).expect("read").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_lock_file_is_in_order_whatever_the_name() {
        let place = tempfile::tempdir().expect("a directory");
        for name in ["aaa", "greeter", "zebra"] {
            let project = new(Language::Rust, name, place.path()).expect("made");
            let lock = fs::read_to_string(project.join(LOCK)).expect("written");
            let names: Vec<&str> =
                lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
            assert!(names.is_sorted() && names.contains(&&*format!("{name:?}")), "{names:?}");
            assert!(!lock.ends_with("\n\n") && !lock.contains("\n\n\n"), "{lock}");
        }
    }

    #[test]
    fn a_name_is_one_that_every_language_takes() {
        let place = tempfile::tempdir().expect("a directory");
        for name in ["", "Greeter", "9lives", "a_b", "a/b", "..", "-a", "grüße"] {
            let made = new(Language::Rust, name, place.path());
            assert!(matches!(made, Err(ProjectError::Name(_))), "{name}: {made:?}");
        }
        for name in ["ron", "host", "ron-guest"] {
            let made = new(Language::Rust, name, place.path());
            assert!(matches!(made, Err(ProjectError::Taken { .. })), "{name}: {made:?}");
        }
        assert_eq!(fs::read_dir(place.path()).expect("read").count(), 0);
    }

    #[test]
    fn an_sdk_replaces_an_sdk_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("sdk");
        sdk(Language::Python, &directory).expect("written");
        fs::write(directory.join("wit/bus.wit"), "older").expect("written");
        sdk(Language::Python, &directory).expect("written again");
        assert_ne!(fs::read_to_string(directory.join("wit/bus.wit")).expect("read"), "older");
        let refused = sdk(Language::Python, place.path());
        assert!(matches!(refused, Err(ProjectError::NotAnSdk(_))), "{refused:?}");
    }
}
