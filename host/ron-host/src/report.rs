//! What the host says on standard output: that it started, and where. And on
//! standard error, that it did not.
//!
//! Not log records: they are there whatever the log level is, because scripts
//! read them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the host prints")]

use std::net::SocketAddr;
use std::time::Duration;

use ron_runtime::Digest;
use serde_json::json;

use crate::exit::Failure;
use crate::logging::Format;

/// The admin listener is bound. First of all, because what comes next may take
/// a while.
pub(crate) fn admin(format: Format, address: SocketAddr) {
    match format {
        Format::Text => println!("admin    http://{address}  /metrics /healthz /livez /readyz"),
        Format::Json => println!("{}", json!({"admin": format!("http://{address}")})),
    }
}

/// A component is loaded.
pub(crate) fn service(format: Format, name: &str, digest: Digest, took: Duration, cached: bool) {
    let ms = took.as_millis();
    match format {
        Format::Text => {
            let how = if cached { "from the cache" } else { "compiled" };
            println!("service  {name}  {digest}  {how} in {ms} ms");
        }
        Format::Json => println!(
            "{}",
            json!({"service": name, "digest": digest, "cached": cached, "load_ms": ms as u64})
        ),
    }
}

/// The host is ready.
pub(crate) fn ready(format: Format, services: usize, address: SocketAddr, took: Duration) {
    let ms = took.as_millis();
    match format {
        Format::Text => {
            let plural = if services == 1 { "" } else { "s" };
            println!("ready    {services} service{plural}  http://{address}  in {ms} ms");
        }
        Format::Json => println!(
            "{}",
            json!({
                "ready": true,
                "services": services,
                "admin": format!("http://{address}"),
                "took_ms": ms as u64,
            })
        ),
    }
}

/// The host does not start.
pub(crate) fn failure(format: Format, failure: &Failure) {
    for line in failure.lines() {
        match format {
            Format::Text => eprintln!("error: {line}"),
            Format::Json => eprintln!("{}", json!({"level": "ERROR", "message": line})),
        }
    }
}
