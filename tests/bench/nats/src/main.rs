//! `nats-peer answer URL` is one process, which counts at `sink` and answers at `echo`;
//! `nats-peer ask URL` is the other, and prints what the first saw of it.

use std::time::{Duration, Instant};

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;

const PAYLOAD: usize = 256;
const MESSAGES: u64 = 1_000_000;
const REQUESTS: u64 = 20_000;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, url] = &arguments[..] else {
        return Err("expected answer URL or ask URL".into());
    };
    // As much as the other side of the comparison keeps: nothing is to be dropped.
    let options = async_nats::ConnectOptions::new().subscription_capacity(2 << 20);
    let client = options.connect(url).await?;
    match role.as_str() {
        "answer" => answer(client).await,
        _ => ask(client).await,
    }
}

async fn answer(client: Client) -> Result<(), Error> {
    let (mut sink, mut echo) = (client.subscribe("sink").await?, client.subscribe("echo").await?);
    let mut counted = client.subscribe("counted").await?;
    client.flush().await?;
    println!("ready");
    let mut seen = 0_u64;
    loop {
        tokio::select! {
            Some(_) = sink.next() => seen += 1,
            Some(asked) = echo.next() => {
                if let Some(reply) = asked.reply {
                    client.publish(reply, asked.payload).await?;
                }
            }
            Some(asked) = counted.next() => {
                if let Some(reply) = asked.reply {
                    client.publish(reply, seen.to_string().into()).await?;
                }
            }
        }
    }
}

async fn ask(client: Client) -> Result<(), Error> {
    let payload = Bytes::from(vec![7; PAYLOAD]);
    let began = Instant::now();
    for _ in 0..MESSAGES {
        client.publish("sink", payload.clone()).await?;
    }
    client.flush().await?;
    loop {
        let seen = client.request("counted", Bytes::new()).await?;
        if std::str::from_utf8(&seen.payload)?.parse::<u64>()? >= MESSAGES {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("published and handled {:.0} messages/s", MESSAGES as f64 / began.elapsed().as_secs_f64());

    let mut took = Vec::new();
    let began = Instant::now();
    for _ in 0..REQUESTS {
        let one = Instant::now();
        client.request("echo", payload.clone()).await?;
        took.push(one.elapsed());
    }
    let rate = REQUESTS as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("requested {rate:.0} requests/s, p50 {:.1} us, p99 {:.1} us", at(0.5), at(0.99));
    Ok(())
}
