//! Compiled components on disk, so that a second start compiles nothing.
//!
//! A file here is native code that the host will run, so it is trusted as the
//! host's own binary is: the directory belongs to the user and nobody else
//! may write to it, every file is authenticated with a key that only the user
//! can read, and the bytes that were authenticated are the bytes that are
//! loaded, not the file read again. Whatever does not check out is compiled
//! anew and replaced; the cache can make a start slower and never wrong.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

/// Bytes of the authentication code at the end of a file.
const TAG: usize = 32;

/// Why a directory is not used as a cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It cannot be made or read.
    #[error("{path}: cannot be used as a cache")]
    Io {
        /// The directory, or a file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could put code into it.
    #[error("{path}: must belong to the user that runs the host, and be writable by no other")]
    Unsafe {
        /// The directory, or a file in it.
        path: PathBuf,
    },
}

/// A directory of compiled components.
#[derive(Debug)]
pub struct CompileCache {
    directory: PathBuf,
    key: [u8; 32],
}

impl CompileCache {
    /// Opens a cache, and makes the directory (mode 0700) and its key (mode
    /// 0600) where they are missing.
    ///
    /// # Errors
    ///
    /// See [`CacheError`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let directory = directory.into();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io(&directory))?;
        let found = fs::metadata(&directory).map_err(io(&directory))?;
        if !is_private(&found, 0o022) {
            return Err(CacheError::Unsafe { path: directory });
        }
        let path = directory.join("key");
        let key = match read_key(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_new(&directory, &path, &[&random_key().map_err(io(&path))?])
                    .and_then(|()| read_key(&path))
                    .map_err(io(&path))?
            }
            other => other.map_err(io(&path))?,
        };
        let Some(key) = key else { return Err(CacheError::Unsafe { path }) };
        Ok(Self { directory, key })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        // Code compiled by another engine, or for another machine, has another name.
        let mut hasher = Blake3(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatible = hasher.0.finalize().to_hex();
        self.directory.join(format!("{}-{}.cwasm", digest.to_hex(), &compatible[..16]))
    }

    fn tag(&self, digest: &Digest, code: &[u8]) -> [u8; TAG] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(digest.as_bytes()).update(code);
        *hasher.finalize().as_bytes()
    }

    /// The compiled component of that digest, if there is one that checks out.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.path(engine, digest);
        let mut bytes = Vec::new();
        File::open(&path).ok()?.read_to_end(&mut bytes).ok()?;
        let (code, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        // Compared in constant time, as `blake3::Hash` is.
        if blake3::Hash::from_bytes(self.tag(digest, code)) != blake3::Hash::from_slice(tag).ok()? {
            tracing::warn!(path = %path.display(), "a cached component is damaged and is compiled anew");
            return None;
        }
        #[expect(unsafe_code, reason = "native code, authenticated above with the user's own key")]
        // SAFETY: `code` was written by `store` below, which wrote what
        // `Component::serialize` of this very engine configuration gave.
        let loaded = unsafe { Component::deserialize(engine, code) };
        loaded
            .inspect_err(|error| {
                tracing::warn!(
                    path = %path.display(),
                    error = %error.root_cause(),
                    "a cached component cannot be used and is compiled anew"
                );
            })
            .ok()
    }

    /// Keeps a compiled component. That it cannot be kept is told, and no more.
    pub(crate) fn store(&self, engine: &Engine, digest: &Digest, component: &Component) {
        let path = self.path(engine, digest);
        let written = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| write_new(&self.directory, &path, &[&code, &self.tag(digest, &code)]));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "a compiled component cannot be kept");
        }
    }
}

/// Whether the file is the user's own and has none of the `forbidden` bits.
fn is_private(found: &fs::Metadata, forbidden: u32) -> bool {
    #[expect(unsafe_code, reason = "std has no geteuid")]
    // SAFETY: geteuid has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    found.uid() == user && found.mode() & forbidden == 0
}

/// `None` for a key that others could know.
fn read_key(path: &Path) -> io::Result<Option<[u8; 32]>> {
    let mut file = File::open(path)?;
    if !is_private(&file.metadata()?, 0o077) {
        return Ok(None);
    }
    let mut key = [0; 32];
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

fn random_key() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// Writes a whole file under a name of its own and renames it: a reader sees
/// all of it or none, and of two writers one wins.
fn write_new(directory: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let unique: u64 = u64::from_ne_bytes(random_key()?[..8].try_into().unwrap_or_default());
    let temporary = directory.join(format!(".new-{unique:016x}"));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes have a first 8"))
    }
}
