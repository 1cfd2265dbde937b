//! The control API and `ron-host ctl`: each command against a real host, who may
//! use the socket, and what an operator reads when something is wrong.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::ctl::{ctl, fails, json, text, words};
use crate::harness::{Page, Program, component, raw, run, scratch, until};

/// A host that runs these components, none of which it needs.
fn host(names: &[&str]) -> Program {
    let args = names.iter().flat_map(|name| {
        let component = component(name).into_os_string();
        ["--component".into(), component, "--optional".into(), OsString::from(name)]
    });
    let host = Program::start(args).ready();
    for name in names {
        // Ready without them, so this is what says that they run.
        until("it runs", || {
            let all = json(&host, "ps");
            let services = all["services"].as_array().expect("a list");
            !services.iter().any(|own| own["service"] == *name && own["state"] != "running")
        });
    }
    host
}

/// The columns of a table's row for a service.
fn row(table: &str, name: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.split("  ").any(|cell| cell == name));
    let row = row.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    row.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn ps_shows_how_each_service_stands() {
    let host = host(&["counter", "echo"]);
    let table = ctl(&host, "ps");
    let head = table.lines().next().expect("a head");
    let head: Vec<&str> = head.split_whitespace().collect();
    let columns = "SERVICE STATE GEN UPTIME RESTARTS QUEUED BYTES MEMORY DIGEST"
        .split(' ')
        .collect::<Vec<_>>();
    assert_eq!(head, columns);
    let echo = row(&table, "echo");
    assert_eq!((&echo[1][..], &echo[2][..], &echo[4][..]), ("running", "1", "0"), "{table}");
    assert!(echo[8].starts_with("b3:") && echo[7].ends_with("iB"), "{table}");

    let all = json(&host, "ps");
    assert!(all["config_version"].is_u64(), "{all}");
    let names: Vec<_> = all["services"].as_array().expect("a list").iter().collect();
    let [counter, echo] = names[..] else { panic!("{all}") };
    assert_eq!((&counter["service"], &echo["service"]), (&json!("counter"), &json!("echo")));
    assert_eq!((&counter["generation"], &counter["critical"]), (&json!(1), &json!(false)));
    assert!(counter["memory_bytes"].as_u64().is_some_and(|bytes| bytes >= 64 << 10), "{counter}");
    assert_eq!(counter["digest"].as_str().map(str::len), Some(67));
    assert!(counter["uptime_ms"].is_u64(), "{counter}");

    // A stopped one has messages waiting and no memory.
    ctl(&host, "stop counter");
    ctl(&host, "publish guest.counter.add 1234");
    let all = json(&host, "ps");
    let counter = &all["services"][0];
    assert_eq!((&counter["state"], &counter["memory_bytes"]), (&json!("stopped"), &Value::Null));
    assert_eq!(
        (&counter["mailbox"]["queued"], &counter["mailbox"]["queued_bytes"]),
        (&json!(1), &json!(4))
    );

    let watch = host.home().start(words("ctl ps --watch 1 --json"));
    let mut seen = 0;
    watch.stdout(|line| {
        seen += usize::from(line.contains("\"config_version\""));
        (seen == 2).then_some(())
    });
    watch.signal("INT");
    assert_eq!(watch.ended().code, Some(0));
}

#[test]
fn services_are_restarted_stopped_and_started() {
    let host = host(&["counter"]);
    assert_eq!(ctl(&host, "request guest.counter.add x"), "1");
    assert_eq!(ctl(&host, "restart counter"), "counter is running, generation 2\n");
    assert_eq!(ctl(&host, "request guest.counter.count x"), "0", "a fresh instance");
    assert_eq!(ctl(&host, "start counter"), "counter is running, generation 2\n");
    assert_eq!(ctl(&host, "stop counter"), "counter is stopped, generation 2\n");
    assert_eq!(
        fails(&host, "request guest.counter.count x"),
        "error: the service that was asked failed: counter is stopped"
    );
    assert_eq!(
        fails(&host, "restart counter"),
        "error: counter is stopped, so there is nothing to restart; start it"
    );
    let started = json(&host, "start counter --if-match 2");
    assert_eq!((&started["state"], &started["generation"]), (&json!("running"), &json!(3)));
    let stale =
        "error: the generation of counter is 3 by now, not 2; look again, nothing was changed";
    for verb in ["restart", "stop", "start", "swap"] {
        assert_eq!(fails(&host, &format!("{verb} counter --if-match 2")), stale);
    }
    assert_eq!(json(&host, "ps")["services"][0]["generation"], 3);
}

/// Of several who saw the same generation and act at once, one has it.
#[test]
fn a_generation_is_replaced_once() {
    let host = host(&["counter"]);
    let v2 = component("counter-v2").display().to_string();
    for (generation, act) in [format!("swap counter {v2}"), "restart counter".to_owned()]
        .iter()
        .enumerate()
        .map(|(at, act)| (at + 1, act))
    {
        let command = format!("ctl {act} --if-match {generation}");
        let asked: Vec<_> = (0..4).map(|_| host.home().start(words(&command))).collect();
        let (done, stale): (Vec<_>, Vec<_>) =
            asked.into_iter().map(Program::ended).partition(|ended| ended.code == Some(0));
        assert_eq!((done.len(), stale.len()), (1, 3), "{act}: {done:?} {stale:?}");
        let now = generation + 1;
        let told = format!(
            "error: the generation of counter is {now} by now, not {generation}; look again, \
             nothing was changed"
        );
        assert!(stale.iter().all(|ended| ended.stderr == [told.as_str()]), "{stale:?}");
        assert_eq!(json(&host, "ps")["services"][0]["generation"], now);
    }
}

#[test]
fn a_start_that_comes_to_nothing_is_told() {
    let component = component("start-error");
    let args = [
        "--component".as_ref(),
        component.as_os_str(),
        "--optional".as_ref(),
        "start-error".as_ref(),
    ];
    let host = Program::start(args).ready();
    host.log(|record| record["service"] == "start-error" && record["level"] == "ERROR");
    ctl(&host, "stop start-error");
    let said = fails(&host, "start start-error");
    assert!(said.starts_with("error: start-error is "), "{said}");
    assert!(said.contains(": start-failed: "), "{said}");
}

#[test]
fn a_service_that_is_not_there() {
    let host = host(&["counter", "echo"]);
    let expected = "error: there is no service named \"countr\"; there is counter, echo";
    for command in [
        "restart countr",
        "stop countr",
        "start countr",
        "swap countr",
        "crashes countr",
        "logs countr",
        "dlq list countr",
        "dlq replay countr",
        "dlq drop countr",
    ] {
        assert_eq!(fails(&host, command), expected, "{command}");
    }
    let said = fails(&host, "stop countr --json");
    let error: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&error["code"], &error["retryable"]), (&json!("unknown-service"), &json!(false)));
    assert!(error["corr_id"].is_string(), "{error}");
    let said = fails(&host, "stop a/../b");
    assert!(said.starts_with("error: there is no service named \"a/../b\""), "{said}");
}

#[test]
fn messages_are_published_and_requested() {
    let host = host(&["echo"]);
    assert_eq!(
        ctl(&host, "publish guest.echo.sink hello"),
        "published, and taken in by 1 service\n"
    );
    assert_eq!(ctl(&host, "publish nobody.here x"), "published, and taken in by nobody\n");
    assert_eq!(json(&host, "publish guest.echo.sink x"), json!({"delivered": 1}));

    // Any bytes, as they are and nothing else.
    let bytes = b"\x00\xff\x1b[31m\n\r\n";
    let check = |args: &[&str], stdin: &[u8], stdout: &[u8]| {
        let ended = host.home().ctl(args, stdin);
        assert_eq!((ended.status.code(), &ended.stdout[..]), (Some(0), stdout), "{args:?}");
        assert_eq!(text(ended.stderr), "");
    };
    let file = scratch("control-payload").join("payload");
    fs::write(&file, bytes).expect("written");
    let path = file.to_str().expect("text");
    check(&["request", "guest.echo.echo"], bytes, bytes);
    check(&["request", "guest.echo.echo", "--file", path], b"", bytes);
    check(&["request", "guest.echo.echo", "two words"], b"not read", b"two words");
    check(&["request", "guest.echo.echo", ""], b"", b"");
    check(&["request", "guest.echo.echo", "--json"], b"\xff", b"{\"payload_base64\":\"/w==\"}\n");

    assert_eq!(fails(&host, "request nobody.here x"), "error: nobody answers on this topic");
    assert_eq!(
        fails(&host, "request guest.echo.echo --file /nowhere"),
        "error: /nowhere: cannot be read: No such file or directory (os error 2)"
    );
    let said = fails(&host, "publish ron.mine x");
    assert!(said.contains("topics that begin with 'ron.' are the host's"), "{said}");
    let said = fails(&host, "request a..b x");
    assert!(said.starts_with("error: not a topic: "), "{said}");
    let large = vec![b'x'; (1 << 20) + 1];
    let refused = host.home().ctl(["publish", "guest.echo.sink"], &large);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(refused.stderr), "error: a payload is at most 1048576 bytes\n");
    let most = &large[1..];
    check(&["publish", "guest.echo.sink"], most, b"published, and taken in by 1 service\n");
}

#[test]
fn a_request_that_nobody_answers_in_time() {
    let host = host(&["spin"]);
    let said = fails(&host, "request guest.spin.die x --timeout 20ms");
    assert_eq!(said, "error: no answer in time");
}

#[test]
fn a_tap_shows_messages_live() {
    let host = host(&["echo"]);
    let tap = host.home().start(words("ctl tap guest.>"));
    let raw = host.home().start(words("ctl tap guest.echo.* --json"));
    tap.stderr(|line| (line == "tapping guest.>; Ctrl-C ends it").then_some(()));
    // This one says nothing; what it has to show comes until it shows it.
    while !raw.printed() {
        ctl(&host, "publish guest.echo.sink early");
    }
    ctl(&host, "publish other.topic unseen");
    host.home().ctl(["publish", "guest.nobody.here"], b"a\x1b[2Jb");
    assert_eq!(ctl(&host, "request guest.echo.echo done"), "done");
    let line = tap.stdout(|line| line.contains("done").then(|| line.to_owned()));
    assert!(line.ends_with("Z guest.echo.echo from host to 1, wants an answer: done"), "{line}");
    let record: Value = raw
        .stdout(|line| serde_json::from_str(line).ok().filter(|r: &Value| r["payload"] == "done"));
    assert_eq!((&record["topic"], &record["delivered"]), (&json!("guest.echo.echo"), &json!(1)));
    for program in [&tap, &raw] {
        program.signal("INT");
    }
    let said = tap.ended();
    assert_eq!(said.code, Some(0));
    assert!(said.stdout.iter().any(|l| l.ends_with(" to nobody: a\\u{1b}[2Jb")), "{said:?}");
    assert!(!said.stdout.iter().any(|line| line.contains("unseen")), "{said:?}");
    let said = raw.ended();
    assert_eq!(said.code, Some(0));
    let error = fails(&host, "tap a..b");
    assert!(error.starts_with("error: not a topic: "), "{error}");
}

/// A tap that nobody reads holds nobody up, and is told what it missed.
#[test]
fn a_tap_is_lossy_and_says_so() {
    let host = host(&["echo"]);
    // A pipe that is not read fills up; then the socket, then the queue.
    let mut stream = UnixStream::connect(host.home().socket()).expect("it listens");
    write!(stream, "GET /v1/tap?filter=%3E HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut head = [0; 15];
    stream.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let payload = "x".repeat(1 << 20);
    for _ in 0..40 {
        let sent = host.home().ctl(["publish", "a.b"], payload.as_bytes());
        assert_eq!(sent.status.code(), Some(0));
    }
    let mut seen = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    let missed = br#"{"missed":"#;
    while !seen.windows(missed.len()).any(|window| window == missed) {
        let read = stream.read(&mut buffer).expect("it goes on");
        assert_ne!(read, 0, "it goes on");
        // Enough to find what lies across two reads.
        let keep = seen.len().saturating_sub(missed.len());
        seen.drain(..keep);
        seen.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn dead_letters_are_listed_replayed_and_dropped() {
    let host = host(&["ledger"]);
    assert_eq!(ctl(&host, "dlq list ledger"), "ledger has no dead letters\n");
    let said = fails(&host, "request guest.ledger.do reject");
    assert_eq!(said, "error: the service that was asked failed: reject");
    let table = ctl(&host, "dlq list ledger");
    let letter = row(&table, "host");
    assert_eq!(letter[1..], ["guest.ledger.do", "host", "1", "reject", "reject"], "{table}");
    let letters = json(&host, "dlq list ledger");
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["payload"], &letter["why"]), (&json!("reject"), &json!("reject")));

    // It ends where it was.
    let tap = host.home().start(words("ctl tap ledger.>"));
    tap.stderr(|line| line.starts_with("tapping").then_some(()));
    assert_eq!(ctl(&host, "dlq replay ledger"), "1 to be delivered again\n");
    tap.stdout(|line| line.ends_with(" host reject").then_some(()));
    assert_eq!(ctl(&host, "request guest.ledger.do next"), "next");
    assert_eq!(json(&host, "dlq drop ledger"), json!({"count": 1}));
    assert_eq!(ctl(&host, "dlq drop ledger"), "0 dropped\n");
}

#[test]
fn logs_are_kept_and_followed() {
    let host = host(&["counter", "ledger"]);
    for _ in 0..2 {
        host.home().ctl(words("request guest.counter.die x"), b"");
    }
    let printed = ctl(&host, "logs counter -n 1 --json");
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let follow = host.home().start(words("ctl logs counter -f"));
    follow.stdout(|line| line.contains("counter: crashed: told to die at 0").then_some(()));
    ctl(&host, "start counter");
    let raw = host.home().start(words("ctl logs counter -f -n 0 --json"));
    // The stream of one that said nothing yet may not have begun.
    let record: Value = loop {
        host.home().ctl(words("request guest.counter.die x --timeout 1ms"), b"");
        // It may be given the message once more, and then it does not come up.
        host.home().ctl(words("start counter"), b"");
        if raw.printed() {
            break raw.stdout(|line| serde_json::from_str(line).ok());
        }
    };
    assert_eq!(record["service"], "counter");
    follow.signal("INT");
    let said = follow.ended();
    assert_eq!(said.code, Some(0));
    assert!(said.stdout.iter().all(|line| !line.contains("ledger:")), "{said:?}");
    let own = json_lines(&ctl(&host, "logs ledger --json"));
    assert!(own.iter().all(|record| record["service"] == "ledger"), "{own:?}");
    ctl(&host, "logs host");
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn crashes_are_shown() {
    let host = host(&["counter", "echo"]);
    assert_eq!(ctl(&host, "crashes"), "no service crashed\n");
    assert_eq!(ctl(&host, "crashes echo"), "echo did not crash\n");
    fails(&host, "request guest.counter.die x");
    let table = ctl(&host, "crashes");
    let crash = row(&table, "counter");
    assert_eq!(crash[2..5], ["1", "panic", "guest.counter.die"], "{table}");
    assert_eq!(crash[5], "-", "it was no request's: {table}");
    assert!(crash[6].starts_with("told to die at 0"), "{table}");
    let detail = ctl(&host, "crashes counter");
    assert!(detail.contains("counter, generation 1: panic: told to die at 0"), "{detail}");
    assert!(detail.contains("    topic: guest.counter.die\n"), "{detail}");
    assert!(detail.contains("    backtrace:\n      "), "{detail}");
    let all = json(&host, "crashes counter");
    let crashes = all["crashes"].as_array().expect("a list");
    assert_eq!(crashes.len(), 3, "three deliveries");
    assert_eq!((&crashes[0]["reason"], &crashes[2]["generation"]), (&json!("panic"), &json!(3)));
}

#[test]
fn a_swap_is_told_with_its_outcome() {
    let host = host(&["counter"]);
    assert_eq!(ctl(&host, "request guest.counter.add x"), "1");
    let v2 = component("counter-v2");
    let v2 = v2.to_str().expect("text");
    let said = fails(&host, &format!("swap counter {v2} --if-match 7"));
    assert!(said.contains("the generation of counter is 1 by now, not 7"), "{said}");
    let said = fails(&host, "swap counter nowhere.wasm");
    assert!(said.contains("nowhere.wasm: cannot be read"), "{said}");
    let said = fails(&host, &format!("swap counter {}", component("echo").display()));
    assert!(said.contains("it does not export ron:kernel/handover"), "{said}");
    assert!(said.contains("generation 1"), "{said}");

    let said = ctl(&host, &format!("swap counter {v2}"));
    assert!(said.contains("after a pause of") && said.ends_with("in probation\n"), "{said}");
    assert_eq!(json(&host, "ps")["services"][0]["detail"], "on probation after a swap");
    assert_eq!(ctl(&host, "request guest.counter.add x"), "v2 2");
    // It is put back when it crashes in probation, and whoever waits hears of it.
    let generation = || json(&host, "ps")["services"][0]["generation"].as_u64();
    let before = generation();
    let waits = host.home().start(words(&format!("ctl swap counter {v2} --wait --force")));
    until("it is swapped", || generation() != before);
    host.home().ctl(words("publish guest.counter.die x"), b"");
    let ended = waits.ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains("counter was rolled back: told to die"), "{ended:?}");
    let said = fails(&host, "reload --if-match 99");
    assert!(said.contains("the configuration's version is 1 by now, not 99"), "{said}");
    let planned = ctl(&host, "plan");
    let back = "service  counter is swapped: component\n";
    assert!(planned.starts_with(back), "the flag says another file: {planned}");
}

/// Only a probation that was passed, or that a newer swap ended, speaks for a
/// version.
#[test]
fn whoever_waits_hears_what_ended_a_probation() {
    let host = host(&["counter"]);
    let v2 = component("counter-v2");
    let swap = format!("swap counter {}", v2.display());
    let detail = || json(&host, "ps")["services"][0]["detail"].clone();
    let generation = || json(&host, "ps")["services"][0]["generation"].as_u64();
    let wait = || {
        let before = generation();
        let waits = host.home().start(words(&format!("ctl {swap} --wait")));
        until("it is swapped", || generation() > before && detail() == "on probation after a swap");
        waits
    };
    let waits = wait();
    ctl(&host, "restart counter");
    let ended = waits.ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told = "which stays, but its probation was ended by a restart: whether it is good is";
    assert!(ended.stderr[0].contains(told), "{ended:?}");

    let waits = wait();
    ctl(&host, &swap);
    let ended = waits.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout[0].ends_with(": it was good until a newer swap took its place"));
    assert_eq!(
        host.metrics().find(r#"ron_swaps_total{service="counter",outcome="ended"}"#),
        Some(1.0)
    );
}

#[test]
fn the_command_line_is_checked() {
    fn check(args: &str, expected: &str) {
        let ended = run(words(args));
        assert_eq!((ended.code, ended.stdout.len()), (Some(2), 0), "{args}: {ended:?}");
        let said = ended.stderr.join("\n");
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    check("ctl", "Usage: ron-host ctl");
    check("ctl frobnicate", "unrecognized subcommand 'frobnicate'");
    check("ctl restart", "<NAME>");
    check("ctl request a b --timeout soon", "invalid value 'soon' for '--timeout <TIME>'");
    check("ctl request a b --timeout 9999999999y", "expected an hour at most");
    check("ctl request a b --timeout 61m", "expected an hour at most");
    check("ctl publish a b --file c", "cannot be used with");
    check("ctl ps --watch 0", "0 is not in 1..=86400");
    check("--component a.wasm ctl ps", "cannot be used with");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn the_socket_is_its_users_alone_and_is_removed() {
    let host = host(&["echo"]);
    let socket = host.home().socket();
    assert_eq!((mode(&socket), mode(socket.parent().expect("a directory"))), (0o600, 0o700));
    host.stdout(|line| line.contains("control.sock").then_some(()));

    // A second one leaves the first alone, and says how to have both.
    let args = words("--admin 127.0.0.1:0 --no-cache --component nowhere.wasm");
    let second = host.home().start(&args).ended();
    assert_eq!(second.code, Some(78));
    let [line] = &second.stderr[..] else { panic!("{second:?}") };
    let expected =
        format!("error: control socket {}: another host listens there", socket.display());
    assert!(line.starts_with(&expected) && line.contains("--control PATH"), "{line}");
    ctl(&host, "ps");

    // With a socket of its own it gets as far as its component.
    let own = socket.with_file_name("own.sock");
    let own_args = [&args[..], &["--control", own.to_str().expect("text")]].concat();
    assert_eq!(host.home().start(own_args).ended().code, Some(65));
    assert!(!own.exists());

    host.signal("TERM");
    let _home = Arc::clone(host.home());
    assert_eq!(host.ended().code, Some(0));
    let left = fs::read_dir(socket.parent().expect("a directory")).expect("it is there").count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[test]
fn a_dead_hosts_socket_is_replaced_and_nothing_else_is() {
    let host = host(&["echo"]);
    let socket = host.home().socket();
    let home = Arc::clone(host.home());
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
    assert!(socket.exists(), "nobody removed it");
    let said = fails(&*home, "ps");
    let expected = format!("error: no host listens at {} (its host has ended)", socket.display());
    assert!(said.starts_with(&expected) && said.contains("--control PATH"), "{said}");
    let component = component("echo");
    let next = words("--admin 127.0.0.1:0 --component").into_iter().map(OsString::from);
    let next = home.start(next.chain([component.into()])).ready();
    assert!(ctl(&next, "ps").contains("echo"));
    next.signal("TERM");
    assert_eq!(next.ended().code, Some(0));
    let said = fails(&*home, "ps");
    assert!(said.contains("(there is no such socket)"), "{said}");
    let error: Value = serde_json::from_str(&fails(&*home, "ps --json")).expect("JSON");
    assert_eq!(error["code"], "no-host");

    // What is no socket stays, and what no host listens on is none.
    fs::write(&socket, "precious").expect("written");
    let args = words("--admin 127.0.0.1:0 --component nowhere.wasm");
    let refused = home.start(&args).ended();
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr[0].contains("is there and is no socket"), "{refused:?}");
    assert_eq!(fs::read_to_string(&socket).expect("it is there"), "precious");
    fs::remove_file(&socket).expect("removed");
    let deaf = UnixListener::bind(&socket).expect("bound");
    let closing = std::thread::spawn(move || drop(deaf.accept()));
    let said = fails(&*home, "ps");
    assert!(said.contains("the host ended, or what listens there is none"), "{said}");
    closing.join().expect("it accepted");
}

#[test]
fn a_directory_that_others_can_open_is_refused() {
    let host = host(&["echo"]);
    let home = Arc::clone(host.home());
    let directory = host.home().socket().parent().expect("a directory").to_owned();
    host.signal("TERM");
    host.ended();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("set");
    let refused = home.start(words("--admin 127.0.0.1:0 --component nowhere.wasm")).ended();
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr[0].contains("mode 0700"), "{refused:?}");
}

/// One request, as other tools make it.
fn http(socket: &Path, request: &str, body: &str) -> Page {
    let length = body.len();
    let request = format!(
        "{request}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    raw(UnixStream::connect(socket).expect("it listens"), &request)
}

#[test]
fn other_tools_can_use_it() {
    let host = host(&["echo"]);
    let socket = host.home().socket();
    let page = http(&socket, "GET /openapi.json HTTP/1.1", "");
    assert_eq!((page.status, page.header("content-type")), (200, "application/json"));
    let api = page.json();
    assert!(api["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{api}");
    let paths = api["paths"].as_object().expect("paths");
    let all: Vec<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(
        all,
        [
            "/v1/bench",
            "/v1/bench/stop",
            "/v1/config",
            "/v1/crashes",
            "/v1/plan",
            "/v1/publish",
            "/v1/reload",
            "/v1/request",
            "/v1/services",
            "/v1/services/{name}",
            "/v1/services/{name}/crashes",
            "/v1/services/{name}/dead-letters",
            "/v1/services/{name}/dead-letters/replay",
            "/v1/services/{name}/logs",
            "/v1/services/{name}/restart",
            "/v1/services/{name}/start",
            "/v1/services/{name}/stop",
            "/v1/services/{name}/swap",
            "/v1/tap",
        ]
    );
    // Whatever is referred to is described.
    for (at, _) in page.body.match_indices("\"#/components/schemas/") {
        let name = page.body[at + 22..].split('"').next().expect("a name");
        assert!(api["components"]["schemas"][name].is_object(), "{name}");
    }

    let page = http(&socket, "GET /v1/services/echo HTTP/1.1", "");
    assert_eq!((page.status, page.header("etag")), (200, "\"1\""));
    assert_eq!(page.json()["service"], "echo");
    let page = http(&socket, "GET /v1/services HTTP/1.1", "");
    assert_eq!(page.header("etag"), format!("\"{}\"", page.json()["config_version"]));

    let check = |request: &str, body: &str, status: u16, code: &str| {
        let page = http(&socket, request, body);
        let error = page.json();
        assert_eq!((page.status, &error["code"]), (status, &json!(code)), "{request}: {error}");
        for field in ["message", "retryable", "corr_id"] {
            assert!(!error[field].is_null(), "{field} in {error}");
        }
    };
    let restart = "POST /v1/services/echo/restart HTTP/1.1\r\nif-match:";
    check(&format!("{restart} \"7\""), "", 412, "stale");
    check(&format!("{restart} seven"), "", 400, "bad-request");
    check("GET /nowhere HTTP/1.1", "", 404, "not-found");
    check("DELETE /v1/services HTTP/1.1", "", 405, "method-not-allowed");
    check("GET /v1/tap HTTP/1.1", "", 400, "bad-request");
    check("GET /v1/services/echo/logs?lines=x HTTP/1.1", "", 400, "bad-request");
    let swap = "POST /v1/services/echo/swap HTTP/1.1\r\ncontent-type: application/json";
    check(swap, "{", 400, "bad-request");
    check(swap, "{\"pth\":1}", 400, "bad-request");
    check(swap, r#"{"path":"/nowhere"}"#, 409, "refused");
    check("POST /v1/request?topic=nobody.here HTTP/1.1", "x", 502, "no-responder");
    check("POST /v1/publish?topic=ron.x HTTP/1.1", "x", 403, "denied");
    check("what is this?", "", 400, "bad-request");
    check(&format!("GET /{} HTTP/1.1", "x".repeat(70_000)), "", 414, "uri-too-long");
    assert_eq!(http(&socket, &format!("{restart} \"1\""), "").status, 200);
}

/// However many look on, there is room for a command.
#[test]
fn those_who_look_on_are_limited() {
    let host = host(&["echo"]);
    let look = || {
        let mut stream = UnixStream::connect(host.home().socket()).expect("it listens");
        write!(stream, "GET /v1/tap?filter=%3E HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        (String::from_utf8(head.to_vec()).expect("text"), stream)
    };
    let mut open: Vec<_> = (0..32).map(|_| look()).collect();
    assert!(open.iter().all(|(head, _)| head == "HTTP/1.1 200"));
    assert_eq!(look().0, "HTTP/1.1 503");
    let said = fails(&host, "tap >");
    assert_eq!(said, "error: too many taps and logs are followed already; end one of them");
    assert!(ctl(&host, "ps").contains("echo"));
    // Who leaves makes room, as soon as the host sees it.
    open.pop();
    until("there is room", || look().0 == "HTTP/1.1 200");
}

/// Somebody who looks on does not keep the host from ending.
#[test]
fn looking_on_ends_with_the_host() {
    let host = host(&["echo"]);
    let tap = host.home().start(words("ctl tap >"));
    let logs = host.home().start(words("ctl logs host -f"));
    tap.stderr(|line| line.starts_with("tapping").then_some(()));
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
    assert_eq!(tap.ended().code, Some(0));
    // It may have come too late.
    assert!(matches!(logs.ended().code, Some(0 | 1)));
}
