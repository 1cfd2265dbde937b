//! How a service's component is made from its source, for `ron-host build` and
//! `ron-host dev`. It is no part of what runs.

/// What makes a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) command: Option<BuildCommand>,
    /// What a change of is followed by a build, in `ron-host dev`.
    pub(crate) watch: Vec<SourcePath>,
    /// What the command needs, in the order of the file.
    pub(crate) tools: Vec<Tool>,
}

/// A command line for `sh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildCommand(pub(crate) String);

/// A file or a directory, relative to `ron.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourcePath(pub(crate) String);

/// A program that a build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// A name, which is looked for on PATH, or a path relative to `ron.toml`.
    pub(crate) program: String,
    /// The command that installs it.
    pub(crate) install: String,
}

impl Tool {
    /// Whether it is the project's own, which may be installed without asking.
    pub(crate) fn is_local(&self) -> bool {
        self.program.contains('/')
    }
}
