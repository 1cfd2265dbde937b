//! What goes on until somebody stops looking: taps and logs, as lines of JSON.
//!
//! A reader that is slow makes its own queue overflow and nobody else wait; how
//! many it missed stands in the stream where they are missing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{Stream, unfold};
use ron_kernel::message::Tap;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::wire::{Missed, TapMessage};
use crate::logging::Line;

/// Bytes that are put into one piece of the stream, when so many wait.
const PIECE: usize = 64 << 10;
/// How often a tap tells of what was missed, when nothing comes after it.
const TELL: Duration = Duration::from_secs(1);

/// Somebody who looks on: the place that is taken up, and when it has to end.
pub(super) struct Looker {
    pub(super) stop: CancellationToken,
    pub(super) _place: OwnedSemaphorePermit,
}

/// Messages, from now on.
pub(super) fn tap(tap: Tap, looker: Looker) -> Response {
    lines(unfold((tap, looker), |(mut tap, looker)| async move {
        let mut piece = Vec::new();
        loop {
            let first = tokio::select! {
                () = looker.stop.cancelled() => return None,
                seen = tap.next() => Some(seen),
                () = tokio::time::sleep(TELL) => None,
            };
            let mut next = first;
            // Those that wait are older than what was missed.
            while let Some(seen) = next {
                line(&mut piece, &TapMessage::from(&seen));
                let more = piece.len() < PIECE;
                next = if more { tap.next().now_or_never() } else { None };
            }
            match tap.missed() {
                0 => {}
                missed => line(&mut piece, &Missed { missed }),
            }
            if !piece.is_empty() {
                return Some((Ok(piece.into()), (tap, looker)));
            }
        }
    }))
}

/// Log records: those that are there, and those to come if there is a follower.
pub(super) fn logs(
    before: Vec<Line>,
    follower: Option<Receiver<Line>>,
    looker: Looker,
) -> Response {
    let state = (VecDeque::from(before), follower, looker);
    lines(unfold(state, |(mut before, mut follower, looker)| async move {
        let mut piece = Vec::new();
        while let Some(record) = before.pop_front() {
            text(&mut piece, &record);
            if piece.len() >= PIECE {
                break;
            }
        }
        if !piece.is_empty() {
            return Some((Ok(piece.into()), (before, follower, looker)));
        }
        let live = follower.as_mut()?;
        let first = tokio::select! {
            () = looker.stop.cancelled() => return None,
            first = live.recv() => first,
        };
        match first {
            Ok(record) => text(&mut piece, &record),
            Err(RecvError::Lagged(missed)) => line(&mut piece, &Missed { missed }),
            Err(RecvError::Closed) => return None,
        }
        while piece.len() < PIECE {
            match live.try_recv() {
                Ok(record) => text(&mut piece, &record),
                Err(TryRecvError::Lagged(missed)) => line(&mut piece, &Missed { missed }),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some((Ok(piece.into()), (before, follower, looker)))
    }))
}

pub(super) fn lines(
    stream: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (content_type, Body::from_stream(stream)).into_response()
}

fn text(piece: &mut Vec<u8>, line: &str) {
    piece.extend_from_slice(line.as_bytes());
    piece.push(b'\n');
}

pub(super) fn line(piece: &mut Vec<u8>, value: &impl Serialize) {
    // No map with other keys than text is among what is written here.
    text(piece, &serde_json::to_string(value).unwrap_or_default());
}
