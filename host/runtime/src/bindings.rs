//! The WIT contract in Rust, generated; and one world that has all of it.
//!
//! No component has this world: it exists so that one set of types serves
//! `service`, `stateful-service` and `bulk-service` alike, and each exported
//! interface is looked for by itself.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: r"
        package ron:runtime;
        world everything {
            include ron:kernel/host@1.0.0;
            export ron:kernel/lifecycle@1.0.0;
            export ron:kernel/handover@1.0.0;
            export ron:kernel/bulk@1.0.0;
        }
    ",
    world: "ron:runtime/everything",
    imports: { default: trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    require_store_data_send: true,
});

pub(crate) use self::exports::ron::kernel::{bulk, handover, lifecycle};
pub(crate) use self::ron::kernel::{config, health, identity, log, metrics, timer, types};

/// The package of byte streams. Its streams are those of `wasmtime_wasi`.
pub(crate) mod stream {
    wasmtime::component::bindgen!({
        path: "../../wit/stream",
        world: "connections",
        imports: { default: trappable },
        exports: { default: async },
        with: { "wasi:io": wasmtime_wasi::p2::bindings::io },
        require_store_data_send: true,
    });

    pub(crate) use self::exports::ron::stream::connection_handler;
    pub(crate) use self::ron::stream::types;
}
