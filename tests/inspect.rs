//! `ron-host inspect`: what a component is, wants and lacks.

use serde_json::Value;

use crate::harness::{component, run};

fn inspect(name: &str, expected: i32) -> String {
    let path = component(name);
    let ended = run(["inspect".into(), path.into_os_string()]);
    assert_eq!(ended.code, Some(expected), "{ended:?}");
    ended.stdout.join("\n")
}

#[test]
fn a_service_is_told_with_what_it_wants() {
    let text = inspect("probe", 0);
    for line in [
        "kind     service: one instance with a mailbox",
        "digest   b3:",
        "runs     yes",
        "  ron:kernel/lifecycle@1.0.0",
        "  ron:kernel/bus@1.0.0",
    ] {
        assert!(text.lines().any(|own| own.starts_with(line)), "{line} in\n{text}");
    }
    let bus = text.lines().find(|line| line.contains("ron:kernel/bus")).expect("it imports it");
    assert!(bus.ends_with("by grants.publish and grants.subscribe"), "{bus}");
    let job = inspect("job", 0);
    assert!(job.starts_with("kind     job: run to its end"), "{job}");
    let path = component("wstd-http");
    let ended = run(["inspect".into(), path.into_os_string(), "--json".into()]);
    let told: Value = serde_json::from_str(&ended.stdout.join("\n")).expect("JSON");
    assert_eq!((&told["kind"], &told["runs"]), (&"http".into(), &true.into()));
    let imports = told["imports"].as_array().expect("a list");
    let outgoing = imports.iter().find(|import| {
        import["name"].as_str().is_some_and(|name| name.starts_with("wasi:http/outgoing-handler"))
    });
    assert_eq!(outgoing.expect("it is imported")["grants"][0], "grants.outbound");
}

#[test]
fn what_does_not_fit_is_told_with_the_place() {
    let text = inspect("other-types", 65);
    assert!(text.contains("runs     no"), "{text}");
    assert!(text.contains("field \"payload\" is string, expected list<u8>"), "{text}");
    let missing = run(["inspect", "nowhere.wasm"]);
    assert_eq!(missing.code, Some(65));
    assert!(missing.stderr[0].starts_with("error: nowhere.wasm: cannot be read"), "{missing:?}");
}
