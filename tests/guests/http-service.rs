//! A service with a mailbox that answers HTTP too, from one state: it counts at
//! `guest.NAME.add` and at `/add`, tells the count at `guest.NAME.count` and at
//! `/count`, and hands it over in a hot swap.
//!
//! `/hold` answers when `guest.other.hold` does, `/ask` asks `guest.NAME.count`
//! of itself, `/scheme` tells what it was asked with, `/large` answers with a megabyte, `/endless` for as long as it is
//! let and then counts, `/insist` answers less than the host holds, counts, and panics if that is
//! not taken, `/upload` tells how much it read or why it did not; `/die`, `/late`, `/spin` and `/silent` are
//! ways to fail.

use std::time::Duration;

use ron_guest::{Error, Handover, Message, Reply, Service, bus};
use test_guests::http;
use wasip2::http::types::{IncomingRequest, ResponseOutparam, Scheme};

/// Shorter than a handler's deadline.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whether the state is not handed over before `guest.other.hold` answers.
static HELD: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// One state: a request finds what messages have made of it.
static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn count() -> u64 {
    COUNT.load(std::sync::atomic::Ordering::Relaxed)
}

fn set(count: u64) -> u64 {
    COUNT.store(count, std::sync::atomic::Ordering::Relaxed);
    count
}

struct Counter;

impl Service for Counter {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["add", "count"])?;
        Ok(Counter)
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let count = match test_guests::verb(&message) {
            "add" => set(count() + 1),
            _ => count(),
        };
        Ok(count.to_string().into())
    }
}

impl Handover for Counter {
    const SCHEMA: u32 = 1;

    fn save(&mut self) -> Result<Vec<u8>, Error> {
        if HELD.load(std::sync::atomic::Ordering::Relaxed) {
            bus::request("guest.other.hold", "", PATIENCE)?;
        }
        Ok(count().to_le_bytes().to_vec())
    }

    fn restore(&mut self, _schema: u32, bytes: Vec<u8>) -> Result<(), Error> {
        let bytes = bytes.try_into().map_err(|_| Error::reject("a count has eight bytes"))?;
        set(u64::from_le_bytes(bytes));
        Ok(())
    }
}

ron_guest::service!(Counter: handover);

struct Web;

impl wasip2::exports::http::incoming_handler::Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match http::path(&request).as_str() {
            "/add" => http::answer(out, 200, &set(count() + 1).to_string()),
            "/count" => http::answer(out, 200, &count().to_string()),
            "/hold-the-state" => {
                HELD.store(true, std::sync::atomic::Ordering::Relaxed);
                http::answer(out, 200, "");
            }
            "/ask" => {
                let patience = Duration::from_millis(10);
                let answer = bus::request(&test_guests::topic("count"), "", patience);
                http::answer(out, 200, &format!("{answer:?}"));
            }
            "/hold" => {
                let answer = bus::request("guest.other.hold", "", PATIENCE);
                let answer = answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                http::answer(out, 200, &format!("{answer:?}"));
            }
            "/large" => http::answer(out, 200, &"x".repeat(1 << 20)),
            "/endless" => {
                let mut body = http::begin(out, 200);
                let chunk = "x".repeat(64 << 10);
                while body.write(&chunk).is_ok() {}
                set(count() + 1);
            }
            "/insist" => {
                let mut body = http::begin(out, 200);
                for _ in 0..3 {
                    body.write(&"x".repeat(64 << 10)).expect("it is taken");
                }
                set(count() + 1);
            }
            "/upload" => match http::text(&request) {
                Ok(text) => http::answer(out, 200, &text.len().to_string()),
                Err(why) => http::answer(out, 400, &why),
            },
            "/die" => panic!("told to die at {}", count()),
            "/late" => {
                let body = http::begin(out, 200);
                panic!("told to die with {} open", std::mem::size_of_val(&body));
            }
            "/spin" => loop {
                std::hint::black_box(count());
            },
            "/scheme" => http::answer(
                out,
                200,
                &match request.scheme() {
                    Some(Scheme::Https) => "https:".to_owned(),
                    Some(Scheme::Http) => "http:".to_owned(),
                    other => format!("{other:?}"),
                },
            ),
            "/silent" => drop(out),
            path => http::answer(out, 404, &format!("nothing at {path}")),
        }
    }
}

wasip2::http::proxy::export!(Web);
