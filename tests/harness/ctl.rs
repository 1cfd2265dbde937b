//! `ron-host ctl` against a host under test.

use serde_json::Value;

use super::Home;

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
