//! The signals that end the host: SIGINT and SIGTERM.
//!
//! Both mean the same, a graceful end: the first is a person's Ctrl-C, the
//! second what systemd and Kubernetes send. The second signal means "now", and
//! it may come while the first is still being acted on. So the handlers are a
//! value that is installed once and asked repeatedly: two calls of a function
//! that installs its own would lose what arrives between them.

use std::{fmt, io};

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The installed handlers. From [`install`](Self::install) on neither signal
/// kills the process, not even after this is dropped.
#[derive(Debug)]
pub struct ShutdownSignals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
    #[cfg(windows)]
    terminate: tokio::signal::windows::CtrlClose,
}

impl ShutdownSignals {
    /// Install the handlers. Call it within a tokio runtime, before anything
    /// else is started.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    #[cfg(unix)]
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Install the handlers of Ctrl-C and of the closing console. Call it
    /// within a tokio runtime, before anything else is started.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    #[cfg(windows)]
    pub fn install() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_c, ctrl_close};
        Ok(Self { interrupt: ctrl_c()?, terminate: ctrl_close()? })
    }

    /// Wait for the next signal, counted from [`install`](Self::install). One
    /// that came before this call is not lost. Several of one kind that came
    /// since the last call are one, as they are to the operating system. Cancel
    /// safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            // Neither stream ends while the process runs.
            else => std::future::pending().await,
        }
    }
}

/// Wait for Ctrl-C or SIGTERM, and say which it was.
///
/// The handlers are installed when this is first polled; a signal before that
/// does what it does by default and ends the process. A program that waits for
/// a second one too uses [`ShutdownSignals`].
///
/// # Errors
///
/// When the operating system refuses the handlers.
pub async fn wait_for_ctrl_c() -> io::Result<Signal> {
    Ok(ShutdownSignals::install()?.next().await)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn raise(signal: &str) {
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &std::process::id().to_string()])
            .status()
            .expect("`kill` runs");
        assert!(sent.success());
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future).await.expect("the signal came")
    }

    // One test: signals go to the whole process, so two would see each other's.
    #[tokio::test]
    async fn the_first_and_the_second_signal_are_received() {
        let mut signals = ShutdownSignals::install().expect("installed");
        // Before anyone waits, and the second while nobody does.
        raise("TERM");
        assert_eq!(within(signals.next()).await, Signal::Terminate);
        raise("INT");
        assert_eq!(within(signals.next()).await, Signal::Interrupt);
        let none = tokio::time::timeout(Duration::ZERO, signals.next()).await;
        assert!(none.is_err(), "each is received once: {none:?}");

        for (name, signal) in [("TERM", Signal::Terminate), ("INT", Signal::Interrupt)] {
            let mut waiting = std::pin::pin!(wait_for_ctrl_c());
            let pending = tokio::time::timeout(Duration::ZERO, waiting.as_mut()).await;
            assert!(pending.is_err(), "nothing came yet");
            raise(name);
            assert_eq!(within(waiting).await.expect("installed"), signal);
        }
    }
}
