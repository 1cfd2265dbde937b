//! `--last-good`: a host that is restarted onto what cannot be used starts with what was
//! applied last, whatever is wrong, and goes on from there.

use std::fs;

use crate::harness::ctl::{ask, ctl, generation};
use crate::harness::deployment::{deployment, file, in_force, start, value, write};
use crate::harness::{cache, command, get, start_process};

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
    let kept = fs::read_to_string(directory.join("kept.toml")).expect("it is there");
    assert!(kept.contains("'mended'"), "what is good now is kept: {kept}");
}

/// As a path is relative to its file, absolute in the last good configuration and
/// in what `ron-host ctl` asks for.
#[test]
fn a_path_that_is_spelled_otherwise_is_no_change() {
    let directory = deployment("reload-spelled", &["probe"], "");
    value(&directory, "one");
    let host = start(&directory, "--last-good kept.toml", &[]).ready();
    let own = directory.join("components/probe.wasm");
    ctl(&host, &format!("swap probe {}", own.display()));
    assert_eq!(ctl(&host, "plan").trim(), "nothing would change");
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));

    write(&directory, "ron.toml", "log.format = 'json'\nnonsense");
    let host = start(&directory, "--last-good kept.toml", &[]).ready();
    value(&directory, "one");
    assert!(ctl(&host, "reload").contains("nothing changed"));
    assert_eq!(generation(&host, "probe"), 1);
}

/// Whatever of a configuration cannot be used: not its text alone.
#[test]
fn what_cannot_be_used_falls_back_to_the_last_good_one() {
    let directory = deployment("reload-fall", &["probe", "echo"], "");
    value(&directory, "good");
    let args = "--last-good kept.toml";
    let host = start(&directory, args, &[]).ready();
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
    let check = |text: &str, because: &str| {
        match text {
            "" => fs::remove_file(directory.join("ron.toml")).expect("removed"),
            text => write(&directory, "ron.toml", text),
        }
        let host = start(&directory, args, &[]).ready();
        assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "good");
        let ready = get(&host.url("/readyz?verbose")).json();
        let note = ready["notes"]["config"].as_str().unwrap_or_default();
        assert!(note.starts_with("started with the last good configuration"), "{ready}");
        assert!(note.contains(because), "{because:?} in {note}");
        assert!(ctl(&host, "logs host").contains("started with the last good configuration"));
        value(&directory, "mended");
        in_force(&host, 2);
        value(&directory, "good");
        in_force(&host, 3);
        host.signal("TERM");
        assert_eq!(host.ended().code, Some(0));
    };
    check("log.format = 'json'\nnonsense", "ron.toml:2:");
    check(&file(&[("probe", "gone", "")]), "components/gone.wasm: cannot be read");
    check(&file(&[("echo", "echo", "schedule = '* * * * *'")]), "its component is no job");
    let http = format!("http = '127.0.0.1:0'\n{}", file(&[("echo", "echo", "")]));
    check(&http, "no service answers HTTP requests");
    check("", "ron.toml: cannot be read");
    // An address that is nobody's here, and so for the admin listener.
    let admin = file(&[("echo", "echo", "")]).replace("127.0.0.1:0", "192.0.2.1:1");
    write(&directory, "ron.toml", &admin);
    let mut command = command(args.split(' '));
    command.current_dir(&directory).env("RON_CACHE_DIR", cache());
    let host = start_process(command).ready();
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "good");
}

#[test]
fn somebody_elses_file_is_left_as_it_is() {
    let directory = deployment("reload-notes", &["probe"], "");
    value(&directory, "one");
    write(&directory, "notes.txt", "precious");
    for path in ["notes.txt", "ron.toml"] {
        let before = fs::read_to_string(directory.join(path)).expect("it is there");
        let ended = start(&directory, &format!("--last-good {path}"), &[]).ended();
        assert_eq!(ended.code, Some(78));
        let said = ended.stderr.join("\n");
        assert!(said.contains(&format!("{path}: not a configuration that was kept by")), "{said}");
        assert_eq!(fs::read_to_string(directory.join(path)).expect("it is there"), before);
    }
}
