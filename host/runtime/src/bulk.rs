//! Batches of small messages: flat headers and one byte list.
//!
//! Each list or string that a guest must allocate costs it about as much as
//! handling a small message; a batch allocates three, whatever it holds. Above
//! [`MAX_PAYLOAD`] a payload the arena loses, because it copies twice.

use std::sync::Arc;

use ron_kernel::message::{Address, Message};

use crate::bindings::bulk;

/// A larger message goes alone.
const MAX_PAYLOAD: usize = 4 << 10;
/// Bytes of all payloads in one batch.
const MAX_ARENA: usize = 64 << 10;

/// Says of one message after the other whether it fits the batch.
pub(crate) fn fits() -> impl FnMut(&Message) -> bool {
    let mut total = 0;
    move |message| {
        total += message.payload.len();
        message.payload.len() <= MAX_PAYLOAD && total <= MAX_ARENA
    }
}

/// A batch, flattened. Its buffers are the service's and are used again.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    entries: Vec<bulk::Entry>,
    payloads: Vec<u8>,
}

/// A batch as it is lowered.
#[derive(Debug)]
pub(crate) struct Batch<'b> {
    names: Vec<&'b str>,
    arena: &'b Arena,
}

impl Arena {
    /// Flattens `messages`.
    pub(crate) fn fill<'b>(&'b mut self, messages: &'b [Message]) -> Batch<'b> {
        self.entries.clear();
        self.payloads.clear();
        let mut names: Vec<&str> = Vec::new();
        // Messages of one publisher to one topic share their address.
        let mut last: Option<(&Arc<Address>, u32, u32)> = None;
        for message in messages {
            let (topic, source) = match last {
                Some((address, topic, source)) if Arc::ptr_eq(address, &message.address) => {
                    (topic, source)
                }
                _ => {
                    let topic = find_or_push(&mut names, message.topic());
                    (topic, find_or_push(&mut names, message.source()))
                }
            };
            last = Some((&message.address, topic, source));
            self.entries.push(bulk::Entry {
                id: message.id,
                topic,
                source,
                // Both are below `MAX_ARENA`.
                offset: self.payloads.len() as u32,
                length: message.payload.len() as u32,
                attempt: message.attempt,
                wants_reply: message.wants_reply(),
            });
            self.payloads.extend_from_slice(&message.payload);
        }
        Batch { names, arena: self }
    }
}

fn find_or_push<'b>(names: &mut Vec<&'b str>, text: &'b str) -> u32 {
    // At most two for each of a lease's 64 messages, and mostly two in all, so
    // a look through the list beats a map.
    if let Some(at) = names.iter().position(|name| *name == text) {
        return at as u32;
    }
    names.push(text);
    names.len() as u32 - 1
}

impl Batch<'_> {
    pub(crate) fn lowered(&self) -> bulk::Batch<'_> {
        bulk::Batch {
            names: &self.names,
            entries: &self.arena.entries,
            payloads: &self.arena.payloads,
        }
    }

    /// A topic to show in a crash report: the first.
    pub(crate) fn topic(&self) -> Option<&str> {
        self.names.first().copied()
    }
}
