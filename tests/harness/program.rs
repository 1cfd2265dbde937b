//! The real program, in a process of its own; and others that look at it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::{HUNG, Page, Scrape, cache, get, profile};

/// Lines that a pipe brought, and whether more may come.
#[derive(Default)]
struct Lines {
    seen: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn collect(pipe: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let shared = Arc::clone(&lines);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                shared.update(|(seen, _)| seen.push(text));
                line.clear();
            }
            shared.update(|(_, ended)| *ended = true);
        });
        lines
    }

    fn update(&self, change: impl FnOnce(&mut (Vec<String>, bool))) {
        change(&mut self.seen.lock().expect("no panic under this lock"));
        self.changed.notify_all();
    }

    /// The first line, seen or to come, in which `find` finds something. `None`
    /// when the pipe ends without.
    fn find<T>(&self, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + HUNG;
        let mut looked_at = 0;
        let mut state = self.seen.lock().expect("no panic under this lock");
        loop {
            while let Some(line) = state.0.get(looked_at) {
                looked_at += 1;
                if let Some(found) = find(line) {
                    return Some(found);
                }
            }
            if state.1 {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it hangs; so far:\n{}", state.0.join("\n"));
            state = self.changed.wait_timeout(state, left).expect("no panic under this lock").0;
        }
    }

    fn all(&self) -> Vec<String> {
        self.seen.lock().expect("no panic under this lock").0.clone()
    }
}

/// The program as it is built beside this test.
pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let path = profile().join(format!("ron-host{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is missing: run the tests with `cargo xtask test`, or build it with \
         `cargo build --package ron-host`",
        path.display()
    );
    let mut command = Command::new(path);
    // The tests' own, which a host takes for misspelt ones of its.
    command.env_remove("RON_PROMETHEUS").env_remove("RON_PROMTOOL");
    command.args(args);
    command
}

/// A runtime directory, in which a host's control socket is. In the temporary
/// directory, because a socket's path is short.
#[derive(Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    fn new() -> Arc<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ron-tests-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory can be written to");
        Arc::new(Self(path))
    }

    /// Starts another program there.
    pub(crate) fn start<S: AsRef<OsStr>>(
        self: &Arc<Self>,
        args: impl IntoIterator<Item = S>,
    ) -> Program {
        start_at(Arc::clone(self), command(args))
    }

    /// Where a host's control socket is unless it is told another place.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("ron-host/control.sock")
    }

    /// `ron-host ctl`, to its end, with that on its standard input.
    pub(crate) fn ctl<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdin: &[u8],
    ) -> Output {
        let mut command = command([OsStr::new("ctl")]);
        command.args(args).env("XDG_RUNTIME_DIR", &self.0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        // It may have ended without reading it.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin);
        child.wait_with_output().expect("it ends")
    }
}

impl AsRef<Home> for Home {
    fn as_ref(&self) -> &Home {
        self
    }
}

impl AsRef<Home> for Program {
    fn as_ref(&self) -> &Home {
        &self.home
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts any program, and reads what it says.
pub(crate) fn start_process(command: Command) -> Program {
    start_at(Home::new(), command)
}

fn start_at(home: Arc<Home>, mut command: Command) -> Program {
    command.env("XDG_RUNTIME_DIR", &home.0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let out = Lines::collect(child.stdout.take().expect("a pipe"));
    let err = Lines::collect(child.stderr.take().expect("a pipe"));
    Program { child, out, err, home }
}

/// A running `ron-host`; killed when dropped.
pub(crate) struct Program {
    child: Child,
    out: Arc<Lines>,
    err: Arc<Lines>,
    home: Arc<Home>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` where a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Program {
    /// Starts it on a free port, logging JSON, with the tests' own cache.
    pub(crate) fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut all = vec!["--admin".into(), "127.0.0.1:0".into()];
        all.extend(["--log-format".into(), "json".into()]);
        all.extend(["--cache-dir".into(), cache().into_os_string()]);
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Self::start_bare(all)
    }

    /// Starts it with these arguments alone.
    pub(crate) fn start_bare<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        start_process(command(args))
    }

    /// Starts it with a standard output that nobody reads.
    pub(crate) fn start_unread<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let (unread, stdout) = std::io::pipe().expect("a pipe");
        drop(unread);
        let (mut command, home) = (command(args), Home::new());
        command.env("XDG_RUNTIME_DIR", &home.0);
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let err = Lines::collect(child.stderr.take().expect("a pipe"));
        Self { child, out: Lines::collect(std::io::empty()), err, home }
    }

    /// Where it lives.
    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// The first line on standard output in which `find` finds something.
    pub(crate) fn stdout<T>(&self, find: impl FnMut(&str) -> Option<T>) -> T {
        self.out.find(find).unwrap_or_else(|| panic!("it ended: {}", self.said()))
    }

    /// The first line on standard error in which `find` finds something.
    pub(crate) fn stderr<T>(&self, find: impl FnMut(&str) -> Option<T>) -> T {
        self.err.find(find).unwrap_or_else(|| panic!("it ended: {}", self.said()))
    }

    /// The first log record that is the `wanted` one.
    pub(crate) fn log(&self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        self.stderr(|line| serde_json::from_str(line).ok().filter(|record| wanted(record)))
    }

    /// The first log record of a service with that message.
    pub(crate) fn says(&self, service: &str, message: &str) -> Value {
        self.log(|record| record["service"] == service && record["message"] == message)
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(self) -> Self {
        self.stdout(|line| {
            (line.starts_with("ready ") || line.contains("\"ready\"")).then_some(())
        });
        self
    }

    /// Where its admin listener is.
    pub(crate) fn url(&self, path: &str) -> String {
        let base = self.stdout(|line| {
            let from = line.find("http://")?;
            let url = line[from..].split(['"', ' ']).next()?;
            Some(url.to_owned())
        });
        base + path
    }

    pub(crate) fn get(&self, path: &str) -> Page {
        get(&self.url(path))
    }

    pub(crate) fn metrics(&self) -> Scrape {
        self.get("/metrics").scrape()
    }

    /// Sends a signal by its name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("`kill` runs").success());
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        // The pipes end with the process, and the wait for them is bounded.
        self.out.find(|_| None::<()>);
        self.err.find(|_| None::<()>);
        let code = self.child.wait().expect("it was started here").code();
        let mut stderr = self.err.all();
        // How far it was, which a busy machine has it say.
        stderr.retain(|line| !line.contains("compiling for "));
        Ended { code, stdout: self.out.all(), stderr }
    }

    /// Whether it said anything on standard output.
    pub(crate) fn printed(&self) -> bool {
        !self.out.all().is_empty()
    }

    /// All that it said so far.
    pub(crate) fn said(&self) -> String {
        [self.out.all(), self.err.all()].concat().join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    Program::start_bare(args).ended()
}
