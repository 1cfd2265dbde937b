//! `ron-host --component api.wasm --http ADDR`: requests reach the service, over
//! every change of it.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::ctl::{ctl, json};
use crate::harness::deployment::{deployment, start, write};
use crate::harness::{Page, Program, get, run, send};

/// A host with `wstd-http` behind a listener, started with these arguments too.
fn site(name: &str, arguments: &str) -> Program {
    let directory = deployment(name, &["wstd-http"], "");
    let web = "--component web=components/wstd-http.wasm --http 127.0.0.1:0 --log-format json";
    start(&directory, &format!("{web} {arguments}"), &[]).ready()
}

/// Where it answers, as it said.
fn address(program: &Program, nth: usize) -> String {
    let mut seen = 0;
    program.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        let url = said["http"].as_str()?.to_owned();
        seen += 1;
        (seen > nth).then_some(url)
    })
}

#[test]
fn one_flag_serves_a_component_of_another_host() {
    let host = site("front-flag", "");
    let base = address(&host, 0);
    let page = get(&format!("{base}/"));
    assert_eq!((page.status, &*page.body), (200, "hello from wstd, for the 1. time\n"));
    assert_eq!(get(&format!("{base}/nowhere")).status, 404);
    let series = r#"request_latency_seconds_count{method="GET",service="web",status="2xx"}"#;
    assert_eq!(host.metrics().value(series), 1.0);
    assert!(send("PUT", &format!("{base}/who")).body.starts_with("PUT "));
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn a_service_with_a_mailbox_is_served_from_its_one_state() {
    let directory = deployment("front-mailbox", &["http-service"], "");
    let web = "--component web=components/http-service.wasm --http 127.0.0.1:0";
    let host = start(&directory, &format!("{web} --log-format json"), &[]).ready();
    let base = address(&host, 0);
    assert_eq!(get(&format!("{base}/add")).body, "1");
    ctl(&host, "request guest.web.add x");
    ctl(&host, "swap web");
    assert_eq!(get(&format!("{base}/add")).body, "3");
    let failure = get(&format!("{base}/die")).json();
    assert_eq!(failure["code"], "crashed");
    let crash = host.log(|record| record["corr_id"] == failure["corr_id"]);
    assert_eq!(crash["service"], "web");
}

#[test]
fn a_crash_is_found_by_the_id_of_the_answer() {
    let host = site("front-crash", "");
    let base = address(&host, 0);
    let page = get(&format!("{base}/panic"));
    assert_eq!(page.status, 500);
    let failure = page.json();
    assert_eq!((&failure["code"], &failure["retryable"]), (&"crashed".into(), &false.into()));
    assert_eq!(failure["corr_id"], page.header("x-request-id"));
    let crash = host.log(|record| record["corr_id"] == failure["corr_id"]);
    assert_eq!(crash["service"], "web");
    assert!(crash["backtrace"].as_str().is_some_and(|trace| trace.contains("wstd-http.rs")));
    let told = ctl(&host, "crashes web");
    let id = failure["corr_id"].as_str().expect("an id");
    assert!(told.contains(&format!("    corr_id: {id}\n")), "{told}");
    let table = ctl(&host, "crashes");
    assert!(table.lines().any(|line| line.contains("  web  ") && line.contains(id)), "{table}");
    let metrics = host.metrics();
    let crashes = r#"service_crashes_total{reason="panic",service="web"}"#;
    assert!(metrics.value(crashes) > 0.0);
    assert_eq!(get(&format!("{base}/")).status, 200);
}

#[test]
fn a_service_that_is_stopped_answers_later() {
    let host = site("front-stopped", "");
    let base = address(&host, 0);
    ctl(&host, "stop web");
    let page = get(&format!("{base}/"));
    assert_eq!((page.status, page.header("retry-after")), (503, "1"));
    assert_eq!(page.json()["retryable"], true);
    ctl(&host, "start web");
    assert_eq!(get(&format!("{base}/")).status, 200);
}

#[test]
fn swaps_and_restarts_of_the_host_fail_no_request() {
    const SWAPS: usize = 10;
    let host = site("front-swaps", "");
    let base = address(&host, 0);
    let over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let client = || {
            let mut answered = 0;
            while !over.load(order) {
                let page: Page = get(&format!("{base}/"));
                assert_eq!(page.status, 200, "{page:?}");
                answered += 1;
            }
            answered
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        for _ in 0..SWAPS {
            ctl(&host, "swap web");
            ctl(&host, "restart web");
        }
        over.store(true, order);
        for client in clients {
            assert!(client.join().expect("no request failed") > 0);
        }
    });
    let services = json(&host, "ps");
    assert_eq!(services["services"][0]["generation"], 2 * SWAPS + 1);
}

#[test]
fn a_reload_moves_the_listener() {
    let text = "http = '127.0.0.1:0'\n[service.web]\ncomponent = 'components/wstd-http.wasm'\n";
    let directory = deployment("front-moves", &["wstd-http", "echo"], text);
    let host = start(&directory, "--log-format json", &[]).ready();
    let before = address(&host, 0);
    assert_eq!(get(&format!("{before}/")).status, 200);
    write(&directory, "ron.toml", &text.replace("wstd-http.wasm", "echo.wasm"));
    let refused = host.home().ctl(["reload"], b"");
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("no service answers HTTP requests"), "{why}");
    assert_eq!(get(&format!("{before}/")).status, 200, "nothing was changed");
    write(&directory, "ron.toml", &text.replace("http = '127.0.0.1:0'\n", ""));
    ctl(&host, "reload");
    let port = before.trim_start_matches("http://");
    assert!(std::net::TcpStream::connect(port).is_err(), "nobody listens any more");
}

#[test]
fn a_certificate_of_its_own_is_told_by_its_fingerprint() {
    let host = site("front-tls", "--tls-self-signed");
    let base = address(&host, 0);
    let address = base.strip_prefix("https://").expect("it is over TLS");
    let told = host.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        Some(said["sha256"].as_str()?.to_owned())
    });
    // A real client, and what it says of the certificate.
    let connect = format!(
        "printf 'GET / HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n' | \
         openssl s_client -quiet -connect {address} -servername localhost; \
         openssl s_client -connect {address} -servername localhost </dev/null | \
         openssl x509 -noout -fingerprint -sha256"
    );
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &connect]).stderr(Stdio::null()).output().expect("a shell");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("hello from wstd"), "{output}");
    assert!(output.contains(&told), "{told} in {output}");
}

#[test]
fn what_cannot_be_served_is_told() {
    let check = |components: &[&str], arguments: &[&str], expected: &str| {
        let mut all = vec!["--admin".to_owned(), "127.0.0.1:0".to_owned()];
        for component in components {
            let (name, file) = component.split_once('=').expect("a name");
            let file = crate::harness::component(file);
            all.extend(["--component".to_owned(), format!("{name}={}", file.display())]);
        }
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let ended = run(&all);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(
            ended.stderr.iter().any(|line| line.contains(expected)),
            "{expected:?} is not in {ended:?}"
        );
    };
    let http = ["--http", "127.0.0.1:0"];
    check(&["a=echo"], &http, "no service answers HTTP requests");
    check(&["a=wstd-http", "b=wstd-http"], &http, "2 services answer HTTP requests, a and b");
    check(&["a=wstd-http"], &["--tls-self-signed"], "say where with --http");
}
