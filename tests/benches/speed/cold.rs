//! Cold start of the shipped binary: from the process's start with one
//! component in the cache to the first 200 of `/readyz`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::pairs::Pairs;
use crate::world::{component, target};

const STARTS: usize = 21;

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("cold") {
        return;
    }
    let peer = std::env::var_os("WASMTIME").map(|wasmtime| empty_run(wasmtime.as_ref()));
    let binary = build();
    let cache = target().join("bench-cache");
    // The first compiles, whatever an earlier run has left.
    let _ = fs::remove_dir_all(&cache);
    fs::create_dir_all(&cache).expect("it can be made");
    let first = start(&binary, &cache);
    let mut times: Vec<Duration> = (0..STARTS).map(|_| start(&binary, &cache)).collect();
    times.sort_unstable();
    println!(
        "\ncold start to /readyz 200, one component: {:.1} ms compiling, {:.1} ms from the cache \
         (median of {STARTS}; best {:.1}, worst {:.1})",
        first.as_secs_f64() * 1e3,
        times[STARTS / 2].as_secs_f64() * 1e3,
        times[0].as_secs_f64() * 1e3,
        times[STARTS - 1].as_secs_f64() * 1e3,
    );
    match peer {
        Some(peer) => println!(
            "`wasmtime run` of a component that does nothing: {:.1} ms (median of {STARTS}); goal: at \
             most 50 ms more than that",
            peer.as_secs_f64() * 1e3
        ),
        None => println!("with WASMTIME=PATH, `wasmtime run` is measured beside it"),
    }
}

/// How long `wasmtime run` takes for a component that does nothing, which it has compiled
/// before.
fn empty_run(wasmtime: &Path) -> Duration {
    const EMPTY: &str = r#"(component
        (core module $m (func (export "run") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    let (text, compiled) = (target().join("empty.wat"), target().join("empty.cwasm"));
    fs::write(&text, EMPTY).expect("it can be written");
    let run = |args: &[&std::ffi::OsStr]| {
        let began = Instant::now();
        let ended = Command::new(wasmtime).args(args).status();
        assert!(ended.is_ok_and(|status| status.success()), "wasmtime runs {args:?}");
        began.elapsed()
    };
    run(&["compile".as_ref(), text.as_ref(), "-o".as_ref(), compiled.as_ref()]);
    let once = || run(&["run".as_ref(), "--allow-precompiled".as_ref(), compiled.as_ref()]);
    let mut times: Vec<Duration> = (0..STARTS).map(|_| once()).collect();
    times.sort_unstable();
    times[STARTS / 2]
}

/// Builds the shipped binary, and says where it is.
pub(crate) fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(env!("CARGO"))
        // All of the workspace's programs: for one alone, what they share would be built
        // again with other features.
        .args(["build", "--release", "--bins"])
        .current_dir(&root)
        .env("CARGO_TARGET_DIR", target())
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the release binary is built");
    target().join("release/ron-host")
}

fn start(binary: &Path, cache: &Path) -> Duration {
    let began = Instant::now();
    let mut host = Command::new(binary)
        .arg("--component")
        .arg(component("echo"))
        .args(["--admin", "127.0.0.1:0", "--cache-dir"])
        .arg(cache)
        .arg("--control")
        .arg(cache.join("control.sock"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(host.stdout.take().expect("it is piped")).lines();
    let first = lines.next().and_then(Result::ok).expect("it tells its address");
    let address = first
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"))
        .expect("an address")
        .to_owned();
    loop {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
            .expect("the connection stands");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
    }
    let took = began.elapsed();
    // Killed: how it drains is another matter.
    let _ = host.kill();
    let _ = host.wait();
    took
}
