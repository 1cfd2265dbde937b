//! What a component of WASI 0.2 is told of the request that it answers, where that is not
//! what `wasmtime_wasi_http` would say.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::HostIncomingRequest;

use crate::state::HostState;

/// The interface, in the version that is linked; older ones of 0.2 lead to it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Puts the scheme that a request came with before what is linked already:
/// `wasmtime_wasi_http`'s handler says `http` of every request. A store answers one request
/// at a time, so the scheme is the store's.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let scheme = |store: StoreContextMut<'_, HostState>,
                  (request,): (Resource<HostIncomingRequest>,)| {
        // A request that there is not is a trap, as everywhere.
        store.data().table.get(&request)?;
        let scheme = if store.data().https { Scheme::Https } else { Scheme::Http };
        Ok((Some(scheme),))
    };
    linker.instance(TYPES)?.func_wrap("[method]incoming-request.scheme", scheme)?;
    linker.allow_shadowing(false);
    Ok(())
}
