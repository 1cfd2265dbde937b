//! `ron-host bench`: a load on the bus of a running host, and what is said of it.

use std::io::{BufRead, BufReader};
use std::process::Command;

use serde_json::Value;

use crate::harness::Program;
use crate::harness::ctl::text;
use crate::harness::deployment::{deployment, file, start};

fn host(name: &str) -> Program {
    let text = file(&[("echo", "echo", ""), ("probe", "probe", "")]);
    start(&deployment(name, &["echo", "probe"], &text), "", &[]).ready()
}

fn bench(host: &Program, args: &str) -> Command {
    let mut command = crate::harness::command(args.split(' '));
    command.arg("--control").arg(host.home().socket());
    command
}

/// How it ended, the lines that it printed, and what it said besides.
fn ran(host: &Program, args: &str) -> (Option<i32>, Vec<Value>, String) {
    let done = bench(host, args).output().expect("it runs");
    let out = text(done.stdout);
    let lines = out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    (done.status.code(), lines.collect(), text(done.stderr))
}

#[test]
fn every_message_of_a_load_is_accounted_for() {
    let host = host("load-counted");
    let quick = "--duration 300ms --warm-up 0s --json";
    let handled = || host.metrics().value("ron_mailbox_handled_total{service=\"echo\"}") as u64;
    let before = handled();
    let (code, lines, said) =
        ran(&host, &format!("bench request guest.echo.echo --tasks 3 {quick}"));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let report = lines.last().expect("a report");
    let done = report["done"].as_u64().expect("a number");
    assert!(done > 0 && report["errors"].as_object().is_some_and(serde_json::Map::is_empty));
    assert_eq!((report["tasks"].as_u64(), report["payload_bytes"].as_u64()), (Some(3), Some(64)));
    assert_eq!(handled() - before, done, "what is counted was handled");
    let percentiles = report["latency"]["percentiles"].as_array().expect("a table");
    let us: Vec<f64> = percentiles.iter().map(|row| row["us"].as_f64().expect("a time")).collect();
    assert!(us.is_sorted() && us[0] > 0.0, "{us:?}");
    assert_eq!(percentiles.last().expect("the longest")["beyond"], 0);

    // With a rate, so many are due, whatever came of them.
    let rated = format!("bench publish guest.echo.sink --rate 100 --tasks 2 --size 10 {quick}");
    let (code, lines, _) = ran(&host, &rated);
    let report = lines.last().expect("a report");
    let count = |key: &str| report[key].as_u64().expect("a number");
    assert_eq!((code, count("done") + count("missed"), count("payload_bytes")), (Some(0), 30, 10));
    assert_eq!(count("delivered"), count("done"));
    assert_eq!(report["late"]["percentiles"].as_array().map(Vec::len), Some(9));

    let (code, lines, said) = ran(&host, &format!("bench request nobody.there {quick}"));
    let failed = &lines.last().expect("a report")["errors"]["no-responder"];
    assert!(code == Some(1) && failed.as_u64().is_some_and(|count| count > 0), "{lines:?}");
    assert!(said.contains("messages failed"), "{said}");
}

#[test]
fn a_load_can_be_ended_and_is_alone() {
    let host = host("load-ended");
    let long = "bench request guest.echo.echo --duration 1h --warm-up 0s";
    let mut first = bench(&host, long);
    first.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut first = first.spawn().expect("it runs");
    let mut heading = String::new();
    let said = first.stderr.as_mut().expect("it is piped");
    BufReader::new(said).read_line(&mut heading).expect("it says what it does");
    assert!(heading.starts_with("requesting guest.echo.echo: 64 bytes, 1 task"), "{heading}");
    let (code, _, said) = ran(&host, "bench request guest.echo.silent --duration 0s --json");
    assert!(code == Some(1) && said.contains("a load is on the bus already"), "{said}");
    let interrupted = Command::new("kill").args(["-INT", &first.id().to_string()]).status();
    assert!(interrupted.is_ok_and(|status| status.success()));
    let ended = first.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    let report = text(ended.stdout);
    assert!(report.starts_with("throughput  ") && report.contains("99.99 %"), "{report}");
    let check = |args: &str, code: i32, why: &str| {
        let (ended, _, said) = ran(&host, args);
        assert!(ended == Some(code) && said.contains(why), "{ended:?}: {said}");
    };
    check("bench request ron.own --json", 1, "topics that begin with 'ron.' are the host's");
    check("bench request a..b --json", 1, "token 2 is empty");
    check("bench request a.b --rate 0", 2, "expected more than 0");
    check("bench request a.b --tasks 0", 2, "1..=1024");
    check("bench request a.b --duration 2h", 2, "expected an hour at most");
}
