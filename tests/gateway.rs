//! What `examples/gateway` shows: its `ron.toml`, on free ports, and every line that its
//! README has for another terminal, with what is said to come of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::deployment::{deployment, start};
use crate::harness::openssl::openssl;
use crate::harness::{Program, component, repository};

/// The lines of the second block of commands: each, and what is said of it.
fn shown() -> Vec<(String, String)> {
    let readme = fs::read_to_string(repository().join("examples/gateway/README.md"));
    let readme = readme.expect("the example has one");
    let block = readme.split("```").nth(3).expect("two blocks").lines().skip(1);
    let line = |line: &str| {
        let (command, said) = line.split_once(" #").expect("what comes of it");
        (command.trim().to_owned(), said.trim().to_owned())
    };
    block.map(line).collect()
}

/// Where that listener is.
fn address(host: &Program, listener: &str) -> String {
    host.stdout(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        let url = said["http"].as_str().or_else(|| said["stream"].as_str());
        (said["listener"] == *listener)
            .then(|| url?.split_once("://").map(|(_, at)| at.to_owned()))?
    })
}

/// What `curl` with these arguments prints, or would if it were here.
fn curl(directory: &Path, arguments: &str) -> String {
    // A quoted argument has one space in the README.
    let words = arguments.replace("'two breads'", "two\u{a0}breads");
    let words: Vec<_> = words.split(' ').map(|word| word.replace('\u{a0}', " ")).collect();
    if let Ok(done) = Command::new("curl").arg("-sS").args(&words).output() {
        return String::from_utf8_lossy(&done.stdout).into_owned();
    }
    let url = words.last().expect("a URL").strip_prefix("https://").expect("it is TLS");
    let (address, path) = url.split_once('/').expect("a path");
    let data = words.iter().position(|word| word == "-d").map_or("", |at| &words[at + 1]);
    let method = if data.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{data}",
        data.len()
    );
    openssl(directory, &format!("s_client -quiet -connect {address}"), &request)
}

/// The line that comes back when this is typed to `openssl` with these arguments.
fn typed(arguments: &str, text: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("openssl is there");
    // It stays open, as that of somebody who goes on typing.
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("it answers");
    child.kill().expect("it was started here");
    child.wait().expect("it ends");
    line
}

#[test]
fn the_example_does_what_its_readme_says() {
    let text = fs::read_to_string(repository().join("examples/gateway/ron.toml"));
    let mut text =
        text.expect("the example has one").replace("../../target/components", "components");
    // The ports of the example may be somebody's.
    for port in [":8443", ":8444"] {
        assert!(text.contains(port));
        text = text.replace(port, ":0");
    }
    let components = ["gateway-catalog", "gateway-orders", "gateway-shout"];
    for name in components {
        assert!(text.contains(&format!("components/{name}.wasm")) && component(name).is_file());
    }
    let directory = deployment("gateway", &components, &text);
    let host = start(&directory, "--log-format json", &[]).ready();
    let (public, raw) = (address(&host, "public"), address(&host, "raw"));
    let lines = shown();
    // Somebody looks on before anything comes.
    let tap = lines.iter().find_map(|(line, _)| line.strip_prefix("ron-host ctl "));
    let tap = tap.expect("a tap").replace('\'', "");
    let tap = host.home().start(["ctl"].into_iter().chain(tap.split(' ')));
    tap.stderr(|line| line.starts_with("tapping ").then_some(()));
    for (line, said) in &lines {
        let line = line.replace("127.0.0.1:8443", &public).replace("127.0.0.1:8444", &raw);
        if let Some(arguments) = line.strip_prefix("curl ") {
            let came = curl(&directory, arguments);
            match said.as_str() {
                "404, as JSON" => {
                    assert!(
                        came.contains(" 404") && came.contains("\"code\":\"not-found\""),
                        "{came}"
                    );
                }
                said => assert!(came.trim_end().ends_with(said), "{line}: {came}"),
            }
        } else if let Some(arguments) = line.strip_prefix("openssl ") {
            assert_eq!(said, "what is typed, louder");
            assert_eq!(typed(arguments, "hello\n"), "HELLO!\n");
        } else {
            assert_eq!(said, "orders, as they come");
            assert!(line.starts_with("ron-host ctl tap "), "{line}");
        }
    }
    tap.stdout(|line| (line.contains("orders.new") && line.contains("two breads")).then_some(()));
}
