//! The other end of the control socket: one request, one answer.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::wire;

/// Why there is no answer, or none that was asked for.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// Nobody is there.
    #[error(
        "no host listens at {path} ({why}); start one, or give the socket of the one that is \
         meant: ron-host ctl --control PATH"
    )]
    NoHost { path: PathBuf, why: &'static str },
    /// It is not this user's.
    #[error("{path}: belongs to another user's host; only that user may control it")]
    Denied { path: PathBuf },
    /// The connection failed.
    #[error("{path}: cannot be talked to")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It ended, or no host speaks there.
    #[error("{path}: the host ended, or what listens there is none")]
    Http {
        path: PathBuf,
        #[source]
        source: hyper::Error,
    },
    /// An answer of another shape.
    #[error("{path}: an answer that is not understood; is it a host of another version?")]
    Answer {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The host says no.
    #[error("{}", .0.message)]
    Refused(wire::Error),
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// The version that what is to be changed must have.
    pub(crate) if_match: Option<u64>,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), if_match: None, body: Bytes::new() }
    }

    pub(crate) fn post(target: impl Into<String>, body: Bytes) -> Self {
        Self { method: Method::POST, target: target.into(), if_match: None, body }
    }

    pub(crate) fn delete(target: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(target) }
    }
}

/// A text within a path or a query.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

/// An answer whose body may still be coming.
#[derive(Debug)]
pub(crate) struct Answer {
    path: PathBuf,
    body: Incoming,
    /// Moves the connection for as long as the answer is held.
    _connection: JoinSet<()>,
}

/// Asks the host at `path`.
pub(crate) async fn ask(path: &Path, ask: Ask) -> Result<Answer, ClientError> {
    let stream = UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::NoHost { path, why: "there is no such socket" },
            io::ErrorKind::ConnectionRefused => {
                ClientError::NoHost { path, why: "its host has ended" }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied { path },
            _ => ClientError::Io { path, source },
        }
    })?;
    let http = |source| ClientError::Http { path: path.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What goes wrong shows in the answer.
        drop(connection.await);
    });
    let mut request = Request::builder()
        .method(ask.method)
        .uri(ask.target)
        .header(header::HOST, "ron-host")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(version) = ask.if_match {
        request = request.header(header::IF_MATCH, format!("\"{version}\""));
    }
    let request =
        request.body(Full::new(ask.body)).expect("what is not plain in a target was quoted");
    let answer = sender.send_request(request).await.map_err(http)?;
    let status = answer.status();
    let answer = Answer { path: path.to_owned(), body: answer.into_body(), _connection: driver };
    if status.is_success() {
        return Ok(answer);
    }
    Err(ClientError::Refused(answer.read().await?))
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let http = |source| ClientError::Http { path: self.path.clone(), source };
            if let Ok(bytes) = frame.map_err(http)?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The whole body.
    pub(crate) async fn bytes(mut self) -> Result<Bytes, ClientError> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    /// The whole body, as what it says.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let path = self.path.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Answer { path, source })
    }
}

/// An answer of lines that comes bit by bit.
#[derive(Debug)]
pub(crate) struct Lines {
    answer: Answer,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn of(answer: Answer) -> Self {
        Self { answer, rest: Vec::new() }
    }

    /// The next whole lines, one at least; `None` at the end. Nothing is lost with one that
    /// is not waited for.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, ClientError> {
        while let Some(piece) = self.answer.piece().await? {
            self.rest.extend_from_slice(&piece);
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&whole).into_owned()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_quoted() {
        assert_eq!(quoted("orders.*.>"), "orders.%2A.%3E");
        assert_eq!(quoted("a b/\u{e9}"), "a%20b%2F%C3%A9");
    }
}
