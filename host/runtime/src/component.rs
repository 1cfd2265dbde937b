//! A component that is ready to run: read, verified, compiled and linked.
//!
//! Everything that can be wrong with a file is found here, before anything of
//! it runs, and told in terms of what the author can do about it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use wasmtime::Engine;
use wasmtime::component::InstancePre;
use wasmtime_wasi::p2::bindings as p2;
use wasmtime_wasi::p3::bindings as p3;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::p2::bindings;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::adopted::handler;
use crate::bindings::stream::connection_handler;
use crate::bindings::{bulk, handover, lifecycle};
use crate::contract::{self, Mismatch};
use crate::digest::Digest;
use crate::engine::{Calls, Runtime, RuntimeError, Way};
use crate::file::read_file;
use crate::host;
use crate::job::Program;
use crate::kind::{
    CONNECTION_HANDLER, HANDLER, INCOMING_HANDLER, Kind, LIFECYCLE, MESSAGE_HANDLER, RUN,
};
use crate::room::Room;
use crate::state::HostState;
use crate::surface::surface;

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;
/// Largest component file, in bytes: 256 MiB.
const MAX_FILE: u64 = 256 << 20;

/// Why a component was not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Nothing is there, or it cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, ...
    #[error("{path}: not a file; expected a WebAssembly component")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Its memories or tables have no place on this host, whatever a service's limits.
    #[error("{path}: begins with more than an instance can have")]
    Oversized {
        /// The file.
        path: PathBuf,
        /// What is too much.
        #[source]
        source: wasmtime::Error,
    },
    /// Over 256 MiB.
    #[error("{path}: larger than a component can be; expected {MAX_FILE} bytes at most")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not even the beginning of one.
    #[error("{path}: {found}; expected a WebAssembly component")]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A core module, which has no typed interface.
    #[error(
        "{path}: a core WebAssembly module; expected a component: build for the target \
         wasm32-wasip2, or make it one with `ron-host componentize`"
    )]
    CoreModule {
        /// The file.
        path: PathBuf,
    },
    /// Not the file that was meant.
    #[error("{path}: its digest is {found}; expected {pinned}, to which it is pinned")]
    OtherDigest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Digest,
        /// The digest that it should have.
        pinned: Digest,
    },
    /// Damaged, or with features that this host does not have.
    #[error("{path}: not a valid component, perhaps cut short")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: wasmtime::Error,
    },
    /// Made for something else than this host.
    #[error(
        "{path}: does not export {LIFECYCLE}@1.0.0, {INCOMING_HANDLER}@0.2, {HANDLER}@0.3, \
         {MESSAGE_HANDLER}@0.2.0, {CONNECTION_HANDLER}@1.0.0 or {RUN}, so there is nothing to \
         run it for; it exports {exports}"
    )]
    OtherWorld {
        /// The file.
        path: PathBuf,
        /// What it exports instead.
        exports: String,
    },
    /// A service with a state whose requests would not come one at a time.
    #[error(
        "{path}: exports {LIFECYCLE} and {HANDLER}@0.3, whose requests an instance answers several \
         of at a time, while a service's calls come one after the other; expected \
         {INCOMING_HANDLER}@0.2 beside {LIFECYCLE}"
    )]
    TwoTurns {
        /// The file.
        path: PathBuf,
    },
    /// It wants what is not there.
    #[error(
        "{path}: imports {imports}, which this host does not offer; it offers ron:kernel@1.0.0, \
         WASI 0.2 and 0.3, wasi:config, wasi:keyvalue, wasi:logging and wasmcloud:messaging"
    )]
    UnknownImports {
        /// The file.
        path: PathBuf,
        /// All of them.
        imports: String,
    },
    /// It has the names of the contract, with other types or another version.
    #[error("{path}: does not fit the contract: {}", contract::sentence(mismatches))]
    Contract {
        /// The file.
        path: PathBuf,
        /// All that does not fit; never empty.
        mismatches: Vec<Mismatch>,
    },
    /// It wants something of WASI that is there, in another shape.
    #[error("{path}: does not fit this host's interfaces")]
    Link {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: wasmtime::Error,
    },
    /// The engine for components of its kind cannot be made.
    #[error("{path}: cannot be run")]
    Runtime {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RuntimeError,
    },
}

/// A component, compiled and linked, that any number of services can run. A
/// clone is the same code.
#[derive(Clone)]
pub struct Component(Arc<Loaded>);

struct Loaded {
    runtime: Runtime,
    engine: Engine,
    room: Room,
    source: Source,
    code: Code,
    from_cache: bool,
    begins_with: u64,
}

/// The file that a component was loaded from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: Arc<Path>,
    pub(crate) digest: Digest,
}

/// Why a component's file says nothing more of it.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{path}: is {found} now; expected {expected}, which was loaded")]
    Changed { path: PathBuf, found: Digest, expected: Digest },
}

impl Source {
    /// The bytes that were loaded, as long as the file has them.
    pub(crate) fn read(&self) -> Result<Vec<u8>, SourceError> {
        let bytes = read(&self.path)?;
        let found = Digest::of(&bytes);
        if found != self.digest {
            let path = self.path.to_path_buf();
            return Err(SourceError::Changed { path, found, expected: self.digest });
        }
        Ok(bytes)
    }
}

/// What is instantiated, and how it is called then.
pub(crate) enum Code {
    Service(InstancePre<HostState>, Exports),
    Http(ProxyPre<HostState>),
    Job(Program),
    Messaging(InstancePre<HostState>, handler::GuestIndices),
    Stream(InstancePre<HostState>, connection_handler::GuestIndices),
}

/// Where a service's exports are; looked up once.
pub(crate) struct Exports {
    pub(crate) lifecycle: lifecycle::GuestIndices,
    pub(crate) handover: Option<handover::GuestIndices>,
    pub(crate) bulk: Option<bulk::GuestIndices>,
    pub(crate) http: Option<incoming_handler::GuestIndices>,
}

impl Exports {
    fn of(
        component: &wasmtime::component::Component,
        pre: &InstancePre<HostState>,
        kind: Kind,
    ) -> wasmtime::Result<Self> {
        let has = |name| component.get_export_index(None, name).is_some();
        let lifecycle = lifecycle::GuestIndices::new(pre)?;
        let handover = has("ron:kernel/handover@1.0.0")
            .then(|| handover::GuestIndices::new(pre))
            .transpose()?;
        let bulk =
            has("ron:kernel/bulk@1.0.0").then(|| bulk::GuestIndices::new(pre)).transpose()?;
        let http = match kind.answers_http() {
            true => Some(incoming_handler::GuestIndices::new(pre)?),
            false => None,
        };
        Ok(Self { lifecycle, handover, bulk, http })
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Component").field(&self.0.source.digest).finish()
    }
}

impl Component {
    /// Loads a file. Compiles it, unless the cache has it, with all processors:
    /// tens of milliseconds for a small Rust component, seconds for one that
    /// brings an interpreter. Call it where it may block.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load(runtime: &Runtime, path: &Path) -> Result<Self, LoadError> {
        Self::load_pinned(runtime, path, None)
    }

    /// [`load`](Self::load), unless the file is not the one that `pin` names.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load_pinned(
        runtime: &Runtime,
        path: &Path,
        pin: Option<&Digest>,
    ) -> Result<Self, LoadError> {
        Self::load_known(runtime, path, pin, |_| None)
    }

    /// [`load_pinned`](Self::load_pinned), unless `known` has a component of the
    /// same digest: two of the same code would be held twice.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load_known(
        runtime: &Runtime,
        path: &Path,
        pin: Option<&Digest>,
        known: impl FnOnce(&Digest) -> Option<Self>,
    ) -> Result<Self, LoadError> {
        let bytes = read(path)?;
        let found = Digest::of(&bytes);
        if let Some(pinned) = pin.copied()
            && found != pinned
        {
            return Err(LoadError::OtherDigest { path: path.to_owned(), found, pinned });
        }
        match known(&found) {
            Some(known) => Ok(known),
            None => Self::build(runtime, path, &bytes, found),
        }
    }

    /// Loads a component from memory; `path` is what errors call it. When it
    /// crashes, its places in the source are looked up there, as long as the file
    /// has these bytes.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn from_bytes(runtime: &Runtime, path: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        Self::build(runtime, path, bytes, Digest::of(bytes))
    }

    fn build(
        runtime: &Runtime,
        path: &Path,
        bytes: &[u8],
        digest: Digest,
    ) -> Result<Self, LoadError> {
        classify(path, bytes)?;
        let source = Source { path: path.into(), digest };
        let path = || path.to_owned();
        let malformed = |source: wasmtime::Error| match source.root_cause().to_string() {
            cause if cause.contains("pooling allocator") => {
                LoadError::Oversized { path: path(), source }
            }
            _ => LoadError::Malformed { path: path(), source },
        };
        let Some(names) = surface(bytes) else {
            // The compiler says best what is wrong with it.
            let wrong = wasmtime::component::Component::new(runtime.engine(), bytes);
            let error = wrong.err().unwrap_or_else(|| wasmtime::Error::msg("it ends too early"));
            return Err(malformed(error));
        };
        let Some(kind) = Kind::of(names.exports.iter().copied()) else {
            let exports = match names.exports.as_slice() {
                [] => "nothing".to_owned(),
                exports => exports.join(", "),
            };
            return Err(LoadError::OtherWorld { path: path(), exports });
        };
        if kind == Kind::ServiceWithHttp && names.has_export(HANDLER) {
            return Err(LoadError::TwoTurns { path: path() });
        }
        let calls = match kind {
            Kind::Http => Calls::Concurrent,
            _ if names.is_concurrent() => Calls::Concurrent,
            Kind::Stream => Calls::Connections,
            _ => Calls::Sequential,
        };
        let way = runtime.way(calls);
        let Way { engine, linker, room } =
            way.map_err(|source| LoadError::Runtime { path: path(), source })?;
        let cached = runtime.cache().and_then(|cache| cache.load(&engine, &digest));
        let from_cache = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => {
                let _under_way = runtime.compilations().begin(&source.path, bytes.len());
                let compiled =
                    wasmtime::component::Component::new(&engine, bytes).map_err(malformed)?;
                if let Some(cache) = runtime.cache() {
                    cache.store(&engine, &digest, &compiled);
                }
                compiled
            }
        };
        let of = component.component_type();
        let unknown: Vec<&str> =
            of.imports(&engine).map(|(name, _)| name).filter(|name| !host::offers(name)).collect();
        if !unknown.is_empty() {
            return Err(LoadError::UnknownImports { path: path(), imports: unknown.join(", ") });
        }
        let mismatches = contract::check(&engine, &of);
        if !mismatches.is_empty() {
            return Err(LoadError::Contract { path: path(), mismatches });
        }
        let link = |source| LoadError::Link { path: path(), source };
        let pre = linker.instantiate_pre(&component).map_err(link)?;
        let code = match kind {
            Kind::Service | Kind::ServiceWithHttp => {
                let exports = Exports::of(&component, &pre, kind).map_err(link)?;
                Code::Service(pre, exports)
            }
            Kind::Messaging => {
                let export = handler::GuestIndices::new(&pre).map_err(link)?;
                Code::Messaging(pre, export)
            }
            Kind::Http if names.has_export(HANDLER) => {
                Code::Http(ProxyPre::P3(ServicePre::new(pre).map_err(link)?))
            }
            Kind::Http => Code::Http(ProxyPre::P2(bindings::ProxyPre::new(pre).map_err(link)?)),
            Kind::Job if names.has_export_of(RUN, "0.3.") => {
                Code::Job(Program::P3(p3::CommandPre::new(pre).map_err(link)?))
            }
            Kind::Job => Code::Job(Program::P2(p2::CommandPre::new(pre).map_err(link)?)),
            Kind::Stream => {
                let export = connection_handler::GuestIndices::new(&pre).map_err(link)?;
                Code::Stream(pre, export)
            }
        };
        let runtime = runtime.clone();
        let needs = component.resources_required();
        let pages = needs.and_then(|needs| needs.max_initial_memory_size).unwrap_or(0);
        let begins_with = pages.saturating_mul(PAGE);
        let loaded = Loaded { runtime, engine, room, source, code, from_cache, begins_with };
        Ok(Self(Arc::new(loaded)))
    }

    /// The digest of the file.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.source.digest
    }

    /// Whether it was compiled before.
    #[must_use]
    pub fn from_cache(&self) -> bool {
        self.0.from_cache
    }

    /// Bytes that an instance has in its largest memory from the start: with a limit below
    /// there is none. 0 where that cannot be told.
    #[must_use]
    pub fn begins_with(&self) -> u64 {
        self.0.begins_with
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.0.code {
            Code::Service(_, exports) => match exports.http {
                Some(_) => Kind::ServiceWithHttp,
                None => Kind::Service,
            },
            Code::Http(_) => Kind::Http,
            Code::Job(_) => Kind::Job,
            Code::Messaging(..) => Kind::Messaging,
            Code::Stream(..) => Kind::Stream,
        }
    }

    /// The engine that it was compiled for.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Where its instances have their places, of whatever kind it is.
    pub(crate) fn place(&self) -> Room {
        self.0.room
    }

    pub(crate) fn code(&self) -> &Code {
        &self.0.code
    }

    pub(crate) fn source(&self) -> &Source {
        &self.0.source
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    read_file(path, MAX_FILE).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => LoadError::TooLarge { path: path.to_owned() },
        ErrorKind::IsADirectory | ErrorKind::Other => LoadError::NotAFile { path: path.to_owned() },
        _ => read(error),
    })
}

/// Tells from its first bytes what is no component.
fn classify(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let path = path.to_owned();
    let not = |path, found: &str| Err(LoadError::NotAComponent { path, found: found.into() });
    match bytes {
        [] => not(path, "an empty file"),
        // Magic number, then a version and a layer of two bytes each.
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule { path }),
        [0, b'a', b's', b'm', ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] => not(path, "an ELF file"),
        _ if bytes.starts_with(b"(component") || bytes.starts_with(b"(module") => {
            not(path, "WebAssembly in text form; assemble it with `wasm-tools parse`")
        }
        _ => not(path, "not WebAssembly"),
    }
}
