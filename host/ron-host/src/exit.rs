//! How the process ends: exit codes, and the errors behind them.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use ron_kernel::supervisor::SwapError;
use ron_runtime::{LoadError, RuntimeError};

use crate::author::{self, BuildError};
use crate::settings::Wrong;

/// How the process ends. The codes are those of `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Drained after a signal.
    Done,
    /// What was asked for was not done: nothing was to be run.
    Undone,
    /// A tool that it needs is missing: `EX_UNAVAILABLE`.
    Unavailable,
    /// A component cannot be loaded: `EX_DATAERR`.
    Component,
    /// A critical service gave up, or the host itself failed: `EX_SOFTWARE`.
    CriticalService,
    /// The configuration cannot be used: `EX_CONFIG`.
    Config,
    /// Ended by a second signal, as a shell tells it of SIGINT.
    Forced,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Undone => 1,
            Exit::Component => 65,
            Exit::Unavailable => 69,
            Exit::CriticalService => 70,
            Exit::Config => 78,
            Exit::Forced => 130,
        })
    }
}

/// Why the host did not start.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for is not understood, or names components that cannot be loaded:
    /// every mistake, not the first alone.
    Settings(Wrong),
    /// What was asked for cannot be done.
    Config(String),
    /// A component that cannot be loaded, and is no service's.
    Component(LoadError),
    /// Components that cannot be loaded and that no settings name, each with its service.
    Components(Vec<(String, Arc<LoadError>)>),
    /// Services that could not be swapped.
    Swaps(Vec<SwapError>),
    /// Components that could not be made, each with its service; and what else is wrong.
    Builds(Vec<(String, BuildError)>, Vec<String>),
    /// Something for an author, who runs nothing.
    Author(anyhow::Error),
    /// The host itself.
    Host(anyhow::Error),
}

impl Failure {
    pub(crate) fn config(reason: impl Into<String>) -> Self {
        Self::Config(reason.into())
    }

    pub(crate) fn host(what: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Host(anyhow::Error::new(source).context(what))
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Settings(wrong) if wrong.is_in_components() => Exit::Component,
            Self::Settings(_) | Self::Config(_) => Exit::Config,
            Self::Component(_) | Self::Components(_) => Exit::Component,
            Self::Builds(errors, others)
                if others.is_empty()
                    && errors.iter().all(|(_, error)| error.is_for_want_of_a_tool()) =>
            {
                Exit::Unavailable
            }
            Self::Builds(..) | Self::Author(_) => Exit::Undone,
            Self::Swaps(_) | Self::Host(_) => Exit::CriticalService,
        }
    }

    /// One line for each thing that is wrong, with its causes.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Settings(wrong) => wrong.lines(),
            Self::Config(reason) => vec![reason.clone()],
            Self::Component(error) => vec![advised(error)],
            Self::Components(errors) => errors
                .iter()
                .map(|(service, error)| format!("service {service}: {}", advised(error)))
                .collect(),
            Self::Swaps(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Builds(errors, others) => {
                let own = errors
                    .iter()
                    .map(|(service, error)| format!("service {service}: {}", chain(error)));
                own.chain(others.iter().cloned()).collect()
            }
            Self::Author(error) | Self::Host(error) => vec![format!("{error:#}")],
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Mappings { .. } => Self::config(chain(&error)),
            _ => Self::Host(error.into()),
        }
    }
}

/// Why a component was not loaded, and what mends it. Of what cannot be read the system
/// says why, and not what was looked for.
fn advised(error: &LoadError) -> String {
    let expected = match error {
        LoadError::Read { .. } => "; expected a WebAssembly component",
        _ => "",
    };
    let help = author::advice(error);
    let help = help.map(|help| format!("; to mend it, {help}")).unwrap_or_default();
    format!("{}{expected}{help}", chain(error))
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
