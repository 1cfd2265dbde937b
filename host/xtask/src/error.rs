//! Why a command stopped.

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::{fmt, io};

/// Why a command stopped. Displayed once, by `main`.
pub(crate) enum Error {
    /// Something outside must change first; the text says what to do.
    Needs(String),
    /// A command that was run said why itself.
    Failed { command: String, status: ExitStatus },
    /// The machine refused: `doing` names the act and the file.
    Io { doing: String, source: io::Error },
}

impl Error {
    /// A command that ran and did not succeed.
    pub(crate) fn failed(command: &Command, status: ExitStatus) -> Error {
        Error::Failed { command: describe(command), status }
    }

    /// For `map_err`: what was being done when the machine refused.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        |source| Error::Io { doing, source }
    }

    /// That of the command that failed, so that scripts see it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Error::Failed { status, .. } => exit_code(*status),
            Error::Needs(_) | Error::Io { .. } => ExitCode::FAILURE,
        }
    }
}

/// A status as this process's own; 1 where a signal left no code.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The command as one would type it.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_stem().unwrap_or(program.as_os_str());
    let mut line = program.display().to_string();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Needs(text) => f.write_str(text),
            Error::Failed { command, status } => write!(f, "`{command}` failed ({status})"),
            Error::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}
