//! A service with a mailbox that exports the HTTP handler of WASI 0.3, whose requests
//! come several at a time: no host can have both of one instance.

use wasip3::http::types::{ErrorCode, Request, Response};

test_guests::mortal!(|_| {});

struct Web;

impl wasip3::exports::http::handler::Guest for Web {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        Err(ErrorCode::InternalError(None))
    }
}

wasip3::http::service::export!(Web);
