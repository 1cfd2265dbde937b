//! The engine, its clock, and the threads that guests run on.
//!
//! Guests have a tokio runtime of their own. On one that they shared with the
//! host's sockets and timers, a hundred spinning guests delay a 2 ms timer by
//! 20 to 400 ms: tokio looks at its drivers every 61 polls, and a runaway's poll
//! lasts a whole tick. Here it looks every [`EVENT_INTERVAL`] polls, and the
//! host's own work is on another runtime anyway.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::cache::CompileCache;
use crate::compiling::{Compilation, Compiling};
use crate::host;
use crate::host::outgoing::{Client, ClientError};
use crate::lane::HogLane;
use crate::room::Room;
use crate::share::Shares;
use crate::state::HostState;
use crate::symbols::{FRAMES, Symbols};

/// One epoch tick. A guest is looked at so often, and yields.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Polls between two looks at timers and sockets on the guests' threads.
const EVENT_INTERVAL: u32 = 8;
/// Instances for requests, at least: what a listener lets in at a time, and some
/// that have answered and not ended.
const REQUESTS: usize = 1024;
/// Those of one service, at most: the others, and what is to replace one, find room besides.
pub(crate) const REQUESTS_EACH: usize = REQUESTS / 4 * 3;
/// Instances for connections of byte streams, at least, of all services together.
/// Each keeps its instance for as long as it lasts, so that this is the most that
/// there can be at a time; one more is refused, and counted.
const CONNECTIONS: usize = 1024;
/// Memory mappings that an instance can cost: 2 for its stack, paid when the
/// engine is made, and 4 for its copy-on-write memories.
const MAPPINGS_INSTANCE: usize = 6;
/// Memory mappings of a loaded component.
const MAPPINGS_COMPONENT: usize = 3;
/// Mappings that are left to the host itself.
const MAPPINGS_KEPT: usize = 4096;

/// How a [`Runtime`] is made.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// Most instances at a time, with room for those that replace others.
    pub instances: usize,
    /// Most different components at a time.
    pub components: usize,
    /// Threads for guests; the number of processors, and at least 2, when not said.
    pub workers: Option<NonZero<usize>>,
    /// Where compiled components are kept; nowhere when not said.
    pub cache: Option<CompileCache>,
    /// Certificates (DER) of authorities that services trust when they send requests,
    /// besides Mozilla's.
    pub trusted: Vec<Vec<u8>>,
}

impl Default for RuntimeConfig {
    /// 1,000 instances of as many components, a thread for each processor, no
    /// cache, and no authorities but Mozilla's.
    fn default() -> Self {
        Self { instances: 1000, components: 1000, workers: None, cache: None, trusted: vec![] }
    }
}

/// Why no runtime was made.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The engine refuses its settings or finds no room.
    #[error("the WebAssembly engine cannot be made")]
    Engine(#[source] wasmtime::Error),
    /// No threads.
    #[error("the guests' threads cannot be started")]
    Threads(#[source] std::io::Error),
    /// Requests cannot be sent over TLS.
    #[error("services' own requests cannot be set up")]
    Client(#[from] ClientError),
    /// The kernel allows too few memory mappings for so many instances.
    #[error(
        "{instances} instances need {needed} memory mappings and the system allows {allowed}: \
         raise it with `sysctl vm.max_map_count={needed}`, or run fewer services"
    )]
    Mappings {
        /// As asked for.
        instances: usize,
        /// What they may need in all.
        needed: usize,
        /// `vm.max_map_count`.
        allowed: usize,
    },
}

/// An engine with its linker, clock and threads. A clone is the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    /// For calls one after the other.
    way: Way,
    /// The other ways to run, each made with its first component.
    others: Mutex<Vec<(Calls, Way)>>,
    /// What the clock moves.
    clocked: Clocked,
    instances: usize,
    cache: Option<CompileCache>,
    compiling: Compiling,
    lane: HogLane,
    ticks: Ticks,
    symbols: Symbols,
    /// What services send requests with.
    client: Arc<Client>,
    shares: Arc<Shares>,
    /// Dropped without waiting: a guest that spins would never let go.
    threads: Option<tokio::runtime::Runtime>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// An engine, and what components find on it.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<HostState>,
    pub(crate) room: Room,
}

/// The engines whose epoch the clock moves.
type Clocked = Arc<Mutex<Vec<EngineWeak>>>;

/// Milliseconds since the engine was made, read without asking the clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Runtime {
    /// Makes the engine and starts its threads.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        check_mappings(&config)?;
        let client = Arc::new(Client::new(&config.trusted)?);
        let way = make_way(config.instances, Calls::Sequential)?;
        let workers = config.workers.map_or_else(
            || thread::available_parallelism().map_or(2, NonZero::get).max(2),
            NonZero::get,
        );
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .event_interval(EVENT_INTERVAL)
            .enable_all()
            .thread_name("guests")
            .build()
            .map_err(RuntimeError::Threads)?;
        let ticks = Ticks::default();
        let clocked = Clocked::new(Mutex::new(vec![way.engine.weak()]));
        start_clock(Arc::downgrade(&clocked), ticks.clone()).map_err(RuntimeError::Threads)?;
        Ok(Self(Arc::new(Shared {
            way,
            others: Mutex::default(),
            clocked,
            instances: config.instances,
            cache: config.cache,
            compiling: Compiling::default(),
            lane: HogLane::new(workers),
            ticks,
            symbols: Symbols::default(),
            client,
            shares: Arc::default(),
            threads: Some(threads),
        })))
    }

    /// The threads that guests run on: what a supervisor adds components to.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.0.threads.as_ref().expect("the threads live until the last clone is dropped").handle()
    }

    /// wasmtime's engine, for a floor to measure against.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.way.engine
    }

    /// The way to run a component whose exports are called so.
    pub(crate) fn way(&self, calls: Calls) -> Result<Way, RuntimeError> {
        match calls {
            Calls::Sequential => Ok(self.0.way.clone()),
            Calls::Concurrent => self.other(calls, REQUESTS),
            Calls::Connections => self.other(calls, CONNECTIONS),
        }
    }

    /// Another way to run than the one that was made with the runtime, with room for so
    /// many instances at least.
    fn other(&self, calls: Calls, instances: usize) -> Result<Way, RuntimeError> {
        let mut others = self.0.others.lock();
        if let Some((_, way)) = others.iter().find(|(own, _)| *own == calls) {
            return Ok(way.clone());
        }
        let way = make_way(self.0.instances.max(instances), calls)?;
        self.0.clocked.lock().push(way.engine.weak());
        others.push((calls, way.clone()));
        Ok(way)
    }

    pub(crate) fn cache(&self) -> Option<&CompileCache> {
        self.0.cache.as_ref()
    }

    /// What is being compiled now.
    #[must_use]
    pub fn compiling(&self) -> Vec<Compilation> {
        self.0.compiling.list()
    }

    pub(crate) fn compilations(&self) -> &Compiling {
        &self.0.compiling
    }

    pub(crate) fn lane(&self) -> &HogLane {
        &self.0.lane
    }

    pub(crate) fn ticks(&self) -> &Ticks {
        &self.0.ticks
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.0.client
    }

    pub(crate) fn shares(&self) -> &Arc<Shares> {
        &self.0.shares
    }

    pub(crate) fn symbols(&self) -> &Symbols {
        &self.0.symbols
    }
}

fn check_mappings(config: &RuntimeConfig) -> Result<(), RuntimeError> {
    let Some(allowed) = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
    else {
        return Ok(());
    };
    let instances = config.instances;
    let needed = (instances.saturating_mul(MAPPINGS_INSTANCE))
        .saturating_add(config.components.saturating_mul(MAPPINGS_COMPONENT))
        .saturating_add(MAPPINGS_KEPT);
    if needed > allowed {
        return Err(RuntimeError::Mappings { instances, needed, allowed });
    }
    Ok(())
}

/// How the exports of a component are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Calls {
    /// One after the other: services, whose messages are in order.
    Sequential,
    /// Several at a time, or one that goes on after it has answered: what is
    /// behind HTTP, and what is of WASI 0.3. A call costs three times as much.
    Concurrent,
    /// One in each instance, for as long as a connection lasts. They have an engine of
    /// their own, so that connections take no place from a service that starts again.
    Connections,
}

fn make_way(instances: usize, calls: Calls) -> Result<Way, RuntimeError> {
    let (engine, places) = make_engine(instances, calls)?;
    let mut linker = Linker::new(&engine);
    host::add_to_linker(&mut linker).map_err(RuntimeError::Engine)?;
    if calls == Calls::Concurrent {
        host::add_concurrent_to_linker(&mut linker).map_err(RuntimeError::Engine)?;
    }
    Ok(Way { engine, linker, room: Room { calls, places } })
}

/// The settings; where each comes from is said beside it. With how many places its pool
/// has, if it has one.
fn make_engine(instances: usize, calls: Calls) -> Result<(Engine, Option<usize>), RuntimeError> {
    let base = || {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .concurrency_support(calls == Calls::Concurrent)
            // Unwinding through guests is nobody's need here, and costs memory.
            .native_unwind_info(false)
            .generate_address_map(true)
            // Looked up when the service is on its way again: `symbols.rs`.
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .wasm_backtrace_max_frames(NonZero::new(FRAMES + 1))
            // The difference is for host functions.
            .async_stack_size(1 << 20)
            .max_wasm_stack(512 << 10);
        config
    };
    let count = u32::try_from(instances).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(count)
        .total_memories(count.saturating_mul(2))
        .total_stacks(count)
        // A Rust guest is made of three core instances and two tables.
        .total_core_instances(count.saturating_mul(4))
        .total_tables(count.saturating_mul(2))
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .table_elements(20_000)
        .max_memory_size(1 << 32);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(2 << 20)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
    }
    let mut pooled = base();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    match Engine::new(&pooled) {
        Ok(engine) => Ok((engine, Some(instances))),
        Err(error) => {
            // A container or ulimit with little address space.
            tracing::warn!(
                instances,
                error = %error.root_cause(),
                "no room for a pool of instances: they are made on demand, more slowly"
            );
            let mut on_demand = base();
            on_demand.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Ok((Engine::new(&on_demand).map_err(RuntimeError::Engine)?, None))
        }
    }
}

/// Moves the epoch, on a thread of the operating system's: a clock on the
/// guests' threads would stop with them.
fn start_clock(engines: Weak<Mutex<Vec<EngineWeak>>>, ticks: Ticks) -> std::io::Result<()> {
    thread::Builder::new().name("epoch".into()).spawn(move || {
        loop {
            thread::sleep(TICK);
            let Some(engines) = engines.upgrade() else { break };
            ticks.0.fetch_add(1, Ordering::Relaxed);
            for engine in engines.lock().iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
        }
    })?;
    Ok(())
}
