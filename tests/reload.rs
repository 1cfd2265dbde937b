//! The configuration changes while the host runs: what changed is applied and
//! nothing else notices; what is wrong changes nothing; the last version wins.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::component;
use crate::harness::ctl::{ask, ctl, fails, fails_lines, generation, json as answer, words};
use crate::harness::deployment::{deployment, file, in_force, start, value, write};
use crate::harness::{get, until};

#[test]
fn a_changed_value_is_told_to_the_running_instance() {
    let directory = deployment("reload-value", &["probe"], "");
    value(&directory, "one");
    let host = start(&directory, "", &[]).ready();
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "one");
    value(&directory, "two");
    in_force(&host, 2);
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "two");
    assert_eq!(generation(&host, "probe"), 1, "it is the same instance");
    // A file that says the same, and one that is refused, announce nothing.
    ctl(&host, "reload");
    write(&directory, "ron.toml", "nonsense");
    host.log(|record| record["message"] == "refused the configuration: kept version 2");
    let events = ask(&host, "guest.probe.probe", "events");
    assert_eq!(events.matches("ConfigUpdated { version: 2 }").count(), 1, "{events}");
    assert_eq!(events.matches("ConfigUpdated").count(), 1, "{events}");
}

#[test]
fn what_did_not_change_does_not_notice() {
    let directory =
        deployment("reload-one", &["counter", "counter-v2", "echo", "probe", "panic"], "");
    let same = ("same", "counter", "handler_deadline = '60s'");
    write(
        &directory,
        "ron.toml",
        &file(&[same, ("swap", "counter", ""), ("bounds", "echo", ""), ("gone", "panic", "")]),
    );
    let host = start(&directory, "", &[]).ready();
    for name in ["same", "swap"] {
        assert_eq!(ask(&host, &format!("guest.{name}.add"), ""), "1");
    }
    // It is in the midst of a message, until there is a service that is new.
    let asked = host.home().start(words("ctl request guest.same.until guest.new.echo"));
    until("it is in its handler", || {
        let told = answer(&host, "ps");
        let all = told["services"].as_array().expect("a list");
        all.iter().any(|own| own["service"] == "same" && own["mailbox"]["in_flight"] == 1)
    });
    let text = file(&[
        same,
        ("swap", "counter-v2", ""),
        ("bounds", "echo", "mailbox.messages = 5\nsubscribe = ['more.echo']"),
        ("new", "echo", ""),
    ]);
    write(&directory, "next.toml", &text);
    fs::rename(directory.join("next.toml"), directory.join("ron.toml")).expect("renamed");
    let record = in_force(&host, 2);
    let changes = record["changes"].as_str().unwrap_or_default();
    for expected in ["swap", "bounds", "new", "gone", "1 service stays"] {
        assert!(changes.contains(expected), "{changes}");
    }
    let ended = asked.ended();
    assert_eq!((ended.code, ended.stdout.concat().as_str()), (Some(0), "1"), "it went on");
    assert_eq!(ask(&host, "guest.same.add", ""), "2");
    assert_eq!(ask(&host, "guest.swap.add", ""), "v2 2", "with its count");
    assert_eq!(ask(&host, "more.echo", "hello"), "hello");
    assert_eq!(ask(&host, "guest.new.echo", "hello"), "hello");
    let generations = ["same", "swap", "bounds", "new"].map(|name| generation(&host, name));
    assert_eq!(generations, [1, 2, 1, 1]);
    assert!(fails(&host, "restart gone").contains("no service named"));
}

/// The engine's pool is made for what a host starts with and some more.
#[test]
fn more_than_there_is_room_for_is_refused_whole() {
    let directory = deployment("reload-room", &["counter"], "");
    let services = |count: usize| {
        let names: Vec<String> = (1..=count).map(|number| format!("s{number}")).collect();
        let own = |name| (name, "counter", "config.key = 'a value'");
        write(
            &directory,
            "ron.toml",
            &file(&names.iter().map(|name| own(&**name)).collect::<Vec<_>>()),
        );
    };
    services(1);
    let host = start(&directory, "", &[]).ready();
    assert_eq!(ask(&host, "guest.s1.add", ""), "1");
    services(300);
    for command in ["plan", "reload"] {
        let ended = host.home().ctl([command], b"");
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{command}: {stderr}");
        for part in
            ["no room for 300 instances at a time", "made room for 258", "a restart of the host"]
        {
            assert!(stderr.contains(part), "{command}: {part:?} is not in {stderr}");
        }
    }
    assert_eq!(
        crate::harness::ctl::json(&host, "ps")["services"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(get(&host.url("/readyz")).status, 200);
    // What there is room for is done, and all of it runs.
    services(200);
    ctl(&host, "reload");
    until("200 are ready", || get(&host.url("/readyz")).status == 200);
    assert_eq!(
        crate::harness::ctl::json(&host, "ps")["services"].as_array().map(Vec::len),
        Some(200)
    );
    assert_eq!(ask(&host, "guest.s1.add", ""), "2", "it did not notice");
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told_in_full() {
    let directory = deployment("reload-wrong", &["counter", "other-types", "start-error"], "");
    let good = file(&[("counter", "counter", "")]);
    write(&directory, "ron.toml", &good);
    let host = start(&directory, "", &[]).ready();
    assert_eq!(ask(&host, "guest.counter.add", ""), "1");
    let check = |text: &str, expected: &[&str]| {
        write(&directory, "ron.toml", text);
        let ended = host.home().ctl(["reload"], b"");
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{stderr}");
        for line in expected {
            assert!(stderr.contains(line), "{line} in {stderr}");
        }
        assert!(stderr.contains("kept version 1"), "{stderr}");
        let ready = get(&host.url("/readyz?verbose")).json();
        assert_eq!(ready["ready"], json!(true));
        assert!(ready["notes"]["config"].as_str().is_some_and(|note| note.contains("kept")));
        assert_eq!(host.metrics().find("ron_config_stale"), Some(1.0));
    };
    check(
        &good.replace("component =", "memory = 5\ncomponet ="),
        &["ron.toml:4:", "memory", "the nearest known key is \"component\""],
    );
    check(
        &file(&[("counter", "counter", "memory = '32 MiB'"), ("other", "missing", "")]),
        &["missing.wasm: cannot be read"],
    );
    check(&file(&[("counter", "other-types", "")]), &["field \"payload\" is string"]);
    check(&file(&[("counter", "start-error", "")]), &["start-failed", "stays at b3:"]);
    assert_eq!(ask(&host, "guest.counter.add", ""), "2");
    assert_eq!(generation(&host, "counter"), 1);
    write(&directory, "ron.toml", &good);
    assert!(ctl(&host, "reload").contains("nothing changed"));
    let ready = get(&host.url("/readyz?verbose")).json();
    assert_eq!(ready["notes"], Value::Null, "all is well again");
    assert_eq!(host.metrics().find("ron_config_stale"), Some(0.0));
}

/// Of two services that are swapped together, the second refuses the state.
#[test]
fn several_are_swapped_together_or_not_at_all() {
    let directory = deployment("reload-all", &["counter", "counter-v2"], "");
    let versions = |a: &str, b: &str| file(&[("a", a, ""), ("b", b, "")]);
    write(&directory, "ron.toml", &versions("counter", "counter-v2"));
    let host = start(&directory, "", &[]).ready();
    for name in ["a", "b"] {
        ask(&host, &format!("guest.{name}.add"), "");
    }
    write(&directory, "ron.toml", &versions("counter-v2", "counter"));
    host.log(|record| record["message"] == "refused the configuration: kept version 1");
    assert_eq!(ask(&host, "guest.a.add", ""), "2", "put back, with its count");
    assert_eq!(ask(&host, "guest.b.add", ""), "v2 2");
    assert_eq!(generation(&host, "b"), 1, "it never left");
}

/// Whatever a save looks like, what was saved last is in force in the end.
#[test]
fn the_last_version_wins_however_it_is_saved() {
    let directory = deployment("reload-saves", &["probe"], "");
    value(&directory, "0");
    let host = start(&directory, "", &[]).ready();
    let settled = |expected: &str| {
        until(expected, || ask(&host, "guest.probe.probe", "config.get key") == expected);
    };
    let path = directory.join("ron.toml");

    // As an editor does: a new file, renamed over the old one.
    value(&directory, "1");
    fs::rename(&path, directory.join("ron.toml~")).expect("renamed");
    fs::copy(directory.join("ron.toml~"), &path).expect("copied");
    settled("1");

    // In two pieces, the first of which would be a good file too.
    let whole = fs::read_to_string(&path).expect("read").replace("'1'", "'2'");
    let (first, second) = whole.split_at(whole.find("config.key").expect("it is there"));
    let mut writer = fs::File::create(&path).expect("made");
    writer.write_all(first.as_bytes()).expect("written");
    writer.write_all(second.as_bytes()).expect("written");
    drop(writer);
    settled("2");

    // Deleted, and there again.
    fs::remove_file(&path).expect("removed");
    value(&directory, "3");
    settled("3");

    // A thousand times in a row.
    for n in 0..=1000 {
        value(&directory, &format!("many-{n}"));
    }
    settled("many-1000");

    // As Kubernetes does: a link to a directory is swapped.
    for n in ["4", "5"] {
        let version = directory.join(format!("..version-{n}"));
        fs::create_dir(&version).expect("made");
        value(&version, n);
        let _ = fs::remove_file(directory.join("..data.new"));
        symlink(&version, directory.join("..data.new")).expect("linked");
        fs::rename(directory.join("..data.new"), directory.join("..data")).expect("swapped");
        if n == "4" {
            fs::remove_file(&path).expect("removed");
            symlink("..data/ron.toml", &path).expect("linked");
        }
        let components = version.join("components");
        symlink(directory.join("components"), components).expect("linked");
        settled(n);
    }
    assert_eq!(generation(&host, "probe"), 1, "it was told each time");
}

/// Whoever watches the file and whoever reloads by hand go by the same file.
#[test]
fn a_reload_by_hand_and_a_save_lead_to_what_is_there() {
    let directory = deployment("reload-by-hand", &["probe"], "");
    value(&directory, "a");
    let host = start(&directory, "", &[]).ready();
    let stale = || host.metrics().find("ron_config_stale");
    let key = || ask(&host, "guest.probe.probe", "config.get key");
    for _ in 0..3 {
        value(&directory, "b");
        ctl(&host, "reload");
        assert_eq!(key(), "b");
        // What was in force before, and is news all the same.
        value(&directory, "a");
        until("the last save is in force", || key() == "a");
    }
    let (path, away) = (directory.join("ron.toml"), directory.join("away"));
    fs::rename(&path, &away).expect("renamed");
    assert!(fails_lines(&host, "reload").contains("ron.toml: cannot be read: No such file"));
    assert_eq!(stale(), Some(1.0));
    fs::rename(&away, &path).expect("renamed");
    until("nothing is wrong any more", || stale() == Some(0.0));
    assert_eq!(get(&host.url("/readyz?verbose")).json()["notes"], Value::Null);
    assert_eq!(generation(&host, "probe"), 1);
}

/// The other end of a pipe is nobody's, and everything else would wait for it.
#[test]
fn nobody_waits_for_a_pipe() {
    let pipe = |path: &Path| {
        fs::remove_file(path).expect("removed");
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.is_ok_and(|status| status.success()));
    };
    let directory = deployment("reload-pipe", &["probe"], "");
    let (path, secret) = (directory.join("ron.toml"), directory.join("secret"));
    let text = file(&[("probe", "probe", "config.key = { file = 'secret' }")]);
    write(&directory, "secret", "one");
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]).ready();
    let why = "cannot be read: it is a pipe or a device, and no regular file";
    for file in [&secret, &path] {
        pipe(file);
        assert!(fails_lines(&host, "reload").contains(why));
        let checked = start(&directory, "check", &[]).ended();
        assert_eq!(checked.code, Some(78));
        assert!(checked.stderr.iter().any(|line| line.contains(why)), "{checked:?}");
        fs::remove_file(file).expect("removed");
        write(&directory, "secret", "two");
        write(&directory, "ron.toml", &text);
    }
    until("it is applied", || ask(&host, "guest.probe.probe", "config.get key") == "two");
    ctl(&host, "reload");
}

/// One that starts for an hour, so that whatever waits for it hangs here.
#[test]
fn a_slow_start_holds_up_nobody_else() {
    let directory = deployment("reload-slow", &["counter", "echo", "spin-in-start"], "");
    let text = |messages: u32| {
        let echo = format!("mailbox.messages = {messages}");
        file(&[("counter", "counter", "start_deadline = '1h'"), ("echo", "echo", &echo)])
    };
    write(&directory, "ron.toml", &text(5));
    let host = start(&directory, "", &[]).ready();
    let slow = directory.join("components/spin-in-start.wasm");
    let body = json!({"path": slow, "discard_state": true}).to_string();
    let mut asked = UnixStream::connect(host.home().socket()).expect("it listens");
    write!(
        asked,
        "POST /v1/services/counter/swap HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");

    assert_eq!(ctl(&host, "plan").trim(), "nothing would change");
    assert!(ctl(&host, "swap echo").contains("generation 2"));
    write(&directory, "ron.toml", &text(6));
    in_force(&host, 2);
    assert!(ctl(&host, "reload").contains("nothing changed"));
    assert_eq!(ask(&host, "guest.counter.add", ""), "1", "the old one serves");
    asked.set_nonblocking(true).expect("set");
    let early = asked.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock), "it starts for an hour");

    // A stop waits for no turn.
    ctl(&host, "stop counter");
    asked.set_nonblocking(false).expect("set");
    let mut answer = String::new();
    asked.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    assert!(answer.contains("a stop came before it was swapped"), "{answer}");
}

#[test]
fn a_plan_is_shown_and_a_stale_reload_is_refused() {
    let directory = deployment("reload-plan", &["probe"], "");
    value(&directory, "one");
    let host = start(&directory, "", &[]).ready();
    assert_eq!(ctl(&host, "plan").trim(), "nothing would change");
    fs::write(directory.join("other.toml"), "").expect("written");
    host.signal("HUP");
    host.log(|record| record["cause"] == "SIGHUP" && record["version"] == 1);
    value(&directory, "two");
    let planned = ctl(&host, "plan");
    assert!(planned.contains("probe gets new config") || planned.contains("would"), "{planned}");
    in_force(&host, 2);
    let stale = fails(&host, "reload --if-match 1");
    assert!(stale.contains("is 2 by now, not 1"), "{stale}");
    assert!(ctl(&host, "reload --if-match 2").contains("version 2 is in force"));
}

#[test]
fn the_admin_listener_moves_and_the_log_level_changes() {
    let directory = deployment("reload-host", &["probe"], "");
    let service = "[service.probe]\ncomponent = 'components/probe.wasm'\n";
    let text = |admin: &str, level: &str| {
        format!("admin = '{admin}'\nlog = {{ format = 'json', level = '{level}' }}\n{service}")
    };
    write(&directory, "ron.toml", &text("127.0.0.1:0", "info"));
    // The variable that tests set is stronger than the file.
    let mut command = crate::harness::command([""; 0]);
    command.current_dir(&directory).env("RON_CACHE_DIR", crate::harness::cache());
    let host = crate::harness::start_process(command).ready();
    let before = host.url("/livez");
    assert_eq!(get(&before).status, 200);
    write(&directory, "ron.toml", &text("127.0.0.2:0", "debug"));
    let moved = host.log(|record| record["message"] == "the admin listener has moved");
    let address = moved["address"].as_str().expect("an address").to_owned();
    in_force(&host, 2);
    assert_eq!(get(&format!("http://{address}/livez")).status, 200);
    assert!(ureq::get(&before).call().is_err(), "nobody listens there any more");
    ctl(&host, "restart probe");
    host.log(|record| record["level"] == "DEBUG" && record["state"] == "starting");
}

#[test]
fn a_component_that_changes_is_swapped_when_it_is_watched() {
    let directory = deployment("reload-watch", &["counter"], "");
    fs::remove_file(directory.join("ron.toml")).expect("removed");
    let args = "--watch --log-format json --component svc=components/counter.wasm";
    let host = start(&directory, args, &[]).ready();
    assert_eq!(ask(&host, "guest.svc.add", ""), "1");
    let file = directory.join("components/counter.wasm");
    fs::copy(component("start-error"), &file).expect("copied");
    host.log(|record| record["message"].as_str().is_some_and(|m| m.starts_with("swap refused")));
    assert_eq!(ask(&host, "guest.svc.add", ""), "2");
    fs::copy(component("counter-v2"), &file).expect("copied");
    host.log(|record| record["message"] == "swapped; on probation");
    assert_eq!(ask(&host, "guest.svc.add", ""), "v2 3");
}

#[test]
fn a_state_that_does_not_fit_is_let_go_where_that_is_wanted() {
    let directory = deployment("reload-discard", &["counter", "counter-v2"], "");
    write(&directory, "ron.toml", &file(&[("counter", "counter-v2", "")]));
    let host = start(&directory, "", &[]).ready();
    assert_eq!(ask(&host, "guest.counter.add", ""), "v2 1");
    write(&directory, "ron.toml", &file(&[("counter", "counter", "")]));
    assert!(fails_lines(&host, "reload").contains("schema 2 is not 1"));
    assert!(ctl(&host, "reload --discard-state").contains("version 2 is in force"));
    assert_eq!(ask(&host, "guest.counter.add", ""), "1");
}

/// What a full disk leaves of a file, or a truncation before the writing.
#[test]
fn an_emptied_file_stops_nothing() {
    let directory = deployment("reload-emptied", &["echo"], "");
    let text = file(&[("echo", "echo", "")]);
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]).ready();
    write(&directory, "ron.toml", "");
    let refused =
        host.log(|record| record["message"] == "refused the configuration: kept version 1");
    assert_eq!(refused["cause"], "the file changed");
    let expected = "ron.toml: there is no service in it, and 1 service runs";
    assert!(fails_lines(&host, "reload").contains(expected));
    assert!(fails_lines(&host, "plan").contains(expected));
    assert!(
        fails_lines(&host, "reload --force").contains(expected),
        "that is for rolled back ones"
    );
    assert_eq!(ask(&host, "guest.echo.echo", "still here"), "still here");
    assert!(ctl(&host, "reload --stop-all").contains("echo stops"));
    assert_eq!(ctl(&host, "ps"), "there is no service yet\n");
    write(&directory, "ron.toml", &text);
    until("it runs again", || ctl(&host, "ps").contains("running"));
}

/// Settings that are wrong, and components that cannot be loaded, in one go.
#[test]
fn what_is_wrong_with_settings_and_components_is_told_together() {
    let directory = deployment("reload-together", &["echo", "counter"], "");
    let good = file(&[("echo", "echo", "")]);
    write(&directory, "ron.toml", &good);
    let host = start(&directory, "", &[]).ready();
    let pin = format!("digest = 'b3:{}'", "0".repeat(64));
    let text = file(&[
        ("echo", "echo", "replicas = 0"),
        ("gone", "gone", ""),
        ("counter", "counter", &pin),
    ]);
    write(&directory, "ron.toml", &text);
    let told = fails_lines(&host, "reload");
    for expected in [
        "ron.toml:5:12: service.echo.replicas: 0 is too little",
        "ron.toml:7:13: service.gone.component: components/gone.wasm: cannot be read",
        "ron.toml:11:10: service.counter.digest: components/counter.wasm: its digest is b3:",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
}

/// What names a secret may be there before it is.
#[test]
fn a_secret_that_comes_late_is_taken_when_it_comes() {
    let directory = deployment("reload-late-secret", &["probe"], "");
    write(&directory, "secret", "one\n");
    let text = |config: &str| file(&[("probe", "probe", config)]);
    write(&directory, "ron.toml", &text("config.key = { file = 'secret' }"));
    let host = start(&directory, "", &[]).ready();
    let refused = |version: u32| {
        let told = format!("refused the configuration: kept version {version}");
        host.log(|record| record["message"] == *told);
    };
    // One that is new.
    write(&directory, "ron.toml", &text("config.key = { file = 'other' }"));
    refused(1);
    write(&directory, "other", "two");
    in_force(&host, 2);
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "two");
    // And one that was there, and is again as it was.
    fs::remove_file(directory.join("other")).expect("removed");
    let more = "config.key = { file = 'other' }\nconfig.more = 1";
    write(&directory, "ron.toml", &text(more));
    refused(2);
    write(&directory, "other", "two");
    in_force(&host, 3);
    assert_eq!(ask(&host, "guest.probe.probe", "config.get more"), "1");
    assert_eq!(host.get("/readyz").status, 200);
}

#[test]
fn a_file_that_no_start_would_read_is_not_applied() {
    let directory = deployment("reload-large", &["probe"], "");
    let text = |value: u32| file(&[("probe", "probe", &format!("config.key = {value}"))]);
    write(&directory, "ron.toml", &text(1));
    let host = start(&directory, "", &[]).ready();
    write(&directory, "ron.toml", &format!("{}{}", text(2), "#\n".repeat(8 << 20 | 1)));
    host.log(|record| record["message"] == "refused the configuration: kept version 1");
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "1");
    write(&directory, "ron.toml", &text(3));
    in_force(&host, 2);
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "3");
}

#[test]
fn how_a_component_is_made_is_told_as_it_is_said() {
    let directory = deployment("reload-build", &["probe"], "");
    let text = |command: &str| file(&[("probe", "probe", &format!("build.command = '{command}'"))]);
    write(&directory, "ron.toml", &text("make one"));
    let host = start(&directory, "", &[]).ready();
    write(&directory, "ron.toml", &text("make two"));
    assert!(ctl(&host, "reload").contains("nothing changed"));
    let config = ctl(&host, "config");
    assert!(config.contains("command = \"make two\""), "{config}");
}

#[test]
fn a_secret_that_changes_alone_is_told_to_its_service() {
    let directory = deployment("reload-secret", &["probe"], "");
    write(&directory, "secret", "one\n");
    let text = file(&[("probe", "probe", "config.key = { file = 'secret' }")]);
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]).ready();
    for (version, secret) in [(2, "two"), (3, "three")] {
        write(&directory, "next", secret);
        fs::rename(directory.join("next"), directory.join("secret")).expect("renamed");
        in_force(&host, version);
        assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), secret);
    }
    // And the file is watched as before.
    write(&directory, "ron.toml", &text.replace("{ file = 'secret' }", "'four'"));
    in_force(&host, 4);
    assert_eq!(ask(&host, "guest.probe.probe", "config.get key"), "four");
}
