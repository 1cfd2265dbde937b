//! What is read besides the file: secrets, and the directories that are granted.
//!
//! A secret's file is read once for all that name it. Read for each of them, one that is
//! replaced meanwhile would be half in force, and nobody could tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ron_kernel::ServiceId;
use ron_runtime::Digest;

use super::read;
use crate::plan::Secret;

/// See this module's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    /// The files of secrets, as they were read.
    secrets: BTreeMap<PathBuf, Known>,
    /// Who names what of it.
    named: BTreeMap<ServiceId, Named>,
    /// Files of secrets that cannot be read, or have none.
    missing: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
struct Known {
    digest: Digest,
    text: Secret,
}

#[derive(Clone, Debug, Default)]
struct Named {
    secrets: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl Outside {
    /// The secret in a file, for a service.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn secret(&mut self, path: PathBuf, of: &ServiceId) -> Result<Secret, String> {
        let text = match self.secrets.get(&path) {
            Some(known) => known.text.clone(),
            None => match read_secret(&path) {
                Ok((digest, text)) => {
                    self.secrets.insert(path.clone(), Known { digest, text: text.clone() });
                    text
                }
                Err(why) => {
                    self.missing.insert(path);
                    return Err(why);
                }
            },
        };
        self.named.entry(of.clone()).or_default().secrets.insert(path);
        Ok(text)
    }

    /// A directory is granted to a service.
    pub(super) fn directory(&mut self, path: PathBuf, of: &ServiceId) {
        self.named.entry(of.clone()).or_default().directories.insert(path);
    }

    /// These services name nothing, as far as is known now.
    pub(super) fn forget<'s>(&mut self, services: impl Iterator<Item = &'s ServiceId>) {
        for id in services {
            self.named.remove(id);
        }
    }

    /// Nothing is kept that nobody names.
    pub(super) fn tidy(&mut self) {
        let named: BTreeSet<&PathBuf> = self.named.values().flat_map(|own| &own.secrets).collect();
        self.secrets.retain(|path, _| named.contains(path));
    }

    /// Whether all of it is what it was.
    pub(super) fn is_still_so(&self) -> bool {
        let same = |(path, known): (&PathBuf, &Known)| {
            read::bytes(path).is_ok_and(|bytes| Digest::of(&bytes) == known.digest)
        };
        let mut directories = self.named.values().flat_map(|own| &own.directories);
        self.missing.is_empty()
            && self.secrets.iter().all(same)
            && directories.all(|path| read::directory(path).is_ok())
    }

    /// The files of secrets, each with what it was when it was read.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&Path, Digest)> {
        self.secrets.iter().map(|(path, known)| (path.as_path(), known.digest))
    }

    /// The files of secrets that had none.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Path> {
        self.missing.iter().map(PathBuf::as_path)
    }
}

fn read_secret(path: &Path) -> Result<(Digest, Secret), String> {
    let mut text = read::text(path)?;
    let digest = Digest::of(text.as_bytes());
    // As editors and `echo` leave it.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    // As a writer leaves it who empties a file before he fills it.
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok((digest, Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_is_one_for_all_that_name_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        let [a, b] = ["a", "b"].map(|name| ServiceId::parse(name).expect("a name"));
        fs::write(&path, "one\n").expect("written");
        let mut outside = Outside::default();
        let read = |outside: &mut Outside, of| {
            outside.secret(path.clone(), of).map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(read(&mut outside, &a).as_deref(), Ok("one"));
        fs::write(&path, "two\n").expect("written");
        assert_eq!(read(&mut outside, &b).as_deref(), Ok("one"), "as the other has it");
        assert!(!outside.is_still_so(), "which is told the next time");
        outside.forget([&a].into_iter());
        outside.tidy();
        assert_eq!(outside.secrets().count(), 1);
        outside.forget([&b].into_iter());
        outside.tidy();
        assert!(outside.secrets().count() == 0 && outside.is_still_so());
        fs::remove_file(&path).expect("removed");
        assert!(read(&mut outside, &a).is_err());
        assert!(outside.missing().eq([path.as_path()]) && !outside.is_still_so());
    }
}
