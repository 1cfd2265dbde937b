//! What a service sends, as `wasi:io` has it, and the pump that sends it.
//!
//! What the service writes is kept up to [`CHUNK`] and sent by the pump, which runs
//! beside the call: a service that writes and then waits for its client is not to
//! flush for that. While the client takes nothing there is no permit to write more.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::CHUNK;
use super::account::Account;

/// What the service has of it. Dropping it ends what is sent.
pub(super) struct Output(Arc<Mutex<State>>);

/// What the connection has of it.
pub(super) struct Pump {
    state: Arc<Mutex<State>>,
    account: Arc<Account>,
}

#[derive(Default)]
struct State {
    /// What the pump has not taken yet.
    buffer: BytesMut,
    /// Bytes that were written and that the connection has not taken: those of the
    /// buffer and of the pump.
    unsent: usize,
    /// What the connection took may stand within it still.
    unflushed: bool,
    /// A flush was asked for, and is not done.
    flush: bool,
    /// The service writes no more.
    ended: bool,
    failed: Option<Failed>,
    service: Option<Waker>,
    pump: Option<Waker>,
}

/// Why nothing can be sent. Told once.
struct Failed(Option<io::Error>);

/// What the pump does next.
enum Next {
    Write(Bytes),
    Flush,
    End,
}

/// An output, and what sends what is written to it.
pub(super) fn output(account: Arc<Account>) -> (Output, Pump) {
    let state = Arc::<Mutex<State>>::default();
    (Output(Arc::clone(&state)), Pump { state, account })
}

impl State {
    fn check(&mut self) -> StreamResult<()> {
        match &mut self.failed {
            None => Ok(()),
            Some(Failed(error)) => {
                let error = error.take().map(wasmtime::Error::from);
                Err(error.map_or(StreamError::Closed, StreamError::LastOperationFailed))
            }
        }
    }

    /// What the service may write now.
    fn permit(&self) -> usize {
        if self.flush { 0 } else { CHUNK - self.unsent.min(CHUNK) }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.failed.is_some() || self.permit() > 0 {
            return Poll::Ready(());
        }
        self.service = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if !self.buffer.is_empty() {
            return Poll::Ready(Next::Write(self.buffer.split().freeze()));
        }
        if self.unflushed || self.flush {
            return Poll::Ready(Next::Flush);
        }
        if self.ended {
            return Poll::Ready(Next::End);
        }
        self.pump = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Pump {
    /// Sends what is written, until the service writes no more and the connection was
    /// told so. Says whether it came to that; otherwise the service is told why not.
    pub(super) async fn run(self, mut half: impl AsyncWrite + Unpin) -> bool {
        loop {
            let next = poll_fn(|cx| self.state.lock().poll_next(cx)).await;
            let end = matches!(next, Next::End);
            let done = match next {
                Next::Write(bytes) => self.write(&mut half, bytes).await,
                Next::Flush => half.flush().await.map(|()| self.flushed()),
                Next::End => half.shutdown().await,
            };
            match done {
                Ok(()) if end => return true,
                Ok(()) => {}
                Err(error) => {
                    self.account.breaks();
                    let mut state = self.state.lock();
                    state.failed = Some(Failed(Some(error)));
                    wake(&mut state.service);
                    return false;
                }
            }
        }
    }

    async fn write(
        &self,
        half: &mut (impl AsyncWrite + Unpin),
        mut bytes: Bytes,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = half.write_buf(&mut bytes).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.account.send(written);
            let mut state = self.state.lock();
            state.unsent -= written;
            state.unflushed = true;
            wake(&mut state.service);
        }
        Ok(())
    }

    fn flushed(&self) {
        let mut state = self.state.lock();
        state.unflushed = false;
        // What was written meanwhile is to be flushed too.
        if state.unsent == 0 {
            state.flush = false;
            wake(&mut state.service);
        }
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.lock().poll_ready(cx)).await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut state = self.0.lock();
        state.check()?;
        if bytes.len() > state.permit() {
            return Err(StreamError::trap("wrote more than check-write permitted"));
        }
        state.buffer.extend_from_slice(&bytes);
        state.unsent += bytes.len();
        wake(&mut state.pump);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        let mut state = self.0.lock();
        state.check()?;
        state.flush = state.unsent > 0 || state.unflushed;
        wake(&mut state.pump);
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut state = self.0.lock();
        state.check()?;
        Ok(state.permit())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        wake(&mut state.pump);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::stream::account::Counts;

    fn open(room: usize) -> (Output, Pin<Box<dyn Future<Output = bool>>>, DuplexStream) {
        let account = Arc::new(Account::new(&Arc::<Counts>::default()));
        let (output, pump) = output(account);
        let (half, client) = duplex(room);
        (output, Box::pin(pump.run(half)), client)
    }

    /// Runs the pump for as long as it goes on by itself.
    async fn settle(pump: &mut Pin<Box<dyn Future<Output = bool>>>) {
        let waits = poll_fn(|cx| Poll::Ready(pump.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "the output is not dropped");
    }

    async fn is_ready(output: &mut Output) -> bool {
        let mut ready = pin!(output.ready());
        poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_sent_no_more_than_a_chunk() {
        let (mut output, mut pump, mut client) = open(1024);
        assert_eq!(output.check_write().expect("open"), CHUNK);
        output.write(vec![1; CHUNK].into()).expect("permitted");
        assert_eq!(output.check_write().expect("open"), 0);
        assert!(!is_ready(&mut output).await);
        settle(&mut pump).await;
        // The connection itself has room for so much.
        assert_eq!(output.check_write().expect("open"), 1024);
        assert!(matches!(output.write(vec![1; 1025].into()), Err(StreamError::Trap(_))));
        output.write(vec![1; 1024].into()).expect("permitted");
        settle(&mut pump).await;
        assert!(!is_ready(&mut output).await);
        client.read_exact(&mut [0; 100]).await.expect("sent");
        settle(&mut pump).await;
        assert!(is_ready(&mut output).await);
        assert_eq!(output.check_write().expect("open"), 100);
    }

    #[tokio::test]
    async fn a_flush_is_done_when_all_was_sent() {
        let (mut output, mut pump, mut client) = open(4);
        output.write("hello".into()).expect("permitted");
        output.flush().expect("open");
        assert_eq!(output.check_write().expect("open"), 0);
        settle(&mut pump).await;
        assert!(!is_ready(&mut output).await, "one byte has no room");
        let mut text = [0; 5];
        tokio::select! {
            read = client.read_exact(&mut text) => { read.expect("sent"); }
            _ = &mut pump => unreachable!("the output is not dropped"),
        }
        settle(&mut pump).await;
        assert_eq!(&text, b"hello");
        assert!(is_ready(&mut output).await);
        assert_eq!(output.check_write().expect("open"), CHUNK);
        output.flush().expect("open");
        assert_eq!(output.check_write().expect("open"), CHUNK, "there was nothing to do");
    }

    #[tokio::test]
    async fn who_drops_it_has_all_sent_and_then_the_end() {
        let (mut output, pump, mut client) = open(CHUNK);
        output.write("hello".into()).expect("permitted");
        drop(output);
        assert!(pump.await, "in order");
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("it ends");
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_is_told_once() {
        let (mut output, pump, client) = open(CHUNK);
        drop(client);
        output.write("hello".into()).expect("permitted");
        assert!(!pump.await, "not in order");
        assert!(is_ready(&mut output).await);
        assert!(matches!(output.check_write(), Err(StreamError::LastOperationFailed(_))));
        assert!(matches!(output.write("more".into()), Err(StreamError::Closed)));
    }
}
