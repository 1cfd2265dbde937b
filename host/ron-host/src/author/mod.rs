//! What the program does for those who write services: it begins a project, makes its
//! component, and runs it while its source changes.
//!
//! A project is a directory with a `ron.toml` like any other, in which `[service.NAME.build]`
//! says how the component is made. So nothing here knows a language but `language.rs`, and
//! what is built here runs anywhere.

mod advice;
mod build;
mod cargo_manifest;
mod compile;
mod componentize;
mod dev;
mod language;
mod project;
mod sources;

pub(crate) use advice::advice;
pub(crate) use build::{BuildError, build, took};
pub(crate) use compile::compile;
pub(crate) use componentize::{Componentize, componentize};
pub(crate) use dev::{Workshop, first_builds};
pub(crate) use language::Language;
pub(crate) use project::{ProjectError, new, sdk};
