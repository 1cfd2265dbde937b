//! Interfaces of other hosts in Rust, generated from `wit/`: what components import
//! and export there, beside WASI 0.2 proper.

wasmtime::component::bindgen!({
    path: "wit",
    world: "ron:adopted/everything",
    imports: {
        "wasmcloud:messaging/consumer@0.2.0": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: { "wasi:keyvalue/store.bucket": crate::host::keyvalue::Opened },
    require_store_data_send: true,
});

pub(crate) use self::exports::wasmcloud::messaging::handler;
pub(crate) use self::wasi::{config, keyvalue, logging};
pub(crate) use self::wasmcloud::messaging;
