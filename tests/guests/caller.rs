//! At `guest.NAME.call` speaks to somebody on the network, and answers with what
//! came of it: `get URL`, `get-within MS URL`, `both URL URL`, `tcp ADDRESS`,
//! `lookup HOST`, `bind ADDRESS`, `udp ADDRESS`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use futures_lite::future::zip;
use ron_guest::{Error, Message, Reply, Service};
use wstd::http::{Body, Client, Request};
use wstd::runtime::block_on;
use wstd::time::Duration;

struct Caller;

impl Service for Caller {
    fn start() -> Result<Self, Error> {
        test_guests::listen(&["call", "echo"])?;
        Ok(Caller)
    }

    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        if test_guests::verb(&message) == "echo" {
            return Ok(message.payload.into());
        }
        let text = message.text()?;
        let (call, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        Ok(match call {
            "get" => block_on(get(first, None)),
            "get-within" => {
                let limit = Duration::from_millis(first.parse()?);
                block_on(get(second, Some(limit)))
            }
            "both" => {
                let limit = Some(Duration::from_secs(1));
                let (one, other) = block_on(zip(get(first, limit), get(second, limit)));
                format!("{one}\n{other}")
            }
            "tcp" => said(speak(first)),
            "lookup" => said((first, 0).to_socket_addrs().map(|found| {
                let found: Vec<_> = found.map(|one| one.ip().to_string()).collect();
                found.join(" ")
            })),
            "bind" => said(TcpListener::bind(first).map(|_| "bound".to_owned())),
            "udp" => said(UdpSocket::bind(first).map(|_| "bound".to_owned())),
            _ => return Err(Error::reject(format!("nothing is called `{call}`"))),
        }
        .into())
    }
}

/// Status and body, and where it is redirected to.
async fn get(url: &str, limit: Option<Duration>) -> String {
    let answer = async {
        let mut client = Client::new();
        if let Some(limit) = limit {
            client.set_first_byte_timeout(limit);
            client.set_between_bytes_timeout(limit);
        }
        let mut response = client.send(Request::get(url).body(Body::empty())?).await?;
        let status = response.status().as_u16();
        let to = response.headers().get("location").cloned();
        let body = response.body_mut().str_contents().await?;
        let to = to.as_ref().and_then(|to| to.to_str().ok()).unwrap_or_default();
        Ok::<_, wstd::http::Error>(format!("{status} {}{to}", body.trim_end()))
    };
    answer.await.unwrap_or_else(|error| format!("error: {error:?}"))
}

/// Sends a line and reads what comes back.
fn speak(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn said(result: std::io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("error: {:?}", error.kind()))
}

ron_guest::service!(Caller);
