//! The kernel is useful without WebAssembly: `examples/native`, as its first lines say
//! that it is run.

use std::process::Command;

use crate::harness::{get, profile, start_process, until};

#[test]
fn native_services_crash_and_come_back() {
    let path = profile().join(format!("native{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: run the tests with `cargo xtask test`", path.display());
    let example = start_process(Command::new(path));
    let url = example.stdout(|line| line.starts_with("http://").then(|| line.to_owned()));
    let says = |wanted: &str| example.stdout(|line| line.contains(wanted).then_some(()));
    says("Hello for the 1. time");
    says("Hello for the 2. time");
    says("hello crashed: three greetings are too many");
    // It is told of before it is started again.
    let restarts = || get(&url).scrape().value("service_restarts_total{service=\"hello\"}");
    until("it is started again", || restarts() >= 1.0);
    let crashes = "service_crashes_total{reason=\"panic\",service=\"hello\"}";
    assert!(get(&url).scrape().value(crashes) >= 1.0);
    example.signal("INT");
    let ended = example.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let greetings = ended.stdout.iter().filter(|line| line.contains("Hello for the 1. time"));
    assert!(greetings.count() >= 1, "{ended:?}");
}
