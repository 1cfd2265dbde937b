//! Listeners of `ron.toml`: routes, certificates by name, clients that must show one,
//! and what a reload changes of them. The client is `openssl s_client`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::ctl::{ctl, fails};
use crate::harness::deployment::{deployment, start, write};
use crate::harness::openssl::{certificate, client, openssl};
use crate::harness::{Program, component, get, until};

const HEAD: &str = "admin = '127.0.0.1:0'\nlog.format = 'json'\n";

/// What is answered to a request over TLS, and what is said of the handshake.
fn ask(directory: &Path, address: &str, host: &str, path: &str, more: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let arguments = format!("s_client -ign_eof -connect {address} -servername {host} {more}");
    openssl(directory, &arguments, &request)
}

/// Where that listener is, as the host said: its URL and its address.
fn place(host: &Program, listener: &str) -> (String, String) {
    let url = host.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        (said["listener"] == *listener).then(|| said["http"].as_str().map(str::to_owned))?
    });
    let address = url.split_once("://").expect("a scheme").1.to_owned();
    (url, address)
}

/// Why a reload is refused.
fn refused(host: &Program) -> String {
    let ended = host.home().ctl(["reload"], b"");
    assert_eq!(ended.status.code(), Some(1));
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn requests_find_their_service_by_host_and_path() {
    let directory = deployment("listeners-routes", &["wstd-http"], "");
    for (file, name) in [("server", "default.example"), ("api", "api.example")] {
        certificate(&directory, file, name);
    }
    let text = format!(
        "{HEAD}
        [listener.public]
        bind = '127.0.0.1:0'
        tls = {{ cert = 'server.pem', key = 'server.key' }}
        sni = {{ 'api.example' = {{ cert = 'api.pem', key = 'api.key' }} }}
        [listener.clear]
        bind = '127.0.0.1:0'
        [service.web]
        component = 'components/wstd-http.wasm'
        http = [{{ listener = 'public' }}]
        [service.api]
        component = 'components/wstd-http.wasm'
        [[service.api.http]]
        listener = 'public'
        host = 'api.example'
        path = '/who'
        [[service.api.http]]
        listener = 'clear'"
    );
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "--access-log", &[]).ready();
    let (url, public) = place(&host, "public");
    assert!(url.starts_with("https://"), "{url}");
    let answer = ask(&directory, &public, "api.example", "/who", "-CAfile api.pem");
    assert!(answer.contains("Verify return code: 0 (ok)"), "{answer}");
    assert!(answer.contains("CN = api.example") || answer.contains("CN=api.example"), "{answer}");
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("GET https://api.example/who\n"), "{answer}");
    let answer = ask(&directory, &public, "else.example", "/", "-CAfile server.pem");
    assert!(answer.contains("Verify return code: 0 (ok)"), "{answer}");
    assert!(answer.contains("hello from wstd"), "{answer}");
    let (url, _) = place(&host, "clear");
    assert_eq!(get(&format!("{url}/nowhere")).status, 404);
    let access = host.log(|record| record["path"] == "/nowhere");
    assert_eq!((&access["status"], &access["service"]), (&404.into(), &"api".into()), "{access}");
    let metrics = host.metrics();
    for (service, status, count) in [("api", "2xx", 1.0), ("api", "4xx", 1.0), ("web", "2xx", 1.0)]
    {
        let labels = format!("method=\"GET\",service=\"{service}\",status=\"{status}\"");
        let series = format!("request_latency_seconds_count{{{labels}}}");
        assert_eq!(metrics.find(&series), Some(count), "{series}");
    }
    for certificate in ["default", "api.example"] {
        let labels = format!("certificate=\"{certificate}\",listener=\"public\"");
        let ends = metrics.value(&format!("ron_tls_certificate_expiry_seconds{{{labels}}}"));
        let now = std::time::UNIX_EPOCH.elapsed().expect("it is past 1970").as_secs_f64();
        let days = (ends - now) / 86_400.0;
        assert!((29.0..31.0).contains(&days), "{days}");
    }
}

#[test]
fn who_shows_no_certificate_is_refused_where_one_is_asked_for() {
    let directory = deployment("listeners-mtls", &["wstd-http"], "");
    certificate(&directory, "server", "localhost");
    certificate(&directory, "clients", "clients.example");
    certificate(&directory, "others", "others.example");
    client(&directory, "client", "clients");
    client(&directory, "stranger", "others");
    let text = format!(
        "{HEAD}
        admin_tls = {{ cert = 'server.pem', key = 'server.key', client_ca = 'clients.pem' }}
        [listener.public]
        bind = '127.0.0.1:0'
        tls = {{ cert = 'server.pem', key = 'server.key', client_ca = 'clients.pem' }}
        [service.web]
        component = 'components/wstd-http.wasm'
        http = [{{ listener = 'public' }}]"
    );
    write(&directory, "ron.toml", &text);
    // Readiness is asked for on the admin listener, over TLS as everything there.
    let host = start(&directory, "", &[]);
    let admin = host.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        said["admin"].as_str()?.strip_prefix("https://").map(str::to_owned)
    });
    let (_, public) = place(&host, "public");
    host.stdout(|line| line.contains("\"ready\"").then_some(()));
    for (address, path, expected) in
        [(&public, "/", "hello from wstd"), (&admin, "/readyz", "\"ready\":true")]
    {
        let known = "-cert client.pem -key client.key";
        let answer = ask(&directory, address, "localhost", path, known);
        assert!(answer.contains(expected), "{answer}");
        for stranger in ["", "-cert stranger.pem -key stranger.key"] {
            let answer = ask(&directory, address, "localhost", path, stranger);
            assert!(!answer.contains("HTTP/1.1"), "{answer}");
        }
    }
}

#[test]
fn a_certificate_is_replaced_when_its_files_change() {
    let directory = deployment("listeners-renew", &["wstd-http"], "");
    certificate(&directory, "server", "first.example");
    let text = format!(
        "{HEAD}
        [listener.public]
        bind = '127.0.0.1:0'
        tls = {{ cert = 'server.pem', key = 'server.key' }}
        [service.web]
        component = 'components/wstd-http.wasm'
        http = [{{ listener = 'public' }}]"
    );
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]).ready();
    let (_, address) = place(&host, "public");
    let shown = || ask(&directory, &address, "localhost", "/", "");
    assert!(shown().contains("first.example"));
    // Half of a pair: the one before stays.
    certificate(&directory, "next", "second.example");
    fs::rename(directory.join("next.pem"), directory.join("server.pem")).expect("renamed");
    let why = host.log(|record| {
        record["message"].as_str().is_some_and(|text| text.contains("kept the one before"))
    });
    assert!(why["message"].as_str().is_some_and(|why| why.contains("is not that of")), "{why}");
    assert!(shown().contains("first.example"));
    let stale = "ron_tls_certificate_stale{listener=\"public\"}";
    until("it is told", || host.metrics().value(stale) == 1.0);
    let verbose = host.get("/readyz?verbose").json();
    let note = verbose["notes"]["certificates"].as_str().expect("a note").to_owned();
    assert!(note.starts_with("public keeps the one before: ") && note.contains("is not that of"));
    fs::rename(directory.join("next.key"), directory.join("server.key")).expect("renamed");
    until("the new certificate is shown", || shown().contains("second.example"));
    let took = host.log(|record| record["message"] == "took the new certificate");
    assert_eq!((&took["listener"], &took["certificate"]), (&"public".into(), &"default".into()));
    assert!(took["until"].as_str().is_some_and(|until| until.starts_with("20")), "{took}");
    assert_eq!(host.metrics().value(stale), 0.0);
    assert_eq!(host.get("/readyz?verbose").json()["notes"]["certificates"], Value::Null);
    // A signal has them read as well; a pair that is wrong fails no reload.
    write(&directory, "server.key", "nonsense");
    host.signal("HUP");
    host.log(|record| record["message"] == "the configuration is in force already");
    assert!(shown().contains("second.example"));
    assert_eq!(ctl(&host, "plan").trim(), "nothing would change");
    // What the file says anew has to be right.
    write(&directory, "ron.toml", &text.replace("server.pem", "missing.pem"));
    let why = refused(&host);
    assert!(why.contains("ron.toml:6:24: listener.public.tls.cert: missing.pem cannot"), "{why}");
}

#[test]
fn a_listener_keeps_its_port_when_it_changes() {
    let directory = deployment("listeners-change", &["wstd-http"], "");
    certificate(&directory, "server", "localhost");
    let text = |public: &str, more: &str| {
        let text = format!(
            "{HEAD}
            [listener.public]
            bind = '127.0.0.1:0'
            {public}
            [service.web]
            component = 'components/wstd-http.wasm'
            http = [{{ listener = 'public', path = '/' }}{more}]"
        );
        write(&directory, "ron.toml", &text);
    };
    text("", "");
    let host = start(&directory, "", &[]).ready();
    let (url, address) = place(&host, "public");
    assert_eq!(get(&format!("{url}/")).status, 200);
    text("limits = { rate = 1 }", "");
    ctl(&host, "reload");
    until("the limit is in force", || get(&format!("{url}/")).status == 429);
    text("tls = { cert = 'server.pem', key = 'server.key' }", "");
    ctl(&host, "reload");
    let answer = ask(&directory, &address, "localhost", "/", "-CAfile server.pem");
    assert!(answer.contains("hello from wstd"), "{answer}");
    text("tls = { self_signed = true }", "");
    ctl(&host, "reload");
    let answer = ask(&directory, &address, "localhost", "/", "");
    assert!(answer.contains("for development"), "{answer}");
    text("", ", { listener = 'public' }");
    let why = refused(&host);
    let twice = "ron.toml:9:58: service.web.http[1]: web takes any host, / already";
    assert!(why.contains(twice), "{why}");
}

/// It is no mistake, and is told by a check and by a start.
#[test]
fn what_nobody_is_led_to_is_hinted_at() {
    let text = "
        [listener.public]
        bind = '127.0.0.1:0'
        [listener.spare]
        bind = '127.0.0.1:0'
        [service.web]
        component = 'components/wstd-http.wasm'
        http = [{ listener = 'public' }]
        subscribe = ['orders.>']
        [service.alone]
        component = 'components/wstd-http.wasm'";
    let directory = deployment("listeners-hints", &["wstd-http"], text);
    let check = start(&directory, "check", &[]).ended();
    let host = start(&directory, "", &[]).ready();
    host.signal("TERM");
    let started = host.ended();
    for ended in [&check, &started] {
        assert_eq!(ended.code, Some(0));
        let hints = ended.stdout.iter().filter_map(|line| line.strip_prefix("hint     "));
        let hints: Vec<_> = hints.collect();
        let [alone, spare, deaf] = hints.as_slice() else { panic!("{ended:?}") };
        assert!(alone.starts_with("no listener leads to alone, which answers HTTP"), "{alone}");
        assert!(spare.starts_with("listener spare leads to no service"), "{spare}");
        assert!(deaf.starts_with("service.web.subscribe: the component takes no"), "{deaf}");
    }
    let public = started.stdout.iter().find(|line| line.contains("public:"));
    assert!(public.is_some_and(|line| line.starts_with("http     http://")), "{started:?}");
}

/// A component that answers no requests takes no route over.
#[test]
fn a_swap_to_another_kind_is_refused() {
    let text = format!(
        "{HEAD}
        [listener.public]
        bind = '127.0.0.1:0'
        [service.web]
        component = 'components/wstd-http.wasm'
        http = [{{ listener = 'public' }}]"
    );
    let directory = deployment("listeners-kind", &["wstd-http", "echo"], &text);
    let host = start(&directory, "", &[]).ready();
    let (url, _) = place(&host, "public");
    let said = fails(&host, &format!("swap web {}", component("echo").display()));
    assert!(said.contains("does not answer HTTP requests"), "{said}");
    assert_eq!(get(&format!("{url}/")).status, 200);
}

#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let text = format!(
        "{HEAD}
[listener.public]
bind = '127.0.0.1:0'
tls = {{ cert = 'missing.pem', key = 'missing.key', client_ca = 'server.key' }}
[listener.public.sni]
'api.example' = {{ cert = 'server.pem', key = 'api.key' }}
[listener.bytes]
bind = '127.0.0.1:0'
[service.echo]
component = 'components/echo.wasm'
http = [{{ listener = 'public' }}]
[service.web]
component = 'components/wstd-http.wasm'
stream = [{{ listener = 'bytes' }}]
[service.gone]
component = 'components/gone.wasm'"
    );
    let directory = deployment("listeners-all", &["wstd-http", "echo"], &text);
    certificate(&directory, "server", "default.example");
    certificate(&directory, "api", "api.example");
    let mistakes = |args: &str| {
        let ended = start(&directory, args, &[]).ended();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let message = |line: &String| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let message = record["message"].as_str().expect("a message").to_owned();
            (record["level"] == "ERROR").then_some(message)
        };
        ended.stderr.iter().filter_map(message).collect::<Vec<_>>()
    };
    let routes = [
        "service.echo.http: the component of echo does not answer HTTP requests",
        "service.web.stream: the component of web does not handle connections",
        "service.gone.component: components/gone.wasm: cannot be read",
    ];
    let files = [
        "listener.public.tls.cert: missing.pem cannot be read",
        "listener.public.tls.key: missing.key cannot be read",
        "listener.public.tls.client_ca: there is no certificate in server.key",
        "listener.public.sni.\"api.example\".key: the key in api.key is not that of",
    ];
    let told = mistakes("check");
    let expected: Vec<&str> = files.into_iter().chain(routes).collect();
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (line, expected) in told.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}: {expected}");
    }
    // A start tells what its files lack before it compiles anything.
    let told = mistakes("");
    assert_eq!(told.len(), files.len(), "{told:#?}");
}
