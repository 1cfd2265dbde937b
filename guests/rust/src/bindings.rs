//! The contract, as wit-bindgen writes it from `wit/`; nothing here is public.
//!
//! `service` is the whole of an ordinary service. An optional export is a world
//! of its own beside it, not the contract's `stateful-service` over again: the
//! linker joins the worlds of a component, so a service takes the exports that
//! it wants and the imports are generated once. A component states an export
//! only where `service!` expands, so all of them can live in this crate.

#![allow(missing_docs, reason = "the WIT does not document every item")]
#![allow(unsafe_code, reason = "the canonical ABI passes raw pointers")]
#![allow(unreachable_pub, reason = "what the export macros name must be public")]

pub mod service {
    wit_bindgen::generate!({
        path: "wit",
        world: "ron:kernel/service",
        ownership: Borrowing { duplicate_if_necessary: false },
        pub_export_macro: true,
    });
}

pub mod handover {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package ron:guest;
            world handover { export ron:kernel/handover@1.0.0; }
        ",
        world: "ron:guest/handover",
        pub_export_macro: true,
    });
}

pub mod bulk {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package ron:guest;
            world bulk { export ron:kernel/bulk@1.0.0; }
        ",
        world: "ron:guest/bulk",
        pub_export_macro: true,
        with: {
            "ron:kernel/types@1.0.0": crate::bindings::service::ron::kernel::types,
        },
    });
}

/// A component of its own kind: it imports nothing of `service`.
#[cfg(feature = "stream")]
pub mod stream {
    wit_bindgen::generate!({
        path: "wit/stream",
        world: "connections",
        generate_all,
        pub_export_macro: true,
    });
}
