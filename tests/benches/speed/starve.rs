//! Who starves whom: how late an idle service wakes, a host timer fires and
//! `/healthz` answers, calm and beside services that spin for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ron_runtime::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pairs::Pairs;
use crate::world::World;

/// How often each is looked at.
const LOOKS: usize = 1000;
const PERIOD: Duration = Duration::from_millis(2);

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("starve") {
        return;
    }
    println!(
        "\n{:<22} {:>22} {:>22} {:>22}",
        "starve: p50 / p99", "2 ms timer late", "/healthz", "publish to handler"
    );
    for hogs in [0, 4, 100] {
        let world = World::new(hogs + 8);
        world.add("latency", &world.load("latency"));
        let spin = world.load("spin");
        for n in 0..hogs {
            // Nothing ends them here; what is of interest is who waits.
            let limits =
                Limits { handler_deadline: Duration::from_secs(3600), ..Limits::default() };
            world.add_with(&format!("hog{n}"), &spin, limits);
        }
        world.until_ready();
        let mut publisher = world.kernel.router().publisher("bench", Arc::default());
        for n in 0..hogs {
            let _ = publisher.publish(&format!("guest.hog{n}.die"), Bytes::new());
        }
        let (address, _server) = world
            .host
            .block_on(world.kernel.metrics().serve("127.0.0.1:0"))
            .expect("a port is free");
        // All are in the lane by now.
        std::thread::sleep(Duration::from_millis(300));
        let timer = world.host.spawn(timer_lateness());
        let timer = world.host.block_on(timer).expect("it ends");
        let health = world.host.spawn(health_latency(address));
        let health = world.host.block_on(health).expect("it ends");
        for _ in 0..LOOKS {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let nanos = now.as_nanos() as u64;
            let _ = publisher.publish("guest.latency.ping", nanos.to_le_bytes().to_vec().into());
            std::thread::sleep(PERIOD);
        }
        let answer = publisher.request("guest.latency.dump", Bytes::new()).expect("it is sent");
        let bytes = world.host.block_on(answer).expect("somebody answers").expect("with bytes");
        let wake: Vec<Duration> = bytes
            .chunks_exact(8)
            .map(|nanos| {
                Duration::from_nanos(u64::from_le_bytes(nanos.try_into().unwrap_or_default()))
            })
            .collect();
        println!(
            "{:<22} {:>22} {:>22} {:>22}",
            format!("{hogs} spinning"),
            percentiles(timer),
            percentiles(health),
            percentiles(wake)
        );
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    format!("{:.0} / {:.0} us", at(0.5), at(0.99))
}

async fn timer_lateness() -> Vec<Duration> {
    let mut late = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let due = Instant::now() + PERIOD;
        tokio::time::sleep_until(due.into()).await;
        late.push(due.elapsed());
    }
    late
}

async fn health_latency(address: SocketAddr) -> Vec<Duration> {
    let mut took = Vec::with_capacity(LOOKS);
    let mut stream = TcpStream::connect(address).await.expect("the listener is there");
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..LOOKS {
        let began = Instant::now();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n")
            .await
            .expect("the connection stands");
        let mut filled = 0;
        loop {
            filled += stream.read(&mut buffer[filled..]).await.expect("it answers");
            if complete(&buffer[..filled]) {
                break;
            }
        }
        took.push(began.elapsed());
        tokio::time::sleep(PERIOD).await;
    }
    took
}

/// Whether a whole answer is there: headers, and as much body as they say.
fn complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}
