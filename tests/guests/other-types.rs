//! Has the names of the contract, and other types under them: what an author gets
//! who built against a copy of `wit/` that somebody changed.

#![allow(unsafe_code, reason = "the canonical ABI passes raw pointers")]

wit_bindgen::generate!({
    inline: "
        package ron:kernel@1.0.0;

        interface metrics {
            add: func(name: string, labels: list<tuple<string, string>>, delta: s64);
            reset: func();
        }

        interface lifecycle {
            record message {
                id: u64,
                topic: string,
                payload: string,
                source: string,
                attempt: u32,
                wants-reply: bool,
            }
            variant failure { retry(string), reject(string) }
            start: func() -> result<_, string>;
            on-message: func(message: message) -> result<option<list<u8>>, failure>;
            stop: func();
        }

        world other {
            import metrics;
            export lifecycle;
        }
    ",
});

use exports::ron::kernel::lifecycle::{Failure, Guest, Message};

struct Other;

impl Guest for Other {
    fn start() -> Result<(), String> {
        ron::kernel::metrics::reset();
        ron::kernel::metrics::add("started", &[], -1);
        Ok(())
    }

    fn on_message(message: Message) -> Result<Option<Vec<u8>>, Failure> {
        Ok(Some(message.payload.into_bytes()))
    }

    fn stop() {}
}

export!(Other);
