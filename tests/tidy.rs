//! The rules of `host/ARCHITECTURE.md` that can be read off the source, and the
//! two surfaces that are frozen.
//!
//! Plain text search, on purpose: a rule is a line here, and whoever breaks one
//! is told which, where and why.

use std::fs;
use std::path::Path;

use ron_runtime::Digest;

use crate::harness::repository;

/// A file of the repository, by its path from there, without its tests and
/// without the lines that are comments.
struct Source {
    path: String,
    lines: Vec<(usize, String)>,
}

/// Every file below `directory` with that extension, in order.
fn files(directory: &str, extension: &str) -> Vec<String> {
    fn walk(directory: &Path, extension: &str, found: &mut Vec<String>) {
        let entries =
            fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What tools of other languages leave beside what is built in place.
            let is_tools = name.starts_with('.') || name == "node_modules";
            if path.is_dir() && name != "target" && !is_tools {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|own| own == extension) {
                let path = path.strip_prefix(repository()).expect("it lies there");
                found.push(path.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository().join(directory), extension, &mut found);
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What ships: no tests, no comments.
fn shipped(directory: &str) -> Vec<Source> {
    let own = |path: &String| !path.ends_with("tests.rs") && !path.contains("/tests/");
    let source = |path: String| {
        let text = read(&path);
        // By convention the last item of a file; `mod tests;` has a file of its own.
        let end = text.find("\nmod tests {").map_or(text.len(), |at| {
            text[..at].rfind("\n#[cfg(").expect("tests are not compiled in")
        });
        let text = &text[..end];
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned()));
        let lines = lines.filter(|(_, line)| !line.trim_start().starts_with("//")).collect();
        Source { path, lines }
    };
    files(directory, "rs").into_iter().filter(own).map(source).collect()
}

/// Fails unless `words` stand only in the places that are allowed: files, or
/// directories with a slash at the end. Every place must be in use, so that the
/// list stays true.
fn only(words: &[&str], directory: &str, allowed: &[&str], why: &str) {
    let mut wrong = Vec::new();
    let mut used = vec![false; allowed.len()];
    for source in shipped(directory) {
        let place = allowed.iter().position(|place| match place.ends_with('/') {
            true => source.path.starts_with(place),
            false => source.path == *place,
        });
        for (number, line) in &source.lines {
            if !words.iter().any(|word| has_word(line, word)) {
                continue;
            }
            match place {
                Some(place) => used[place] = true,
                None => wrong.push(format!("{}:{number}: {}", source.path, line.trim())),
            }
        }
    }
    assert!(wrong.is_empty(), "{why}:\n{}", wrong.join("\n"));
    for (place, used) in allowed.iter().zip(used) {
        assert!(used, "{place} has no {words:?} any more: take it off the list of those that may");
    }
}

/// Whether `word` stands in `line` and not within a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part) && word.starts_with(part);
        let after =
            line[at + word.len()..].chars().next().is_some_and(part) && word.ends_with(part);
        !before && !after
    })
}

/// The packages that a manifest depends on, for tests too.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = read(manifest);
    let mut found = Vec::new();
    let mut within = false;
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('[') {
            within = table.trim_end_matches(']').ends_with("dependencies");
        } else if within && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            found.push(name.trim().to_owned());
        }
    }
    assert!(!found.is_empty() || manifest.contains("xtask"), "{manifest} has dependencies");
    found
}

#[test]
fn dependencies_run_one_way() {
    let on = |manifest: &str, names: &[&str]| -> Vec<String> {
        let all = dependencies(manifest);
        all.into_iter().filter(|name| names.iter().any(|own| name.starts_with(own))).collect()
    };
    assert_eq!(on("host/kernel/Cargo.toml", &["ron-", "wasm", "wit-"]), [""; 0]);
    assert_eq!(on("host/runtime/Cargo.toml", &["ron-"]), ["ron-kernel"]);
    let own = ["ron-kernel", "ron-runtime", "wasmparser"];
    assert_eq!(on("host/ron-host/Cargo.toml", &["ron-", "wasm"]), own);
    assert_eq!(
        dependencies("host/xtask/Cargo.toml"),
        [""; 0],
        "the first `cargo xtask` starts at once"
    );
    assert_eq!(
        on("guests/rust/Cargo.toml", &["ron-"]),
        [""; 0],
        "a guest knows the contract alone"
    );
    for (package, home) in [
        ("wasmtime", "host/runtime/Cargo.toml"),
        ("wasmtime-wasi", "host/runtime/Cargo.toml"),
        ("prometheus", "host/kernel/Cargo.toml"),
        ("aws-lc-rs", "host/ron-host/Cargo.toml"),
        ("rcgen", "host/ron-host/Cargo.toml"),
        ("x509-parser", "host/ron-host/Cargo.toml"),
        ("anyhow", "host/ron-host/Cargo.toml"),
        ("clap", "host/ron-host/Cargo.toml"),
    ] {
        let users: Vec<String> = files("host", "toml")
            .into_iter()
            .filter(|manifest| dependencies(manifest).iter().any(|name| name == package))
            .collect();
        assert_eq!(users, [home], "{package}");
    }
}

#[test]
fn each_library_has_its_place() {
    let own = "each library has one place in the host";
    only(&["wasmtime", "wasmtime_wasi", "wasmtime_wasi_http"], "host", &["host/runtime/src/"], own);
    only(&["addr2line"], "host", &["host/runtime/src/symbols.rs"], own);
    let componentize = "host/ron-host/src/author/componentize.rs";
    let bytes = ["producers.rs", "surface.rs", "symbols.rs"];
    let bytes = bytes.map(|file| format!("host/runtime/src/{file}"));
    let bytes = [&bytes.each_ref().map(String::as_str)[..], &[componentize]].concat();
    only(&["wasmparser"], "host", &bytes, own);
    only(
        &["wit_component", "wasi_preview1_component_adapter_provider"],
        "host",
        &[componentize],
        own,
    );
    only(&["rust_embed"], "host", &["host/ron-host/src/author/language.rs"], own);
    only(&["mimalloc"], "host", &["host/ron-host/src/main.rs"], own);
    only(&["croner"], "host", &["host/runtime/src/schedule.rs"], own);
    only(&["wit_parser"], "host", &["host/runtime/build.rs", componentize], own);
    let listener = "host/ron-host/src/listener/";
    let http = ["host/kernel/src/http/", "host/ron-host/src/control/", listener];
    // A service's request goes to an address that was looked at, so no client that
    // connects by name will do.
    let client = "host/runtime/src/host/outgoing/client.rs";
    let why = "HTTP has four places: the admin listener, control, the public listeners, and what \
               sends services' own requests";
    only(&["hyper", "hyper_util"], "host", &[&http[..], &[client]].concat(), why);
    only(&["webpki_roots"], "host", &[client], own);
    only(&["axum"], "host", &http[..2], "the public listeners route by a table of their own");
    only(&["prometheus::"], "host", &["host/kernel/src/metrics/"], own);
    let tls = ["tls.rs", "pem.rs", "self_signed.rs"].map(|file| format!("{listener}{file}"));
    let tls =
        [&["host/kernel/src/tls.rs", client][..], &tls.each_ref().map(String::as_str)].concat();
    only(&["rustls", "tokio_rustls", "rcgen", "x509_parser", "aws_lc_rs"], "host", &tls, own);
    only(&["anyhow"], "host", &["host/ron-host/src/exit.rs", componentize], own);
    only(
        &["clap"],
        "host",
        &[
            componentize,
            "host/ron-host/src/author/language.rs",
            "host/ron-host/src/cli.rs",
            "host/ron-host/src/ctl/args.rs",
            "host/ron-host/src/ctl/bench.rs",
            "host/ron-host/src/logging.rs",
            "host/ron-host/src/main.rs",
            // The names of values that are flags and keys.
            "host/ron-host/src/settings/choice.rs",
        ],
        own,
    );
    let toml = ["host/ron-host/src/settings/", "host/ron-host/src/author/cargo_manifest.rs"];
    only(&["toml::"], "host", &toml, own);
    only(&["annotate_snippets"], "host", &["host/ron-host/src/settings/mistake.rs"], own);
}

#[test]
fn files_and_environment_are_read_in_few_places() {
    let why = "files and environment are read at the edge alone";
    let places = [
        "host/ron-host/src/author/advice.rs",
        "host/ron-host/src/author/build.rs",
        "host/ron-host/src/author/componentize.rs",
        "host/ron-host/src/author/dev.rs",
        "host/ron-host/src/author/project.rs",
        "host/ron-host/src/author/sources.rs",
        "host/ron-host/src/components.rs",
        "host/ron-host/src/control/socket.rs",
        "host/ron-host/src/ctl/mod.rs",
        "host/ron-host/src/last_good.rs",
        "host/ron-host/src/settings/read.rs",
        "host/ron-host/src/watch.rs",
        "host/ron-host/src/watch/",
        "host/runtime/build.rs",
        "host/runtime/src/cache.rs",
        "host/runtime/src/engine.rs",
        "host/runtime/src/file.rs",
        "host/xtask/src/",
    ];
    only(&["std::fs", "std::env", "tokio::fs", "fs::", "env::"], "host", &places, why);
    for source in shipped("host") {
        for (number, line) in &source.lines {
            let grouped = line.trim_start().starts_with("use std::{")
                && (has_word(line, "fs") || has_word(line, "env"));
            let here = places.iter().any(|place| source.path.starts_with(place));
            assert!(!grouped || here, "{why}: {}:{number}: {line}", source.path);
        }
    }
}

#[test]
fn within_the_kernel_nothing_knows_what_is_above_it() {
    only(&["crate::http"], "host/kernel", &[], "nothing imports `http`");
    for (file, above) in [
        (
            "event.rs",
            &["bus", "message", "service", "supervisor", "health", "metrics", "kernel"][..],
        ),
        (
            "crash.rs",
            &["event", "bus", "message", "service", "supervisor", "health", "metrics", "kernel"],
        ),
        (
            "topic.rs",
            &["event", "bus", "message", "service", "supervisor", "health", "metrics", "kernel"],
        ),
        ("bus.rs", &["message", "service", "supervisor", "health", "metrics", "kernel"]),
        ("bus/", &["message", "service", "supervisor", "health", "metrics", "kernel"]),
        ("config.rs", &["bus", "message", "service", "supervisor", "health", "metrics", "kernel"]),
        ("health.rs", &["bus", "message", "service", "supervisor", "metrics", "kernel"]),
        ("metrics/", &["message", "service", "supervisor", "kernel"]),
        ("message/", &["supervisor", "health", "metrics", "kernel"]),
    ] {
        let mut looked_at = false;
        for source in shipped("host/kernel/src") {
            let path = source.path.trim_start_matches("host/kernel/src/");
            if !(path == file || file.ends_with('/') && path.starts_with(file)) {
                continue;
            }
            looked_at = true;
            for (number, line) in &source.lines {
                let named = above.iter().find(|name| has_word(line, &format!("crate::{name}")));
                assert_eq!(named, None, "{}:{number} knows what is above it", source.path);
            }
        }
        assert!(looked_at, "{file} is gone: take it off the list");
    }
}

/// Pure machines have neither a clock nor a runtime of their own.
#[test]
fn logic_has_no_clock() {
    for path in [
        "kernel/src/supervisor/machine.rs",
        "kernel/src/supervisor/group.rs",
        "kernel/src/message/mailbox.rs",
        "kernel/src/topic.rs",
        "kernel/src/crash.rs",
        "ron-host/src/load/schedule.rs",
        "ron-host/src/watch/settling.rs",
        "runtime/src/schedule.rs",
        "runtime/src/peer.rs",
        "runtime/src/reach.rs",
    ] {
        let path = format!("host/{path}");
        let all = shipped("host");
        let source = all.iter().find(|source| source.path == path);
        for (number, line) in &source.unwrap_or_else(|| panic!("{path} is gone")).lines {
            for word in
                ["tokio", "Instant::now", "SystemTime", "fastrand", "tracing", "parking_lot"]
            {
                assert!(!has_word(line, word), "{path}:{number}: {line}");
            }
        }
    }
}

#[test]
fn tasks_are_spawned_in_few_places() {
    let why = "tasks are spawned into a set that somebody owns";
    only(&["tokio::spawn", "task::spawn"], "host", &[], why);
    let places = [
        "host/kernel/src/http/",
        "host/kernel/src/supervisor/",
        "host/ron-host/src/control/client.rs",
        "host/ron-host/src/components.rs",
        "host/ron-host/src/deployment.rs",
        "host/ron-host/src/deployment/",
        "host/ron-host/src/listener/",
        "host/ron-host/src/load/",
        "host/ron-host/src/watch.rs",
        "host/runtime/src/http/pool.rs",
        "host/runtime/src/stream.rs",
    ];
    only(&["JoinSet"], "host", &places, why);
    let threads = ["host/runtime/src/engine.rs", "host/xtask/src/hot_swap.rs"];
    only(&["thread::spawn", "thread::Builder"], "host", &threads, why);
}

#[test]
fn there_are_no_globals() {
    // Correlation ids are unique in a process, whatever runs in it.
    let ids = ["host/kernel/src/http/reply.rs"];
    // A `OnceLock` that is a field is none; one that is not is a `static`.
    only(&["static ref", "LazyLock", "thread_local!"], "host", &ids, "no globals");
    for source in shipped("host") {
        for (number, line) in &source.lines {
            let line = line.trim_start().trim_start_matches("pub ");
            let global = line.starts_with("static ") || line.starts_with("static mut ");
            // What allocates is the process's by nature.
            let global = global && line != "static ALLOCATOR: MiMalloc = MiMalloc;";
            assert!(
                !global || ids.contains(&source.path.as_str()),
                "{}:{number}: {line}",
                source.path
            );
        }
    }
}

#[test]
fn what_cannot_fail_says_why() {
    let words = [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", "panic!("];
    only(&words, "host", &[], "say in an `expect` why it cannot fail, or return an error");
    only(
        &words,
        "guests/rust/src",
        &[],
        "say in an `expect` why it cannot fail, or return an error",
    );
    for directory in ["host", "guests", "tests", "examples"] {
        for path in files(directory, "rs") {
            let text = read(&path);
            let attributes = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
            for (at, _) in attributes.iter().flat_map(|attribute| text.match_indices(attribute)) {
                let line = text[..at].lines().count();
                // Named in a text or a comment.
                if text[..at]
                    .lines()
                    .last()
                    .is_some_and(|before| !before.trim().is_empty() && !text[..at].ends_with('\n'))
                {
                    continue;
                }
                let attribute = text[at..].split(")]").next().unwrap_or_default();
                assert!(attribute.contains("reason = "), "{path}:{line}: {attribute}");
            }
        }
    }
}

/// The first line of a file says what its one subject is.
#[test]
fn every_file_begins_with_its_subject() {
    for directory in ["host", "guests", "tests", "examples"] {
        for path in files(directory, "rs") {
            let text = read(&path);
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("//! ") && first.len() > 10, "{path} begins with {first:?}");
        }
    }
}

/// What authors get wrong first is told before they do, in whatever language they write.
#[test]
fn each_language_names_five_mistakes() {
    let entries = fs::read_dir(repository().join("guests")).expect("the languages are there");
    let languages = entries.map(|entry| entry.expect("an entry").path());
    let with_template: Vec<_> = languages.filter(|path| path.join("template").is_dir()).collect();
    assert!(!with_template.is_empty(), "no language has a template");
    for language in with_template {
        let page = language.join("README.md");
        let text =
            fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let (_, section) = text
            .split_once("\n## Five mistakes\n")
            .unwrap_or_else(|| panic!("{} has no section \"Five mistakes\"", page.display()));
        let section = section.split("\n## ").next().unwrap_or_default();
        // Each begins with what it is, in bold, be they numbered or not.
        let begins = |line: &&str| {
            line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
                .starts_with("**")
        };
        assert_eq!(section.lines().filter(begins).count(), 5, "{}", page.display());
    }
}

/// Fails unless `text` is what the snapshot holds.
fn snapshot(name: &str, text: &str, frozen: &str) {
    let path = format!("tests/snapshots/{name}");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::create_dir_all(repository().join("tests/snapshots")).expect("made");
        fs::write(repository().join(&path), text).expect("written");
    }
    let kept = fs::read_to_string(repository().join(&path)).unwrap_or_default();
    if kept == text {
        return;
    }
    let gone = kept.lines().filter(|line| !text.lines().any(|own| own == *line));
    let new = text.lines().filter(|line| !kept.lines().any(|own| own == *line));
    let changes: Vec<String> =
        gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect();
    panic!(
        "{frozen} is not what {path} holds:\n{}\nIf that is meant, run the test again with \
         UPDATE_SNAPSHOTS=1 and commit the file.",
        changes.join("\n")
    );
}

#[test]
fn the_contract_is_frozen() {
    let line = |path: String| format!("{} {path}\n", Digest::of(read(&path).as_bytes()));
    let text: String = files("wit", "wit").into_iter().map(line).collect();
    snapshot("wit.b3", &text, "the contract in wit/");
}

#[test]
fn the_kernels_surface_is_known() {
    let mut text = String::new();
    for source in shipped("host/kernel/src") {
        let items = surface(&source);
        if !items.is_empty() {
            text += &format!("{}\n", source.path.trim_start_matches("host/kernel/"));
            text.extend(items.iter().map(|item| format!("    {item}\n")));
        }
    }
    snapshot("kernel-api.txt", &text, "the public surface of ron-kernel");
}

/// What a file makes public, an item a line: everything marked `pub`, with the
/// variants of enums and the methods of traits, what is derived, and the traits
/// that public types implement.
fn surface(source: &Source) -> Vec<String> {
    let text = source.lines.iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    let public = |name: &str| {
        ["struct", "enum", "trait"]
            .iter()
            .any(|kind| has_word(&text, &format!("pub {kind} {name}")))
    };
    let mut items = Vec::new();
    let mut derived = String::new();
    let mut of = None;
    let mut lines = source.lines.iter().map(|(_, line)| line.as_str());
    while let Some(line) = lines.next() {
        let indented = line.starts_with(' ');
        if !indented {
            of = None;
        }
        let line = line.trim();
        if line.starts_with('#') {
            let attribute = gather(line, &mut lines, |text| balance(text, "[(", "])") == 0);
            if attribute.starts_with("#[derive(") || attribute == "#[non_exhaustive]" {
                derived += &(attribute + " ");
            }
            continue;
        }
        let derived = std::mem::take(&mut derived);
        if line.starts_with("impl") {
            let header =
                gather(line, &mut lines, |text| text.ends_with('{') || text.ends_with('}'));
            let header = header.trim_end_matches(['{', '}', ' ']).to_owned();
            match header.split_once(" for ") {
                None => of = Some(header),
                Some((_, name)) => {
                    let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
                    items.extend(public(&name[..end]).then_some(header));
                }
            }
            continue;
        }
        if !line.starts_with("pub ") {
            continue;
        }
        let item = if line.starts_with("pub enum ") || line.starts_with("pub trait ") {
            gather(line, &mut lines, |text| text.contains('{') && balance(text, "{", "}") == 0)
        } else if line.starts_with("pub use ") {
            gather(line, &mut lines, |text| text.ends_with(';'))
        } else if has_word(line, "fn") {
            gather(line, &mut lines, |text| text.ends_with(['{', ';', '}']))
        } else {
            // A field, the head of a struct, a constant, a module, an alias.
            gather(line, &mut lines, |text| {
                text.ends_with(['{', ';', ',', '}']) && balance(text, "[(", "])") == 0
            })
        };
        let body = line.starts_with("pub enum ") || line.starts_with("pub trait ");
        let item = if body { &item[..] } else { item.trim_end_matches(['{', ';', ',', ' ']) };
        // Whose methods these are.
        items.extend(of.take());
        items.push(format!("{derived}{item}"));
    }
    items
}

/// While another cargo builds, ours waits for its lock, and says so unless it is told to
/// be quiet: for minutes, whoever typed `cargo xtask demo` saw nothing at all.
#[test]
fn who_waits_for_a_build_is_told() {
    let text = fs::read_to_string(repository().join(".cargo/config.toml")).expect("it is there");
    let xtask = text.lines().find(|line| line.starts_with("xtask = ")).expect("an alias");
    assert!(!xtask.contains("--quiet") && !xtask.contains(" -q"), "{xtask}");
}

/// `first` and the lines after it, until they are whole; attributes of what is
/// within are left out.
fn gather<'l>(
    first: &str,
    lines: &mut dyn Iterator<Item = &'l str>,
    whole: fn(&str) -> bool,
) -> String {
    let mut text = first.to_owned();
    while !whole(&text) {
        let Some(line) = lines.next() else { break };
        let line = line.trim();
        if line.starts_with("#[") {
            gather(line, lines, |attribute| balance(attribute, "[(", "])") == 0);
        } else {
            text.push(' ');
            text += line;
        }
    }
    text
}

/// How many brackets are open.
fn balance(text: &str, open: &str, close: &str) -> isize {
    text.chars().map(|c| isize::from(open.contains(c)) - isize::from(close.contains(c))).sum()
}
