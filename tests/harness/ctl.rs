//! `ron-host ctl` against a host under test.

use serde_json::Value;

use super::{Home, Program};

pub(crate) fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// What it prints, when it works and has nothing else to say.
#[track_caller]
pub(crate) fn ctl(at: &impl AsRef<Home>, args: &str) -> String {
    let ended = at.as_ref().ctl(words(args), b"");
    let (stdout, stderr) = (text(ended.stdout), text(ended.stderr));
    assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{args}: {stdout}");
    stdout
}

#[track_caller]
pub(crate) fn json(at: &impl AsRef<Home>, args: &str) -> Value {
    let printed = ctl(at, &format!("{args} --json"));
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args}: {error}: {printed}"))
}

/// What it says when it does not work.
#[track_caller]
pub(crate) fn fails(at: &impl AsRef<Home>, args: &str) -> String {
    let ended = at.as_ref().ctl(words(args), b"");
    let (stdout, stderr) = (text(ended.stdout), text(ended.stderr));
    assert_eq!((ended.status.code(), stdout.as_str()), (Some(1), ""), "{args}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// What it says in several lines when it does not work.
pub(crate) fn fails_lines(host: &Program, args: &str) -> String {
    let ended = host.home().ctl(args.split(' '), b"");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    stderr
}

/// The answer to a request.
pub(crate) fn ask(host: &Program, topic: &str, payload: &str) -> String {
    let ended = host.home().ctl(["request", topic, payload], b"");
    assert!(ended.status.success(), "{topic}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("text")
}

/// Which incarnation of a service there is.
pub(crate) fn generation(host: &Program, service: &str) -> u64 {
    let all = json(host, "ps");
    let services = all["services"].as_array().expect("a list");
    let own = services.iter().find(|own| own["service"] == service).expect("it is there");
    own["generation"].as_u64().expect("a number")
}
