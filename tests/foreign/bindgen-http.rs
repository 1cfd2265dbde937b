//! An HTTP service on the bindings that wit-bindgen makes of WASI's own world, with
//! nothing in between.

#![expect(unsafe_code, reason = "what is generated calls the canonical ABI")]

wit_bindgen::generate!({ path: "wit", world: "hello", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("it is asked for once");
        ResponseOutparam::set(out, Ok(response));
        {
            let stream = body.write().expect("it is asked for once");
            let text = format!("hello from wit-bindgen, for {path}\n");
            // A client that is gone misses nothing.
            let _ = stream.blocking_write_and_flush(text.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

export!(Hello);
