//! Answers HTTP alone, and does what `probe` does for a message with the body of a
//! request: makes the call that it names, and answers with what came back.

use test_guests::{calls, http};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct HttpProbe;

impl wasip2::exports::http::incoming_handler::Guest for HttpProbe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let text = http::text(&request).expect("a body of text");
        let (call, arguments) = text.split_once(' ').unwrap_or((&text, ""));
        match calls::call(call, arguments) {
            Ok(answer) => http::answer(out, 200, &answer),
            Err(error) => http::answer(out, 400, &error.to_string()),
        }
    }
}

wasip2::http::proxy::export!(HttpProbe);
