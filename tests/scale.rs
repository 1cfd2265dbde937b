//! What a host with many services is told: how much of them metrics show, and how their
//! components are run.

use serde_json::Value;

use crate::harness::ctl::{ask, ctl, json};
use crate::harness::deployment::{deployment, file, in_force, start, write};
use crate::harness::until;

#[test]
fn metrics_of_all_services_are_added_up_where_that_is_wanted() {
    let directory = deployment("scale-metrics", &["echo"], "");
    let text = |detail: &str, services: &[&str]| {
        let services: Vec<_> = services.iter().map(|name| (*name, "echo", "")).collect();
        format!("metrics_detail = '{detail}'\n{}", file(&services))
    };
    write(&directory, "ron.toml", &text("host", &["one", "two"]));
    let host = start(&directory, "", &[]).ready();
    let accepted =
        |labels: &str| host.metrics().find(&format!("ron_mailbox_accepted_total{labels}"));
    for service in ["one", "one", "two"] {
        ask(&host, &format!("guest.{service}.echo"), "x");
    }
    assert_eq!(accepted(""), Some(3.0));
    assert_eq!(accepted("{service=\"one\"}"), None);
    assert_eq!(host.metrics().find("ron_service_state{state=\"running\"}"), Some(2.0));
    assert_eq!(host.metrics().find("ron_service_start_seconds_count"), Some(2.0));

    // What was counted stays counted when its service goes, and what is there is what is.
    write(&directory, "ron.toml", &text("host", &["two"]));
    in_force(&host, 2);
    assert_eq!(accepted(""), Some(3.0));
    assert_eq!(host.metrics().find("ron_service_state{state=\"running\"}"), Some(1.0));
    ask(&host, "guest.two.echo", "x");
    assert_eq!(accepted(""), Some(4.0));

    // It changes while the host runs.
    write(&directory, "ron.toml", &text("service", &["two"]));
    let record = in_force(&host, 3);
    assert!(record["changes"].as_str().is_some_and(|all| all.contains("metrics_detail changes")));
    assert_eq!(accepted("{service=\"two\"}"), Some(2.0));
    assert_eq!(accepted(""), None);
}

#[test]
fn the_engine_is_as_it_was_said() {
    let directory = deployment("scale-engine", &["echo"], "");
    let engine = "[engine]\nallocation = 'on-demand'\nmemory_reservation = '64 MiB'\n\
                  copy_on_write = false\nstack = '1 MiB'\ntick = '5ms'\nworkers = 3\n";
    let text = |engine: &str| file(&[("echo", "echo", "")]) + engine;
    write(&directory, "ron.toml", &text(engine));
    let host = start(&directory, "--log-level debug", &[]).ready();
    let made = host.log(|record| record["message"] == "an engine was made");
    assert_eq!(made["memory_reservation"], 64 << 20);
    assert_eq!((&made["copy_on_write"], &made["tick_ms"]), (&false.into(), &5.into()));
    assert_eq!(made["pool"], Value::Null, "on demand");
    assert_eq!(ask(&host, "guest.echo.echo", "x"), "x");

    // Another way is for the next start, and says so.
    write(&directory, "ron.toml", &text("[engine]\ntick = '2ms'\n"));
    let later = "engine changes with the next start of the host";
    assert!(ctl(&host, "plan").contains(later));
    in_force(&host, 2);
    assert_eq!(ask(&host, "guest.echo.echo", "x"), "x");
}

#[test]
fn a_host_makes_room_for_services_to_come() {
    let directory = deployment("scale-room", &["counter"], "");
    let services = |count: usize| {
        let names: Vec<String> = (1..=count).map(|number| format!("s{number}")).collect();
        let own: Vec<_> = names.iter().map(|name| (&**name, "counter", "")).collect();
        write(&directory, "ron.toml", &format!("engine.max_services = 100\n{}", file(&own)));
    };
    services(1);
    let host = start(&directory, "", &[]).ready();
    // Without that there is room for 258.
    services(300);
    in_force(&host, 2);
    until("all of them run", || {
        let ps = json(&host, "ps");
        let all = ps["services"].as_array().expect("services");
        all.len() == 300 && all.iter().all(|one| one["state"] == "running")
    });
    assert_eq!(ask(&host, "guest.s300.add", ""), "1");
}
