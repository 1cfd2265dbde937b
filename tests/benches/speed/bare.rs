//! The floor: the same component in a bare wasmtime store, with imports that do
//! the least that the contract allows. Its engine is the host's own.

use std::path::Path;

use bytes::Bytes;
use wasmtime::component::{Component, InstancePre, Linker, WasmList, WasmStr};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

wasmtime::component::bindgen!({
    path: "../wit",
    world: "ron:kernel/service",
    imports: { default: trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});

pub(crate) use exports::ron::kernel::lifecycle::Guest;
use exports::ron::kernel::lifecycle::{GuestIndices, Message};
use ron::kernel::{config, health, identity, log, metrics, timer, types};

/// Just enough of a host.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    config: Vec<(String, String)>,
    last: Bytes,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for State {}

impl config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.config.iter().find(|(own, _)| *own == key).map(|(_, value)| value.clone()))
    }

    fn entries(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.config.clone())
    }

    fn version(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }
}

impl health::Host for State {
    fn report(&mut self, _: health::Status, _: Option<String>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl identity::Host for State {
    fn get(&mut self) -> wasmtime::Result<identity::Instance> {
        Ok(identity::Instance { service: "bare".into(), generation: 1, replica: 0 })
    }
}

type Pairs = Vec<(String, String)>;

impl log::Host for State {
    fn write(&mut self, _: log::Level, _: String, _: Pairs) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl metrics::Host for State {
    fn add(&mut self, _: String, _: Pairs, _: u64) -> wasmtime::Result<()> {
        Ok(())
    }

    fn set(&mut self, _: String, _: Pairs, _: f64) -> wasmtime::Result<()> {
        Ok(())
    }

    fn observe(&mut self, _: String, _: Pairs, _: f64) -> wasmtime::Result<()> {
        Ok(())
    }
}

type Set = Result<(), types::BusError>;

impl timer::Host for State {
    fn after(&mut self, _: String, _: u64) -> wasmtime::Result<Set> {
        Ok(Ok(()))
    }

    fn every(&mut self, _: String, _: u64) -> wasmtime::Result<Set> {
        Ok(Ok(()))
    }

    fn cancel(&mut self, _: String) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// A component, ready to be instantiated without a host.
pub(crate) struct Bare {
    engine: Engine,
    pre: InstancePre<State>,
    indices: GuestIndices,
    config: Vec<(String, String)>,
}

impl Bare {
    pub(crate) fn load(engine: &Engine, path: &Path, config: &[(&str, &str)]) -> Self {
        let component = Component::from_file(engine, path).expect("a test component compiles");
        let mut linker = Linker::new(engine);
        link(&mut linker).expect("the imports link");
        let pre = linker.instantiate_pre(&component).expect("a test component links");
        let indices = GuestIndices::new(&pre).expect("a test component is a service");
        let config = config.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Self { engine: engine.clone(), pre, indices, config }
    }

    /// A store, an instance, and `start`.
    pub(crate) async fn start(&self) -> Instance {
        let state = State {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            config: self.config.clone(),
            last: Bytes::new(),
        };
        let mut store = Store::new(&self.engine, state);
        // The clock moves on; a floor is never interrupted.
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.pre.instantiate_async(&mut store).await.expect("it instantiates");
        let guest = self.indices.load(&mut store, &instance).expect("it is a service");
        guest.call_start(&mut store).await.expect("start returns").expect("and succeeds");
        Instance { store, guest }
    }
}

/// A started instance.
pub(crate) struct Instance {
    store: Store<State>,
    guest: Guest,
}

impl Instance {
    /// One call of `on-message` that traps, as it should.
    pub(crate) async fn die(mut self) {
        let topic = "guest.bare.die";
        let message =
            Message { id: 1, topic, payload: &[], source: "bench", attempt: 1, wants_reply: false };
        let died = self.guest.call_on_message(&mut self.store, message).await;
        assert!(died.is_err(), "it was told to die");
    }

    /// One call of `on-message`, which must not trap.
    pub(crate) async fn message(&mut self, topic: &str, payload: &[u8]) {
        self.call(topic, payload, false).await;
    }

    /// One call of `on-message`, which must answer.
    pub(crate) async fn ask(&mut self, topic: &str, payload: &[u8]) -> Vec<u8> {
        self.call(topic, payload, true).await.expect("it answers")
    }

    async fn call(&mut self, topic: &str, payload: &[u8], wants_reply: bool) -> Option<Vec<u8>> {
        let message = Message { id: 1, topic, payload, source: "bench", attempt: 1, wants_reply };
        self.guest
            .call_on_message(&mut self.store, message)
            .await
            .expect("the call returns")
            .expect("and succeeds")
    }
}

fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime::component::HasSelf;
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    health::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    identity::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    timer::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    let mut bus = linker.instance("ron:kernel/bus@1.0.0")?;
    // A bare publish: the one copy that the payload needs.
    bus.func_wrap(
        "publish",
        |mut store: wasmtime::StoreContextMut<'_, State>,
         (topic, payload): (WasmStr, WasmList<u8>)| {
            assert!(!topic.to_str(&store)?.is_empty());
            let payload = Bytes::copy_from_slice(payload.as_le_slice(&store));
            store.data_mut().last = payload;
            Ok((Ok::<u32, types::BusError>(1),))
        },
    )?;
    bus.func_wrap_async("request", |_, _: (WasmStr, WasmList<u8>, u32)| {
        Box::new(async { Ok((Err::<Vec<u8>, _>(types::BusError::NoResponder),)) })
    })?;
    bus.func_wrap("subscribe", |_, _: (WasmStr,)| Ok((Ok::<(), types::BusError>(()),)))?;
    bus.func_wrap("unsubscribe", |_, _: (WasmStr,)| Ok((Ok::<(), types::BusError>(()),)))?;
    Ok(())
}
