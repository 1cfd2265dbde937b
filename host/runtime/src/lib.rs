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
//! A component is any that exports `ron:kernel/lifecycle@1.0.0`; `handover` and
//! `bulk` are used where they are exported too. What it may import is
//! `ron:kernel` and WASI 0.2, the latter with no directory, no network and no
//! environment.

#![warn(missing_docs)]

mod bindings;
mod bulk;
mod cache;
mod call;
mod component;
mod digest;
mod ending;
mod engine;
mod host;
mod instance;
mod lane;
mod limits;
mod log;
mod output;
mod service;
mod state;
mod symbols;

pub use cache::{CacheError, CompileCache};
pub use component::{Component, LoadError};
pub use digest::{Digest, DigestError};
pub use engine::{Runtime, RuntimeConfig, RuntimeError};
pub use limits::Limits;
pub use service::ComponentService;
