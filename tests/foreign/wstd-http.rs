//! An HTTP service built with `wstd`, the Bytecode Alliance's async library for
//! components, as its documentation shows one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use wstd::http::body::{Body, Bytes};
use wstd::http::{Error, Request, Response, StatusCode};
use wstd::time::Duration;

/// Requests that this instance has answered.
static ANSWERED: AtomicU32 = AtomicU32::new(0);

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let count = ANSWERED.fetch_add(1, Ordering::Relaxed) + 1;
    match path.as_str() {
        "/" => Ok(Response::new(format!("hello from wstd, for the {count}. time\n").into())),
        "/echo" => {
            let kind = request.headers().get("content-type").cloned();
            let mut response = Response::new(request.into_body());
            if let Some(kind) = kind {
                response.headers_mut().insert("content-type", kind);
            }
            Ok(response)
        }
        "/who" => {
            let uri = request.uri().to_string();
            Ok(Response::new(format!("{} {uri}\n", request.method()).into()))
        }
        "/drip" => {
            let drops = futures_lite::stream::unfold(0, |n| async move {
                wstd::task::sleep(Duration::from_millis(20)).await;
                (n < 5).then(|| (Ok::<_, Infallible>(Bytes::from(format!("{n}\n"))), n + 1))
            });
            Ok(Response::new(Body::from_try_stream(drops)))
        }
        "/panic" => panic!("asked to"),
        "/spin" => loop {
            std::hint::black_box(count);
        },
        "/sleep" => {
            wstd::task::sleep(Duration::from_secs(600)).await;
            Ok(Response::new("awake\n".to_owned().into()))
        }
        "/fail" => Err(Error::msg("told to fail")),
        "/out" => {
            let request = Request::get("http://127.0.0.1:9/").body(Body::empty())?;
            match wstd::http::Client::new().send(request).await {
                Ok(_) => Ok(Response::new("sent\n".to_owned().into())),
                Err(error) => Ok(Response::new(format!("refused: {error:#}\n").into())),
            }
        }
        _ => {
            let mut response = Response::new("nothing here\n".to_owned().into());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}
