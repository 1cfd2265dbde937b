//! What travels between `ron-host ctl` and a host, in JSON.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ron_kernel::message::Tapped;
use ron_kernel::message::mailbox;
use ron_kernel::supervisor::{CrashReport, ServiceStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every service.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Services {
    /// Version of the configuration in force.
    pub(crate) config_version: u64,
    /// By name.
    pub(crate) services: Vec<Service>,
}

/// How a service stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Service {
    pub(crate) service: String,
    /// loading, starting, running, draining, stopped, finished, backoff or quarantined.
    pub(crate) state: String,
    /// Whether it is ready.
    pub(crate) ok: bool,
    /// Whether the host is not ready without it.
    pub(crate) critical: bool,
    /// What it says of its own health: ok, degraded or failing.
    pub(crate) status: String,
    /// Why it is as it is, where that is known.
    pub(crate) detail: Option<String>,
    /// The current incarnation, or the last one.
    pub(crate) generation: u64,
    /// Of the component that runs, or ran last.
    pub(crate) digest: Option<String>,
    /// For how long the incarnation has been running.
    pub(crate) uptime_ms: Option<u64>,
    /// Restarts after a crash.
    pub(crate) restarts: u64,
    /// Memory of the incarnation, if there is one.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) mailbox: Mailbox,
}

/// What a mailbox has seen.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Mailbox {
    /// Messages waiting.
    pub(crate) queued: u64,
    /// Bytes of payload waiting.
    pub(crate) queued_bytes: u64,
    /// Messages taken by the service and not settled yet.
    pub(crate) in_flight: u64,
    pub(crate) accepted: u64,
    pub(crate) handled: u64,
    pub(crate) dead_lettered: u64,
    /// Lost to a full mailbox, or refused by one.
    pub(crate) dropped: u64,
    /// Deliveries after the first.
    pub(crate) redelivered: u64,
}

/// Crashes that are kept, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Crashes {
    pub(crate) crashes: Vec<Crash>,
}

/// A crash.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Crash {
    pub(crate) service: String,
    pub(crate) generation: u64,
    /// When, as RFC 3339.
    pub(crate) at: String,
    /// The stable label.
    pub(crate) reason: String,
    /// The reason for people.
    pub(crate) message: String,
    /// Topic of the message in flight.
    pub(crate) topic: Option<String>,
    /// Of the answer to the request or requests that it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) corr_id: Option<String>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) digest: Option<String>,
    /// The service's own stack, a frame a line.
    pub(crate) backtrace: Vec<String>,
    /// The service's last log lines.
    pub(crate) last_log: Vec<String>,
}

/// Bytes: as text where they are UTF-8, in base64 otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_base64: Option<String>,
}

/// Dead letters that are kept, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadLetters {
    pub(crate) dead_letters: Vec<DeadLetter>,
}

/// A message that will not be delivered again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadLetter {
    pub(crate) id: u64,
    pub(crate) topic: String,
    pub(crate) source: String,
    /// How often it was delivered.
    pub(crate) deliveries: u32,
    /// What the service said, or how it ended.
    pub(crate) why: String,
    #[serde(flatten)]
    pub(crate) payload: Payload,
}

/// How many.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Count {
    pub(crate) count: u64,
}

/// What came of a message that was published.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Published {
    /// Mailboxes that took it in.
    pub(crate) delivered: u32,
}

/// One line of a tap: a message, or how many are missing at this place.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TapLine {
    Message(TapMessage),
    Missed(Missed),
}

/// A message that was published.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TapMessage {
    /// When, as RFC 3339.
    pub(crate) at: String,
    pub(crate) id: u64,
    pub(crate) topic: String,
    pub(crate) source: String,
    /// Whether an answer is awaited.
    pub(crate) wants_reply: bool,
    /// Mailboxes that took it in.
    pub(crate) delivered: u32,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    #[serde(flatten)]
    pub(crate) payload: Payload,
}

/// One line of a load: how it goes, or at the end what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BenchLine {
    Report(BenchReport),
    Second(BenchSecond),
}

/// What happened in the last second.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BenchSecond {
    /// Seconds since it began to count.
    pub(crate) at_s: f64,
    /// Messages that were answered, or taken in where no answers are asked for.
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// What came of a load.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct BenchReport {
    pub(crate) topic: String,
    /// Whether answers were asked for.
    pub(crate) answers: bool,
    pub(crate) payload_bytes: u64,
    pub(crate) tasks: u64,
    /// Messages a second, as it was asked for.
    pub(crate) rate: Option<f64>,
    /// For how long it counted.
    pub(crate) seconds: f64,
    /// Messages that were answered, or taken in where no answers were asked for.
    pub(crate) done: u64,
    /// Mailboxes that took them in, or answers.
    pub(crate) delivered: u64,
    pub(crate) per_second: f64,
    /// By code.
    pub(crate) errors: std::collections::BTreeMap<String, u64>,
    /// Messages that were due by the rate and not sent, since those before took too long.
    pub(crate) missed: u64,
    /// What mailboxes lost or refused meanwhile, whoever had sent it.
    pub(crate) dropped: u64,
    /// From sending to the answer, or until mailboxes have it. With a rate, a message that
    /// had to wait for the one before counts from when it was due.
    pub(crate) latency: Option<Latency>,
    /// How late messages were sent, as they waited for the one before or for a timer.
    pub(crate) late: Option<Latency>,
}

/// Times in microseconds, to three digits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Latency {
    pub(crate) min_us: f64,
    pub(crate) mean_us: f64,
    pub(crate) stdev_us: f64,
    pub(crate) max_us: f64,
    pub(crate) percentiles: Vec<Percentile>,
}

/// So many percent took so long at most.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Percentile {
    pub(crate) percentile: f64,
    pub(crate) us: f64,
    /// How many took longer.
    pub(crate) beyond: u64,
}

/// What whoever reads a stream was too slow for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Missed {
    pub(crate) missed: u64,
}

/// What to swap to, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SwapRequest {
    /// The new component, as an absolute path; without one the service's own is
    /// read anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Answer at the end of probation, not at the cut.
    pub(crate) wait: bool,
    /// Though that digest was rolled back lately.
    pub(crate) force: bool,
    /// Do not hand state over.
    pub(crate) discard_state: bool,
}

/// A swap that was done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Swapped {
    pub(crate) service: String,
    pub(crate) digest: String,
    pub(crate) generation: u64,
    /// How long no message was handled, in microseconds.
    pub(crate) pause_us: u64,
    /// Whether probation is over, and it stays.
    pub(crate) committed: bool,
    /// What ended the probation before its time with nothing to say against the
    /// component, if something did: a newer swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<String>,
}

/// A configuration that was applied.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reloaded {
    /// The version in force now.
    pub(crate) version: u64,
    /// What changed, for people.
    pub(crate) text: String,
    /// What changed, for programs.
    #[schema(value_type = Object)]
    pub(crate) changes: serde_json::Value,
    /// The listeners that show a certificate that is not the one in their files, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<String>,
}

/// What is in force; secrets are masked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct InForce {
    /// The configuration's version.
    pub(crate) version: u64,
    /// As a file would say it, each value with where it is from.
    pub(crate) text: String,
    /// The same, for programs.
    #[schema(value_type = Vec<Object>)]
    pub(crate) values: serde_json::Value,
}

/// What a reload would do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Planned {
    /// The version in force, which a reload may be made to depend on.
    pub(crate) version: u64,
    /// What would change, for people.
    pub(crate) text: String,
    /// What would change, for programs.
    #[schema(value_type = Object)]
    pub(crate) changes: serde_json::Value,
}

/// Every error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Error {
    /// Stable, for programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
    /// Of the request; `x-request-id` where the client gave one.
    pub(crate) corr_id: String,
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

impl From<&Bytes> for Payload {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { payload: Some(text.to_owned()), payload_base64: None },
            Err(_) => Self { payload: None, payload_base64: Some(STANDARD.encode(bytes)) },
        }
    }
}

impl From<ServiceStatus> for Service {
    fn from(status: ServiceStatus) -> Self {
        let mailbox = status.mailbox;
        Self {
            service: status.service.to_string(),
            state: status.state.to_owned(),
            ok: status.ok,
            critical: status.critical,
            status: status.status.label().to_owned(),
            detail: status.detail,
            generation: status.generation.0,
            digest: (!status.version.is_empty()).then(|| status.version.to_string()),
            uptime_ms: status.uptime.map(|up| u64::try_from(up.as_millis()).unwrap_or(u64::MAX)),
            restarts: status.restarts,
            memory_bytes: status.memory,
            mailbox: Mailbox {
                queued: mailbox.queued,
                queued_bytes: mailbox.queued_bytes,
                in_flight: mailbox.in_flight,
                accepted: mailbox.accepted,
                handled: mailbox.handled,
                dead_lettered: mailbox.dead_lettered,
                dropped: mailbox.dropped_oldest + mailbox.dropped_newest + mailbox.rejected,
                redelivered: mailbox.redelivered,
            },
        }
    }
}

impl From<CrashReport> for Crash {
    fn from(report: CrashReport) -> Self {
        let detail = report.detail;
        Self {
            service: report.service.to_string(),
            generation: report.generation.0,
            at: time(report.at),
            reason: report.reason.label().to_owned(),
            message: report.reason.to_string(),
            topic: detail.topic,
            corr_id: detail.corr_id,
            memory_bytes: detail.memory,
            digest: detail.digest,
            backtrace: detail.backtrace,
            last_log: detail.last_log,
        }
    }
}

impl From<&mailbox::DeadLetter> for DeadLetter {
    fn from(letter: &mailbox::DeadLetter) -> Self {
        let message = &letter.message;
        Self {
            id: message.id,
            topic: message.topic().to_owned(),
            source: message.source().to_owned(),
            deliveries: message.attempt,
            why: letter.why.clone(),
            payload: (&message.payload).into(),
        }
    }
}

impl From<&Tapped> for TapMessage {
    fn from(seen: &Tapped) -> Self {
        Self {
            at: time(seen.at),
            id: seen.id,
            topic: seen.address.topic.to_string(),
            source: seen.address.source.to_string(),
            wants_reply: seen.wants_reply,
            delivered: seen.delivered.as_ref().copied().unwrap_or(0),
            refused: seen.delivered.as_ref().err().map(ToString::to_string),
            payload: (&seen.payload).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_where_it_can_be() {
        fn check(bytes: &'static [u8], json: &str) {
            let payload = Payload::from(&Bytes::from_static(bytes));
            assert_eq!(serde_json::to_string(&payload).expect("JSON"), json);
        }
        check(b"", r#"{"payload":""}"#);
        check("h\u{e9}\x1b".as_bytes(), "{\"payload\":\"h\u{e9}\\u001b\"}");
        check(&[0xff, 0], r#"{"payload_base64":"/wA="}"#);
    }
}
