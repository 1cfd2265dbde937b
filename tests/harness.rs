//! What the tests of the promises share.
//!
//! A promise is tested on one of two levels. A [`Rig`] is a host in this
//! process, put together from the public API, for what needs short limits or
//! looks at the bus. A [`Program`] is the real `ron-host` in a process of its
//! own, for what a user sees.
//!
//! Nothing here sleeps or measures time. What is awaited is awaited on a
//! channel, a pipe or a socket, for as long as [`HUNG`], which a test that works
//! never comes near.

pub(crate) mod ctl;
pub(crate) mod deployment;
pub(crate) mod openssl;
mod program;
mod rig;
mod scrape;
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use program::{Ended, Home, Program, command, run, start_process};
pub(crate) use rig::{Collected, Rig, Server, crash_of, id, spec, within};
pub(crate) use scrape::{Page, Scrape, get, post, raw, send};
pub(crate) use site::{Site, Slow, get_request};

/// When a test that waits is taken for hung.
pub(crate) const HUNG: Duration = Duration::from_secs(240);

/// Asks again and again until it holds, where nothing tells when it does.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let hung = Instant::now() + HUNG;
    while !holds() {
        assert!(Instant::now() < hung, "it hangs: {what}");
        std::thread::yield_now();
    }
}

/// A component that `cargo xtask guests` built.
pub(crate) fn component(name: &str) -> PathBuf {
    let path = target().join("components").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

/// A component whose language has tools of its own, which a machine may be without.
#[expect(clippy::print_stderr, reason = "what is not tested is never passed over in silence")]
pub(crate) fn built(name: &str) -> Option<PathBuf> {
    let path = target().join("components").join(format!("{name}.wasm"));
    let there = path.is_file();
    if !there {
        eprintln!("skipped: {name}.wasm was not built; `cargo xtask guests` says why");
    }
    there.then_some(path)
}

/// Where cargo puts what it builds: the test runs as `target/PROFILE/deps/NAME`.
pub(crate) fn target() -> PathBuf {
    profile().parent().expect("a profile lies in the target directory").to_owned()
}

/// `target/PROFILE`.
pub(crate) fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("a test lies in `deps` of its profile").to_owned()
}

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

/// An empty directory of this name, for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the target directory can be written to");
    path
}

/// Compiled components, shared by all tests but those that are about the cache.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}
