//! An HTTP service built with `waki`, as its README shows one.

use std::time::Duration;

use waki::{ErrorCode, Request, Response, handler};

#[handler]
fn hello(request: Request) -> Result<Response, ErrorCode> {
    match request.path() {
        "/echo" => {
            let body = request.body().unwrap_or_default();
            Response::builder().body(body).build()
        }
        "/slow" => {
            std::thread::sleep(Duration::from_millis(5));
            Response::builder().status_code(202).body("slowly\n").build()
        }
        path => {
            let text = format!("hello from waki, for {:?} {path}\n", request.method());
            Response::builder().header("content-type", "text/plain").body(text).build()
        }
    }
}
