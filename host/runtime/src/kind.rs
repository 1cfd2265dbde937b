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

/// The export of a program, WASI 0.2: a job, or a command that runs on and on.
pub(crate) const RUN: &str = "wasi:cli/run";
/// The export of a component that handles messages, wasmCloud's.
pub(crate) const MESSAGE_HANDLER: &str = "wasmcloud:messaging/handler";

/// What runs a component, and what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exports `ron:kernel/lifecycle`: one instance with a state and a mailbox.
    Service,
    /// Exports `wasi:http/incoming-handler`: an instance for each request.
    Http,
    /// Exports `wasi:cli/run`: an instance for each run.
    Job,
    /// Exports `wasmcloud:messaging/handler`: one instance with a mailbox, whose topics
    /// its configuration says.
    Messaging,
}

impl Kind {
    /// The kind of a component with those exports, if there is one for them.
    pub(crate) fn of<'e>(exports: impl IntoIterator<Item = &'e str>) -> Option<Self> {
        let mut kind = None;
        for export in exports {
            match contract::split(export).0 {
                LIFECYCLE => return Some(Self::Service),
                INCOMING_HANDLER => kind = Some(Self::Http),
                // Beside an HTTP handler it is that.
                MESSAGE_HANDLER if kind != Some(Self::Http) => kind = Some(Self::Messaging),
                // One that answers somebody has its `run` for other hosts.
                RUN => kind = kind.or(Some(Self::Job)),
                _ => {}
            }
        }
        kind
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
        check(&["wasi:cli/run@0.2.6"], Some(Kind::Job));
        check(&["wasi:cli/run@0.2.6", "ron:kernel/lifecycle@1.0.0"], Some(Kind::Service));
        check(&["wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.2.3"], Some(Kind::Http));
        check(&["wasi:http/incoming-handler@0.2.3", "wasi:cli/run@0.2.6"], Some(Kind::Http));
        check(&["wasmcloud:messaging/handler@0.2.0"], Some(Kind::Messaging));
        let two = ["wasmcloud:messaging/handler@0.2.0", "wasi:http/incoming-handler@0.2.3"];
        check(&two, Some(Kind::Http));
        // One state: requests are calls on the service's instance.
        let both = ["wasi:http/incoming-handler@0.2.3", "ron:kernel/lifecycle@1.0.0"];
        check(&both, Some(Kind::Service));
    }
}
