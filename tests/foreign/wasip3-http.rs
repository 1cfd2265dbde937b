//! An HTTP service of WASI 0.3, written against `wasip3`, the Bytecode Alliance's
//! bindings, as their example shows one.

use std::cell::Cell;

use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::sockets::ip_name_lookup;
use wasip3::{spawn_local, wit_future, wit_stream};

thread_local! {
    /// Requests that this instance has begun to answer.
    static BEGUN: Cell<u32> = const { Cell::new(0) };
}

const MS: u64 = 1_000_000;

struct Web;

impl wasip3::exports::http::handler::Guest for Web {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let begun = BEGUN.get() + 1;
        BEGUN.set(begun);
        answer(request, begun).await
    }
}

async fn answer(request: Request, begun: u32) -> Result<Response, ErrorCode> {
    let path = request.get_path_with_query().unwrap_or_default();
    match path.as_str() {
        "/" => Ok(text(format!("hello from wasip3, for the {begun}. time\n"))),
        "/echo" => {
            let (_, done) = wit_future::new(|| Ok(()));
            let (body, trailers) = Request::consume_body(request, done);
            let (response, _) = Response::new(Fields::new(), Some(body), trailers);
            Ok(response)
        }
        "/drip" => {
            let (mut body, reader) = wit_stream::new();
            let (_, trailers) = wit_future::new(|| Ok(None));
            let (response, _) = Response::new(Fields::new(), Some(reader), trailers);
            spawn_local(async move {
                for n in 0..5 {
                    monotonic_clock::wait_for(20 * MS).await;
                    body.write_all(format!("{n}\n").into_bytes()).await;
                }
            });
            Ok(response)
        }
        // A line, and the next one in ten minutes.
        "/quiet" => {
            let (mut body, reader) = wit_stream::new();
            let (_, trailers) = wit_future::new(|| Ok(None));
            let (response, _) = Response::new(Fields::new(), Some(reader), trailers);
            spawn_local(async move {
                body.write_all(b"begin\n".to_vec()).await;
                monotonic_clock::wait_for(600_000 * MS).await;
                body.write_all(b"end\n".to_vec()).await;
            });
            Ok(response)
        }
        // Answers when another request comes to this instance.
        "/together" => {
            while BEGUN.get() == begun {
                monotonic_clock::wait_for(MS).await;
            }
            Ok(text("not alone\n".to_owned()))
        }
        "/out" => {
            let (_, trailers) = wit_future::new(|| Ok(None));
            let (request, _) = Request::new(Fields::new(), None, trailers, None);
            let _ = request.set_scheme(Some(&Scheme::Http));
            let _ = request.set_authority(Some("127.0.0.1:9"));
            let _ = request.set_path_with_query(Some("/"));
            match client::send(request).await {
                Ok(_) => Ok(text("sent\n".to_owned())),
                Err(error) => Ok(text(format!("refused: {error:?}\n"))),
            }
        }
        "/lookup" => {
            let mut told = String::new();
            for name in ["localhost", "elsewhere.example", "127.0.0.1"] {
                told +=
                    &format!("{:?}\n", ip_name_lookup::resolve_addresses(name.to_owned()).await);
            }
            Ok(text(told))
        }
        "/reach" => Ok(text(format!(
            "{} {} {:?}\n",
            std::fs::read("/etc/passwd").is_ok(),
            wasip3::filesystem::preopens::get_directories().len(),
            wasip3::cli::environment::get_environment()
        ))),
        "/panic" => panic!("asked to"),
        "/spin" => loop {
            std::hint::black_box(begun);
        },
        "/sleep" => {
            monotonic_clock::wait_for(600_000 * MS).await;
            Ok(text("awake\n".to_owned()))
        }
        "/fail" => Err(ErrorCode::InternalError(Some("told to fail".to_owned()))),
        _ => {
            let response = text("nothing here\n".to_owned());
            let _ = response.set_status_code(404);
            Ok(response)
        }
    }
}

fn text(text: String) -> Response {
    let (mut body, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        body.write_all(text.into_bytes()).await;
    });
    response
}

wasip3::http::service::export!(Web);
