//! What `ron-host new` begins runs in every language, and is tested as its README says.

use std::process::Command;

use crate::harness::deployment::start;
use crate::harness::{built, target};

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
    for (language, tests) in
        [("javascript", "node --test"), ("go", "cd sdk && ../.venv/bin/go test ./...")]
    {
        if built(&format!("conformance-{language}")).is_some() {
            passes(&target().join("languages").join(language), tests);
        }
    }
}

fn passes(directory: &std::path::Path, tests: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", tests]).current_dir(directory).env_remove("CARGO_TARGET_DIR");
    let done = shell.output().expect("there is a shell");
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{tests}: {}", String::from_utf8_lossy(&said));
}
