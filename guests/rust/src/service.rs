//! What a service's author implements.

use crate::{Batch, Error, Event, Message, Outcomes, Reply};

/// A service: its state, and what it does with messages.
///
/// Name the type in [`service!`](crate::service!) to make the crate a component.
pub trait Service: Sized + 'static {
    /// Starts the service: subscribes, sets timers, returns the state.
    ///
    /// Called once in each new instance, before any message. After an error the
    /// instance is discarded and the service's restart policy decides.
    fn start() -> Result<Self, Error>;

    /// Handles a message that a subscription or a timer brought.
    ///
    /// Unless overridden, every message is settled without an answer.
    fn message(&mut self, message: Message) -> Result<Reply, Error> {
        let _ = message;
        Ok(Reply::none())
    }

    /// Hears what the kernel announced. Lossy: a service that falls behind
    /// misses the oldest events.
    fn event(&mut self, event: Event) {
        let _ = event;
    }

    /// Ends the service within the stop deadline. Not called after a crash.
    fn stop(&mut self) {}
}

/// State that outlives a hot swap.
///
/// Export it with `service!(Name: handover)`.
pub trait Handover: Service {
    /// The author's own number for the layout of what [`save`](Self::save)
    /// returns. Raise it when the layout changes.
    const SCHEMA: u32;

    /// Returns the state, at most 1 MiB unless configuration says more.
    ///
    /// Called on the old instance, when its last message is done.
    fn save(&mut self) -> Result<Vec<u8>, Error>;

    /// Takes over the state that a version of this service saved as `schema`.
    ///
    /// Called on the new instance, after `start` and before any message. An
    /// error keeps the old instance.
    fn restore(&mut self, schema: u32, bytes: Vec<u8>) -> Result<(), Error>;
}

/// Messages by the batch, for a service that handles very many small ones.
///
/// Export it with `service!(Name: bulk)`. The host calls
/// [`batch`](Self::batch) when several messages wait and
/// [`Service::message`] when one does.
pub trait Bulk: Service {
    /// Handles the messages in order; [`Batch::each`] is the usual way.
    ///
    /// A panic here costs no message: all of the batch are delivered again, one
    /// at a time, so that the one at fault is found.
    fn batch(&mut self, batch: &Batch) -> Outcomes;
}
