//! The command line: what it refuses and how, how the program ends, what it
//! says on start, and the cache.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Ended, Program, component, run, scratch};

/// `--component PATH`.
fn with(name: &str) -> [OsString; 2] {
    ["--component".into(), component(name).into()]
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

/// What it is started with in these tests: a free port, no cache.
fn plain() -> Vec<OsString> {
    words("--admin 127.0.0.1:0 --no-cache")
}

fn nothing_ran(ended: &Ended) {
    let said = [&ended.stdout[..], &ended.stderr].concat().join("\n");
    assert!(!said.contains("panicked at") && !said.contains("RUST_BACKTRACE"), "{said}");
    let started = |line: &&String| line.starts_with("service") || line.starts_with("ready");
    assert_eq!(ended.stdout.iter().find(started), None, "{said}");
    assert!(!said.contains(": here"), "no service started: {said}");
}

/// One line, that says all of `expected`, and the exit code.
#[track_caller]
fn refused(args: Vec<OsString>, code: i32, expected: &[&str]) {
    // Beside one that could run: all or nothing.
    let ended = run([plain(), with("farewell").to_vec(), args].concat());
    assert_eq!(ended.code, Some(code), "{ended:?}");
    nothing_ran(&ended);
    let [line] = &ended.stderr[..] else { panic!("one line: {ended:?}") };
    assert!(line.starts_with("error: "), "{line}");
    for text in expected {
        assert!(line.contains(text), "{text:?} is not in {line:?}");
    }
}

fn path(path: &Path) -> Vec<OsString> {
    vec!["--component".into(), path.into()]
}

/// A file of these bytes.
fn file(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn a_component_that_cannot_be_loaded() {
    let scratch = scratch("cli-components");
    let whole = fs::read(component("echo")).expect("it was built");
    let expected = "expected a WebAssembly component";

    let missing = scratch.join("missing.wasm");
    refused(
        path(&missing),
        65,
        &["service missing: ", "missing.wasm: cannot be read: No such file", expected],
    );
    let directory = scratch.join("directory");
    fs::create_dir(&directory).expect("made");
    refused(path(&directory), 65, &["service directory: ", "directory: not a file", expected]);
    for directory in [".", "..", "./", "/", "/../"] {
        let told = format!("{directory}: not a file; {expected}");
        refused(path(directory.as_ref()), 65, &[&told]);
    }
    let empty = file(&scratch, "empty.wasm", b"");
    refused(path(&empty), 65, &["service empty: ", "empty.wasm: an empty file", expected]);
    let core = file(&scratch, "core.wasm", b"\0asm\x01\0\0\0");
    refused(
        path(&core),
        65,
        &["core.wasm: a core WebAssembly module; expected a component", "wasm32-wasip2"],
    );
    let cut = file(&scratch, "cut.wasm", &whole[..whole.len() / 2]);
    refused(path(&cut), 65, &["cut.wasm: not a valid component, perhaps cut short: "]);
    let text = file(&scratch, "text.wasm", b"(component)");
    refused(path(&text), 65, &["text.wasm: WebAssembly in text form", expected]);
    let other = file(&scratch, "other.wasm", b"#!/bin/sh\n");
    refused(path(&other), 65, &["other.wasm: not WebAssembly", expected]);
    refused(
        with("other-world").to_vec(),
        65,
        &[
            "other-world.wasm: does not export ron:kernel/lifecycle@1.0.0",
            "it exports acme:elsewhere/thing@0.1.0",
        ],
    );
    refused(
        with("importer").to_vec(),
        65,
        &[
            "importer.wasm: imports acme:nowhere/thing@0.1.0, which this host does not offer",
            "it offers ron:kernel@1.0.0, WASI 0.2 and 0.3, wasi:config",
        ],
    );
}

/// A device could be read for ever.
#[test]
fn a_device_is_not_read() {
    let args = words("--component zero=/dev/zero");
    refused(args, 65, &["service zero: /dev/zero: not a file"]);
}

#[test]
fn every_bad_component_is_told() {
    let scratch = scratch("cli-several");
    let empty = file(&scratch, "empty.wasm", b"");
    let args = [plain(), path(&empty), path(&scratch.join("missing.wasm"))].concat();
    let ended = run(args);
    assert_eq!(ended.code, Some(65));
    assert_eq!(ended.stderr.len(), 2, "{ended:?}");
    assert!(ended.stderr[0].starts_with("error: service empty: "), "in order: {ended:?}");
    assert!(ended.stderr[1].starts_with("error: service missing: "), "{ended:?}");
}

#[test]
fn a_configuration_that_cannot_be_used() {
    let two = [with("echo"), with("echo")].concat();
    refused(two, 78, &["two services are named echo", "echo.wasm and ", "--component NAME=PATH"]);
    let name = vec!["--component".into(), format!("a.b={}", component("echo").display()).into()];
    refused(name, 78, &["\"a.b\" is not a service's name: 1 to 64 of A-Z a-z 0-9 _ -"]);
    let reserved =
        vec!["--component".into(), format!("ron={}", component("echo").display()).into()];
    refused(reserved, 78, &["\"ron\" is a name that the host uses for itself"]);
    // It is quoted as it was typed, and who gave a name is not told to give one.
    for (argument, name) in [("a.b=svc.wasm", "a.b"), ("=svc.wasm", ""), ("ron=svc.wasm", "ron")] {
        let said = format!("error: --component {argument}: {name:?} is ");
        let args = words("--component").into_iter().chain([argument.into()]).collect();
        refused(args, 78, &[&said, "expected another NAME before the ="]);
    }
    refused(words("--component my.svc.wasm"), 78, &["--component my.svc.wasm: ", "NAME=PATH"]);
    refused(
        words("--set nobody.key=1"),
        78,
        &["--set nobody.key: there is no such service; there is farewell"],
    );
    refused(
        words("--optional nobody"),
        78,
        &["--optional nobody: there is no such service; there is farewell"],
    );
}

#[test]
fn an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let ended =
        run([words("--no-cache --admin"), words(&address), with("farewell").to_vec()].concat());
    assert_eq!(ended.code, Some(78), "{ended:?}");
    nothing_ran(&ended);
    let [line] = &ended.stderr[..] else { panic!("one line: {ended:?}") };
    assert!(
        line.contains(&format!("--admin: {address} cannot be listened on: Address already in use")),
        "{line}"
    );
    assert!(
        line.contains("expected a free address, such as --admin 127.0.0.1:0 for any"),
        "{line}"
    );
}

#[test]
fn json_is_json_when_it_fails_too() {
    let args = words("--admin 127.0.0.1:0 --no-cache --log-format json --component nowhere.wasm");
    let ended = run(args);
    assert_eq!(ended.code, Some(65));
    let [line] = &ended.stderr[..] else { panic!("one line: {ended:?}") };
    let record: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(record["level"], "ERROR");
    let message = record["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("service nowhere: nowhere.wasm: cannot be read"), "{message}");
}

#[test]
fn a_command_line_that_cannot_be_understood() {
    #[track_caller]
    fn check(args: &str, expected: &str) {
        let ended = run(words(args));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        nothing_ran(&ended);
        assert_eq!(ended.stdout, [""; 0]);
        let said = ended.stderr.join("\n");
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
    check("--component a.wasm --colour", "unexpected argument '--colour'");
    check("--admin 127.0.0.1:0", "--component <[NAME=]PATH>");
    check("--component", "a value is required for '--component <[NAME=]PATH>'");
    check("--component a=", "expected PATH or NAME=PATH");
    check("--component a.wasm --set a.b", "expected NAME.KEY=VALUE, for example");
    check("--component a.wasm --admin nowhere", "invalid value 'nowhere' for '--admin <ADDR>'");
    for address in ["localhost:9600", "9600", ":9600"] {
        for flag in ["--admin", "--http"] {
            check(
                &format!("--component a.wasm {flag} {address}"),
                "expected IP:PORT, for example 127.0.0.1:9600",
            );
        }
    }
    check("svc.wasm", "to run a component, say 'ron-host --component svc.wasm'");
    check("a/b.toml", "to run what a file says, say 'ron-host --config a/b.toml'");
    check("svc", "unrecognized subcommand 'svc'");
    check(
        "--component a.wasm --log-level loud",
        "possible values: trace, debug, info, warn, error, off",
    );
    check("--component a.wasm --log-format xml", "possible values: text, json");
    check("--component a.wasm --on-critical hope", "possible values: exit, unready");
    check("--component a.wasm --no-cache --cache-dir x", "cannot be used with");
    check("check a.toml --config b.toml", "cannot be used with");
    check("--component a.wasm check a.toml", "cannot be used with");
}

#[test]
fn version_and_help() {
    let version = run(["--version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(version.stdout, [format!("ron-host {}", env!("CARGO_PKG_VERSION"))]);
    let help = run(["--help"]);
    assert_eq!(help.code, Some(0));
    let text = help.stdout.join("\n");
    for part in
        ["--component <[NAME=]PATH>", "Examples:", "Exit codes:", "[default: 127.0.0.1:9600]"]
    {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// Whether a log record, in text or JSON, is in what was said.
fn logged(ended: &Ended, service: &str, message: &str) -> bool {
    let record = |line: &String| serde_json::from_str::<Value>(line).ok();
    let is = |record: Value| record["service"] == service && record["message"] == message;
    ended.stderr.iter().filter_map(record).any(is)
}

#[test]
fn the_first_signal_drains() {
    for signal in ["TERM", "INT"] {
        let host = Program::start(with("farewell")).ready();
        host.signal(signal);
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{signal}: {ended:?}");
        let own = |line: &&String| line.contains("\"service\":\"farewell\"");
        let own: Vec<Value> = ended
            .stderr
            .iter()
            .filter(own)
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let messages: Vec<_> = own.iter().map(|record| record["message"].as_str()).collect();
        assert_eq!(messages, [Some("here"), Some("so it ends"), Some("farewell")]);
        let last = ended.stderr.last().expect("a line");
        assert!(last.contains("\"drained\""), "{last}");
    }
}

/// What runs is drained, though something else never became ready.
#[test]
fn a_signal_before_it_is_ready_drains_too() {
    let host = Program::start([with("farewell"), with("start-error")].concat());
    host.says("farewell", "here");
    host.log(|record| record["service"] == "start-error" && record["reason"] == "start-failed");
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(logged(&ended, "farewell", "farewell"), "its stop ran: {ended:?}");
}

#[test]
fn the_second_signal_ends_at_once() {
    let host = Program::start([with("farewell"), with("spin-in-stop")].concat()).ready();
    host.signal("INT");
    host.says("spin-in-stop", "stopping, for ever");
    host.signal("INT");
    assert_eq!(host.ended().code, Some(130));
}

/// One that will not stop is cut short at its deadline, which is a crash of its
/// own and no failure of the host's.
#[test]
fn a_service_that_does_not_stop_is_cut_short() {
    let host = Program::start([with("farewell"), with("spin-in-stop")].concat()).ready();
    host.signal("TERM");
    let crash =
        host.log(|record| record["service"] == "spin-in-stop" && record["level"] == "ERROR");
    assert_eq!(crash["message"], "crashed: stop did not end within 5s");
    assert_eq!(crash["reason"], "deadline");
    assert_eq!(host.ended().code, Some(0));
}

/// A crash loop takes its budget, most of a minute; so all that follows from
/// one is looked at here, at the same time.
#[test]
fn a_critical_service_that_gives_up() {
    let services = || [with("farewell"), with("start-error")].concat();
    let exits = Program::start(services());
    let unready = Program::start([services(), words("--on-critical unready")].concat());
    let optional = Program::start([services(), words("--optional start-error")].concat()).ready();

    let gave_up = |host: &Program| {
        host.log(|record| {
            record["service"] == "start-error"
                && record["message"] == "quarantined: told to fail in start"
        });
    };
    gave_up(&optional);
    let health = optional.get("/healthz").json();
    assert_eq!(health["services"]["start-error"]["state"], "quarantined");
    assert_eq!(health["services"]["farewell"]["state"], "running");
    assert_eq!(optional.get("/readyz").status, 200, "it is not needed");
    let metrics = optional.metrics();
    assert_eq!(metrics.value("service_restarts_total{service=\"start-error\"}"), 10.0);
    let crashes = "service_crashes_total{reason=\"start-failed\",service=\"start-error\"}";
    assert_eq!(metrics.value(crashes), 11.0);
    optional.signal("TERM");
    assert_eq!(optional.ended().code, Some(0));

    gave_up(&unready);
    let page = unready.get("/readyz");
    assert_eq!((page.status, page.header("retry-after")), (503, "3"));
    assert_eq!(page.json()["missing"], serde_json::json!(["start-error"]));
    assert_eq!(unready.get("/healthz").status, 200, "nobody restarts the host for it");
    unready.signal("TERM");
    let ended = unready.ended();
    assert_eq!(ended.code, Some(70), "{ended:?}");
    assert!(logged(&ended, "farewell", "farewell"));

    let ended = exits.ended();
    assert_eq!(ended.code, Some(70), "{ended:?}");
    assert!(logged(&ended, "farewell", "farewell"), "the others were drained: {ended:?}");
    let message = "a critical service gave up: draining; told to fail in start";
    assert!(logged(&ended, "start-error", message), "{ended:?}");
    assert!(!ended.stdout.iter().any(|line| line.contains("\"ready\"")), "{ended:?}");
}

#[test]
fn what_it_says_on_start() {
    let args = [plain(), with("farewell").to_vec(), words("--component"), {
        vec![format!("other={}", component("echo").display()).into()]
    }];
    let host = Program::start_bare(args.concat()).ready();
    let url = host.url("");
    assert!(!url.ends_with(":0"), "the port that was picked: {url}");
    assert_eq!(host.get("/livez").status, 200);
    host.signal("TERM");
    let ended = host.ended();
    let hex = |line: &str| {
        let digest = line.split("  ").find_map(|word| word.strip_prefix("b3:"));
        digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
    };
    let [admin, control, farewell, other, ready] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert_eq!(*admin, format!("admin    {url}  /metrics /healthz /livez /readyz"));
    assert!(control.starts_with("control  /") && control.ends_with("/control.sock"), "{control}");
    assert!(farewell.starts_with("service  farewell  ") && hex(farewell), "{farewell}");
    assert!(other.starts_with("service  other  ") && hex(other), "{other}");
    assert!(other.contains("compiled in ") && other.ends_with(" ms"), "{other}");
    assert!(ready.starts_with(&format!("ready    2 services  {url}  in ")), "{ready}");
}

#[test]
fn json_is_one_object_a_line() {
    let host = Program::start(
        [
            with("panic").to_vec(),
            with("script").to_vec(),
            vec![
                "--set".into(),
                "script.1=request guest.panic.die a \"quoted\"\nline \u{1b}[31m".into(),
            ],
            words("--log-level debug"),
        ]
        .concat(),
    )
    .ready();
    let crash = host.log(|record| record["service"] == "panic" && record["reason"] == "panic");
    let message = crash["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("crashed: a \"quoted\"\nline \u{1b}[31m (at "), "{message:?}");
    host.says("script", "the script is over");
    host.signal("TERM");
    let ended = host.ended();
    for line in &ended.stderr {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["timestamp", "level", "message"] {
            assert!(record[key].is_string(), "{key} in {line}");
        }
    }
    assert!(ended.stderr.iter().any(|line| line.contains("\"DEBUG\"")));
    let out: Vec<Value> = ended
        .stdout
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert_eq!(out[2]["service"], "panic");
    assert!(out[2]["digest"].as_str().is_some_and(|digest| digest.starts_with("b3:")));
    assert_eq!(out[4]["ready"], true);
    assert_eq!(out[4]["services"], 2);
}

/// The text form shows a stack below its record, and lets a service forge
/// neither a line nor a colour.
#[test]
fn text_is_for_people() {
    let host = Program::start_bare(
        [
            plain(),
            with("panic").to_vec(),
            with("script").to_vec(),
            vec![
                "--set".into(),
                "script.1=request guest.panic.die first\nsecond \u{1b}[31m".into(),
            ],
        ]
        .concat(),
    );
    host.stderr(|line| line.contains("script: the script is over").then_some(()));
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0));
    let at = ended
        .stderr
        .iter()
        .position(|line| line.contains("ERROR panic: crashed: first\\nsecond \\u{1b}[31m (at "));
    let below = &ended.stderr[at.unwrap_or_else(|| panic!("{ended:?}")) + 1..];
    assert_eq!(below[0], "    backtrace:");
    let frame = below.iter().find(|line| line.contains("tests/guests/panic.rs:3"));
    assert!(frame.is_some_and(|frame| frame.starts_with("      ")), "{ended:?}");
    assert!(ended.stderr.iter().all(|line| !line.contains('\u{1b}')), "{ended:?}");
}

#[test]
fn the_log_level_hides_what_is_below() {
    let host =
        Program::start([with("farewell").to_vec(), words("--log-level warn")].concat()).ready();
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr, [""; 0], "nothing was wrong");
    assert_eq!(ended.stdout.len(), 4, "what scripts read is there: {ended:?}");
}

/// `ron-host ... | head -1`.
#[test]
fn nobody_has_to_read_what_it_says() {
    let args = [plain(), words("--log-format json"), with("farewell").to_vec()].concat();
    let host = Program::start_unread(args);
    host.says("farewell", "here");
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(logged(&ended, "farewell", "farewell"), "{ended:?}");
}

/// A start with this cache, to its end; whether the component came out of it.
#[track_caller]
fn cached(cache: &Path, warning: Option<&str>) -> bool {
    let args = words("--admin 127.0.0.1:0 --log-format json --cache-dir");
    let args = [args, vec![cache.into()], with("farewell").to_vec()].concat();
    let host = Program::start_bare(args).ready();
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warned = |line: &&String| line.contains("\"WARN\"");
    let warnings: Vec<_> = ended.stderr.iter().filter(warned).collect();
    match (warning, &warnings[..]) {
        (None, []) => {}
        (Some(text), [one]) if one.contains(text) => {}
        _ => panic!("{warning:?} is not {warnings:?}"),
    }
    let record: Value = serde_json::from_str(&ended.stdout[2]).expect("JSON");
    record["cached"].as_bool().expect("a flag")
}

/// The compiled components in a cache.
fn compiled(cache: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(cache).expect("a cache").map(|entry| entry.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_second_start_compiles_nothing() {
    let cache = scratch("cli-cache").join("not/there/yet");
    assert!(!cached(&cache, None));
    assert!(cached(&cache, None));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(mode(&cache.join("key")), 0o600);
    assert_eq!(compiled(&cache).len(), 1);
}

#[test]
fn a_cache_that_is_not_sound_is_not_believed() {
    let cache = scratch("cli-damage").join("cache");
    assert!(!cached(&cache, None));
    let [file] = &compiled(&cache)[..] else { panic!("one component") };
    let sound = fs::read(file).expect("read");
    let damaged = Some("a cached component is damaged and is compiled anew");
    let check = |bytes: &[u8], warning| {
        fs::write(file, bytes).expect("written");
        assert!(!cached(&cache, warning));
        assert!(cached(&cache, None), "it was replaced");
    };
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    check(&flipped, damaged);
    check(&sound[..sound.len() - 1], damaged);
    check(b"", None);
    check(&[0; 4096], damaged);

    // Sound, but of another component.
    let other = cache.with_file_name("other");
    let args = [words("--admin 127.0.0.1:0 --cache-dir"), vec![cache.clone().into()]].concat();
    let host = Program::start_bare([args, with("spin-in-stop").to_vec()].concat()).ready();
    drop(host);
    let theirs = compiled(&cache).into_iter().find(|path| path != file).expect("another");
    check(&fs::read(theirs).expect("read"), damaged);

    // Sound, but of another user.
    fs::create_dir(&other).expect("made");
    mode(&other, 0o700);
    assert!(!cached(&other, None));
    fs::copy(&compiled(&other)[0], file).expect("copied");
    check(&fs::read(file).expect("read"), damaged);
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    let must = "must belong to the user that runs the host, and be writable by no other";
    let scratch = scratch("cli-open-cache");
    let cache = scratch.join("cache");
    assert!(!cached(&cache, None));

    mode(&cache, 0o777);
    assert!(!cached(&cache, Some(must)), "though it holds it");
    mode(&cache, 0o700);
    mode(&cache.join("key"), 0o644);
    assert!(!cached(&cache, Some(must)), "others may know the key");
    mode(&cache.join("key"), 0o600);
    assert!(cached(&cache, None));

    let open = scratch.join("open");
    fs::create_dir(&open).expect("made");
    mode(&open, 0o770);
    assert!(!cached(&open, Some(must)));
    assert_eq!(fs::read_dir(&open).expect("there").count(), 0, "nothing was put there");

    let file = file(&scratch, "file", b"");
    assert!(!cached(&file, Some("cannot be used as a cache")));
}
