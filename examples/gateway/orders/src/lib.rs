//! Takes orders over HTTP and publishes them on the bus: `orders.new`.

use ron_guest::bus;
use wstd::http::body::Body;
use wstd::http::{Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    if request.method() != Method::POST {
        let text = "POST what you want\n".to_owned();
        return Ok(Response::builder().status(StatusCode::METHOD_NOT_ALLOWED).body(text.into())?);
    }
    let mut body = request.into_body();
    let order = body.contents().await?;
    bus::publish("orders.new", order).map_err(|error| Error::msg(error.to_string()))?;
    Ok(Response::builder().status(StatusCode::ACCEPTED).body("ordered\n".to_owned().into())?)
}
