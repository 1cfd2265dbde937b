//! Components as their authors build them for other hosts, with published crates and
//! packages, run as they are.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::deployment::{deployment, start, write};
use crate::harness::{Program, built, get, post};

/// A host with that component behind a listener, if this machine could build it.
fn site(name: &str) -> Option<(Program, String)> {
    built(name)?;
    let directory = deployment(&format!("upstream-{name}"), &[name], "");
    let text = format!(
        "admin = '127.0.0.1:0'
        log.format = 'json'
        http = '127.0.0.1:0'
        [service.web]
        component = 'components/{name}.wasm'
        memory = '256 MiB'"
    );
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]).ready();
    let url = host.stdout(|line| {
        let said: serde_json::Value = serde_json::from_str(line).ok()?;
        said["http"].as_str().map(str::to_owned)
    });
    Some((host, url))
}

fn answers(name: &str, greeting: &str) {
    let Some((host, url)) = site(name) else { return };
    for _ in 0..3 {
        let page = get(&format!("{url}/a/path?and=query"));
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.body.starts_with(greeting), "{page:?}");
    }
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn of_waki() {
    answers("waki-http", "hello from waki, for Method::Get /a/path");
    let (_host, url) = site("waki-http").expect("cargo builds it");
    assert_eq!(post(&format!("{url}/echo"), "hallo").body, "hallo");
    assert_eq!(get(&format!("{url}/slow")).status, 202);
}

#[test]
fn of_wit_bindgen_alone() {
    answers("bindgen-http", "hello from wit-bindgen, for /a/path?and=query");
}

/// An instance ends when it has answered so many, and cuts no answer that is still on its
/// way.
#[test]
fn of_wasi_0_3_and_every_answer_of_many_is_whole() {
    let (_host, url) = site("wasip3-http").expect("cargo builds it");
    let address = url.strip_prefix("http://").expect("in clear");
    let connect = |_| TcpStream::connect(address).expect("it listens");
    let mut clients: Vec<TcpStream> = (0..100).map(connect).collect();
    for _ in 0..500 {
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        }
        for client in &mut clients {
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n0\r\n\r\n") {
                let mut part = [0; 1024];
                let count = client.read(&mut part).expect("it comes");
                assert!(count > 0, "cut: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&part[..count]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
    }
}

#[test]
fn of_componentize_js() {
    answers("fetch-event", "hello from fetch, for GET /a/path");
    let Some((_host, url)) = site("fetch-event") else { return };
    assert_eq!(post(&format!("{url}/echo"), "hallo").body, "hallo");
}

#[test]
fn of_componentize_py() {
    answers("python-http", "hello from Python, for /a/path");
}
