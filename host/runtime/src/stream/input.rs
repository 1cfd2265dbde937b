//! What a client sends, as `wasi:io` has it.
//!
//! Nothing is read from the connection before the service asks, and at most
//! [`CHUNK`] at a time: the rest waits with the client, which is how it learns to
//! send no faster than it is read.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::buf::BufMut;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::CHUNK;
use super::account::Account;

/// Where the connection's half is when the service has dropped the stream.
pub(super) type Left<R> = Arc<Mutex<Option<R>>>;

pub(super) struct Input<R> {
    /// There until it is dropped.
    half: Option<R>,
    left: Left<R>,
    buffer: BytesMut,
    end: Option<End>,
    account: Arc<Account>,
}

/// Why nothing more comes.
enum End {
    /// The client has sent all.
    Closed,
    /// The connection broke; told once.
    Failed(Option<io::Error>),
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(super) fn new(half: R, account: Arc<Account>) -> (Self, Left<R>) {
        let left = Left::default();
        let (half, place) = (Some(half), Arc::clone(&left));
        (Self { half, left: place, buffer: BytesMut::new(), end: None, account }, left)
    }

    /// Ready when there are bytes, or none will come.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(half) = self.half.as_mut().filter(|_| self.end.is_none()) else {
            return Poll::Ready(());
        };
        if !self.buffer.is_empty() {
            return Poll::Ready(());
        }
        self.buffer.reserve(CHUNK);
        let mut limited = (&mut self.buffer).limit(CHUNK);
        // Nothing is lost when it is dropped: it has read then, or has not.
        let read = pin!(half.read_buf(&mut limited));
        match read.poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => self.end = Some(End::Closed),
            Poll::Ready(Ok(bytes)) => self.account.receive(bytes),
            Poll::Ready(Err(error)) => {
                self.account.breaks();
                self.end = Some(End::Failed(Some(error)));
            }
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl<R: AsyncRead + Send + Unpin + 'static> Pollable for Input<R> {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await;
    }
}

#[async_trait]
impl<R: AsyncRead + Send + Unpin + 'static> InputStream for Input<R> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // Who never waits is given what there is. Whoever waits registers anew.
        let _ = self.poll_fill(&mut Context::from_waker(Waker::noop()));
        if !self.buffer.is_empty() {
            let bytes = self.buffer.len().min(size);
            return Ok(self.buffer.split_to(bytes).freeze());
        }
        match &mut self.end {
            None => Ok(Bytes::new()),
            Some(End::Failed(error)) if error.is_some() => {
                let error = error.take().map(wasmtime::Error::from);
                Err(error.map_or(StreamError::Closed, StreamError::LastOperationFailed))
            }
            Some(End::Closed | End::Failed(_)) => Err(StreamError::Closed),
        }
    }
}

impl<R> Drop for Input<R> {
    fn drop(&mut self) {
        *self.left.lock() = self.half.take();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::stream::account::Counts;

    fn input(room: usize) -> (DuplexStream, Input<DuplexStream>) {
        let (client, half) = duplex(room);
        let account = Arc::new(Account::new(&Arc::<Counts>::default()));
        (client, Input::new(half, account).0)
    }

    #[tokio::test]
    async fn what_came_is_read_and_then_the_end() {
        let (mut client, mut input) = input(CHUNK);
        assert!(input.read(8).is_ok_and(|bytes| bytes.is_empty()), "nothing came");
        client.write_all(b"hello").await.expect("sent");
        input.ready().await;
        assert_eq!(input.read(2).expect("read"), "he");
        drop(client);
        assert_eq!(input.read(100).expect("read"), "llo");
        input.ready().await;
        for _ in 0..2 {
            assert!(matches!(input.read(100), Err(StreamError::Closed)));
        }
    }

    #[tokio::test]
    async fn who_never_waits_reads_too() {
        let (mut client, mut input) = input(CHUNK);
        client.write_all(b"hello").await.expect("sent");
        assert_eq!(input.read(100).expect("read"), "hello");
    }

    #[tokio::test]
    async fn no_more_is_taken_than_a_chunk_that_was_asked_for() {
        let (mut client, mut input) = input(4 * CHUNK);
        client.write_all(&vec![7; 4 * CHUNK]).await.expect("sent");
        input.ready().await;
        input.ready().await;
        assert_eq!(input.account.received(), CHUNK as u64);
        assert_eq!(input.read(1).expect("read").len(), 1);
        assert_eq!(input.account.received(), CHUNK as u64, "there was enough");
        assert_eq!(input.read(CHUNK).expect("read").len(), CHUNK - 1);
        assert_eq!(input.account.received(), CHUNK as u64);
        input.ready().await;
        assert_eq!(input.account.received(), 2 * CHUNK as u64);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_told_once() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let account = Arc::new(Account::new(&Arc::<Counts>::default()));
        let (mut input, left) = Input::new(Broken, account);
        input.ready().await;
        assert!(matches!(input.read(1), Err(StreamError::LastOperationFailed(_))));
        assert!(matches!(input.read(1), Err(StreamError::Closed)));
        drop(input);
        assert!(left.lock().is_some(), "the connection's half is given back");
    }
}
