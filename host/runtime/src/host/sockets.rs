//! `wasi:sockets`: TCP connections to whom was granted.
//!
//! A guest that connects has an address and no name, so what was granted by name is
//! known by what the name led to in this store: a lookup is for names that were
//! granted, and its addresses are kept. Nothing else is: no binding to an address
//! or a port of the guest's choice, no listening, no UDP; the host owns listeners.
//!
//! The two interfaces here stand before wasmtime's own, which have one switch for
//! all names.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, Network,
};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, network, tcp_create_socket};
use wasmtime_wasi::p2::{DynPollable, SocketError, TcpSocket};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup as lookup_0_3;
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView};

use super::outbound::Outbound;
use crate::peer::Target;
use crate::state::HostState;

/// Addresses of names that are kept; past it, the oldest go.
const FOUND: usize = 256;

type Stream = ip_name_lookup::ResolveAddressStream;

/// What a store needs for sockets, besides wasmtime's own.
pub(crate) struct Sockets {
    outbound: Outbound,
    found: Arc<Mutex<Found>>,
    /// The names of lookups that are under way, by their resources.
    lookups: HashMap<u32, Target>,
}

/// What names led to.
#[derive(Debug, Default)]
struct Found(VecDeque<(IpAddr, Target)>);

impl Found {
    fn add(&mut self, address: IpAddr, name: &Target) {
        if self.0.iter().any(|(own, by)| *own == address && by == name) {
            return;
        }
        if self.0.len() >= FOUND {
            self.0.pop_front();
        }
        self.0.push_back((address, name.clone()));
    }

    fn names(&self, address: IpAddr) -> Vec<Target> {
        let own = self.0.iter().filter(|(own, _)| *own == address);
        own.map(|(_, name)| name.clone()).collect()
    }
}

impl Sockets {
    /// Has the sockets of `builder` go where `outbound` leads.
    pub(crate) fn new(outbound: Outbound, builder: &mut WasiCtxBuilder) -> Self {
        let open = outbound.is_open();
        let found = Arc::<Mutex<Found>>::default();
        builder.allow_tcp(open).allow_udp(false).allow_ip_name_lookup(open);
        if open {
            let (outbound, found) = (outbound.clone(), Arc::clone(&found));
            builder.socket_addr_check(move |address, used| {
                let may = may(&outbound, &found, address, used);
                Box::pin(std::future::ready(may))
            });
        }
        Self { outbound, found, lookups: HashMap::new() }
    }
}

fn may(
    outbound: &Outbound,
    found: &Mutex<Found>,
    address: SocketAddr,
    used: SocketAddrUse,
) -> bool {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    match used {
        SocketAddrUse::TcpConnect => {
            let names = found.lock().names(ip);
            names.iter().any(|name| outbound.grants(name, ip, port)) || {
                let target = Target::Address(ip);
                outbound
                    .named(&target, port)
                    .and_then(|how| outbound.permitted(&target, how, [ip], port))
                    .is_ok()
            }
        }
        // What comes before every connection.
        SocketAddrUse::TcpBind if ip.is_unspecified() && port == 0 => true,
        _ => {
            outbound.refuse(
                "listening",
                format_args!("binding to {address} was denied: the host owns the listeners"),
            );
            false
        }
    }
}

/// Puts the two interfaces before those that are linked already.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<_, Guarded>(linker, HostState::guarded)?;
    tcp_create_socket::add_to_linker::<_, Guarded>(linker, HostState::guarded)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same for WASI 0.3, which has one call for all of a lookup.
pub(super) fn add_concurrent_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    lookup_0_3::add_to_linker::<_, Guarded>(linker, HostState::guarded)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Guarded;

impl HasData for Guarded {
    type Data<'a> = View<'a>;
}

/// wasmtime's own sockets, and who guards them.
struct View<'a> {
    wasi: WasiSocketsCtxView<'a>,
    own: &'a mut Sockets,
}

impl HostState {
    fn guarded(&mut self) -> View<'_> {
        let (wasi, own) = self.sockets_and_guard();
        View { wasi, own }
    }
}

impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.network_error_code(error)
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.wasi, network)
    }
}

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<TcpSocket>, SocketError> {
        if !self.own.outbound.is_open() {
            self.own.outbound.refuse(
                "sockets",
                format_args!(
                    "a TCP socket was denied: nobody is granted; somebody would be by \
                     grants.outbound = [\"HOST:PORT\"]"
                ),
            );
        }
        self.wasi.create_tcp_socket(family)
    }
}

impl ip_name_lookup::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Stream>, SocketError> {
        let target = Target::parse(&name).ok_or(ErrorCode::InvalidArgument)?;
        if let Target::Name(name) = &target
            && !self.own.outbound.may_resolve(name)
        {
            return Err(ErrorCode::AccessDenied.into());
        }
        let stream = self.wasi.resolve_addresses(network, target.to_string())?;
        self.own.lookups.insert(stream.rep(), target);
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<Stream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let rep = stream.rep();
        let next = self.wasi.resolve_next_address(stream)?;
        if let (Some(address), Some(name)) = (&next, self.own.lookups.get(&rep)) {
            self.own.found.lock().add(ip(*address).to_canonical(), name);
        }
        Ok(next)
    }

    fn subscribe(&mut self, stream: Resource<Stream>) -> wasmtime::Result<Resource<DynPollable>> {
        self.wasi.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<Stream>) -> wasmtime::Result<()> {
        self.own.lookups.remove(&stream.rep());
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.wasi, stream)
    }
}

impl lookup_0_3::Host for View<'_> {}

impl<T> lookup_0_3::HostWithStore<T> for Guarded {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<lookup_0_3::IpAddress>, lookup_0_3::ErrorCode>> {
        use lookup_0_3::ErrorCode;
        let Some(target) = Target::parse(&name) else {
            return Ok(Err(ErrorCode::InvalidArgument));
        };
        let name = match &target {
            Target::Address(address) => return Ok(Ok(vec![(*address).into()])),
            Target::Name(name) => name,
        };
        if !store.with(|mut view| view.get().own.outbound.may_resolve(name)) {
            return Ok(Err(ErrorCode::AccessDenied));
        }
        let Ok(found) = tokio::net::lookup_host((&**name, 0)).await else {
            return Ok(Err(ErrorCode::NameUnresolvable));
        };
        let found: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
        store.with(|mut view| {
            let mut kept = view.get().own.found.lock();
            found.iter().for_each(|address| kept.add(*address, &target));
        });
        Ok(Ok(found.into_iter().map(Into::into).collect()))
    }
}

fn ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_led_to_is_bounded() {
        let mut found = Found::default();
        let name = |text: &str| Target::parse(text).expect("a name");
        let (a, b) = (name("a.internal"), name("b.internal"));
        let address = |n: u32| IpAddr::from((n + 1).to_be_bytes());
        found.add(address(0), &a);
        found.add(address(0), &a);
        found.add(address(0), &b);
        assert_eq!(found.names(address(0)), [a.clone(), b.clone()]);
        assert_eq!(found.names(address(1)), []);
        for n in 1..FOUND as u32 {
            found.add(address(n), &b);
        }
        assert_eq!(found.0.len(), FOUND);
        assert_eq!(found.names(address(0)), [b], "the oldest goes");
    }
}
