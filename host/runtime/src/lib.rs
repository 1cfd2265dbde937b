//! `ron-runtime`: runs WebAssembly components as services of `ron-kernel`.
//!
//! The only crate that names wasmtime. From left to right, each step made once
//! and used by many of the next:
//!
//! ```text
//! Runtime -> Component -> ComponentService -> Instance
//! engine,    read,        one value an        a fresh store,
//! linker,    verified,    incarnation, run    limits, the exports
//! threads    compiled,    by the supervisor
//!            linked
//! ```
//!
//! What a component is gets read from its exports. One that exports
//! `ron:kernel/lifecycle@1.0.0` is a service with a mailbox; `handover` and `bulk`
//! are used where they are exported too. One that exports
//! `wasi:http/incoming-handler@0.2` answers requests, with an instance for each:
//! [`HttpService`]. One that exports both is a service whose requests are calls on its
//! one instance, in turn with its messages. One that exports `wasi:http/handler@0.3`
//! answers requests, too, and its instances are used again. One that exports
//! `wasmcloud:messaging/handler@0.2.0` handles messages of the topics that its
//! configuration says: [`MessagingService`]. One that exports
//! `ron:stream/connection-handler@1.0.0` handles connections, with an instance for each:
//! [`StreamService`]. One that exports `wasi:cli/run@0.2` is run
//! to its end, at once or when a [`Schedule`] says: [`JobService`]. What each may import
//! is `ron:kernel`, WASI 0.2 and 0.3, `wasi:config`, `wasi:logging`, `wasi:keyvalue` and
//! `wasmcloud:messaging`; what is outside of the host, as far as [`Grants`] say.

#![warn(missing_docs)]

mod adopted;
mod bindings;
mod bucket;
mod bulk;
mod cache;
mod call;
mod compiling;
mod component;
mod contract;
mod digest;
mod ending;
mod engine;
mod file;
mod grants;
mod host;
mod http;
mod inspect;
mod instance;
mod job;
mod kind;
mod lane;
mod limits;
mod log;
mod memory_share;
mod messaging;
mod output;
mod peer;
mod producers;
mod reach;
mod room;
mod schedule;
mod service;
mod share;
mod state;
mod stream;
mod surface;
mod symbols;

pub use cache::{CacheError, CompileCache};
pub use compiling::Compilation;
pub use component::{Component, LoadError};
pub use contract::{Member, Mismatch, Part, Problem, Side};
pub use digest::{Digest, DigestError};
pub use engine::{Allocation, EngineConfig, Runtime, RuntimeConfig, RuntimeError};
pub use file::read_file;
pub use grants::{Directory, Grants};
pub use host::outgoing::ClientError;
pub use http::{BodyError, Client, Gate, HttpService, Place, Response, Unanswered};
pub use inspect::{Import, Inspection, inspect};
pub use job::JobService;
pub use kind::Kind;
pub use limits::Limits;
pub use messaging::MessagingService;
pub use peer::{Peer, PeerError};
pub use producers::{Toolchain, made_with};
pub use room::Room;
pub use schedule::{Schedule, ScheduleError};
pub use service::{AnyService, ComponentService};
pub use stream::{Connection, Ended, How, Refused, StreamService, Tls, Traffic};
