//! `--last-good`: a host that is restarted onto what cannot be used starts with what was
//! applied last, whatever is wrong, and goes on from there.

use crate::harness::ctl::ask;
use crate::harness::deployment::{deployment, in_force, start, value, write};
use crate::harness::get;

#[test]
fn a_broken_file_falls_back_to_the_last_good_one() {
    let directory = deployment("reload-good", &["probe"], "");
    value(&directory, "good");
    let host = start(&directory, "--last-good kept.toml", &[]).ready();
    value(&directory, "better");
    in_force(&host, 2);
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));

    write(&directory, "ron.toml", "log.format = 'json'\n[service.probe]\ncomponet = 'x'");
    let host = start(&directory, "--last-good kept.toml", &[]).ready();
    host.stderr(|line| line.contains("componet").then_some(()));
    host.stderr(|line| line.contains("starting with the last good configuration").then_some(()));
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "better");
    let ready = get(&host.url("/readyz?verbose")).json();
    let note = ready["notes"]["config"].as_str().unwrap_or_default();
    assert!(note.starts_with("started with the last good configuration"), "{ready}");
    assert_eq!(host.metrics().find("ron_config_stale"), Some(1.0));

    value(&directory, "mended");
    in_force(&host, 2);
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "mended");
    assert_eq!(host.metrics().find("ron_config_stale"), Some(0.0));
}
