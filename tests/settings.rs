//! `ron.toml`: the host does what it says, flags and environment above it; what
//! is wrong with it is told at once, and nothing runs; secrets are not shown.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::ctl::{ctl, fails_lines, json as answer};
use crate::harness::deployment::{deployment, file, start, write};
use crate::harness::{Ended, Program, run};

/// Runs the program to its end, and fails if that has another exit code.
#[track_caller]
fn ends(directory: &Path, args: &str, variables: &[(&str, &str)], code: i32) -> Ended {
    let ended = start(directory, args, variables).ended();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    ended
}

fn digest(directory: &Path, name: &str) -> String {
    let file = directory.join(format!("components/{name}.wasm"));
    ron_runtime::Digest::of(&fs::read(file).expect("it was copied")).to_string()
}

/// What `config show` says of a key: its value, and where that is from.
#[track_caller]
fn shown(directory: &Path, args: &str, variables: &[(&str, &str)], key: &str) -> (Value, String) {
    let ended = ends(directory, &format!("config show --json {args}"), variables, 0);
    let all: Vec<Value> = serde_json::from_str(&ended.stdout.join("\n")).expect("JSON");
    let line = all.into_iter().find(|line| line["key"] == key).expect("it is in force");
    (line["value"].clone(), line["origin"].as_str().unwrap_or_default().to_owned())
}

const SERVICES: &str = r#"
log.format = "json"

[defaults]
critical = false

[service.probe]
component = "components/probe.wasm"
subscribe = ["extra.*"]
[service.probe.config]
from_file = { file = "secret" }
from_environment = { env = "TOKEN" }
number = 16

[service.spin]
component = "components/spin.wasm"
handler_deadline = "50ms"
strategy = "rest-for-one"

[service.farewell]
component = "components/farewell.wasm"
depends_on = ["spin"]

[service.script]
component = "components/script.wasm"
grants.publish = ["guest.>"]
[service.script.config]
1 = "request guest.probe.probe config.get from_file"
2 = "request guest.probe.probe config.get from_environment"
3 = "request guest.probe.probe config.get number"
4 = "publish extra.topic x"
5 = "request guest.spin.die x"
"#;

/// Configuration, deadlines, grants, subscriptions and groups come from the
/// file of the working directory.
#[test]
fn the_host_does_what_its_file_says() {
    let names = ["probe", "spin", "farewell", "script"];
    let directory = deployment("settings-runs", &names, SERVICES);
    write(&directory, "secret", "of a file\n");
    let host = start(&directory, "", &[("TOKEN", "of a variable")]);
    let step = |step: &str| {
        let own = |record: &Value| record["fields"]["step"] == step;
        host.log(own)["message"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(step("1"), "of a file", "without the newline at its end");
    assert_eq!(step("2"), "of a variable");
    assert_eq!(step("3"), "16");
    assert!(step("4").contains("Denied"), "{}", step("4"));
    assert!(step("5").contains("Failed"), "{}", step("5"));
    let crash = host.log(|record| record["service"] == "spin" && record["reason"] == "deadline");
    let message = crash["message"].as_str().unwrap_or_default();
    assert!(message.contains("within 50ms"), "{message}");
    let along = host.log(|record| record["message"] == "restarting with its group");
    assert_eq!((&along["service"], &along["because_of"]), (&json!("farewell"), &json!("spin")));
    let health = host.get("/healthz").json();
    assert_eq!(health["services"]["probe"]["required"], false, "as the defaults say");
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_file_of_another_directory() {
    let text = "[service.echo]\ncomponent = 'components/echo.wasm'";
    let directory = deployment("settings-elsewhere", &["echo"], text);
    let config = directory.join("ron.toml");
    let host = Program::start(["--config".as_ref(), config.as_os_str()]).ready();
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// A component on the command line is all that is run, unless a file is named.
#[test]
fn a_component_beside_a_file() {
    let text = "[service.echo]\ncomponent = 'components/echo.wasm'";
    let directory = deployment("settings-beside", &["echo", "probe"], text);
    let checked = |args: &str| {
        let ended = ends(&directory, &format!("check {args}"), &[], 0);
        let name = |line: &String| line.split("  ").nth(1).map(str::to_owned);
        let own = |line: &&String| line.starts_with("service");
        ended.stdout.iter().filter(own).filter_map(name).collect::<Vec<_>>()
    };
    assert_eq!(checked(""), ["echo"]);
    assert_eq!(checked("--component components/probe.wasm"), ["probe"]);
    assert_eq!(checked("ron.toml --component components/probe.wasm"), ["echo", "probe"]);
}

#[test]
fn flags_then_environment_then_file_then_defaults() {
    let text = "\
log.level = 'warn'
[service.echo]
component = 'components/echo.wasm'
config.k = 'file'
[service.probe]
component = 'components/probe.wasm'";
    let directory = deployment("settings-precedence", &["echo", "probe"], text);
    let check = |args: &str, variables: &[(&str, &str)], key: &str, value: Value, from: &str| {
        assert_eq!(shown(&directory, args, variables, key), (value, from.to_owned()));
    };
    let (level, variable) = ("log.level", [("RON_LOG_LEVEL", "debug")]);
    check("--log-level error", &variable, level, json!("error"), "--log-level");
    check("", &variable, level, json!("debug"), "RON_LOG_LEVEL");
    check("", &[], level, json!("warn"), "ron.toml:1");
    check("", &[], "log.format", json!("text"), "default");
    let (key, variable) = ("service.echo.config.k", [("RON_CONFIG__ECHO__K", "variable")]);
    check("--set echo.k=flag", &variable, key, json!("flag"), "--set echo.k");
    check("", &variable, key, json!("variable"), "RON_CONFIG__ECHO__K");
    check("", &[], key, json!("file"), "ron.toml:4");
    let other = "--config ron.toml --component echo=components/probe.wasm";
    let from = "--component echo=components/probe.wasm";
    check(other, &[], "service.echo.component", json!("components/probe.wasm"), from);
    check("--optional probe", &[], "service.probe.critical", json!(false), "--optional probe");
}

#[test]
fn a_check_starts_nothing() {
    let text = "[service.farewell]\ncomponent = 'components/farewell.wasm'";
    let directory = deployment("settings-check", &["farewell"], text);
    let digest = digest(&directory, "farewell");
    let ended = ends(&directory, "check", &[], 0);
    assert_eq!(
        ended.stdout,
        [
            format!("service  farewell  {digest}  components/farewell.wasm"),
            "good     ron.toml  1 service".to_owned(),
        ]
    );
    assert_eq!(ended.stderr, [""; 0]);
    let ended = ends(&directory, "check --log-format json", &[], 0);
    let lines: Vec<Value> =
        ended.stdout.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let component = "components/farewell.wasm";
    let service = json!({"service": "farewell", "digest": digest, "component": component});
    assert_eq!(lines, [service, json!({"good": true, "file": "ron.toml", "services": 1})]);

    let missing = "[service.gone]\ncomponent = 'gone.wasm'";
    write(&directory, "missing.toml", missing);
    let ended = ends(&directory, "check missing.toml", &[], 65);
    let wrong = "error: service.gone.component: gone.wasm: cannot be read: No such file";
    assert!(ended.stderr[0].starts_with(wrong), "{ended:?}");
    assert_eq!(ended.stderr[1], " --> missing.toml:2:13");
    let last = ended.stderr.last().map(String::as_str);
    assert_eq!(last, Some("1 mistake: nothing was started"));
    let ended = ends(&directory, "check nowhere.toml", &[], 78);
    let expected = "error: nowhere.toml: cannot be read: No such file or directory (os error 2); \
                    expected a configuration file";
    assert_eq!(ended.stderr, [expected]);
    let ended = ends(&directory, "check .", &[], 78);
    assert!(ended.stderr[0].starts_with("error: .: cannot be read: it is a directory"));
}

#[test]
fn another_component_than_the_pinned_one_is_not_loaded() {
    let directory = deployment("settings-pin", &["echo", "probe"], "");
    let (own, other) = (digest(&directory, "echo"), digest(&directory, "probe"));
    let pin = |digest: &str| {
        let text = "[service.echo]\ncomponent = 'components/echo.wasm'\n";
        write(&directory, "ron.toml", &format!("{text}digest = '{digest}'"));
    };
    pin(&own);
    ends(&directory, "check", &[], 0);
    pin(&other);
    for args in ["check", ""] {
        let ended = ends(&directory, args, &[], 65);
        let [wrong, place, .., mark, end] = &ended.stderr[..] else { panic!("{ended:?}") };
        let file = "components/echo.wasm";
        assert_eq!(*wrong, format!("error: service.echo.digest: {file}: its digest is {own}"));
        assert_eq!(place, " --> ron.toml:3:10");
        let expected = format!("^ expected {other}, to which it is pinned");
        assert!(mark.ends_with(&expected), "{mark}");
        assert_eq!(end, "1 mistake: nothing was started");
    }
}

#[test]
fn every_mistake_is_told_and_nothing_starts() {
    let text = "\
admn = '127.0.0.1:0'
[service.farewell]
component = 'components/farewell.wasm'
memory = '64 MX'
replicas = 0
depends_on = ['nobody']
subscribe = ['a..b']
restart = { within = 5 }";
    let directory = deployment("settings-mistakes", &["farewell"], text);
    for args in ["", "check", "config show"] {
        let ended = ends(&directory, args, &[], 78);
        // The listener's line is the first of a start.
        assert_eq!(ended.stdout, [""; 0], "{args}");
        let told = ended.stderr.iter().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(told, 6, "{ended:?}");
        assert_eq!(ended.stderr[1], " --> ron.toml:1:1");
        assert_eq!(
            ended.stderr.last().map(String::as_str),
            Some("6 mistakes: nothing was started")
        );
    }
    let ended = ends(&directory, "--log-format json", &[], 78);
    let records: Vec<Value> =
        ended.stderr.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let keys: Vec<&str> = records.iter().filter_map(|record| record["key"].as_str()).collect();
    assert_eq!(
        keys,
        [
            "admn",
            "service.farewell.memory",
            "service.farewell.replicas",
            "service.farewell.depends_on",
            "service.farewell.subscribe",
            "service.farewell.restart.within",
        ]
    );
    for record in &records {
        assert_eq!(record["file"], "ron.toml");
        assert!(record["line"].is_u64() && record["column"].is_u64(), "{record}");
        assert!(record["expected"].is_string() && record["now"].is_string(), "{record}");
    }
}

/// What is wrong with the settings hides nothing that is wrong with the components.
#[test]
fn a_check_tells_of_components_too() {
    let text = "\
[service.farewell]
component = 'components/farewell.wasm'
memory = '64 MX'
[service.gone]
component = 'gone.wasm'
[service.text]
component = 'ron.toml'
[service.nothing]
componet = 'x'
[service.timed]
component = 'components/farewell.wasm'
schedule = '* * * * *'";
    let directory = deployment("settings-together", &["farewell"], text);
    let ended = ends(&directory, "check --log-format json", &[], 78);
    let records: Vec<Value> =
        ended.stderr.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<(&str, u64)> = records
        .iter()
        .map(|record| {
            assert_eq!((&record["level"], &record["file"]), (&json!("ERROR"), &json!("ron.toml")));
            (record["key"].as_str().expect("a key"), record["line"].as_u64().expect("a line"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("service.farewell.memory", 3),
            ("service.gone.component", 5),
            ("service.text.component", 7),
            ("service.nothing.component", 8),
            ("service.nothing.componet", 9),
            ("service.timed.schedule", 12),
        ]
    );
    assert_eq!(records[2]["wrong"], "ron.toml: not WebAssembly");
    assert_eq!(records[2]["expected"], "expected a WebAssembly component");
    // Of components alone the exit code is another.
    let alone = text.replace("memory = '64 MX'", "").replace("componet = 'x'", "");
    let alone = alone.replace("[service.nothing]", "").replace("schedule = '* * * * *'", "");
    write(&directory, "ron.toml", &alone);
    ends(&directory, "check", &[], 65);
    ends(&directory, "", &[], 65);
}

#[test]
fn a_variable_that_is_misspelt_is_told_of() {
    let text = "[service.echo]\ncomponent = 'components/echo.wasm'";
    let directory = deployment("settings-misspelt", &["echo"], text);
    let ended = ends(&directory, "check", &[("RON_LOG_LEVLE", "debug")], 0);
    let [line] = &ended.stderr[..] else { panic!("{ended:?}") };
    assert!(line.contains("WARN") && line.contains("the nearest is RON_LOG_LEVEL"), "{line}");
}

#[test]
fn secrets_are_not_shown() {
    let text = "\
[service.echo]
component = 'components/echo.wasm'
[service.echo.config]
key = { file = 'secret' }
token = { env = 'TOKEN' }
currency = 'EUR'";
    let directory = deployment("settings-secrets", &["echo"], text);
    write(&directory, "secret", "hunter2\n");
    let variables = [("TOKEN", "swordfish")];
    for args in ["config show", "config show --json", "check"] {
        let ended = ends(&directory, args, &variables, 0);
        let said = [ended.stdout, ended.stderr].concat().join("\n");
        assert!(!said.contains("hunter2") && !said.contains("swordfish"), "{args}: {said}");
    }
    let ended = ends(&directory, "config show", &variables, 0);
    let at = ended.stdout.iter().position(|line| line == "[service.echo.config]");
    let own: Vec<&str> =
        ended.stdout[at.expect("its table") + 1..].iter().map(String::as_str).collect();
    assert_eq!(
        own,
        [
            "currency = \"EUR\"  # ron.toml:6",
            "key = \"***\"       # secret, ron.toml:4",
            "token = \"***\"     # secret, ron.toml:5",
        ]
    );
}

/// What the host takes and what its schema does are the same.
#[test]
fn the_schema_is_of_what_the_host_takes() {
    let text = r#"
[defaults]
memory = "64 MiB"
handler_deadline = "5s"

[service.catalog]
component = "components/echo.wasm"

[service.pricing]
component = "components/probe.wasm"            # relative to this file
digest = "DIGEST"                              # optional pin; a mismatch refuses the load
replicas = 1
critical = true
depends_on = ["catalog"]
subscribe = ["orders.>"]                       # besides what the service asks for itself
restart = { policy = "permanent", budget = 10, within = "60s" }
mailbox = { messages = 1024, bytes = "16 MiB", overflow = "drop-oldest" }
grants = { publish = ["prices.>"], subscribe = ["orders.>"], dirs = [], env = [], outbound = [], buckets = [] }

[service.pricing.config]
currency = "EUR"
api_key = { file = "key" }                     # or { env = "API_KEY" }; never logged or shown
"#;
    let directory = deployment("settings-schema", &["echo", "probe"], "");
    write(&directory, "key", "k");
    let text = text.replace("DIGEST", &digest(&directory, "probe"));
    write(&directory, "ron.toml", &text);
    ends(&directory, "check", &[], 0);

    let schema = run(["config", "schema"]).stdout.join("\n");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("ron.json", schema).expect("a resource");
    let mut schemas = boon::Schemas::new();
    let schema = compiler.compile("ron.json", &mut schemas).expect("a schema");
    let check = |text: &str| {
        let value: Value = toml::from_str(text).expect("TOML");
        schemas.validate(&value, schema).map_err(|error| error.to_string())
    };
    check(&text).expect("the file is valid");
    let shown = ends(&directory, "config show", &[], 0).stdout.join("\n");
    check(&shown).expect("so is what is shown of it");
    for wrong in [
        "admn = '127.0.0.1:0'",
        "[defaults]\nmemory = 5",
        "[defaults]\nmemory = 'much'",
        "[defaults]\nstop_deadline = '5'",
        "[defaults.mailbox]\noverflow = 'drop'",
        "[service.'a b']",
        "[service.a]\nreplicas = 65",
        "[service.a]\ndigest = 'b3:12'",
        "[service.a]\nsubscribe = 'a'",
    ] {
        check(wrong).expect_err(wrong);
    }
}

/// What a host has is what it was told last that was good, and not what its file says now.
#[test]
fn a_host_shows_what_is_in_force() {
    let text = file(&[("probe", "probe", "config.key = { env = 'KEY' }\nmailbox.messages = 7")]);
    let directory = deployment("settings-in-force", &["probe"], &text);
    let host = start(&directory, "--log-level warn", &[("KEY", "s3cret")]).ready();
    write(&directory, "ron.toml", "nonsense");
    assert!(fails_lines(&host, "reload").contains("kept version 1"));
    let shown = ctl(&host, "config");
    let line =
        |start: &str| shown.lines().find(|line| line.starts_with(start)).expect("it is told");
    assert!(line("mailbox.messages = 7").ends_with("# ron.toml:6"), "{shown}");
    assert!(line("level = \"warn\"").ends_with("# --log-level"), "{shown}");
    assert!(!shown.contains("s3cret") && shown.contains("key = "), "{shown}");
    let all = answer(&host, "config");
    assert_eq!(all["version"], 1);
    let values = all["values"].as_array().expect("a list");
    let key = "service.probe.mailbox.messages";
    let own = json!({"key": key, "value": 7, "origin": "ron.toml:6", "secret": false});
    assert!(values.contains(&own), "{all}");
    // Nor what somebody swapped by hand.
    let other = directory.join("components/other.wasm");
    fs::copy(directory.join("components/probe.wasm"), &other).expect("copied");
    ctl(&host, &format!("swap probe {}", other.display()));
    let shown = ctl(&host, "config");
    let told = shown.lines().find(|line| line.starts_with("component = ")).expect("it is told");
    assert!(told.contains("other.wasm") && told.ends_with("# not what ron.toml says"), "{told}");
}

#[test]
fn what_a_component_begins_with_has_to_fit() {
    let text = file(&[("probe", "probe", "memory = '1 MiB'")]);
    let directory = deployment("settings-memory", &["probe"], &text);
    for args in ["check", ""] {
        let ended = ends(&directory, args, &[], 78);
        let said = ended.stderr.join("\n");
        let wrong = "service.probe.memory: its component begins with 1";
        assert!(said.contains(wrong) && said.contains("1 MiB is its limit"), "{said}");
        assert!(said.contains("expected memory = \\\"1"), "{said}");
    }
}

/// What stands under a head that is broken is nobody's.
#[test]
fn a_broken_table_is_one_mistake() {
    let text =
        "log.format = 'json'\n[service.a\ncomponent = 'a.wasm'\nfrob = 1\n[defaults]\nfrob = 2";
    let directory = deployment("settings-table", &[], text);
    let ended = ends(&directory, "check", &[], 78);
    let lines: Vec<Value> =
        ended.stderr.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = lines.iter().map(|line| line["line"].as_u64()).collect();
    assert_eq!(told, [Some(2), Some(6)], "{ended:?}");
}
