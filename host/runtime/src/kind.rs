//! What a component is, from what it exports.
//!
//! Nobody says it with a flag: a component that was built for another host runs
//! here as it is. The names are read before compiling, because how a component's
//! exports are called decides what it is compiled for.

use crate::contract;

/// The export that makes a component a service, in whatever version.
pub(crate) const LIFECYCLE: &str = "ron:kernel/lifecycle";
/// The export of a component that answers HTTP requests, WASI 0.2.
pub(crate) const INCOMING_HANDLER: &str = "wasi:http/incoming-handler";
/// The same of WASI 0.3, whose requests an instance answers several of at a time.
pub(crate) const HANDLER: &str = "wasi:http/handler";
/// The export of a program, WASI 0.2: a job, or a command that runs on and on.
pub(crate) const RUN: &str = "wasi:cli/run";
/// The export of a component that handles messages, wasmCloud's.
pub(crate) const MESSAGE_HANDLER: &str = "wasmcloud:messaging/handler";
/// The export of a component that handles byte streams, in whatever version.
pub(crate) const CONNECTION_HANDLER: &str = "ron:stream/connection-handler";

/// What runs a component, and what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exports `ron:kernel/lifecycle`: one instance with a state and a mailbox.
    Service,
    /// Exports `wasi:http/incoming-handler` besides: requests are calls on the one
    /// instance, in turn with its messages.
    ServiceWithHttp,
    /// Exports `wasi:http/incoming-handler` alone, and has an instance for each
    /// request; or `wasi:http/handler`, and its instances are used again.
    Http,
    /// Exports `wasi:cli/run`: an instance for each run.
    Job,
    /// Exports `wasmcloud:messaging/handler`: one instance with a mailbox, whose topics
    /// its configuration says.
    Messaging,
    /// Exports `ron:stream/connection-handler`: an instance for each connection.
    Stream,
}

impl Kind {
    /// Whether messages can be delivered to it: it has an `on-message`.
    #[must_use]
    pub fn takes_messages(self) -> bool {
        matches!(self, Self::Service | Self::ServiceWithHttp | Self::Messaging)
    }

    /// Whether it answers HTTP requests.
    #[must_use]
    pub fn answers_http(self) -> bool {
        matches!(self, Self::Http | Self::ServiceWithHttp)
    }

    /// The kind of a component with those exports, if there is one for them.
    pub(crate) fn of<'e>(exports: impl IntoIterator<Item = &'e str>) -> Option<Self> {
        let (mut service, mut http, mut job) = (false, false, false);
        let (mut messaging, mut stream) = (false, false);
        for export in exports {
            match contract::split(export).0 {
                LIFECYCLE => service = true,
                INCOMING_HANDLER | HANDLER => http = true,
                MESSAGE_HANDLER => messaging = true,
                CONNECTION_HANDLER => stream = true,
                RUN => job = true,
                _ => {}
            }
        }
        match (service, http) {
            (true, true) => Some(Self::ServiceWithHttp),
            (true, false) => Some(Self::Service),
            (false, true) => Some(Self::Http),
            (false, false) if messaging => Some(Self::Messaging),
            (false, false) if stream => Some(Self::Stream),
            // One that answers somebody has its `run` for other hosts.
            (false, false) if job => Some(Self::Job),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exports_say_what_a_component_is() {
        fn check(exports: &[&str], kind: Option<Kind>) {
            assert_eq!(Kind::of(exports.iter().copied()), kind, "{exports:?}");
        }
        check(&[], None);
        check(&["acme:elsewhere/thing@0.1.0"], None);
        check(&["ron:kernel/lifecycle@1.0.0"], Some(Kind::Service));
        check(&["wasi:http/incoming-handler@0.2.3"], Some(Kind::Http));
        check(&["wasi:http/handler@0.3.0"], Some(Kind::Http));
        check(&["wasi:cli/run@0.2.6"], Some(Kind::Job));
        check(&["wasi:cli/run@0.2.6", "ron:kernel/lifecycle@1.0.0"], Some(Kind::Service));
        check(&["wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.2.3"], Some(Kind::Http));
        check(&["wasi:http/incoming-handler@0.2.3", "wasi:cli/run@0.2.6"], Some(Kind::Http));
        check(&["wasmcloud:messaging/handler@0.2.0"], Some(Kind::Messaging));
        check(&["ron:stream/connection-handler@1.0.0"], Some(Kind::Stream));
        let two = ["ron:stream/connection-handler@1.0.0", "wasmcloud:messaging/handler@0.2.0"];
        check(&two, Some(Kind::Messaging));
        check(&["wasi:cli/run@0.2.6", "ron:stream/connection-handler@1.0.0"], Some(Kind::Stream));
        let two = ["wasmcloud:messaging/handler@0.2.0", "wasi:http/incoming-handler@0.2.3"];
        check(&two, Some(Kind::Http));
        check(&["wasi:cli/run@0.2.6", "wasmcloud:messaging/handler@0.2.0"], Some(Kind::Messaging));
        // One state: requests are calls on the service's instance.
        let both = ["wasi:http/incoming-handler@0.2.3", "ron:kernel/lifecycle@1.0.0"];
        check(&both, Some(Kind::ServiceWithHttp));
    }
}
