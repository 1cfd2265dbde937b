//! A component that has the names of the contract and other types is refused when
//! it is loaded, and what does not fit is told by its place.

use std::ffi::OsString;
use std::fs;

use ron_runtime::{Component, LoadError, Member, Mismatch, Part, Problem, Side};
use serde_json::json;

use crate::harness::ctl::{ctl, fails, json as told};
use crate::harness::{Ended, Program, Rig, component, run, scratch};

/// What an operator reads.
const SAID: &str = "other-types.wasm: does not fit the contract: \
    ron:kernel/lifecycle@1.0.0#on-message: parameter \"message\": field \"payload\" is string, \
    expected list<u8>; \
    ron:kernel/lifecycle@1.0.0#on-event: is not exported; \
    ron:kernel/metrics@1.0.0#add: parameter \"delta\" is s64, expected u64; \
    ron:kernel/metrics@1.0.0#reset: is imported, this host's 1.0.0 lacks it";

fn mismatches(rig: &Rig, name: &str) -> Vec<Mismatch> {
    match Component::load(&rig.runtime, &component(name)) {
        Err(LoadError::Contract { mismatches, .. }) => mismatches,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_a_value() {
    let rig = Rig::new();
    let one = |side, interface: &str, function: &str, path, problem| Mismatch {
        side,
        interface: format!("ron:kernel/{interface}@1.0.0"),
        function: Some(function.into()),
        path,
        problem,
    };
    let other = |found: &str, expected: &str| {
        let (found, expected) = (found.into(), expected.into());
        Problem::Type { found, expected }
    };
    let message = Part::Parameter("message".into());
    let payload = Part::Member(Member::Field, "payload".into());
    let delta = Part::Parameter("delta".into());
    let (import, export) = (Side::Import, Side::Export);
    let expected = [
        one(export, "lifecycle", "on-message", vec![message, payload], other("string", "list<u8>")),
        one(export, "lifecycle", "on-event", vec![], Problem::NotExported),
        one(import, "metrics", "add", vec![delta], other("s64", "u64")),
        one(import, "metrics", "reset", vec![], Problem::NotOffered { version: "1.0.0" }),
    ];
    assert_eq!(mismatches(&rig, "other-types"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_told_as_one() {
    let rig = Rig::new();
    let told: Vec<String> =
        mismatches(&rig, "other-version").iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "exports ron:kernel/lifecycle@2.0.0, this host offers 1.0.0",
            "imports ron:kernel/bus@2.0.0, this host offers 1.0.0",
        ]
    );
}

/// `--component PATH` for each.
fn with(names: &[&str]) -> Vec<OsString> {
    let flag = |name: &&str| ["--component".into(), component(name).into_os_string()];
    names.iter().flat_map(flag).collect()
}

fn refused(ended: &Ended) {
    assert_eq!(ended.code, Some(65), "{ended:?}");
    let [line] = &ended.stderr[..] else { panic!("one line: {ended:?}") };
    let (said, help) = line.split_once("; to mend it, ").expect("how it is mended");
    assert!(said.starts_with("error: service other-types: ") && said.ends_with(SAID), "{line}");
    assert!(help.contains("ron-host sdk --lang rust sdk"), "{line}");
    assert_eq!(ended.stdout.iter().find(|line| line.starts_with("ready")), None, "{ended:?}");
}

#[test]
fn the_program_and_its_check_refuse_it() {
    let services = with(&["echo", "other-types"]);
    let bare = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    refused(&run([bare(&["--no-cache", "--admin", "127.0.0.1:0"]), services.clone()].concat()));
    refused(&run([bare(&["check", "--no-cache"]), services].concat()));
}

/// The second time it is not compiled.
#[test]
fn one_from_the_cache_is_refused_too() {
    let cache = scratch("contract-cache");
    let check = || {
        let args = ["check".into(), "--cache-dir".into(), cache.clone().into_os_string()];
        refused(&run([args.to_vec(), with(&["other-types"])].concat()));
        fs::read_dir(&cache).expect("it was made").count()
    };
    let kept = check();
    assert!(kept > 0, "it was compiled");
    assert_eq!(check(), kept);
}

#[test]
fn a_swap_to_it_is_refused() {
    let host = Program::start(with(&["counter"])).ready();
    assert_eq!(ctl(&host, "request guest.counter.add x"), "1");
    let said = fails(&host, &format!("swap counter {}", component("other-types").display()));
    assert!(said.contains(SAID), "{said}");
    assert_eq!(ctl(&host, "request guest.counter.add x"), "2", "the old one goes on");
    let service = &told(&host, "ps")["services"][0];
    assert_eq!((&service["generation"], &service["state"]), (&json!(1), &json!("running")));
    assert_eq!(ctl(&host, "crashes"), "no service crashed\n");
}
