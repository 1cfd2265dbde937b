//! The access log: one record for each request, and none where nobody wants it.

use super::*;
use std::io::Write;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("text")
    }

    /// Whatever this thread logs goes here until the guard is dropped.
    fn collect(&self, level: LevelFilter) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(self.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

/// What `run` answers, and what it logs.
pub(super) fn logged<T>(run: impl FnOnce() -> T) -> (T, String) {
    let lines = Lines::default();
    let _default = lines.collect(LevelFilter::INFO);
    (run(), lines.text())
}

async fn records(level: LevelFilter) -> Vec<String> {
    let lines = Lines::default();
    let _default = lines.collect(level);
    let server = start(Limits { body: 10, ..Limits::default() }).await;
    server.ask(&post("/a?secret=1", "x-request-id: r1\r\ncontent-length: 4\r\n", "body")).await;
    server.ask(&post("/b", "content-length: 11\r\n", "")).await;
    let gone = server.send(&get("/hold")).await;
    server.service.held.notified().await;
    drop(gone);
    server.running.shutdown(LONG).await;
    lines.text().lines().filter(|line| line.contains(" access: ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn each_request_has_a_record() {
    let records = records(LevelFilter::INFO).await;
    let has = |index: usize, parts: &[&str]| {
        for part in parts {
            assert!(records[index].contains(part), "{part} in {records:#?}");
        }
    };
    has(
        0,
        &["method=POST", "path=/a ", "status=200", "bytes=4", "duration_us=", "service=\"api\""],
    );
    has(0, &["peer=127.0.0.1:", "request_id=\"r1\""]);
    has(1, &["path=/b ", "status=413", "service=\"-\""]);
    has(2, &["path=/hold ", "status=499", "bytes=0", "service=\"api\""]);
    assert_eq!(records.len(), 3);
    assert!(!records[0].contains("secret"));
}

#[tokio::test]
async fn switched_off_there_are_none() {
    assert_eq!(records(LevelFilter::WARN).await, [""; 0]);
}
