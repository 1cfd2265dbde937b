//! What a person sees of an answer: aligned, in words, and with nothing in it
//! that a terminal would act on.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::control::wire::{Crash, DeadLetter, Payload, Service, TapLine};
use crate::logging::escape;

/// Bytes of a payload that are shown in a list.
const PREVIEW: usize = 60;

fn escaped(text: &str) -> String {
    let mut out = String::new();
    escape(text, &mut out);
    out
}

/// A table whose columns are as wide as what is in them. The last is not
/// padded; what is a number is aligned to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    // A time begins with a digit and is none.
    let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(':');
    let right: Vec<bool> = (0..head.len())
        .map(|column| {
            let mut cells = rows.iter().map(|row| row[column].as_str()).filter(|text| *text != "-");
            !rows.is_empty() && cells.all(number)
        })
        .collect();
    let head = head.iter().map(|text| (*text).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            let pad = " ".repeat(width - cell.chars().count().min(*width));
            let (before, after) = if *right { (pad.as_str(), "") } else { ("", pad.as_str()) };
            let _ = write!(line, "{before}{cell}{after}  ");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// `ps`.
pub(super) fn services(services: &[Service]) -> String {
    let rows: Vec<Vec<String>> = services
        .iter()
        .map(|own| {
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                own.service.clone(),
                state(own).to_owned(),
                own.generation.to_string(),
                or_none(own.uptime_ms.map(|ms| duration(ms / 1000))),
                own.restarts.to_string(),
                own.mailbox.queued.to_string(),
                size(own.mailbox.queued_bytes),
                or_none(own.memory_bytes.map(size)),
                or_none(own.digest.as_deref().map(|digest| digest.chars().take(15).collect())),
                own.detail.as_deref().map(escaped).unwrap_or_default(),
            ]
        })
        .collect();
    let head = [
        "SERVICE", "STATE", "GEN", "UPTIME", "RESTARTS", "QUEUED", "BYTES", "MEMORY", "DIGEST",
        "WHY",
    ];
    // Most of the time nobody has anything to explain.
    let columns = if rows.iter().all(|row| row[9].is_empty()) { 9 } else { 10 };
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row[..columns].to_vec()).collect();
    table(&head[..columns], &rows)
}

/// A service's state in words.
pub(super) fn state(own: &Service) -> &str {
    match (own.state.as_str(), own.status.as_str()) {
        ("running", "ok") => "running",
        ("running", status) => status,
        ("backoff", _) => "crashed, restarts soon",
        (state, _) => state,
    }
}

/// What came of `restart`, `start` or `stop`.
pub(super) fn acted(own: &Service) -> String {
    let why = match &own.detail {
        Some(detail) => format!(": {}", escaped(detail)),
        None => String::new(),
    };
    format!("{} is {}, generation {}{why}\n", own.service, state(own), own.generation)
}

/// `crashes`: a table.
pub(super) fn crashes(crashes: &[Crash]) -> String {
    let rows: Vec<Vec<String>> = crashes
        .iter()
        .map(|crash| {
            vec![
                crash.at.clone(),
                crash.service.clone(),
                crash.generation.to_string(),
                crash.reason.clone(),
                crash.topic.as_deref().map_or_else(|| "-".to_owned(), escaped),
                crash.corr_id.as_deref().map_or_else(|| "-".to_owned(), escaped),
                escaped(&crash.message),
            ]
        })
        .collect();
    table(&["AT", "SERVICE", "GEN", "REASON", "TOPIC", "CORR_ID", "MESSAGE"], &rows)
}

/// `crashes NAME`: all that is known of each.
pub(super) fn crash(crash: &Crash) -> String {
    let mut out = format!(
        "{}  {}, generation {}: {}: {}\n",
        crash.at,
        crash.service,
        crash.generation,
        crash.reason,
        escaped(&crash.message)
    );
    let mut one = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(out, "    {name}: {value}");
        }
    };
    one("topic", crash.topic.as_deref().map(escaped));
    one("corr_id", crash.corr_id.as_deref().map(escaped));
    one("memory", crash.memory_bytes.map(size));
    one("digest", crash.digest.clone());
    for (name, lines) in [("backtrace", &crash.backtrace), ("last log", &crash.last_log)] {
        if !lines.is_empty() {
            let _ = writeln!(out, "    {name}:");
            for line in lines {
                let _ = writeln!(out, "      {}", escaped(line));
            }
        }
    }
    out
}

/// `dlq list`.
pub(super) fn dead_letters(letters: &[DeadLetter]) -> String {
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|letter| {
            vec![
                letter.id.to_string(),
                escaped(&letter.topic),
                letter.source.clone(),
                letter.deliveries.to_string(),
                cut(&payload(&letter.payload)),
                escaped(&letter.why),
            ]
        })
        .collect();
    table(&["ID", "TOPIC", "FROM", "DELIVERIES", "PAYLOAD", "WHY"], &rows)
}

/// A line of `tap`.
pub(super) fn tapped(line: &TapLine) -> String {
    let seen = match line {
        TapLine::Missed(missed) => return missed_text(missed.missed),
        TapLine::Message(seen) => seen,
    };
    let to = match (&seen.refused, seen.delivered) {
        (Some(why), _) => format!("refused: {}", escaped(why)),
        (None, 0) => "to nobody".to_owned(),
        (None, count) => format!("to {count}"),
    };
    let reply = if seen.wants_reply { ", wants an answer" } else { "" };
    let (at, topic, source) = (&seen.at, escaped(&seen.topic), &seen.source);
    format!("{at} {topic} from {source} {to}{reply}: {}\n", payload(&seen.payload))
}

/// In place of what is missing.
pub(super) fn missed_text(missed: u64) -> String {
    format!("... {missed} missed here: they come faster than they are read\n")
}

fn payload(payload: &Payload) -> String {
    if let Some(text) = &payload.payload {
        return escaped(text);
    }
    let bytes = payload.payload_base64.as_deref().unwrap_or_default();
    // What it is made of, as Rust writes bytes.
    STANDARD.decode(bytes).map_or_else(|_| bytes.to_owned(), |b| b.escape_ascii().to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(PREVIEW) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// `3d04h`, `2h05m`, `4m10s`, `12s`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// `1.5 MiB`, or `17 B`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::{Mailbox, TapMessage};

    fn service(name: &str, state: &str, detail: Option<&str>) -> Service {
        Service {
            service: name.into(),
            state: state.into(),
            ok: state == "running",
            critical: true,
            status: "ok".into(),
            detail: detail.map(str::to_owned),
            generation: 12,
            digest: Some(format!("b3:{}", "0123456789abcdef".repeat(4))),
            uptime_ms: (state == "running").then_some(3_725_000),
            restarts: 3,
            memory_bytes: (state == "running").then_some(1_114_112),
            mailbox: Mailbox {
                queued: 7,
                queued_bytes: 900,
                in_flight: 0,
                accepted: 0,
                handled: 0,
                dead_lettered: 0,
                dropped: 0,
                redelivered: 0,
            },
        }
    }

    #[test]
    fn services_stand_in_columns() {
        let running = service("pricing", "running", None);
        assert_eq!(
            services(std::slice::from_ref(&running)),
            "\
SERVICE  STATE    GEN  UPTIME  RESTARTS  QUEUED  BYTES   MEMORY  DIGEST
pricing  running   12   1h02m         3       7  900 B  1.1 MiB  b3:0123456789ab
"
        );
        let why = Some("panic: \x1b[31mboom\nSERVICE");
        let other = service("a", "quarantined", why);
        assert_eq!(
            services(&[other, running]),
            "\
SERVICE  STATE        GEN  UPTIME  RESTARTS  QUEUED  BYTES   MEMORY  DIGEST           WHY
a        quarantined   12       -         3       7  900 B        -  b3:0123456789ab  \
panic: \\u{1b}[31mboom\\nSERVICE
pricing  running       12   1h02m         3       7  900 B  1.1 MiB  b3:0123456789ab
"
        );
        let backoff = service("a", "backoff", None);
        assert_eq!(acted(&backoff), "a is crashed, restarts soon, generation 12\n");
        assert_eq!(
            acted(&Service { status: "degraded".into(), ..service("a", "running", Some("slow")) }),
            "a is degraded, generation 12: slow\n"
        );
    }

    #[test]
    fn a_payload_cannot_act_on_a_terminal() {
        fn check(text: Option<&str>, base64: Option<&str>, shown: &str) {
            let line = TapLine::Message(TapMessage {
                at: "T".into(),
                id: 1,
                topic: "a.b".into(),
                source: "svc".into(),
                wants_reply: text.is_none(),
                delivered: u32::from(text.is_some()),
                refused: None,
                payload: Payload {
                    payload: text.map(str::to_owned),
                    payload_base64: base64.map(str::to_owned),
                },
            });
            assert_eq!(tapped(&line), shown);
        }
        check(
            Some("h\u{e9}\x1b[2J\u{9b}"),
            None,
            "T a.b from svc to 1: h\u{e9}\\u{1b}[2J\\u{9b}\n",
        );
        check(None, Some("/wAK"), "T a.b from svc to nobody, wants an answer: \\xff\\x00\\n\n");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let all: Vec<String> =
            [0, 59, 60, 3_599, 3_600, 90_061, 8_640_000].into_iter().map(duration).collect();
        assert_eq!(all, ["0s", "59s", "1m00s", "59m59s", "1h00m", "1d01h", "100d00h"]);
        let all: Vec<String> = [0, 1023, 1024, 1536, 64 << 20].into_iter().map(size).collect();
        assert_eq!(all, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "64.0 MiB"]);
    }
}
