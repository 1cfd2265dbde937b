//! What the components beside this file share. Each is named for what it proves.
//!
//! A component named X listens on `guest.NAME.*`, NAME being what configuration
//! calls the service. Most answer `guest.NAME.echo` with the payload, so that a
//! test sees life, and do what X says at `guest.NAME.die`.

use ron_guest::{Error, Message, bus, identity};

pub mod calls;
pub mod http;

/// Subscribes to `guest.NAME.VERB` for each verb.
pub fn listen(verbs: &[&str]) -> Result<(), Error> {
    for verb in verbs {
        bus::subscribe(&topic(verb))?;
    }
    Ok(())
}

/// `guest.NAME.VERB`.
pub fn topic(verb: &str) -> String {
    format!("guest.{}.{verb}", identity::get().service)
}

/// The last token of a message's topic.
pub fn verb(message: &Message) -> &str {
    message.topic.rsplit('.').next().unwrap_or_default()
}

/// A service that echoes until it is told to die, and then calls `$die`.
#[macro_export]
macro_rules! mortal {
    ($die:expr) => {
        struct Mortal;

        impl ron_guest::Service for Mortal {
            fn start() -> Result<Self, ron_guest::Error> {
                $crate::listen(&["echo", "die"])?;
                Ok(Mortal)
            }

            fn message(
                &mut self,
                message: ron_guest::Message,
            ) -> Result<ron_guest::Reply, ron_guest::Error> {
                if $crate::verb(&message) == "die" {
                    let die: fn(ron_guest::Message) = $die;
                    die(message);
                    return Ok("still alive".into());
                }
                Ok(message.payload.into())
            }
        }

        ron_guest::service!(Mortal);
    };
}
