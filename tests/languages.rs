//! What `ron-host new` begins runs in every language, and is tested as its README says.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::ctl::{ctl, json};
use crate::harness::deployment::start;
use crate::harness::{Program, built, get, repository, scratch, target, until};

/// The languages, each with what its project's README has for its tests.
const TEMPLATES: [(&str, &str); 8] = [
    ("rust", "cargo test"),
    ("python", "PYTHONPATH=sdk python3 -m unittest"),
    ("javascript", "npm test"),
    ("typescript", "npm test"),
    ("c", "sh test.sh"),
    ("cpp", "sh test.sh"),
    ("zig", "sh test.sh"),
    ("go", ".venv/bin/go test ./..."),
];

#[test]
fn a_template_answers_and_passes_its_tests() {
    for (language, tests) in TEMPLATES {
        let name = format!("greeter-{language}");
        // Rust's lies in the target directory of its project.
        if language != "rust" && built(&name).is_none() {
            continue;
        }
        let project = target().join("languages").join(&name);
        let host = start(&project, "", &[("RON_LOG_FORMAT", "json")]).ready();
        host.says(&name, "ready to greet");
        let asked = host.home().ctl(["request", &format!("{name}.greet"), "Ada"], b"");
        assert_eq!(String::from_utf8_lossy(&asked.stdout), "Hello, Ada!", "{language}: {asked:?}");
        host.signal("TERM");
        assert_eq!(host.ended().code, Some(0), "{language}");

        let readme = std::fs::read_to_string(project.join("README.md")).expect("there is one");
        assert!(readme.contains(tests), "{language}: {tests:?} is not what its README has");
        passes(&project, tests);
    }
}

/// What the SDKs have for themselves, beside what a component shows of them.
#[test]
fn the_sdks_pass_their_own_tests() {
    for (language, tests) in [
        ("javascript", "node --test"),
        ("go", "cd sdk && ../.venv/bin/go test ./..."),
        ("python", "PYTHONPATH=sdk python3 -m unittest"),
    ] {
        if built(&format!("conformance-{language}")).is_some() {
            passes(&target().join("languages").join(language), tests);
        }
    }
}

/// `examples/pipeline`, built where it lies, and quicker than a reader wants to see it.
#[test]
#[expect(clippy::print_stderr, reason = "what is not tested is never passed over in silence")]
fn five_languages_work_on_one_bus() {
    let example = repository().join("examples/pipeline");
    let stamp = example.join(".built/.inputs");
    if !stamp.is_file() {
        eprintln!("skipped: {} was not built; `cargo xtask guests` says why", example.display());
        return;
    }
    let quick = "--http 127.0.0.1:0 --set source.period=10ms --set grumpy.patience=2";
    let host = start(&example, quick, &[("RON_LOG_FORMAT", "json")]).ready();
    let url = host.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        said["http"].as_str().map(str::to_owned)
    });
    let counts = || {
        let page = get(&url);
        assert_eq!(page.status, 200, "{}", page.body);
        let summary: Value = serde_json::from_str(&page.body).expect("JSON");
        ["attic", "cellar", "garden"].map(|sensor| summary[sensor]["count"].as_u64().unwrap_or(0))
    };
    until("each sensor is read", || counts().iter().all(|count| *count > 3));

    // The one that misbehaves is given up, and it alone.
    let quarantined = |host: &Program| {
        let all = json(host, "ps");
        let all = all["services"].as_array().expect("services");
        let state = |name: &str| {
            let one = all.iter().find(|one| one["service"] == name).expect("it is there");
            one["state"].as_str().expect("a state").to_owned()
        };
        for name in ["source", "enrich", "aggregate", "web"] {
            assert_eq!(state(name), "running");
        }
        state("grumpy") == "quarantined"
    };
    until("it is given up", || quarantined(&host));
    assert_eq!(host.get("/readyz").json()["ready"], true);
    let why = ctl(&host, "crashes grumpy");
    assert!(why.contains("2 readings are too many (at grumpy/grumpy.c:"), "{why}");

    // A swap costs no count.
    let before: u64 = counts().iter().sum();
    let next = scratch("pipeline").join("aggregate.wasm");
    let mut bytes = fs::read(example.join(".built/aggregate.wasm")).expect("it was built");
    // A custom section without content, by the name of "n".
    bytes.extend([0, 2, 1, b'n']);
    fs::write(&next, bytes).expect("written");
    ctl(&host, &format!("swap aggregate {}", next.display()));
    assert!(counts().iter().sum::<u64>() >= before);
    let took_over = host.log(|record| {
        record["service"] == "aggregate"
            && record["message"].as_str().is_some_and(|text| text.starts_with("took over"))
    });
    assert_eq!(took_over["generation"], 2, "{took_over}");
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

fn passes(directory: &std::path::Path, tests: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", tests]).current_dir(directory).env_remove("CARGO_TARGET_DIR");
    let done = shell.output().expect("there is a shell");
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{tests}: {}", String::from_utf8_lossy(&said));
}
