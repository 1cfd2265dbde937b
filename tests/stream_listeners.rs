//! Listeners of byte streams in `ron.toml`: over TCP and TLS, found by name, told of the
//! handshake, and kept apart from HTTP. The client of TLS is `openssl s_client`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use serde_json::Value;

use crate::harness::ctl::ctl;
use crate::harness::deployment::{deployment, start, write};
use crate::harness::openssl::{certificate, client, openssl};
use crate::harness::{HUNG, Program, component, get, run, until};

const HEAD: &str = "admin = '127.0.0.1:0'\nlog = { format = 'json', level = 'debug' }\n";

/// Where that listener is, as the host said: its URL and its address.
fn place(host: &Program, listener: &str) -> (String, String) {
    let url = host.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        (said["listener"] == *listener).then(|| said["stream"].as_str().map(str::to_owned))?
    });
    let address = url.split_once("://").expect("a scheme").1.to_owned();
    (url, address)
}

/// What comes back over TLS until the service ends it.
fn talk(directory: &Path, address: &str, more: &str, input: &str) -> String {
    openssl(directory, &format!("s_client -quiet -connect {address} {more}"), input)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(HUNG)).expect("a time-out");
    stream
}

/// All that comes until the service ends it.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it ends");
    text
}

#[test]
fn a_stream_is_echoed_over_tls_and_found_by_name() {
    let text = format!(
        "{HEAD}
        [listener.raw]
        bind = '127.0.0.1:0'
        tls = {{ self_signed = true }}
        alpn = ['ron-echo', 'other']
        [service.raw]
        component = 'components/stream-echo.wasm'
        grants.publish = ['guest.>']
        [[service.raw.stream]]
        listener = 'raw'
        host = 'echo.example'"
    );
    let directory = deployment("streams-tls", &["stream-echo"], &text);
    let host = start(&directory, "", &[]).ready();
    let (url, address) = place(&host, "raw");
    assert!(url.starts_with("tls://"), "{url}");
    let said = "hello\n!who\n!half\n";
    let back = talk(&directory, &address, "-servername Echo.example -alpn ron-echo", said);
    let lines: Vec<&str> = back.lines().collect();
    let [hello, who, bye] = lines.as_slice() else { panic!("{back:?}") };
    assert_eq!((*hello, *bye), ("hello", "bye"));
    assert!(who.starts_with("raw 127.0.0.1:"), "{who}");
    assert!(who.ends_with(&format!(" {address} echo.example ron-echo -")), "{who}");
    // Without ALPN there is none, and another than those that are offered is refused.
    let back = talk(&directory, &address, "-servername echo.example", said);
    assert!(back.contains(" echo.example - -\nbye\n"), "{back:?}");
    let back = talk(&directory, &address, "-servername echo.example -alpn h2", said);
    assert_eq!(back, "");
    for other in ["-servername other.example", "-noservername"] {
        assert_eq!(talk(&directory, &address, other, said), "", "{other}");
        let told = openssl(&directory, &format!("s_client -msg -connect {address} {other}"), said);
        assert!(told.contains("unrecognized_name"), "{other}: {told}");
    }
    let ended = host.log(|record| record["message"] == "a connection ended");
    assert_eq!((&ended["service"], &ended["how"]), (&"raw".into(), &"done".into()));
    assert_eq!(ended["received"], said.len());
    until("both are closed", || {
        host.metrics().find("ron_stream_connections{service=\"raw\"}") == Some(0.0)
    });
    let metrics = host.metrics();
    let received = "ron_stream_bytes_total{direction=\"in\",service=\"raw\"}";
    assert_eq!(metrics.find(received), Some(2.0 * said.len() as f64));
    assert_eq!(metrics.find("rejected_total{reason=\"no-route\"}"), Some(4.0));
}

/// A client of TLS is told of an end in order, and one in clear of any other.
#[test]
fn how_a_connection_ended_is_seen_by_the_client() {
    let text = format!(
        "{HEAD}
        [listener.raw]
        bind = '127.0.0.1:0'
        tls = {{ self_signed = true }}
        limits.idle_timeout = '1ms'
        [listener.clear]
        bind = '127.0.0.1:0'
        [service.raw]
        component = 'components/stream-echo.wasm'
        grants.publish = ['guest.>']
        stream = [{{ listener = 'raw' }}, {{ listener = 'clear' }}]"
    );
    let directory = deployment("streams-ends", &["stream-echo"], &text);
    let host = start(&directory, "", &[]).ready();
    let (_, address) = place(&host, "raw");
    // It is idle as soon as it is there.
    let told = openssl(&directory, &format!("s_client -msg -ign_eof -connect {address}"), "");
    let end = |line: &str| line.starts_with("<<<") && line.contains("close_notify");
    assert!(told.lines().any(end), "{told}");
    host.log(|record| record["how"] == "idle");
    let (_, address) = place(&host, "clear");
    let mut stream = connect(&address);
    stream.write_all(b"!panic\n").expect("sent");
    let error = stream.read(&mut [0; 8]).expect_err("it does not end as a whole answer does");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // Any client can leave so, and that warns nobody.
    let mut stream = connect(&address);
    stream.write_all(b"!flood\n").expect("sent");
    assert_eq!(stream.read(&mut [0]).expect("it writes"), 1);
    drop(stream);
    let broke = host.log(|record| record["how"] == "broken");
    let why = host.log(|record| {
        record["message"].as_str().is_some_and(|text| text.starts_with("a connection broke"))
    });
    assert_eq!((&why["level"], &why["connection"]), (&"DEBUG".into(), &broke["connection"]));
    let abandoned = "ron_instances_abandoned_total{service=\"raw\"}";
    assert_eq!(host.metrics().find(abandoned), Some(0.0));
}

#[test]
fn the_service_is_told_whom_the_clients_certificate_is_for() {
    let directory = deployment("streams-mtls", &["stream-echo"], "");
    certificate(&directory, "server", "localhost");
    certificate(&directory, "clients", "clients.example");
    client(&directory, "client", "clients");
    let text = format!(
        "{HEAD}
        [listener.raw]
        bind = '127.0.0.1:0'
        tls = {{ cert = 'server.pem', key = 'server.key', client_ca = 'clients.pem' }}
        [service.raw]
        component = 'components/stream-echo.wasm'
        grants.publish = ['guest.>']
        stream = [{{ listener = 'raw' }}]"
    );
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]).ready();
    let (_, address) = place(&host, "raw");
    let said = "!who\n!half\n";
    let known = "-noservername -cert client.pem -key client.key";
    let back = talk(&directory, &address, known, said);
    assert!(back.contains(" - - CN=client\nbye\n"), "{back:?}");
    assert_eq!(talk(&directory, &address, "-noservername", said), "");
}

#[test]
fn each_direction_of_a_connection_ends_by_itself() {
    let text = format!(
        "{HEAD}
        [listener.raw]
        bind = '127.0.0.1:0'
        [service.raw]
        component = 'components/stream-echo.wasm'
        grants.publish = ['guest.>']
        stream = [{{ listener = 'raw' }}]"
    );
    let directory = deployment("streams-half", &["stream-echo"], &text);
    let host = start(&directory, "", &[]).ready();
    let (url, address) = place(&host, "raw");
    assert!(url.starts_with("tcp://"), "{url}");
    let mut stream = connect(&address);
    stream.write_all(b"!all\none two three").expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(rest(&mut stream), "13 bytes\n");
    let mut stream = connect(&address);
    stream.write_all(b"!half\n").expect("sent");
    assert_eq!(rest(&mut stream), "bye\n");
    stream.write_all(b"more").expect("the service reads on");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let ended = |record: &Value| record["message"] == "a connection ended";
    let half = host.log(|record| ended(record) && record["received"] == 10);
    assert_eq!(half["how"], "done");
    // What the service gives up on is told, and so is a crash.
    let mut stream = connect(&address);
    stream.write_all(b"said before\n!fail\n").expect("sent");
    // What nobody reads takes nothing from the client that it has not read yet.
    stream.write_all(&[b'x'; 500_000]).expect("sent");
    assert_eq!(rest(&mut stream), "said before\n");
    let failed = host.log(|record| {
        record["message"].as_str().is_some_and(|text| text.ends_with("connection: asked to"))
    });
    assert_eq!(failed["level"], "WARN");
    let mut stream = connect(&address);
    stream.write_all(b"!panic\n").expect("sent");
    let crashed = host.log(|record| ended(record) && record["how"] == "crashed");
    // The record of the crash names the connection.
    host.log(|record| record["corr_id"] == crashed["connection"] && record["reason"] == "panic");
}

#[test]
fn a_listener_changes_between_http_and_streams() {
    let text = |route: &str| {
        format!(
            "{HEAD}
            [listener.one]
            bind = '127.0.0.1:0'
            [service.web]
            component = 'components/wstd-http.wasm'
            [service.raw]
            component = 'components/stream-echo.wasm'
            [[service.{route}]]
            listener = 'one'"
        )
    };
    let components = ["stream-echo", "wstd-http"];
    let directory = deployment("streams-change", &components, &text("raw.stream"));
    let host = start(&directory, "", &[]).ready();
    let (_, address) = place(&host, "one");
    let mut stream = connect(&address);
    stream.write_all(b"hello\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(rest(&mut stream), "hello\n");
    write(&directory, "ron.toml", &text("web.http"));
    ctl(&host, "reload");
    assert_eq!(get(&format!("http://{address}/")).status, 200);
    // A route to what cannot take it is refused.
    write(&directory, "ron.toml", &text("web.stream"));
    let ended = host.home().ctl(["reload"], b"");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("ron.toml:10:13: service.web.stream: "), "{said}");
    assert!(said.contains("the component of web does not handle connections"), "{said}");
    assert_eq!(get(&format!("http://{address}/")).status, 200);
}

#[test]
fn a_component_for_connections_is_told_as_one() {
    let ended = run(["inspect".into(), component("stream-echo").into_os_string()]);
    let text = ended.stdout.join("\n");
    assert!(text.contains("kind     stream: handles connections"), "{text}");
    assert!(text.contains("runs     yes"), "{text}");
}
