//! What an author does: begins a project, builds it, runs it while its source changes.
//!
//! Languages are `tests/conformance`'s affair. Here a build is a command of `sh`, and a
//! source a file that it copies.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::deployment::{deployment, start, write};
use crate::harness::{cache, command, component, scratch, until};

/// Runs the program to its end in a directory.
fn run(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(args)
        .current_dir(directory)
        .env("RON_CACHE_DIR", cache())
        .output()
        .expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_project_begins_whole_and_overwrites_nothing() {
    let place = scratch("new");
    for language in ["rust", "python", "javascript", "typescript", "c", "cpp", "zig", "go"] {
        let name = format!("my-{language}");
        let (code, out, err) = run(&place, &["new", "--lang", language, &name]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains(&format!("cd {name} && ron-host dev")), "{out}");
        // What it says is read by a host, but for what is not built yet.
        let (code, out, err) = run(&place.join(&name), &["config", "show"]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains(&format!("[service.{name}.build]")), "{out}");

        let (code, _, err) = run(&place, &["new", "--lang", language, &name]);
        assert_eq!(code, Some(1));
        assert_eq!(err, format!("error: {name} is there already; nothing was written\n"));
    }
    let (code, _, err) = run(&place, &["new", "--lang", "rust", "Not_A_Name"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("small letters, digits and '-'"), "{err}");
    let (code, _, err) = run(&place, &["new", "--lang", "cobol", "x"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("rust, python, javascript"), "{err}");
}

/// A service `subject` whose component is a copy of `source.wasm`.
const COPIES: &str = r#"
    log.format = "json"
    [service.subject]
    component = "made.wasm"
    [service.subject.build]
    command = "cp source.wasm made.wasm.new && mv made.wasm.new made.wasm"
    watch = ["source.wasm"]
"#;

fn copies(name: &str, source: &str) -> std::path::PathBuf {
    let directory = deployment(name, &[], COPIES);
    fs::copy(component(source), directory.join("source.wasm")).expect("copied");
    directory
}

#[test]
fn what_a_build_makes_is_checked() {
    let directory = copies("build", "echo");
    let (code, out, err) = run(&directory, &["build"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[1]["built"], "subject", "{out}");
    assert_eq!(lines[2]["service"], "subject", "{out}");

    // As a start would, with all that does not fit.
    fs::copy(component("other-types"), directory.join("source.wasm")).expect("copied");
    let (code, _, err) = run(&directory, &["build", "subject"]);
    assert_eq!(code, Some(65));
    assert!(err.contains("does not fit the contract"), "{err}");

    let (code, _, err) = run(&directory, &["build", "nobody"]);
    assert_eq!(code, Some(78));
    assert!(err.contains("no service of that name says how it is built; subject does"), "{err}");

    write(&directory, "ron.toml", &COPIES.replace("cp source", "exit 3; cp source"));
    let (code, _, err) = run(&directory, &["build"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("service subject") && err.contains("exit status: 3"), "{err}");

    let tools = "tools = { no-such-compiler = 'apt install it' }\ncommand =";
    write(&directory, "ron.toml", &COPIES.replace("command =", tools));
    let (code, _, err) = run(&directory, &["build"]);
    assert_eq!(code, Some(69));
    assert!(err.contains("install it with: apt install it"), "{err}");
}

#[test]
fn a_saved_source_is_swapped_in_and_a_broken_one_is_not() {
    let directory = copies("dev", "counter");
    let host = start(&directory, "dev", &[]).ready();
    let count = |what: &str| {
        let asked = host.home().ctl(["request", &format!("guest.subject.{what}"), ""], b"");
        String::from_utf8(asked.stdout).expect("text")
    };
    assert_eq!(count("add"), "1");

    // Saved as editors do.
    let save = |text: &[u8]| {
        fs::write(directory.join("source.new"), text).expect("written");
        fs::rename(directory.join("source.new"), directory.join("source.wasm")).expect("renamed");
    };
    save(&fs::read(component("counter-v2")).expect("read"));
    until("the new version counts on", || count("count") == "v2 1");

    // What is built and is no component changes nothing.
    save(b"broken");
    host.log(|record| {
        record["message"].as_str().is_some_and(|text| text.contains("not WebAssembly"))
    });
    assert_eq!(count("add"), "v2 2");

    // A build that fails is told, with what goes on.
    write(&directory, "ron.toml", &COPIES.replace("cp source", "echo oh no; exit 3; cp source"));
    save(&fs::read(component("counter-v2")).expect("read"));
    host.stdout(|line| line.contains("oh no").then_some(()));
    host.log(|record| {
        record["message"].as_str().is_some_and(|text| text.contains("what runs goes on"))
    });
    assert_eq!(count("add"), "v2 3");
    host.signal("INT");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn a_first_build_that_fails_waits_for_a_better_one() {
    let directory = deployment("dev-first", &[], COPIES);
    let host = start(&directory, "dev", &[]);
    host.log(|record| {
        record["message"].as_str().is_some_and(|text| text.contains("waiting for a change"))
    });
    fs::copy(component("echo"), directory.join("source.wasm")).expect("copied");
    let host = host.ready();
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// A service that a compiler without components could have made.
const CORE: &str = r#"(module
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (func (export "ron:kernel/lifecycle@1.0.0#start") (result i32) (i32.const 0))
    (func (export "ron:kernel/lifecycle@1.0.0#on-message")
        (param i64 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 16))
    (func (export "ron:kernel/lifecycle@1.0.0#on-event")
        (param i32 i64 i32 i32 i32 i32 i32))
    (func (export "ron:kernel/lifecycle@1.0.0#stop")))"#;

#[test]
fn a_core_module_becomes_a_component() {
    let place = scratch("componentize");
    let core = wat::parse_str(CORE).expect("it is valid");
    fs::write(place.join("core.wasm"), core).expect("written");
    fs::write(place.join("empty.wasm"), b"\0asm\x01\0\0\0").expect("written");
    let (code, _, err) = run(&place, &["componentize", "empty.wasm", "-o", "made.wasm"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("--world service"), "{err}");
    // Its exports say what it is.
    let (code, out, err) = run(&place, &["componentize", "core.wasm", "-o", "made.wasm"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
    let (code, out, _) = run(&place, &["inspect", "made.wasm"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.starts_with("kind     service"), "{out}");

    let (code, _, err) = run(&place, &["componentize", "made.wasm", "-o", "again.wasm"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is a component already"), "{err}");
    let args = ["componentize", "core.wasm", "-o", "made.wasm", "--world", "bulk-service"];
    let (code, _, err) = run(&place, &args);
    assert_eq!(code, Some(1));
    assert!(err.contains("ron:kernel/bulk@1.0.0"), "{err}");

    // What it exports is not left out without a word.
    let save = r#"(func (export "ron:kernel/handover@1.0.0#save") (result i32) (i32.const 0)))"#;
    let more = wat::parse_str(CORE.strip_suffix(')').expect("its end").to_owned() + save);
    fs::write(place.join("core.wasm"), more.expect("it is valid")).expect("written");
    let args = ["componentize", "core.wasm", "-o", "made.wasm", "--world", "service"];
    let (code, _, err) = run(&place, &args);
    assert_eq!(code, Some(1));
    assert!(err.contains("expected --world stateful-service"), "{err}");
}

#[test]
fn what_is_compiled_ahead_is_in_the_cache() {
    let place = scratch("compile");
    let cache = place.join("cache");
    let cache = cache.to_str().expect("a name");
    let echo = component("echo");
    let args = ["compile", echo.to_str().expect("a name"), "--cache-dir", cache];
    let (code, out, err) = run(&place, &args);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("compiled "), "{out}");
    let (_, out, _) = run(&place, &args);
    assert!(out.starts_with("was in the cache "), "{out}");
    let (code, _, err) = run(&place, &["compile", "none.wasm", "--cache-dir", cache]);
    assert_eq!(code, Some(65));
    assert!(err.contains("none.wasm"), "{err}");
}
