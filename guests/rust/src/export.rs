//! Joins the author's traits to the exports of the contract.
//!
//! `service!` expands to a `Component`, a type without values, that implements
//! [`Export`]; all else follows from that here, so the macro stays small.

use crate::bindings::bulk::exports::ron::kernel::bulk;
use crate::bindings::handover::exports::ron::kernel::handover;
use crate::bindings::service::exports::ron::kernel::lifecycle;
use crate::bindings::service::ron::kernel::types;
use crate::{Batch, Bulk, Handover, Outcomes, Service, logger, panic};

/// Implemented by `service!`, never by hand.
pub trait Export: 'static {
    /// What the author wrote.
    type Service: Service;

    /// The author's crate.
    const CRATE: &'static str;

    /// The state, `None` before `start` and after `stop`. Wasm has one thread
    /// and calls are never concurrent, so the borrow is always free.
    fn slot<R>(run: impl FnOnce(&mut Option<Self::Service>) -> R) -> R;
}

fn with<E: Export, R>(run: impl FnOnce(&mut E::Service) -> R) -> R {
    E::slot(|slot| run(slot.as_mut().expect("the host calls `start` before anything else")))
}

impl<E: Export> lifecycle::Guest for E {
    fn start() -> Result<(), String> {
        panic::install();
        logger::install(E::CRATE);
        #[cfg(feature = "tracing")]
        crate::trace::install(E::CRATE);
        let service = E::Service::start().map_err(|error| error.to_string())?;
        E::slot(|slot| *slot = Some(service));
        Ok(())
    }

    fn on_message(message: types::Message) -> Result<Option<Vec<u8>>, types::Failure> {
        let reply = with::<E, _>(|service| service.message(message.into()))?;
        Ok(reply.0)
    }

    fn on_event(event: types::KernelEvent) {
        with::<E, _>(|service| service.event(event.into()));
    }

    fn stop() {
        if let Some(mut service) = E::slot(Option::take) {
            service.stop();
        }
    }
}

impl<E: Export<Service: Handover>> handover::Guest for E {
    fn save() -> Result<handover::State, String> {
        let bytes = with::<E, _>(Handover::save).map_err(|error| error.to_string())?;
        Ok(handover::State { schema: E::Service::SCHEMA, bytes })
    }

    fn restore(state: handover::State) -> Result<(), String> {
        with::<E, _>(|service| service.restore(state.schema, state.bytes))
            .map_err(|error| error.to_string())
    }
}

impl<E: Export<Service: Bulk>> bulk::Guest for E {
    fn on_batch(batch: bulk::Batch) -> Vec<(u32, bulk::Outcome)> {
        let Outcomes(outcomes) = with::<E, _>(|service| service.batch(&Batch::from(batch)));
        outcomes
    }
}

/// Makes the crate a component that runs the named [`Service`](crate::Service).
///
/// Optional exports follow a colon, joined by `+`: `handover` for
/// [`Handover`](crate::Handover), `bulk` for [`Bulk`](crate::Bulk).
///
/// ```
/// # mod counter {
/// # use ron_guest::*;
/// # pub struct Counter(u32);
/// # impl Service for Counter {
/// #     fn start() -> Result<Self, Error> { Ok(Counter(0)) }
/// # }
/// # impl Handover for Counter {
/// #     const SCHEMA: u32 = 1;
/// #     fn save(&mut self) -> Result<Vec<u8>, Error> { Ok(Vec::new()) }
/// #     fn restore(&mut self, _: u32, _: Vec<u8>) -> Result<(), Error> { Ok(()) }
/// # }
/// ron_guest::service!(Counter: handover);
/// # }
/// # fn main() {}
/// ```
///
/// Once in a crate, and only in the crate that is built as a `cdylib`.
#[macro_export]
macro_rules! service {
    ($service:ty $(: $first:ident $(+ $next:ident)*)?) => {
        const _: () = {
            ::std::thread_local! {
                static SLOT: ::core::cell::RefCell<::core::option::Option<$service>> =
                    const { ::core::cell::RefCell::new(::core::option::Option::None) };
            }

            struct Component;

            impl $crate::export::Export for Component {
                type Service = $service;

                const CRATE: &'static str = ::core::env!("CARGO_CRATE_NAME");

                fn slot<R>(run: impl ::core::ops::FnOnce(&mut ::core::option::Option<$service>) -> R) -> R {
                    SLOT.with_borrow_mut(run)
                }
            }

            $crate::bindings::service::export!(Component with_types_in $crate::bindings::service);
            $(
                $crate::__optional_export!(Component $first);
                $($crate::__optional_export!(Component $next);)*
            )?
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __optional_export {
    ($component:ident handover) => {
        $crate::bindings::handover::export!($component with_types_in $crate::bindings::handover);
    };
    ($component:ident bulk) => {
        $crate::bindings::bulk::export!($component with_types_in $crate::bindings::bulk);
    };
    ($component:ident $other:ident) => {
        ::core::compile_error!(::core::concat!(
            "no optional export is called `", ::core::stringify!($other), "`: there are `handover` and `bulk`"
        ));
    };
}
