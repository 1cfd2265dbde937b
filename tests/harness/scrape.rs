//! Asking over HTTP, and reading what `/metrics` says.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};

use serde_json::Value;
use ureq::Agent;

use super::HUNG;

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Page {
    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn scrape(&self) -> Scrape {
        assert_eq!(self.status, 200, "{self:?}");
        Scrape(self.body.clone())
    }
}

/// `GET`.
pub(crate) fn get(url: &str) -> Page {
    send("GET", url)
}

/// `POST`.
pub(crate) fn post(url: &str, body: &str) -> Page {
    with_body("POST", url, body)
}

/// Any method, without a body.
pub(crate) fn send(method: &str, url: &str) -> Page {
    with_body(method, url, ())
}

fn with_body(method: &str, url: &str, body: impl ureq::AsSendBody) -> Page {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(HUNG))
        .build();
    let request = ureq::http::Request::builder().method(method).uri(url).body(body);
    let answer = Agent::from(config)
        .run(request.expect("a method and a URL"))
        .unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    let (status, headers) = (answer.status().as_u16(), headers.collect());
    let body = answer.into_body().read_to_string().expect("a body of text");
    Page { status, headers, body }
}

/// Sends these bytes as they are, and reads the one answer that comes before the
/// connection's end.
pub(crate) fn raw(mut stream: impl Read + Write, request: &str) -> Page {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let status = status.parse().expect("a number");
    Page { status, headers: lines.map(header).collect(), body: body.to_owned() }
}

/// What `/metrics` says.
pub(crate) struct Scrape(pub(crate) String);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scrape {
    /// The value of a series, written as it stands there but for the order of
    /// its labels.
    pub(crate) fn find(&self, series: &str) -> Option<f64> {
        let wanted = parts(series);
        self.0.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (parts(series) == wanted).then(|| value.parse().ok())?
        })
    }

    /// [`find`](Self::find), where it must be.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }
}

/// The name and the labels of a series, in an order of their own.
fn parts(series: &str) -> Vec<&str> {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}');
    let mut parts: Vec<&str> =
        labels.split("\",").map(|label| label.trim_end_matches('"')).collect();
    parts.push(name);
    parts.sort_unstable();
    parts
}
