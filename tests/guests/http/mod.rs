//! One request and its answer, whole, for components that answer HTTP.

use std::io::{Read, Write};

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::OutputStream;

/// The path of a request.
pub fn path(request: &IncomingRequest) -> String {
    request.path_with_query().unwrap_or_default()
}

/// The whole body, or why it did not come.
pub fn text(request: &IncomingRequest) -> Result<String, String> {
    let body = request.consume().map_err(|()| "it is read already".to_owned())?;
    let mut stream = body.stream().map_err(|()| "it has no stream".to_owned())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Answers with `text`, in one piece.
pub fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let _ = begin(out, status).finish(text);
}

/// An answer whose head is on its way.
pub struct Answering {
    // Fields drop in this order, and a stream goes before its body.
    stream: OutputStream,
    body: OutgoingBody,
}

/// Sends the head.
pub fn begin(out: ResponseOutparam, status: u16) -> Answering {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("it is asked for once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("it is asked for once");
    Answering { stream, body }
}

impl Answering {
    /// Sends `text`.
    pub fn write(&mut self, text: &str) -> Result<(), String> {
        self.stream.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Sends `text` and ends the body.
    pub fn finish(mut self, text: &str) -> Result<(), String> {
        self.write(text)?;
        let Self { body, stream } = self;
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|error| error.to_string())
    }
}
