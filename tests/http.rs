//! What the admin listener says, to a person, a load balancer and Prometheus.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use ron_kernel::KernelEvent;
use ron_kernel::bus::RecvError;
use serde_json::{Value, json};

use crate::harness::{HUNG, Page, Program, Rig, component, get, raw, scratch, send, start_process};

fn with(name: &str) -> [OsString; 2] {
    ["--component".into(), component(name).into()]
}

/// One service that has started, and a critical one that never will.
fn half_ready() -> Program {
    let host = Program::start([with("echo"), with("spin-in-start")].concat());
    let began = Instant::now();
    // Not ready at any time, and in the end for one reason alone.
    loop {
        let page = host.get("/readyz");
        assert_eq!(page.status, 503, "{page:?}");
        if page.json()["missing"] == json!(["spin-in-start"]) {
            return host;
        }
        assert!(began.elapsed() < HUNG, "it hangs: {page:?}");
    }
}

/// Two services after some traffic: answers, crashes, refusals, metrics and
/// logs of their own.
fn busy() -> Program {
    let steps = [
        "request guest.echo.echo hello",
        "request guest.panic.die for a test",
        "request guest.probe.probe metrics.add orders_total 3",
        "request guest.probe.probe metrics.set queue_length 1.5",
        "request guest.probe.probe metrics.observe work_seconds 0.25",
        "request guest.probe.probe metrics.series many_total 70",
        "request guest.probe.probe metrics.add 0bad 1",
        "request guest.probe.probe bus.publish ron.own no",
        "request guest.panic.echo alive",
    ];
    let set =
        |(n, step): (usize, &&str)| ["--set".into(), format!("script.{}={step}", n + 1).into()];
    let steps: Vec<OsString> = steps.iter().enumerate().flat_map(set).collect();
    let services = ["echo", "panic", "probe", "script"].map(with).concat();
    let host = Program::start([services, steps].concat()).ready();
    host.says("script", "the script is over");
    host
}

/// Asks until the status is that one.
fn until(host: &Program, path: &str, status: u16) -> Page {
    let began = Instant::now();
    loop {
        let page = host.get(path);
        if page.status == status {
            return page;
        }
        assert!(began.elapsed() < HUNG, "it hangs: {page:?}");
    }
}

fn is_json(page: &Page) {
    assert_eq!(page.header("content-type"), "application/json");
    assert_eq!(page.header("cache-control"), "no-store");
}

#[test]
fn it_is_alive_while_a_service_hangs() {
    let host = half_ready();
    for path in ["/healthz", "/livez"] {
        let page = host.get(path);
        assert_eq!(page.status, 200);
        is_json(&page);
        let body = page.json();
        assert_eq!(body["status"], "ok");
        assert_eq!(
            body["services"]["echo"],
            json!({"state": "running", "ok": true, "required": true, "status": "ok"})
        );
        // While its component is loaded it is expected, and does not start yet.
        let state = body["services"]["spin-in-start"]["state"].as_str();
        assert!(matches!(state, Some("loading" | "starting")), "{body}");
        assert_eq!(body["services"]["spin-in-start"]["ok"], false);
    }
}

#[test]
fn it_is_not_ready_before_every_critical_service_is() {
    let host = half_ready();
    let page = host.get("/readyz");
    assert_eq!((page.status, page.header("retry-after")), (503, "3"));
    is_json(&page);
    assert_eq!(page.json(), json!({"ready": false, "missing": ["spin-in-start"]}));
    let verbose = host.get("/readyz?verbose").json();
    assert_eq!(verbose["services"]["echo"]["ok"], true);
    assert_eq!(host.get("/readyz/echo").json(), json!({"ready": true}));
    let page = host.get("/readyz/spin-in-start");
    assert_eq!((page.status, page.header("retry-after")), (503, "3"));
    assert_eq!(page.json(), json!({"ready": false, "missing": ["spin-in-start"]}));

    let host = Program::start(with("echo")).ready();
    let page = host.get("/readyz");
    assert_eq!((page.status, page.header("retry-after")), (200, ""));
    assert_eq!(page.json(), json!({"ready": true}));
}

/// From the first answer on: there is no moment at which it is ready too early.
#[test]
fn readiness_comes_once() {
    let host = Program::start(with("echo"));
    until(&host, "/readyz", 200);
    assert_eq!(host.get("/readyz/echo").status, 200, "the service was ready before the host");
    host.ready();
}

#[test]
fn errors_have_one_shape() {
    let host = Program::start(with("echo")).ready();
    let check = |page: Page, status: u16, code: &str| {
        assert_eq!(page.status, status, "{page:?}");
        is_json(&page);
        let body = page.json();
        let keys: BTreeSet<_> = body.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(keys, ["code", "corr_id", "message", "retryable"].map(String::from).into());
        assert_eq!(body["code"], code);
        assert_eq!(body["retryable"], false);
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(body["corr_id"], page.header("x-request-id"), "one to quote");
    };
    check(host.get("/nothing"), 404, "not-found");
    check(host.get("/readyz/nobody"), 404, "unknown-service");
    check(send("POST", &host.url("/metrics")), 405, "method-not-allowed");
    check(send("DELETE", &host.url("/readyz")), 405, "method-not-allowed");
    // What is no request is told so too.
    let url = host.url("");
    let address = url.strip_prefix("http://").expect("a URL");
    let ask = |request: &str| {
        let page = raw(TcpStream::connect(address).expect("it listens"), request);
        assert_eq!(page.header("connection"), "close");
        assert_eq!(page.header("content-length"), page.body.len().to_string());
        page
    };
    check(ask("what is this?\r\n\r\n"), 400, "bad-request");
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    check(ask(&long), 431, "headers-too-large");
    let ids = [host.get("/nothing"), host.get("/nothing")].map(|p| p.json()["corr_id"].clone());
    assert_ne!(ids[0], ids[1]);
    assert_eq!(send("HEAD", &host.url("/metrics")).status, 200);
}

#[test]
fn metrics_have_the_names_that_were_promised() {
    let host = busy();
    let page = host.get("/metrics");
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let metrics = page.scrape();
    for (series, value) in [
        ("bus_overflow_dropped_total", 0.0),
        ("bus_lagged_total{service=\"services\"}", 0.0),
        ("service_restarts_total{service=\"echo\"}", 0.0),
        ("service_restarts_total{service=\"panic\"}", 3.0),
        ("service_crashes_total{service=\"panic\",reason=\"panic\"}", 3.0),
        ("request_latency_seconds_count{service=\"echo\"}", 1.0),
        ("rejected_total{reason=\"denied\"}", 1.0),
        ("rejected_total{reason=\"failed\"}", 1.0),
        ("ron_services", 4.0),
        ("ron_services_ready", 4.0),
        ("ron_service_state{service=\"panic\",state=\"running\"}", 1.0),
        ("ron_mailbox_dead_lettered_total{service=\"panic\"}", 1.0),
        // What a service reports of itself.
        ("orders_total{service=\"probe\",probe=\"yes\"}", 3.0),
        ("queue_length{service=\"probe\",probe=\"yes\"}", 1.5),
        ("work_seconds_sum{service=\"probe\",probe=\"yes\"}", 0.25),
        ("work_seconds_count{service=\"probe\",probe=\"yes\"}", 1.0),
    ] {
        assert_eq!(metrics.value(series), value, "{series}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(metrics.value(&format!("ron_build_info{{version=\"{version}\"}}")), 1.0);
    // Configured, by `--set`.
    assert_eq!(metrics.value("ron_config_version"), 1.0);
    let own = ["bus_", "service_", "request_latency_seconds", "rejected_total", "ron_"];
    let reported = ["orders_total", "queue_length", "work_seconds", "many_total"];
    for line in metrics.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        let known = own.iter().any(|prefix| name.starts_with(prefix)) || reported.contains(&name);
        assert!(known, "{line}");
    }
}

/// A program of Prometheus', where `cargo xtask test` found it.
fn tool(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "{variable} does not name a file: run the tests with `cargo xtask test`, which finds \
             Prometheus' programs, or set it to the path of one"
        )
    })
}

#[test]
fn promtool_finds_nothing_to_say() {
    let metrics = busy().metrics();
    let mut promtool = Command::new(tool("RON_PROMTOOL"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut stdin = promtool.stdin.take().expect("a pipe");
    stdin.write_all(metrics.0.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let host = busy();
    let scratch = scratch("prometheus");
    let config = scratch.join("prometheus.yml");
    let url = host.url("");
    let address = url.strip_prefix("http://").expect("a URL");
    let text = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
         scrape_configs: [{{job_name: ron, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    fs::write(&config, text).expect("written");
    let mut command = Command::new(tool("RON_PROMETHEUS"));
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", scratch.join("data").display()));
    command.arg("--web.listen-address=127.0.0.1:0");
    let prometheus = start_process(command);
    let address = prometheus.stderr(|line| {
        let (_, rest) =
            line.split_once("address=").filter(|_| line.contains("\"Listening on\""))?;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    });
    prometheus.stderr(|line| line.contains("ready to receive web requests").then_some(()));

    let query = |query: &str, wanted: &str| {
        let began = Instant::now();
        let url = format!("http://{address}/api/v1/query?query={query}");
        loop {
            let answer = get(&url).json();
            assert_eq!(answer["status"], "success", "{answer}");
            let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
            // A scrape that came too late on a loaded machine has `up` at 0.
            if results.iter().any(|result| result["value"][1] == wanted) {
                return results;
            }
            assert!(began.elapsed() < HUNG, "no {query} of {wanted}: {answer}");
        }
    };
    let up = query("up", "1");
    assert_eq!(up[0]["metric"]["job"], "ron");
    let restarts: Vec<Value> = query("service_restarts_total", "3");
    let of = |service: &str| {
        let found = restarts.iter().find(|result| result["metric"]["service"] == service);
        // A label of ours that is one of Prometheus' own would be renamed.
        found.unwrap_or_else(|| panic!("{service} in {restarts:?}"))["value"][1].clone()
    };
    assert_eq!(of("panic"), "3");
    assert_eq!(of("echo"), "0");
}

/// What a slow subscriber loses shows: how many, and whose.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_lags_is_counted() {
    let rig = Rig::new();
    let mut slow = rig.kernel.bus().subscribe_as("slow");
    for version in 0..5000 {
        rig.kernel.bus().publish(KernelEvent::ConfigUpdated { version });
    }
    // Another subscriber may have announced its own loss meanwhile.
    let lagged = loop {
        if let Err(error) = slow.recv().await {
            break error;
        }
    };
    assert_eq!(lagged, RecvError::Lagged(5000 - 4096));
    let metrics = rig.metrics();
    assert_eq!(metrics.value("bus_lagged_total{service=\"slow\"}"), 904.0);
    assert!(metrics.value("bus_overflow_dropped_total") >= 904.0);
}
