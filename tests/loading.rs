//! While components are loaded, whoever looks is told for whom the host waits, and
//! whoever ends it that nothing ran.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::harness::ctl::{ctl, json as told};
use crate::harness::{Program, component, scratch};

/// A host that loads until [`Held::go_on`]: what its cache has of a component is a pipe
/// that nobody has written to.
struct Held {
    host: Program,
    pipe: PathBuf,
}

impl Held {
    fn start(name: &str, more: &[&str]) -> Self {
        let cache = scratch(name);
        let start = || {
            let mut args = vec!["--admin".into(), "127.0.0.1:0".into(), "--cache-dir".into()];
            args.push(cache.clone().into_os_string());
            for own in ["echo", "counter"] {
                args.extend(["--component".into(), component(own).into_os_string()]);
            }
            args.extend(more.iter().map(Into::into));
            Program::start_bare(args)
        };
        drop(start().ready());
        let compiled = fs::read_dir(&cache).expect("a cache").map(|entry| entry.expect("a file"));
        let compiled = compiled.map(|entry| entry.path());
        let pipe =
            compiled.into_iter().find(|path| path.extension().is_some_and(|it| it == "cwasm"));
        let pipe = pipe.expect("a compiled component");
        fs::remove_file(&pipe).expect("it is ours");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("`mkfifo` runs");
        assert!(made.success());
        Self { host: start(), pipe }
    }

    /// Ends the pipe, in which there was nothing: the component is compiled.
    fn go_on(&self) {
        drop(OpenOptions::new().write(true).open(&self.pipe).expect("the host reads it"));
    }
}

#[test]
fn whom_it_waits_for_is_named() {
    let held = Held::start("loading-named", &["--optional", "counter"]);
    let host = &held.host;
    let loading = |required: bool| json!({"state": "loading", "ok": false, "required": required, "status": "ok"});
    let page = host.get("/healthz");
    let services = json!({"counter": loading(false), "echo": loading(true)});
    assert_eq!((page.status, &page.json()["services"]), (200, &services));
    let page = host.get("/readyz");
    assert_eq!((page.status, &page.json()["missing"]), (503, &json!(["config", "echo"])));
    assert_eq!(host.get("/readyz/echo").status, 503);
    // The control socket comes after the admin listener.
    host.stdout(|line| line.starts_with("control ").then_some(()));
    let all = told(host, "ps");
    let all = all["services"].as_array().expect("a list");
    let states = all.iter().map(|own| (own["service"].as_str(), own["state"].as_str()));
    assert_eq!(
        states.collect::<Vec<_>>(),
        [(Some("counter"), Some("loading")), (Some("echo"), Some("loading"))]
    );
    assert!(ctl(host, "ps").contains("echo     loading"), "{}", ctl(host, "ps"));
    held.go_on();
    let host = held.host.ready();
    assert_eq!(host.get("/readyz").status, 200);
}

#[test]
fn a_signal_ends_it_and_is_told() {
    for signal in ["INT", "TERM"] {
        let held = Held::start(&format!("loading-{signal}"), &[]);
        held.host.stdout(|line| line.starts_with("control ").then_some(()));
        held.host.signal(signal);
        let ended = held.host.ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let [line] = &ended.stderr[..] else { panic!("one line: {ended:?}") };
        let told = format!("INFO ended before anything was started signal=SIG{signal}");
        assert!(line.ends_with(&told), "{line}");
    }
}
