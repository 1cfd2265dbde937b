//! Settings as a whole: text in; a plan, or what is told of it, out.

use clap::Parser;
use proptest::prelude::*;
use ron_kernel::ServiceId;
use ron_kernel::topic::TopicFilter;
use serde_json::{Value, json};

use super::*;
use crate::cli::Cli;
use crate::logging::{Format, Level};
use crate::plan::Entry;

fn inputs<const N: usize>(args: &str, variables: [(&str, &str); N]) -> Inputs {
    let args = ["ron-host"].into_iter().chain(args.split(' ').filter(|arg| !arg.is_empty()));
    let flags = Arc::new(Cli::parse_from(args).flags);
    Inputs { flags, environment: Arc::new(variables.into()), file: None }
}

fn file(text: &str) -> Option<Arc<File>> {
    Some(Arc::new(File::new("ron.toml".into(), text.into())))
}

fn read(text: &str) -> Result<Settings, Wrong> {
    inputs("", [("API_KEY", "hunter2")]).check(file(text))
}

fn id(name: &str) -> ServiceId {
    ServiceId::parse(name).expect("a name")
}

/// A file of one service, and its mistakes.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let lines = read(text).map(|settings| settings.plan).expect_err("mistakes").lines();
    assert_eq!(lines, expected);
}

/// A line of a service's table, and the mistake in it.
#[track_caller]
fn check_key(line: &str, expected: &str) {
    check(&format!("[service.a]\ncomponent = 'a.wasm'\n{line}"), &[expected]);
}

#[test]
fn syntax() {
    check("a = = 1", &["ron.toml:1:5: extra `=`; expected nothing"]);
    check(
        "[log]\nlevel = 'info'\nlevel = 'warn'",
        &["ron.toml:3:1: duplicate key; expected each key once"],
    );
    check(
        "[service.a]\ncomponent = 'a.wasm'\n[service.a]",
        &["ron.toml:3:10: duplicate key; expected each key once"],
    );
    check(
        "[service.a]\ncomponent = a.wasm\nreplicas = 0\n[log]\nlevel = 'loud'",
        &[
            "ron.toml:2:13: string values must be quoted; expected literal string",
            "ron.toml:3:12: service.a.replicas: 0 is too little; \
             expected a whole number from 1 to 64",
            "ron.toml:5:9: log.level: \"loud\" is not one of the choices; expected \"trace\" or \
             \"debug\" or \"info\" or \"warn\" or \"error\" or \"off\"",
        ],
    );
}

/// What a line leads to that is no TOML is not told; what the others do is.
#[test]
fn a_list_that_does_not_end() {
    check(
        "[service.a]\ndepends_on = [1, 'x',\nreplicas = 0\n[log]\nlevel = 'x'",
        &[
            "ron.toml:2:15: service.a.depends_on: 1 is not a text; \
             expected a list of names of services",
            "ron.toml:2:18: service.a.depends_on: there is no service named x; there is a",
            "ron.toml:3:10: unexpected `=` in array; expected value, `]`",
            "ron.toml:4:1: missing comma between array elements; expected `,`",
            "ron.toml:5:1: missing comma between array elements; expected `,`",
        ],
    );
}

#[test]
fn keys() {
    check(
        "admn = 1",
        &["ron.toml:1:1: admn: there is no such key; the nearest known key is \"admin\""],
    );
    check(
        "zzz = 1",
        &["ron.toml:1:1: zzz: there is no such key; \
           expected one of admin, http, admin_tls, log, on_critical, metrics_detail, control, cache_dir, engine, defaults, listener, service"],
    );
    check(
        "memory = '1 MiB'",
        &["ron.toml:1:1: memory: there is no such key; it belongs in [service.NAME]"],
    );
    check(
        "[defaults]\nreplica = 1\n[defaults.mailbox]\nbyte = 1",
        &[
            "ron.toml:2:1: defaults.replica: there is no such key; expected one of critical, \
             strategy, restart, mailbox, memory, table_elements, start_deadline, \
             handler_deadline, stop_deadline, handover_deadline, probation, state_bytes, \
             resources, hostcall_bytes, log_records, log_bytes, metric_series, publish_rate, \
             outgoing_requests",
            "ron.toml:4:1: defaults.mailbox.byte: there is no such key; \
             the nearest known key is \"bytes\"",
        ],
    );
    check_key(
        "conf = {}",
        "ron.toml:3:1: service.a.conf: there is no such key; the nearest known key is \"config\"",
    );
    check("service = 1", &["ron.toml:1:11: service: 1 is not a table; expected a table"]);
    check("[[service]]", &["ron.toml:1:1: service: a list is not a table; expected a table"]);
    check("service.a = 1", &["ron.toml:1:13: service.a: 1 is not a table; expected a table"]);
}

#[test]
fn values() {
    let address = "is not an address with a port; \
                   expected an address with a port, such as \"127.0.0.1:9600\"";
    check("admin = 'here'", &[&format!("ron.toml:1:9: admin: \"here\" {address}")]);
    check("admin = 9600", &[&format!("ron.toml:1:9: admin: 9600 {address}")]);
    check_key(
        "critical = 'yes'",
        "ron.toml:3:12: service.a.critical: \"yes\" is not true or false; expected true or false",
    );
    check_key(
        "memory = 67108864",
        "ron.toml:3:10: service.a.memory: 67108864 is not a size; \
         expected a size from 64 KiB to 4 GiB, such as \"64 MiB\"",
    );
    check_key(
        "memory = '8 GiB'",
        "ron.toml:3:10: service.a.memory: \"8 GiB\" is too much; \
         expected a size from 64 KiB to 4 GiB, such as \"64 MiB\"",
    );
    check_key(
        "handler_deadline = '5 parsecs'",
        "ron.toml:3:20: service.a.handler_deadline: \"5 parsecs\" is not a duration; \
         expected a duration from 1ms to 1h, such as \"5s\"",
    );
    check_key(
        "restart.within = '1us'",
        "ron.toml:3:18: service.a.restart.within: \"1us\" is too little; \
         expected a duration from 1ms to 1day, such as \"5s\"",
    );
    check_key(
        "replicas = 1e2",
        "ron.toml:3:12: service.a.replicas: 1e2 is not a whole number; \
         expected a whole number from 1 to 64",
    );
    check_key(
        "publish_rate = 9999999999999999999999999999999999999999999",
        "ron.toml:3:16: service.a.publish_rate: 9999999999999999999999999999999999999999999 is \
         too much; expected a whole number from 0 to 1000000000",
    );
    check_key(
        "mailbox = { overflow = 'drop' }",
        "ron.toml:3:24: service.a.mailbox.overflow: \"drop\" is not one of the choices; \
         expected \"drop-oldest\" or \"drop-newest\" or \"reject\"",
    );
    check_key(
        "digest = 'b3:12'",
        "ron.toml:3:10: service.a.digest: \"b3:12\" is not a digest; \
         expected b3: and 64 hexadecimal digits",
    );
    check_key(
        "stop_deadline = []",
        "ron.toml:3:17: service.a.stop_deadline: a list is not a duration; \
         expected a duration from 1ms to 1h, such as \"5s\"",
    );
}

#[test]
fn names_topics_and_grants() {
    let filters = "expected a list of topic filters, such as \"orders.>\"";
    check(
        "[service.'a b']",
        &["ron.toml:1:10: service.\"a b\": \"a b\" is not a service's name: \
           1 to 64 of A-Z a-z 0-9 _ -; expected [service.NAME]"],
    );
    check(
        "[service.ron]",
        &["ron.toml:1:10: service.ron: \"ron\" is a name that the host uses for itself; \
           expected [service.NAME]"],
    );
    check_key(
        "subscribe = ['a', 'b.>.c']",
        &format!(
            "ron.toml:3:19: service.a.subscribe: \"b.>.c\" is not a topic filter: \
             token 2 is '>', which may only come last; {filters}"
        ),
    );
    check_key(
        "subscribe = ['ron.dlq.a']",
        &format!("ron.toml:3:14: service.a.subscribe: \"ron.dlq.a\" is the host's own; {filters}"),
    );
    check_key(
        "grants.publish = 'a'",
        &format!("ron.toml:3:18: service.a.grants.publish: \"a\" is not a list; {filters}"),
    );
    check_key(
        "grants.publish = [1]",
        &format!("ron.toml:3:19: service.a.grants.publish: 1 is not a text; {filters}"),
    );
    check_key(
        "grants.outbound = ['a:b:c']",
        "ron.toml:3:20: service.a.grants.outbound: \"a:b:c\" is not a host, such as \
         \"example.org:443\": \"c\" is no port; expected a list of hosts, with a port or \
         without",
    );
}

#[test]
fn directories_and_variables() {
    let directory = "expected a directory, relative to this file";
    check_key(
        "grants.dirs = ['src', 'no/such::/data:rw']",
        &format!(
            "ron.toml:3:23: service.a.grants.dirs: no/such: cannot be used: \
             No such file or directory (os error 2); {directory}"
        ),
    );
    check_key(
        "grants.dirs = ['Cargo.toml']",
        &format!("ron.toml:3:16: service.a.grants.dirs: Cargo.toml: not a directory; {directory}"),
    );
    check_key(
        "grants.dirs = ['src::/data', 'src::/data:rw']",
        "ron.toml:3:30: service.a.grants.dirs: two directories are called \"/data\"; \
         expected a name for each: HOST::GUEST",
    );
    check_key(
        "grants.dirs = ['src::']",
        "ron.toml:3:16: service.a.grants.dirs: \"src::\" is not a directory; expected a list of \
         directories, such as \"assets\" or \"state::/data:rw\"",
    );
    let variables = "expected a list of variables, each NAME or NAME=value";
    check_key(
        "grants.env = ['A B=hunter3']",
        &format!(
            "ron.toml:3:15: service.a.grants.env: \"A B\" is not a variable's name; {variables}"
        ),
    );
    check_key(
        "grants.env = ['API_KEY', 'NOT_SET']",
        "ron.toml:3:26: service.a.grants.env: $NOT_SET is not set; expected a variable of the \
         host's environment, or NOT_SET=value",
    );
    check_key(
        "grants.env = ['A=1', 'A=2']",
        "ron.toml:3:22: service.a.grants.env: A is there twice; expected each variable once",
    );
}

/// The plan has what is meant: two hosts with another variable are not alike.
#[test]
fn what_is_granted_is_found_and_values_are_not_shown() {
    let text = "[service.a]\ncomponent = 'a'\nargs = ['--flag', 'x y']\n\
                grants.env = ['API_KEY', 'NAME=swordfish', 'EMPTY=']\n\
                grants.dirs = ['src', 'src/settings::/data:rw']";
    let settings = |key: &str| {
        inputs("", [("API_KEY", key), ("OTHER", "x")]).check(file(text)).expect("a plan")
    };
    let settings = (settings("hunter2"), settings("hunter4"));
    assert_ne!(settings.0.plan, settings.1.plan);
    let settings = settings.0;
    let reach = settings.plan.services[&id("a")].reach();
    assert_eq!(reach.args, ["--flag", "x y"]);
    let text = |text: &str| text.to_owned();
    assert_eq!(
        reach.env,
        [
            (text("API_KEY"), text("hunter2")),
            (text("NAME"), text("swordfish")),
            (text("EMPTY"), text("")),
        ]
    );
    let dirs: Vec<_> = reach
        .dirs
        .iter()
        .map(|one| (one.host.to_str().expect("text"), one.guest.as_str(), one.writable))
        .collect();
    assert_eq!(dirs, [("src", "src", false), ("src/settings", "/data", true)]);
    let shown = settings.toml() + &settings.json().to_string() + &format!("{settings:?}{reach:?}");
    // The file's own text is kept for what is told of mistakes.
    let shown = shown.replace("NAME=swordfish', 'EMPTY", "");
    assert!(!shown.contains("swordfish") && !shown.contains("hunter2"), "{shown}");
    assert!(
        settings.toml().contains(r#"grants.env = ["API_KEY", "NAME=***", "EMPTY=***"]"#),
        "{}",
        settings.toml()
    );
}

/// The line that is meant is shown, unless a value that is secret may be in it.
#[test]
fn a_line_with_a_value_of_a_variable_is_not_shown() {
    #[track_caller]
    fn check(line: &str, shown: bool) {
        let wrong = read(&format!("[service.a]\ncomponent = 'a'\n{line}\n"));
        let told = wrong.expect_err("a mistake").report(Format::Text, false, "now").join("\n");
        assert_eq!(told.contains(line), shown, "{told}");
        assert_eq!(told.contains("swordfish"), shown && line.contains("swordfish"), "{told}");
        assert!(told.contains("ron.toml:3:"), "{told}");
    }
    check("memory = 'much'", true);
    check("config.key = { env = 'swordfish_is_not_set' }", true);
    check("grants.env = ['A=swordfish', 'A=x']", false);
    check("grants.env = ['A-B=swordfish']", false);
    check("grants = { env = ['A=swordfish'], dirz = [] }", false);
    check("grants.env = ['A=swordfish", false);
    check("args = ['--token=swordfish', 1]", false);
    check("args = '--token=swordfish'", false);
    check("args = ['--token', 'swordfish', 1]", false);
    check("grants.env = 'TOKEN=swordfish'", false);
    check("grants.env = [TOKEN=swordfish]", false);
    check("grants.env = ['MY TOKEN=swordfish']", false);
    check("grants.env = { TOKEN = 'swordfish' }", false);
    check("grants.env = [{ TOKEN = 'swordfish' }]", false);
    check("grants = { env = ['TOKEN\\u003dswordfish'], x = 1 }", false);
}

#[test]
fn a_secret_is_not_empty() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "[service.a]\ncomponent = 'a'\nconfig.key = { file = 'secret' }\n";
    let file = Arc::new(File::new(directory.path().join("ron.toml"), text.into()));
    let empty = inputs("", [("EMPTY", "")])
        .check(self::file("[service.a]\ncomponent = 'a'\nconfig.key = { env = 'EMPTY' }\n"));
    assert!(empty.expect_err("a mistake").lines()[0].contains("$EMPTY is empty"));
    for empty in ["", "\n", "\r\n"] {
        std::fs::write(directory.path().join("secret"), empty).expect("written");
        let wrong = inputs("", []).check(Some(Arc::clone(&file))).expect_err("a mistake").lines();
        assert!(wrong[0].contains("secret: is empty; expected a file with"), "{wrong:?}");
    }
}

#[test]
fn schedules() {
    let expected = "expected minute, hour, day of the month, month and day of the week in UTC, \
                    such as \"*/5 * * * *\", with seconds before them or without";
    let check = |line: &str, wrong: &str| {
        check_key(line, &format!("ron.toml:3:12: service.a.schedule: {wrong}; {expected}"));
    };
    check("schedule = 5", "5 is not a text");
    check("schedule = '* * *'", "\"* * *\" is not a schedule: it has 3 fields");
    check("schedule = '0 0 31 2 *'", "\"0 0 31 2 *\" is not a schedule: it is never due");
    check("schedule = '61 * * * *'", "\"61 * * * *\" is not a schedule: \"61\" is no minute");
}

#[test]
fn listeners_and_routes() {
    fn listener(text: &str, mistakes: &[&str]) {
        let head = "[service.a]\ncomponent = 'a'\n[listener.l]\nbind = '127.0.0.1:80'\n";
        check(&format!("{head}{text}"), mistakes);
    }
    check(
        "[listener.'a b']\n[listener.c]\nbund = '127.0.0.1:80'",
        &[
            "ron.toml:1:11: listener.\"a b\": \"a b\" is no listener's name; expected \
             [listener.NAME]",
            "ron.toml:2:11: listener.c: there is no bind; expected bind = \"ADDRESS:PORT\"",
            "ron.toml:3:1: listener.c.bund: there is no such key; the nearest known key is \"bind\"",
        ],
    );
    listener(
        "tls.cert = 'x'",
        &["ron.toml:5:12: listener.l.tls.cert: the certificate's key is missing; expected key = \
           \"PATH\" besides"],
    );
    listener(
        "tls = { client_ca = 'x', self_signed = true }",
        &["ron.toml:5:21: listener.l.tls.client_ca: there is no certificate to show; expected \
           cert and key besides"],
    );
    listener(
        "tls = { cert = 'x', key = 'x', self_signed = true }",
        &["ron.toml:5:46: listener.l.tls.self_signed: there is a certificate already; expected \
           one of the two"],
    );
    listener(
        "sni = { 'a.example' = { cert = 'x', key = 'x' }, 'b c' = {} }",
        &[
            "ron.toml:5:9: listener.l.sni.\"a.example\": there is no certificate for those who \
             ask for no name; expected tls = { cert = \"...\", key = \"...\" } besides",
            "ron.toml:5:50: listener.l.sni.\"b c\": \"b c\" is no host: expected a name as in \
             \"api.example\", or \"*.example\" for all below it; expected \"NAME\" = { cert = \
             \"...\", key = \"...\" }",
        ],
    );
    listener(
        "[listener.m]\nbind = '127.0.0.1:80'",
        &["ron.toml:6:8: listener.m.bind: listener.l.bind is 127.0.0.1:80 too; expected an \
           address of its own for each listener"],
    );
    listener(
        "limits = { rate = 2_000_000 }\n[[service.a.http]]\nlistener = 'k'\nhost = 'a b'",
        &[
            "ron.toml:5:19: listener.l.limits.rate: 2000000 is too much; expected a whole \
             number from 0 to 1000000",
            "ron.toml:7:12: service.a.http[0].listener: there is no listener named k; there is l",
            "ron.toml:8:8: service.a.http[0].host: \"a b\" is not a host's name; expected a host's name, such as \
             \"api.example\", or \"*.example\" for all below it",
        ],
    );
    listener(
        "[[service.a.http]]\nlistener = 'l'\n[[service.a.http]]\npath = 'v1'\n\
         [[service.a.http]]\nlistener = 'l'\npath = '/'",
        &[
            "ron.toml:7:1: service.a.http[1]: there is no listener; expected listener = \"NAME\"",
            "ron.toml:8:8: service.a.http[1].path: \"v1\" is not the beginning of a path; expected the beginning of a path, such as \"/v1\"",
            "ron.toml:9:1: service.a.http[2]: a takes any host, / already; expected each host and \
             path to lead to one service",
        ],
    );
}

#[test]
fn streams_have_a_listener_of_their_own() {
    fn stream(text: &str, mistakes: &[&str]) {
        let head = "[service.a]\ncomponent = 'a'\nstream = [{ listener = 'l' }]\n\
                    [listener.l]\nbind = '127.0.0.1:80'\n";
        check(&format!("{head}{text}"), mistakes);
    }
    stream(
        "alpn = ['mqtt', '']",
        &[
            "ron.toml:6:8: listener.l.alpn: there is no TLS handshake to agree in; expected tls = \
             { ... } besides",
            "ron.toml:6:17: listener.l.alpn: \"\" is not a protocol's name; expected a list of \
             names of protocols, such as \"mqtt\"",
        ],
    );
    stream(
        "tls = { self_signed = true }\nalpn = ['mqtt']\n\
         [service.b]\ncomponent = 'b'\nhttp = [{ listener = 'l' }]",
        &[
            "ron.toml:3:24: service.a.stream[0].listener: l is for HTTP; expected a listener of \
             its own for byte streams",
            "ron.toml:7:8: listener.l.alpn: l is for HTTP, which offers h2 and http/1.1; expected \
             it on a listener of byte streams",
        ],
    );
    stream(
        "[service.b]\ncomponent = 'b'\n\
         stream = [{ listener = 'l' }, { listener = 'l', host = 'b.example' }, {}, \
         { listener = 'k', path = '/' }]",
        &[
            "ron.toml:8:11: service.b.stream[0]: a takes any host already; expected each host to \
             lead to one service",
            "ron.toml:8:56: service.b.stream[1].host: l is in clear, where clients ask for no \
             host; expected no host, or tls = { ... } of the listener",
            "ron.toml:8:71: service.b.stream[2]: there is no listener; expected listener = \
             \"NAME\"",
            "ron.toml:8:88: service.b.stream[3].listener: there is no listener named k; there is l",
            "ron.toml:8:93: service.b.stream[3].path: there is no such key; expected one of \
             listener, host",
        ],
    );
    check(
        "http = '127.0.0.1:80'\n[service.a]\ncomponent = 'a'\nstream = [{ listener = 'http' }]",
        &["ron.toml:4:24: service.a.stream[0].listener: http is for HTTP; expected a listener of \
           its own for byte streams"],
    );
}

#[test]
fn listeners_are_shown_as_they_are_written() {
    let text = "[listener.l]\nbind = '127.0.0.1:80'\ntls = { cert = 'c', key = 'k' }\n\
                sni = { 'a.example' = { cert = 'c', key = 'k' } }\nlimits.rate = 7\n\
                [listener.m]\nbind = '127.0.0.1:81'\ntls.self_signed = true\nalpn = ['x']\n\
                [service.a]\ncomponent = 'a'\n\
                http = [{ listener = 'l', host = '*.example', path = '/v1/' }]\n\
                stream = [{ listener = 'm', host = 'b.example' }]";
    let shown = read(text).expect("a plan").toml();
    for line in [
        "tls.cert = \"c\"",
        "sni.\"a.example\".key = \"k\"",
        "limits.rate = 7",
        "limits.per_ip = 256",
        "http = [{ host = \"*.example\", listener = \"l\", path = \"/v1\" }]",
        "stream = [{ host = \"b.example\", listener = \"m\" }]",
        "alpn = [\"x\"]",
    ] {
        assert!(shown.lines().any(|own| own.starts_with(line)), "{line} in\n{shown}");
    }
    // What is shown says the same.
    assert_eq!(read(&shown).expect("a plan").plan, read(text).expect("a plan").plan);
}

#[test]
fn a_whole() {
    check(
        "[service.a]",
        &["ron.toml:1:10: service.a.component: there is none; expected component = \"PATH\""],
    );
    check_key(
        "depends_on = ['b']",
        "ron.toml:3:15: service.a.depends_on: there is no service named b; there is a",
    );
    check_key(
        "restart = { first_delay = '2s', max_delay = '1s' }",
        "ron.toml:3:27: service.a.restart.first_delay: first_delay is over max_delay; \
         expected first_delay to be at most max_delay",
    );
    check(
        "[defaults]\nrestart.max_delay = '1ms'\n[service]\na.component = 'a'\nb.component = 'b'",
        &["ron.toml:2:21: defaults.restart.max_delay: first_delay is over max_delay; \
           expected first_delay to be at most max_delay"],
    );
    check(
        "[service]\n\
         catalog = { component = 'a', depends_on = ['price'] }\n\
         price = { component = 'a', depends_on = ['stock', 'catalogue'] }\n\
         stock = { component = 'a', depends_on = ['stock', 'catalog'] }",
        &[
            "ron.toml:3:51: service.price.depends_on: there is no service named catalogue; \
             the nearest name is \"catalog\"",
            "ron.toml:4:42: service.stock.depends_on: stock -> stock is a circle; \
             expected no service to depend on itself, nor through others",
            "ron.toml:4:51: service.stock.depends_on: catalog -> price -> stock -> catalog is a \
             circle; expected no service to depend on itself, nor through others",
        ],
    );
}

#[test]
fn secrets() {
    let expected = "expected { file = \"PATH\" } or { env = \"NAME\" }";
    check_key(
        "config = { k = { env = 'NOT_SET' } }",
        "ron.toml:3:16: service.a.config.k: $NOT_SET is not set; \
         expected a variable of the host's environment",
    );
    check_key(
        "config = { k = { file = 'no/such/file' } }",
        "ron.toml:3:16: service.a.config.k: no/such/file: cannot be read: No such file or directory \
         (os error 2); expected a file with the secret, relative to this file",
    );
    check_key(
        "config = { k = { file = 'a', env = 'B' } }",
        &format!("ron.toml:3:16: service.a.config.k: a secret is in one place; {expected}"),
    );
    check_key(
        "config = { k = { file = 1 } }",
        &format!("ron.toml:3:16: service.a.config.k: a secret's place is a text; {expected}"),
    );
    check_key(
        "config = { k = nan }",
        "ron.toml:3:16: service.a.config.k: nan is no number of JSON; expected one of 64 bits",
    );
}

/// A value that is no default, for every key of a service.
#[test]
fn each_key_sets_a_field_of_its_own() {
    let shown = |text: &str| -> Vec<(String, Value)> {
        let text = format!("[service.b]\ncomponent = 'b'\n[service.a]\ncomponent = 'a'\n{text}");
        let all = read(&text).expect("a plan").json();
        let own = |line: &Value| Some((line["key"].as_str()?.to_owned(), line["value"].clone()));
        all.as_array().expect("a list").iter().filter_map(own).collect()
    };
    let before = shown("");
    let mut left: Vec<&str> = before.iter().map(|(key, _)| key.as_str()).collect();
    left.retain(|key| key.starts_with("service.a."));
    // What is not offered yet is refused, and the component is there already.
    left.retain(|key| !["component", "outbound", "buckets"].iter().any(|own| key.ends_with(own)));
    let digest = ron_runtime::Digest::of(b"").to_string();
    for (key, value) in [
        ("digest", json!(digest)),
        ("schedule", json!("*/5 * * * *")),
        ("args", json!(["--flag", "x"])),
        ("grants.dirs", json!(["src", "src::/data:rw"])),
        ("grants.env", json!(["API_KEY"])),
        ("depends_on", json!(["b"])),
        ("subscribe", json!(["x.>"])),
        ("grants.publish", json!(["x.>"])),
        ("grants.subscribe", json!(["x.>"])),
        ("critical", json!(false)),
        ("strategy", json!("one-for-all")),
        ("restart.policy", json!("never")),
        ("restart.budget", json!(1)),
        ("restart.within", json!("2s")),
        ("restart.first_delay", json!("3ms")),
        ("restart.max_delay", json!("4s")),
        ("restart.reset_after", json!("5s")),
        ("mailbox.messages", json!(6)),
        ("mailbox.bytes", json!("7 MiB")),
        ("mailbox.overflow", json!("reject")),
        ("mailbox.max_deliveries", json!(8)),
        ("mailbox.dead_letters", json!(9)),
        ("memory", json!("10 MiB")),
        ("table_elements", json!(11)),
        ("start_deadline", json!("12s")),
        ("handler_deadline", json!("13s")),
        ("stop_deadline", json!("14s")),
        ("handover_deadline", json!("16s")),
        ("probation", json!("22s")),
        ("state_bytes", json!("23 KiB")),
        ("replicas", json!(24)),
        ("partition_by", json!("topic")),
        ("resources", json!(15)),
        ("hostcall_bytes", json!("17 MiB")),
        ("log_records", json!(18)),
        ("log_bytes", json!("19 KiB")),
        ("metric_series", json!(20)),
        ("publish_rate", json!(21)),
        ("outgoing_requests", json!(22)),
    ] {
        let after = shown(&format!("{key} = {value}"));
        let changed: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let key = format!("service.a.{key}");
        assert_eq!(changed, [&(key.clone(), value)]);
        left.retain(|known| *known != key);
    }
    assert_eq!(left, [""; 0], "keys without a line here");
}

/// The same for every key of the engine.
#[test]
fn each_key_of_the_engine_sets_a_field_of_its_own() {
    let shown = |text: &str| -> Vec<(String, Value)> {
        let all = read(text).expect("a plan").json();
        let own = |line: &Value| Some((line["key"].as_str()?.to_owned(), line["value"].clone()));
        let all = all.as_array().expect("a list").iter().filter_map(own);
        all.filter(|(key, _)| key.starts_with("engine.")).collect()
    };
    let before = shown("");
    let mut left: Vec<&str> = before.iter().map(|(key, _)| key.as_str()).collect();
    for (key, value) in [
        ("max_services", json!(1)),
        ("allocation", json!("on-demand")),
        ("memory_reservation", json!("2 MiB")),
        ("copy_on_write", json!(false)),
        ("keep_resident", json!("3 MiB")),
        ("stack", json!("4 MiB")),
        ("tick", json!("5ms")),
        ("workers", json!(6)),
        ("request_instances", json!(7)),
        ("connection_instances", json!(8)),
    ] {
        let after = shown(&format!("[engine]\n{key} = {value}"));
        let changed: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let key = format!("engine.{key}");
        assert_eq!(changed, [&(key.clone(), value)]);
        left.retain(|known| *known != key);
    }
    assert_eq!(left, [""; 0], "keys without a line here");
}

#[test]
fn a_service_reads_texts() {
    fn check(value: &str, expected: &str) {
        let text = format!("[service.a]\ncomponent = 'a'\nconfig.k = {value}");
        let plan = read(&text).expect("a plan").plan;
        assert_eq!(plan.config()["a"]["k"], expected);
    }
    check("'EUR'", "EUR");
    check("16", "16");
    check("0x1_0", "16");
    check("18446744073709551615", "18446744073709551615");
    check("1.5", "1.5");
    check("true", "true");
    check("1979-05-27", "1979-05-27");
    check("[1, { a = 'b' }]", "[1,{\"a\":\"b\"}]");
    check("{ env = 'API_KEY' }", "hunter2");
    check("{ env = 'A', other = 1 }", "{\"env\":\"A\",\"other\":1}");
}

#[test]
fn six_mistakes_are_told_in_one_go() {
    let text = "\
admin = 9600
[log]
level = 'loud'
[service.web]
component = 'web.wasm'
memroy = '64 MiB'
handler_deadline = '5'
depends_on = ['db']
oops";
    let wrong = read(text).expect_err("mistakes");
    let now = "kept version 7";
    let text = wrong.report(Format::Text, false, now).join("\n");
    assert_eq!(
        text,
        r#"error: admin: 9600 is not an address with a port
 --> ron.toml:1:9
  |
1 | admin = 9600
  |         ^^^^ expected an address with a port, such as "127.0.0.1:9600"
error: log.level: "loud" is not one of the choices
 --> ron.toml:3:9
  |
3 | level = 'loud'
  |         ^^^^^^ expected "trace" or "debug" or "info" or "warn" or "error" or "off"
error: service.web.memroy: there is no such key
 --> ron.toml:6:1
  |
6 | memroy = '64 MiB'
  | ^^^^^^ the nearest known key is "memory"
error: service.web.handler_deadline: "5" is not a duration
 --> ron.toml:7:20
  |
7 | handler_deadline = '5'
  |                    ^^^ expected a duration from 1ms to 1h, such as "5s"
error: service.web.depends_on: there is no service named db
 --> ron.toml:8:15
  |
8 | depends_on = ['db']
  |               ^^^^ there is web
error: key with no value
 --> ron.toml:9:5
  |
9 | oops
  |     ^ expected `=`
6 mistakes: kept version 7"#
    );
    let coloured = wrong.report(Format::Text, true, now).join("\n");
    assert!(coloured.contains("\u{1b}["), "{coloured}");
    let records = wrong.report(Format::Json, false, now);
    assert_eq!(records.len(), 6);
    let record: Value = serde_json::from_str(&records[3]).expect("JSON");
    assert_eq!(
        record,
        json!({
            "level": "ERROR",
            "message": "service.web.handler_deadline: \"5\" is not a duration; \
                        expected a duration from 1ms to 1h, such as \"5s\"",
            "file": "ron.toml", "line": 7, "column": 20,
            "key": "service.web.handler_deadline",
            "wrong": "\"5\" is not a duration",
            "expected": "expected a duration from 1ms to 1h, such as \"5s\"",
            "now": "kept version 7",
        })
    );
}

#[test]
fn nobody_reads_a_thousand_mistakes() {
    let text: String = (0..1000).map(|n| format!("x{n} = 1\n")).collect();
    let wrong = read(&text).expect_err("mistakes");
    let told = wrong.report(Format::Text, false, "nothing was started");
    assert_eq!(told.len(), 101);
    assert_eq!(told[100], "1000 mistakes, 900 not told: nothing was started");
    let told = wrong.report(Format::Json, false, "");
    assert!(told[100].contains("900 mistakes more"), "{}", told[100]);
}

/// Names that are nobody's, one after the other, and lines that lead nowhere.
#[test]
fn a_large_file_is_read_in_time_that_follows_its_size() {
    let services: String = (0..10_000)
        .map(|n| format!("[service.s{n}]\ncomponent='a'\ndepends_on=['s{}', 'gone']\n", n + 1))
        .collect();
    let wrong = read(&services).expect_err("mistakes");
    assert_eq!(wrong.mistakes.len(), 10_001);
    let more = "there is s0, s1, s10, s100, s1000, s1001, s1002, s1003, s1004, s1005 and 9990 more";
    assert!(wrong.lines()[99].ends_with(more), "{}", wrong.lines()[99]);
}

#[test]
fn a_position_counts_characters() {
    let file = File::new("ron.toml".into(), "a\nüü = 1".into());
    assert_eq!(file.position(0), (1, 1));
    assert_eq!(file.position(7), (2, 4));
    assert_eq!(file.position(99), (2, 7));
    let file = File::new("ron.toml".into(), "\u{feff}a".into());
    assert_eq!(file.position(0), (1, 1));
    assert_eq!(file.text, "a");
}

#[test]
fn the_stronger_word_counts() {
    #[track_caller]
    fn check<const N: usize>(
        args: &str,
        variables: [(&str, &str); N],
        text: &str,
        level: Level,
        origin: &str,
    ) {
        let settings = inputs(args, variables).check(file(text)).expect("a plan");
        assert_eq!(settings.plan.log.written.level, level);
        assert_eq!(settings.place(settings.places().get("log.level")), origin);
    }
    let (flag, variable) = ("--log-level error", ("RON_LOG_LEVEL", "debug"));
    let text = "\n[log]\nlevel = 'warn'";
    check(flag, [variable], text, Level::Error, "--log-level");
    check("", [variable], text, Level::Debug, "RON_LOG_LEVEL");
    check("", [("RON_LOG_LEVEL", "")], text, Level::Warn, "ron.toml:3");
    check("", [], "", Level::Info, "default");
}

#[test]
fn a_service_is_what_all_say_of_it() {
    let text = "\
[defaults]
memory = '1 MiB'
critical = false
[service.my-a]
component = 'a.wasm'
memory = '2 MiB'
[service.my-a.config]
currency = 'EUR'
apiKey = { env = 'API_KEY' }
[service.b]
component = 'b.wasm'
critical = true
";
    let args = "--component my-a=dev/a.wasm --component c.wasm --set b.k=flag --optional b";
    let variables = [
        ("API_KEY", "hunter2"),
        ("RON_CONFIG__MY_A__CURRENCY", "USD"),
        ("RON_CONFIG__MY_A__APIKEY", "swordfish"),
        ("RON_CONFIG__B__K", "variable"),
        ("RON_CONFIG__C__NEW_KEY", "1"),
    ];
    let settings = inputs(args, variables).check(file(text)).expect("a plan");
    let of = |name: &str| &settings.plan.services[&id(name)];
    assert_eq!(of("my-a").component, "dev/a.wasm".into());
    assert_eq!(of("my-a").limits.memory, 2 << 20);
    assert!(!of("my-a").critical && !of("b").critical);
    assert_eq!(of("my-a").config["currency"], Entry::Open("USD".into()));
    assert!(matches!(of("my-a").config["apiKey"], Entry::Secret(_)), "a secret stays one");
    assert_eq!(of("my-a").config["apiKey"].text(), "swordfish");
    assert_eq!(of("b").config["k"].text(), "flag");
    assert_eq!(of("c").component, "c.wasm".into());
    assert_eq!(of("c").limits.memory, 1 << 20, "the defaults are for all");
    assert_eq!(of("c").config["new_key"].text(), "1");
    let shown = settings.toml() + &settings.json().to_string() + &format!("{settings:?}");
    assert!(!shown.contains("swordfish") && !shown.contains("hunter2"), "{shown}");
    let line = |start: &str| {
        let found = settings.toml().lines().find(|line| line.starts_with(start)).map(str::to_owned);
        found.unwrap_or_default().split_once("  #").map(|(_, origin)| origin.trim().to_owned())
    };
    assert_eq!(line("apiKey = \"***\"").as_deref(), Some("secret, RON_CONFIG__MY_A__APIKEY"));
    assert_eq!(line("memory = \"1 MiB\"").as_deref(), Some("ron.toml:2"));
    assert_eq!(line("memory = \"2 MiB\"").as_deref(), Some("ron.toml:6"));
    assert_eq!(line("k = \"flag\"").as_deref(), Some("--set b.k"));
}

#[test]
fn every_mistake_of_flags_and_environment_is_told() {
    #[track_caller]
    fn check<const N: usize>(args: &str, variables: [(&str, &str); N], expected: &[&str]) {
        let wrong = inputs(args, variables).check(None).map(|settings| settings.plan);
        let told = wrong.expect_err("mistakes").report(Format::Text, false, "");
        assert_eq!(told, expected);
    }
    check(
        "--component a.wasm --component b/a.wasm --set x.k=v --optional y",
        [],
        &[
            "error: --component b/a.wasm: two services are named a: a.wasm and b/a.wasm; \
             name one with --component NAME=PATH",
            "error: --set x.k: there is no such service; there is a",
            "error: --optional y: there is no such service; there is a",
        ],
    );
    check(
        "--component my.svc.wasm",
        [],
        &["error: --component my.svc.wasm: \"my.svc\" is not a service's name: \
           1 to 64 of A-Z a-z 0-9 _ -; name it with NAME=PATH"],
    );
    check(
        "--component a=x --component a-b=x --component a_b=x",
        [("RON_ADMIN", "here"), ("RON_CONFIG__A_B__K", "1"), ("RON_CONFIG__C__K", "1")],
        &[
            "error: RON_ADMIN: \"here\" is not an address with a port; \
             expected an address with a port, such as \"127.0.0.1:9600\"",
            "error: RON_CONFIG__A_B__K: could mean 2 services; \
             expected RON_CONFIG__NAME__KEY; there is a, a-b, a_b",
            "error: RON_CONFIG__C__K: names no service; \
             expected RON_CONFIG__NAME__KEY; there is a, a-b, a_b",
        ],
    );
}

#[test]
fn a_variable_that_is_misspelt_is_told_of() {
    #[track_caller]
    fn check(name: &str, text: &str, expected: &[&str]) {
        let settings = inputs("", [(name, "x")]).check(file(text)).expect("a plan");
        let tell =
            |rest| format!("{name}: there is no such variable, and it is without effect; {rest}");
        let expected: Vec<String> = expected.iter().map(tell).collect();
        assert_eq!(settings.ignored, expected);
    }
    check("RON_LOG_LEVLE", "", &["the nearest is RON_LOG_LEVEL"]);
    check(
        "RON_SERVICE__PROBE__MEMORY",
        "",
        &["of a service, RON_CONFIG__NAME__KEY alone can be said so"],
    );
    check(
        "RON_XYZZY",
        "",
        &["there is RON_ADMIN, RON_HTTP, RON_ADMIN_TLS_CERT, RON_ADMIN_TLS_KEY, \
           RON_ADMIN_TLS_CLIENT_CA, RON_ADMIN_TLS_SELF_SIGNED, RON_LOG_FORMAT, RON_LOG_LEVEL, \
           RON_LOG_ACCESS, RON_ON_CRITICAL, RON_METRICS_DETAIL, RON_CONTROL, RON_CACHE_DIR, \
           RON_ENGINE_MAX_SERVICES, RON_ENGINE_ALLOCATION, RON_ENGINE_MEMORY_RESERVATION, \
           RON_ENGINE_COPY_ON_WRITE, RON_ENGINE_KEEP_RESIDENT, RON_ENGINE_STACK, \
           RON_ENGINE_TICK, RON_ENGINE_WORKERS, RON_ENGINE_REQUEST_INSTANCES, \
           RON_ENGINE_CONNECTION_INSTANCES"],
    );
    // Of Kubernetes, and of a service.
    check("RON_HOST_SERVICE_HOST", "", &[]);
    check("RON_HOST_PORT_9600_TCP_ADDR", "", &[]);
    check("OTHER", "", &[]);
    check("RON_TOKEN", "[service.a]\ncomponent = 'a'\ngrants.env = ['RON_TOKEN']", &[]);
}

#[test]
fn mistakes_are_told_in_the_format_that_was_asked_for() {
    fn check(args: &str, text: &str, expected: Format) {
        let wrong = inputs(args, []).check(file(text)).map(|settings| settings.plan);
        assert_eq!(wrong.expect_err("mistakes").format(), expected);
    }
    check("", "x = 1", Format::Text);
    check("", "x = 1\nlog.format = 'json'", Format::Json);
    check("--log-format text", "x = 1\nlog.format = 'json'", Format::Text);
}

/// A file that was read before is read as if it had not been.
#[track_caller]
fn again(before: &str, after: &str) -> bool {
    let inputs = inputs("", [("SECRET", "s")]);
    let settings = inputs.check(file(before)).expect("nothing is wrong");
    let after = file(after).expect("a file");
    let Some(short) = inputs.again(&settings, &after) else { return false };
    let whole = match inputs.check(Some(after)) {
        Ok(whole) => whole,
        Err(wrong) => panic!("it is wrong: {:?}", wrong.lines()),
    };
    assert_eq!(short.plan, whole.plan);
    assert_eq!(short.places(), whole.places());
    assert_eq!(short.toml(), whole.toml());
    true
}

#[test]
fn of_a_file_that_was_read_before_the_tables_that_changed_are_read() {
    const BEFORE: &str = "\
[defaults]
memory = '1 MiB'
[service.a]
component = 'a.wasm'
config.k = 1
[service.b]
component = 'b.wasm'
depends_on = ['a']
[service.b.config]
key = { env = 'SECRET' }
[[service.c.http]]
listener = 'l'
path = '/c'
[service.c]
component = 'c.wasm'
[listener.l]
bind = '127.0.0.1:0'
";
    #[track_caller]
    fn check(what: &str, by: &str, short: bool) {
        let after = BEFORE.replacen(what, by, 1);
        assert_ne!(after, BEFORE);
        assert_eq!(again(BEFORE, &after), short, "{after}");
    }
    assert!(again(BEFORE, BEFORE));
    check("k = 1", "k = 2", true);
    check("k = 1", "k = 1\nmemory = '2 MiB'", true);
    check("[service.b.config]", "[service.b.restart]\nbudget = 3\n[service.b.config]", true);
    check("[service.b]", "[service.x]\ncomponent = 'x.wasm'\n[service.b]", true);
    check("['a']", "['a', 'c']", true);
    check("path = '/c'", "path = '/d'", true);
    // What is wrong is found by reading all.
    check("k = 1", "k = nothing", false);
    check("k = 1", "k = { env = 'NO_SUCH' }", false);
    check("k = 1", "k = 1\nmemory = 'much'", false);
    check("['a']", "['d']", false);
    check("config.k = 1", "depends_on = ['b']", false);
    check("[service.a]\ncomponent = 'a.wasm'\nconfig.k = 1\n", "", false);
    check("config.k = 1", "http = [{ listener = 'l', path = '/c' }]", false);
    check("listener = 'l'", "listener = 'm'", false);
    check("component = 'c.wasm'\n", "", false);
    // A text that ends nowhere, or elsewhere.
    check("path = '/c'", "path = \"\"\"", false);
    check("'b.wasm'", "\"\"\"'b.wasm'", false);
    check("k = 1", "k = [", false);
    // The rest of the file.
    check("1 MiB", "2 MiB", false);
    check("127.0.0.1:0", "127.0.0.1:1", false);
}

#[test]
fn what_is_read_besides_the_file_is_looked_at_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (secret, data) = (directory.path().join("secret"), directory.path().join("data"));
    std::fs::write(&secret, "one").expect("written");
    std::fs::create_dir(&data).expect("made");
    let text = "[service.a]\ncomponent = 'a.wasm'\ngrants.dirs = ['data']\n\
                config.s = { file = 'secret' }\n";
    let read =
        |text: &str| Some(Arc::new(File::new(directory.path().join("ron.toml"), text.to_owned())));
    let inputs = inputs("", []);
    let before = inputs.check(read(text)).expect("nothing is wrong");
    let more = read(&format!("{text}[service.b]\ncomponent = 'b.wasm'\n")).expect("a file");
    let same = read(text).expect("a file");
    assert!(inputs.again(&before, &more).is_some());
    assert!(inputs.again(&before, &same).is_some());
    std::fs::write(&secret, "two").expect("written");
    assert!(inputs.again(&before, &more).is_none());
    assert!(inputs.again(&before, &same).is_none());
    std::fs::write(&secret, "one").expect("written");
    // One that is replaced in the midst is the same for all that name it.
    let two =
        format!("{text}[service.b]\ncomponent = 'b.wasm'\nconfig.s = {{ file = 'secret' }}\n");
    let after = inputs.again(&before, &read(&two).expect("a file")).expect("told apart");
    let secrets = |settings: &Settings| {
        let names = settings.outside.secrets().map(|(path, _)| path.to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(secrets(&after), std::slice::from_ref(&secret));
    // What nobody names is not looked at any more.
    let none = text.replace("config.s = { file = 'secret' }\n", "");
    let after = inputs.again(&after, &read(&none).expect("a file")).expect("told apart");
    assert!(secrets(&after).is_empty());
    std::fs::remove_dir(&data).expect("removed");
    assert!(inputs.again(&before, &same).is_none());
    assert!(inputs.again(&after, &read(&none).expect("a file")).is_none(), "it is granted");
}

#[test]
fn flags_and_variables_that_speak_of_services_have_all_read() {
    let text = "[service.a]\ncomponent = 'a.wasm'\n";
    let check = |args: &str, variables: [(&str, &str); 1]| {
        let inputs = inputs(args, variables);
        let before = inputs.check(file(text)).expect("nothing is wrong");
        inputs.again(&before, &file(text).expect("a file")).is_some()
    };
    assert!(check("", [("RON_ADMIN", "127.0.0.1:1")]));
    assert!(!check("", [("RON_CONFIG__A__K", "v")]));
    assert!(!check("--set a.k=v", [("X", "")]));
    assert!(!check("--optional a", [("X", "")]));
    assert!(!check("--component b.wasm", [("X", "")]));
}

prop_compose! {
    /// A line of a file, or what is no line at all.
    fn any_line()(
        line in prop::sample::select(vec![
            "[service.a]", "[service.b]", "[service.c]", "[service.a.config]", "[service.b.restart]",
            "[[service.a.http]]", "[[service.b.stream]]", "[listener.l]", "[defaults]", "[log]",
            "component = 'x.wasm'", "component = 'y.wasm'", "config.k = 1", "config.k = 2",
            "critical = false", "depends_on = ['b']", "depends_on = ['a']", "listener = 'l'",
            "path = '/x'", "path = '/y'", "bind = '127.0.0.1:0'", "memory = '1 MiB'", "k = 1",
            "k = \"\"\"", "\"\"\"", "k = [", "]", "budget = 3", "  [service.c]", "# text", "",
            "component = 'z.wasm' # [service.b]", "[service.'a']", "service.a.critical = true",
        ]),
    ) -> String { line.to_owned() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// Whatever changed, what comes of reading in part is what comes of reading all.
    #[test]
    fn reading_in_part_is_reading_all(
        base in prop::sample::select(vec![
            "[defaults]\nmemory = '1 MiB'\n[service.a]\ncomponent = 'a.wasm'\n[service.a.config]\nk = 1\n[service.b]\ncomponent = 'b.wasm'\n[service.b.restart]\nbudget = 2\n[listener.l]\nbind = '127.0.0.1:0'\n[service.c]\ncomponent = 'c.wasm'\ndepends_on = ['a']\n",
            "[service.a]\ncomponent = 'a.wasm'\n[service.b]\ncomponent = 'b.wasm'\n[service.a.config]\nk = 1\nl = \"\"\"\n[service.b]\n\"\"\"\n[[service.b.http]]\nlistener = 'l'\npath = '/b'\n[listener.l]\nbind = '127.0.0.1:0'\n[service.c]\ncomponent = 'c.wasm'",
            "[service.a]\r\ncomponent = 'a.wasm'\r\n[service.b]\r\ncomponent = 'b.wasm'\r\n",
        ]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize, prop::collection::vec(any_line(), 0..3)), 1..3),
        glue: bool,
    ) {
        let mut lines: Vec<String> = base.split_inclusive('\n').map(str::to_owned).collect();
        for (at, removed, added) in edits {
            let at = at.index(lines.len().max(1)).min(lines.len());
            let end = (at + removed).min(lines.len());
            let end_of_line = if glue { "" } else { "\n" };
            let count = added.len();
            let added = added.into_iter().enumerate().map(|(index, line)| {
                line + if index + 1 == count { end_of_line } else { "\n" }
            });
            lines.splice(at..end, added.collect::<Vec<_>>());
        }
        again(base, &lines.concat());
    }
}

proptest! {
    /// What is shown says the same again.
    #[test]
    fn what_is_shown_can_be_read(
        memory in 65_536..4_000_000_000u64,
        deadline in 1..3_600_000u64,
        budget in 0..10_000u32,
        text in ".*",
        digest: [u8; 8],
        topic in "[a-z]{1,4}(\\.[a-z]{1,4}){0,2}(\\.>)?",
    ) {
        prop_assume!(!topic.starts_with("ron"));
        let mut plan = Plan::default();
        let mut service = PlannedService { component: "dir/a.wasm".into(), ..Default::default() };
        service.limits.memory = memory;
        service.limits.handler_deadline = std::time::Duration::from_millis(deadline);
        service.restart.budget = budget;
        service.digest = Some(ron_runtime::Digest::of(&digest));
        service.subscribe = vec![TopicFilter::parse(&topic).expect("a filter")];
        service.config.insert("a.key".into(), Entry::Open(text));
        plan.services.insert(id("a"), Arc::new(service));
        let settings = inputs("", []).check(None).expect("nothing is wrong with nothing");
        let shown = Settings { plan: plan.clone(), ..settings };
        let shown = shown.toml();
        let again = inputs("", []).check(file(&shown));
        prop_assert_eq!(again.expect("it can be read").plan, plan);
    }

    /// No text makes it panic.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-z]{1,8}|\\[service\\.a\\]|[=\\[\\]{}'\",.\n #é0-9])*") {
        let _ = read(&text).map_err(|wrong| wrong.report(Format::Text, true, ""));
    }
}
