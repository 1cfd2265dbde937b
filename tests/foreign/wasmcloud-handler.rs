//! A handler of wasmCloud's, built with `wit-bindgen` against the published WIT, as its
//! documentation shows one; with what its templates import besides.
//!
//! The last token of the subject says what is done; an answer is published to
//! `reply-to`.

#![allow(unsafe_code, reason = "the canonical ABI passes raw pointers")]

wit_bindgen::generate!({
    inline: r#"
        package acme:handler;

        world handler {
            import wasi:logging/logging;
            import wasi:config/store@0.2.0-rc.1;
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import wasi:keyvalue/batch@0.2.0-draft;
            import wasmcloud:messaging/consumer@0.2.0;
            export wasmcloud:messaging/handler@0.2.0;
        }

        package wasi:logging {
            interface logging {
                enum level { trace, debug, info, warn, error, critical }
                log: func(level: level, context: string, message: string);
            }
        }

        package wasi:config@0.2.0-rc.1 {
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
                get-all: func() -> result<list<tuple<string, string>>, error>;
            }
        }

        package wasi:keyvalue@0.2.0-draft {
            interface store {
                variant error { no-such-store, access-denied, other(string) }
                record key-response { keys: list<string>, cursor: option<u64> }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    list-keys: func(cursor: option<u64>) -> result<key-response, error>;
                }
            }
            interface atomics {
                use store.{bucket, error};
                increment: func(bucket: borrow<bucket>, key: string, delta: u64) -> result<u64, error>;
            }
            interface batch {
                use store.{bucket, error};
                get-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<list<option<tuple<string, list<u8>>>>, error>;
                set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>;
                delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
            }
        }

        package wasmcloud:messaging@0.2.0 {
            interface types {
                record broker-message {
                    subject: string,
                    body: list<u8>,
                    reply-to: option<string>,
                }
            }
            interface handler {
                use types.{broker-message};
                handle-message: func(msg: broker-message) -> result<_, string>;
            }
            interface consumer {
                use types.{broker-message};
                request: func(subject: string, body: list<u8>, timeout-ms: u32) -> result<broker-message, string>;
                publish: func(msg: broker-message) -> result<_, string>;
            }
        }
    "#,
    generate_all,
});

use exports::wasmcloud::messaging::handler::Guest;
use wasi::config::store as config;
use wasi::keyvalue::store::{self, Bucket};
use wasi::keyvalue::{atomics, batch};
use wasi::logging::logging::{Level, log};
use wasmcloud::messaging::consumer;
use wasmcloud::messaging::types::BrokerMessage;

struct Handler;

impl Guest for Handler {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let verb = message.subject.rsplit('.').next().unwrap_or_default();
        let text = String::from_utf8_lossy(&message.body).into_owned();
        let (first, second) = text.split_once(' ').unwrap_or((&text, ""));
        let answer = match verb {
            "echo" => text.clone(),
            "who" => format!("{} {:?}", message.subject, message.reply_to),
            "fail" => return Err("told to fail".into()),
            "trap" => panic!("told to trap"),
            "silent" => return Ok(()),
            "log" => {
                log(Level::Warn, "orders", &text);
                log(Level::Critical, "", "and worse");
                "logged".into()
            }
            "publish" => said(consumer::publish(&BrokerMessage {
                subject: first.into(),
                body: second.into(),
                reply_to: None,
            })),
            "publish-for-answers" => said(consumer::publish(&BrokerMessage {
                subject: first.into(),
                body: second.into(),
                reply_to: Some("acme.answers".into()),
            })),
            "ask" => said(consumer::request(first, second.as_bytes(), 1000).map(|answer| {
                format!("{} {}", answer.subject, String::from_utf8_lossy(&answer.body))
            })),
            "config" => said(config::get(first)),
            "config-all" => said(config::get_all()),
            "keep" => keep(first, second),
            _ => return Err(format!("nothing is called {verb}")),
        };
        match message.reply_to {
            Some(subject) => {
                consumer::publish(&BrokerMessage { subject, body: answer.into(), reply_to: None })
            }
            None => Ok(()),
        }
    }
}

/// `CALL ARGUMENTS` at the bucket of that name; `own` is the service's.
fn keep(name: &str, call: &str) -> String {
    let bucket = match store::open(if name == "own" { "" } else { name }) {
        Ok(bucket) => bucket,
        Err(error) => return format!("error: {error:?}"),
    };
    let (verb, rest) = call.split_once(' ').unwrap_or((call, ""));
    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "get" => said(bucket.get(key).map(|value| value.map(text))),
        "set" => said(bucket.set(key, value.as_bytes())),
        "delete" => said(bucket.delete(key)),
        "exists" => said(bucket.exists(key)),
        "keys" => said(bucket.list_keys(None).map(|found| (found.keys, found.cursor))),
        "add" => said(atomics::increment(&bucket, key, value.parse().unwrap_or(0))),
        "many" => many(&bucket),
        "fill" => fill(&bucket),
        _ => format!("nothing is called {verb}"),
    }
}

fn many(bucket: &Bucket) -> String {
    let values = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
    let keys = ["a", "c", "b"].map(str::to_owned);
    let set = batch::set_many(bucket, &values);
    let got = batch::get_many(bucket, &keys).map(|all| {
        all.into_iter().map(|one| one.map(|(key, value)| (key, text(value)))).collect::<Vec<_>>()
    });
    let deleted = batch::delete_many(bucket, &keys);
    format!("{set:?} {got:?} {deleted:?} {:?}", bucket.exists("a"))
}

/// Values of a mebibyte, until no more is taken.
fn fill(bucket: &Bucket) -> String {
    let value = vec![0; 1 << 20];
    let too_long = said(bucket.set(&"k".repeat(2000), b""));
    let too_large = said(bucket.set("k", &vec![0; (1 << 20) + 1]));
    let error = (0..1000).find_map(|n| bucket.set(&n.to_string(), &value).err());
    format!("{too_long}\n{too_large}\n{error:?}")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn said(result: Result<impl std::fmt::Debug, impl std::fmt::Debug>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error:?}"),
    }
}

export!(Handler);
