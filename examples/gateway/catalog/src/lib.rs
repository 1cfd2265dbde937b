//! A catalog of things and their prices: a component that knows nothing of this host,
//! and would run on any that serves `wasi:http`.

use wstd::http::body::Body;
use wstd::http::{Error, Request, Response, StatusCode};

/// In cents.
const PRICES: [(&str, u32); 3] = [("apple", 40), ("bread", 320), ("cheese", 790)];

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path();
    let (status, text) = match path.strip_prefix("/catalog").unwrap_or(path) {
        "" | "/" => {
            let lines = PRICES.iter().map(|(name, price)| format!("{name} {price}\n"));
            (StatusCode::OK, lines.collect())
        }
        name => match PRICES.iter().find(|(own, _)| *own == name.trim_start_matches('/')) {
            Some((name, price)) => (StatusCode::OK, format!("{name} {price}\n")),
            None => (StatusCode::NOT_FOUND, "there is no such thing\n".to_owned()),
        },
    };
    Ok(Response::builder().status(status).body(text.into())?)
}
