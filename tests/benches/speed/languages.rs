//! What each language costs: to compile its component, to load it from the cache, to start
//! it, and to have it handle a message; beside the same in bare wasmtime.
//!
//! The components are those of `tests/conformance`, which do the same in each language.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ron_kernel::{Generation, ServiceId};
use ron_runtime::CompileCache;

use crate::bare::Bare;
use crate::messages::stream;
use crate::pairs::Pairs;
use crate::restart::{is_up, started};
use crate::world::{World, target};

const LANGUAGES: [&str; 7] = ["rust", "c", "cpp", "zig", "go", "javascript", "python"];
/// Of loads from the cache and of starts.
const ROUNDS: u64 = 21;
/// Of messages, each as long as [`SAMPLE`].
const SAMPLES: usize = 15;
const SAMPLE: Duration = Duration::from_millis(40);
const PAUSE: Duration = Duration::from_micros(50);

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("languages") {
        return;
    }
    println!(
        "\n{:<11} {:>9} {:>19} {:>9} {:>22} {:>27}",
        "language", "size", "compile, bare", "cached", "start, bare, ratio", "message, bare, ratio"
    );
    for language in LANGUAGES {
        let path = target().join(format!("components/conformance-{language}.wasm"));
        match fs::metadata(&path) {
            Ok(file) => row(language, file.len(), &path),
            Err(_) => println!("{language:<11} skipped: {} was not built", path.display()),
        }
    }
}

fn row(language: &str, size: u64, path: &std::path::Path) {
    let directory = target().join("bench-languages");
    // What an earlier run has left would not be compiled.
    let _ = fs::remove_dir_all(&directory);
    let cache = CompileCache::open(&directory).expect("a cache can be made");
    let world = World::with_cache(16, Some(1), Some(cache));

    let began = Instant::now();
    let component = world.load_from(path);
    let compiled = began.elapsed();
    assert!(!component.from_cache());
    let began = Instant::now();
    let bare = Bare::load(world.runtime.engine(), path, &[]);
    let bare_compiled = began.elapsed();
    let cached = median((0..ROUNDS).map(|_| {
        let began = Instant::now();
        let again = world.load_from(path);
        let took = began.elapsed();
        assert!(again.from_cache());
        took
    }));

    let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut instance = one.block_on(bare.start());
    let bare_start = median((0..ROUNDS).map(|_| {
        let began = Instant::now();
        let next = one.block_on(bare.start());
        let took = began.elapsed();
        drop(std::mem::replace(&mut instance, next));
        took
    }));
    let id = ServiceId::parse("guest").expect("a name");
    let inbox = world.add(id.as_str(), &component);
    world.until_ready();
    let mut publisher = world.kernel.router().publisher("bench", Arc::default());
    let start = median((0..ROUNDS).map(|_| {
        let (count, before) = started(&world, id.as_str());
        publisher.publish("do.crash", Bytes::new()).expect("it is taken in");
        while !is_up(&world, &id, Generation(count + 1)) {
            std::thread::sleep(PAUSE);
        }
        started(&world, id.as_str()).1 - before
    }));

    let payload = Bytes::from(vec![7; 64]);
    let mut bare_message = |n: u64| {
        one.block_on(async {
            let began = Instant::now();
            for _ in 0..n {
                instance.message("do.echo", &payload).await;
            }
            began.elapsed()
        })
    };
    let mut count = 16;
    while bare_message(count) < SAMPLE {
        count *= 2;
    }
    let mut floor = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..SAMPLES {
        floor.push(bare_message(count));
        ours.push(stream(&world, &inbox, "do.echo", &payload, count));
    }
    let each = |samples: Vec<Duration>| median(samples.into_iter()) / count as u32;
    let (bare_message, message) = (each(floor), each(ours));
    println!(
        "{language:<11} {:>5.1} MiB {:>8.2} s {:>6.2} s {:>6.1} ms {:>6.2} ms {:>5.2} ms {:>4.2} \
         {:>9.2} us {:>7.2} us {:>4.2}",
        size as f64 / f64::from(1 << 20),
        compiled.as_secs_f64(),
        bare_compiled.as_secs_f64(),
        cached.as_secs_f64() * 1e3,
        start.as_secs_f64() * 1e3,
        bare_start.as_secs_f64() * 1e3,
        start.as_secs_f64() / bare_start.as_secs_f64(),
        message.as_secs_f64() * 1e6,
        bare_message.as_secs_f64() * 1e6,
        message.as_secs_f64() / bare_message.as_secs_f64(),
    );
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}
