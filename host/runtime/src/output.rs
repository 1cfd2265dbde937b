//! Standard output and error of a service: each line becomes a log record.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::log::{GuestLog, Level, Source};

/// What a service may write at a time; WASI's usual permit.
const PERMIT: usize = 64 << 10;
/// A line longer than this is logged in pieces.
const LINE: usize = 16 << 10;

/// One of the two streams. A clone continues the same line.
#[derive(Clone)]
pub(crate) struct LineLog {
    log: GuestLog,
    source: Source,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LineLog {
    pub(crate) fn new(log: GuestLog, source: Source) -> Self {
        Self { log, source, line: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") || line.len() >= LINE {
                self.emit(&mut line);
            }
        }
    }

    /// Logs what stands on the line, whether or not it has ended.
    pub(crate) fn finish(&self) {
        let mut line = self.line.lock();
        if !line.is_empty() {
            self.emit(&mut line);
        }
    }

    fn emit(&self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        let level = if self.source == Source::Stderr { Level::Warn } else { Level::Info };
        self.log.record(self.source, level, text.trim_end_matches(['\n', '\r']), &[]);
        line.clear();
    }
}

impl IsTerminal for LineLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineLog {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

/// For WASI 0.3.
impl AsyncWrite for LineLog {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for LineLog {
    async fn ready(&mut self) {}
}

impl OutputStream for LineLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}
