//! Where instances have their places.
//!
//! Each way to run has an engine of its own, with a pool that is sized when the engine
//! is made and never grows. Who changes what runs can ask beforehand whether it fits.

use crate::component::Component;
use crate::engine::Calls;
use crate::kind::Kind;

/// What the instances of some components share: so many of them find a place at a time.
/// Two that are equal are the same room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room {
    pub(crate) calls: Calls,
    /// None where instances are made on demand.
    pub(crate) places: Option<usize>,
}

impl Room {
    /// How many instances find a place; as many as the machine holds, when there is no
    /// number.
    #[must_use]
    pub const fn places(&self) -> Option<usize> {
        self.places
    }
}

impl Component {
    /// Where an instance of it has its place for as long as its service runs. None of a
    /// component that has instances for requests or connections instead: those are
    /// bounded where they come in.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        match self.kind() {
            Kind::Service | Kind::ServiceWithHttp | Kind::Messaging | Kind::Job => {
                Some(self.place())
            }
            Kind::Http | Kind::Stream => None,
        }
    }
}
