//! A version that took over and was put back: the host knows that what runs is not
//! what it was told, says so, and tries again when that is wanted.

use std::fs;

use serde_json::Value;

use crate::harness::ctl::{ctl, json};
use crate::harness::deployment::{deployment, file, in_force, start, write};
use crate::harness::{Program, component, get, until};

/// Has `hot-swap-v3` crash, and waits until the host knows that the one before is back.
fn crash_on_probation(host: &Program) {
    ctl(host, "publish counter.add 1");
    until("it is put back", || ctl(host, "ps").contains("was put back: v3 has a bug"));
}

/// Whether the service `counter`, the first by name, runs that component.
fn counter_is(host: &Program, name: &str) -> bool {
    let digest = ron_runtime::Digest::of(&fs::read(component(name)).expect("it was built"));
    json(host, "ps")["services"][0]["digest"] == digest.to_string()
}

#[test]
fn what_was_put_back_is_known_and_swapped_again_when_that_is_wanted() {
    let directory = deployment("reload-back", &["hot-swap-v1", "hot-swap-v3", "echo"], "");
    let text = |version: u32, memory: u32, messages: u32| {
        let component = format!("hot-swap-v{version}");
        let memory = format!("memory = '{memory} MiB'");
        let messages = format!("mailbox.messages = {messages}");
        file(&[("counter", &component, &memory), ("echo", "echo", &messages)])
    };
    write(&directory, "ron.toml", &text(1, 32, 5));
    let host = start(&directory, "", &[]).ready();
    let stale = || host.metrics().find("ron_config_stale");
    write(&directory, "ron.toml", &text(3, 32, 5));
    in_force(&host, 2);
    assert!(counter_is(&host, "hot-swap-v3"));
    crash_on_probation(&host);
    assert!(counter_is(&host, "hot-swap-v1"));

    assert_eq!(stale(), Some(1.0));
    let ready = get(&host.url("/readyz?verbose")).json();
    let note = ready["notes"]["put-back"].as_str().unwrap_or_default();
    assert!(note.starts_with("counter: b3:") && note.contains("v3 has a bug"), "{ready}");
    let back = "service  counter was put back: v3 has a bug";
    let again = "; would be swapped again with --force, or in 10 min: component";
    let planned = ctl(&host, "plan");
    assert!(planned.starts_with("nothing would change\n"), "{planned}");
    assert!(planned.contains(back) && planned.contains(again), "{planned}");
    let reloaded = ctl(&host, "reload");
    assert!(reloaded.contains("nothing changed\n") && reloaded.contains(back), "{reloaded}");
    assert!(counter_is(&host, "hot-swap-v1"), "it is not swapped again so soon");

    // It holds up nothing else.
    write(&directory, "ron.toml", &text(3, 32, 6));
    let record = in_force(&host, 3);
    let changes = record["changes"].as_str().unwrap_or_default();
    assert!(changes.contains("echo changes in place") && changes.contains(back), "{changes}");
    assert!(counter_is(&host, "hot-swap-v1"));
    assert_eq!(stale(), Some(1.0));

    let forced = ctl(&host, "reload --force");
    assert!(forced.contains(back) && forced.contains("is swapped again: component"), "{forced}");
    assert!(counter_is(&host, "hot-swap-v3"));
    assert_eq!(stale(), Some(0.0));
    assert_eq!(get(&host.url("/readyz?verbose")).json()["notes"], Value::Null);

    // What else is said of the service is for what runs, and makes no better component.
    crash_on_probation(&host);
    write(&directory, "ron.toml", &text(3, 48, 6));
    let record = in_force(&host, 5);
    let changes = record["changes"].as_str().unwrap_or_default();
    assert!(changes.contains("counter is swapped: limits") && changes.contains(back), "{changes}");
    assert!(counter_is(&host, "hot-swap-v1"));
    ctl(&host, "reload --force");
    assert!(counter_is(&host, "hot-swap-v3"));

    // And what is wanted no more is not told of.
    crash_on_probation(&host);
    write(&directory, "ron.toml", &text(1, 32, 6));
    until("it is forgotten", || stale() == Some(0.0));
    assert_eq!(ctl(&host, "plan").trim(), "nothing would change");
    assert!(!ctl(&host, "ps").contains("was put back"));
}

/// A component that was put back is mended without a word in `ron.toml`.
#[test]
fn a_component_that_was_put_back_and_mended_is_swapped() {
    let directory = deployment("reload-mended", &["hot-swap-v1", "hot-swap-v3"], "");
    write(&directory, "ron.toml", &file(&[("counter", "hot-swap-v1", "")]));
    let host = start(&directory, "", &[]).ready();
    write(&directory, "ron.toml", &file(&[("counter", "hot-swap-v3", "")]));
    in_force(&host, 2);
    crash_on_probation(&host);
    let file = directory.join("components/hot-swap-v3.wasm");
    fs::copy(component("hot-swap-v2"), file).expect("copied");
    assert!(ctl(&host, "plan").contains("is swapped again: component"));
    assert!(ctl(&host, "reload").contains("version 3 is in force"));
    assert!(counter_is(&host, "hot-swap-v2"));
}

/// A swap that only an operator wanted leaves nothing to be done.
#[test]
fn what_an_operator_tried_and_was_put_back_is_told() {
    let directory = deployment("reload-tried", &["hot-swap-v1", "hot-swap-v3"], "");
    write(&directory, "ron.toml", &file(&[("counter", "hot-swap-v1", "")]));
    let host = start(&directory, "", &[]).ready();
    let v3 = directory.join("components/hot-swap-v3.wasm");
    ctl(&host, &format!("swap counter {}", v3.display()));
    crash_on_probation(&host);
    assert_eq!(ctl(&host, "plan").trim(), "nothing would change");
    assert_eq!(host.metrics().find("ron_config_stale"), Some(0.0));
}

/// A host that is started with what was good last does not begin with what was put back.
#[test]
fn what_may_be_put_back_is_not_kept_as_good() {
    let directory = deployment("reload-kept", &["hot-swap-v1", "hot-swap-v3"], "");
    write(&directory, "ron.toml", &file(&[("counter", "hot-swap-v1", "")]));
    let host = start(&directory, "--last-good kept.toml", &[]).ready();
    let kept = || fs::read_to_string(directory.join("kept.toml")).expect("it is there");
    write(&directory, "ron.toml", &file(&[("counter", "hot-swap-v3", "")]));
    in_force(&host, 2);
    assert!(kept().contains("hot-swap-v1"), "{}", kept());
    crash_on_probation(&host);
    write(&directory, "ron.toml", &file(&[("counter", "hot-swap-v3", "critical = false")]));
    in_force(&host, 3);
    assert!(kept().contains("hot-swap-v1"), "{}", kept());
    let mended = file(&[("counter", "hot-swap-v1", "critical = false")]);
    write(&directory, "ron.toml", &mended);
    until("what is in force is kept", || kept().ends_with(&mended));
}
