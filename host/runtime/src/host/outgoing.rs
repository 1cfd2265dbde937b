//! `wasi:http/outgoing-handler`: requests that a component sends.
//!
//! It is linked for every component, because what many languages are built with
//! imports it whether or not the author sends anything. Nothing is granted yet, so
//! every request is answered with `HTTP-request-denied`.

use http::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Where a component's requests go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing;

type Sending = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sending,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Sending), Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
