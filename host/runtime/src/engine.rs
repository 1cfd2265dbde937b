//! The engine, its clock, and the threads that guests run on.
//!
//! Guests have a tokio runtime of their own. On one that they shared with the
//! host's sockets and timers, a hundred spinning guests delay a 2 ms timer by
//! 20 to 400 ms: tokio looks at its drivers every 61 polls, and a runaway's poll
//! lasts a whole tick. Here it looks every [`EVENT_INTERVAL`] polls, runaways have one
//! thread less than there are, and the host's own work is on another runtime anyway.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use wasmtime::component::Linker;
use wasmtime::{Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::CompileCache;
use crate::compiling::{Compilation, Compiling};
use crate::host;
use crate::host::outgoing::{Client, ClientError};
use crate::lane::HogLane;
use crate::room::Room;
use crate::share::Shares;
use crate::state::HostState;
use crate::symbols::Symbols;

mod config;

pub use config::{Allocation, EngineConfig};

/// Polls between two looks at timers and sockets on the guests' threads. With 8 a request's
/// part of those looks is a twentieth of what it costs.
const EVENT_INTERVAL: u32 = 31;
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
    /// How the engine is set.
    pub engine: EngineConfig,
    /// Where compiled components are kept; nowhere when not said.
    pub cache: Option<CompileCache>,
    /// Certificates (DER) of authorities that services trust when they send requests,
    /// besides Mozilla's.
    pub trusted: Vec<Vec<u8>>,
}

impl Default for RuntimeConfig {
    /// 1,000 instances of as many components, no cache, and no authorities but
    /// Mozilla's.
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self { instances: 1000, components: 1000, engine, cache: None, trusted: vec![] }
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
    config: EngineConfig,
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

/// Milliseconds since the engine was made, read without asking the clock: as they were
/// at the last tick.
#[derive(Clone, Debug)]
pub(crate) struct Ticks {
    now: Arc<AtomicU64>,
    each: Duration,
}

impl Ticks {
    fn new(each: Duration) -> Self {
        Self { now: Arc::default(), each }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// How long one tick is.
    pub(crate) const fn each(&self) -> Duration {
        self.each
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
        let own = config.engine;
        let way = make_way(&own, config.instances, Calls::Sequential)?;
        let workers = own.workers.map_or_else(
            || thread::available_parallelism().map_or(2, NonZero::get).max(2),
            |workers| workers.get() as usize,
        );
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .event_interval(EVENT_INTERVAL)
            .enable_all()
            .thread_name("guests")
            .build()
            .map_err(RuntimeError::Threads)?;
        let ticks = Ticks::new(own.tick);
        let clocked = Clocked::new(Mutex::new(vec![way.engine.weak()]));
        start_clock(Arc::downgrade(&clocked), ticks.clone()).map_err(RuntimeError::Threads)?;
        Ok(Self(Arc::new(Shared {
            way,
            others: Mutex::default(),
            clocked,
            instances: config.instances,
            config: own,
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
        let config = self.config();
        match calls {
            Calls::Sequential => Ok(self.0.way.clone()),
            Calls::Concurrent => self.other(calls, config.request_instances),
            Calls::Connections => self.other(calls, config.connection_instances),
        }
    }

    /// Another way to run than the one that was made with the runtime, with room for so
    /// many instances at least.
    fn other(&self, calls: Calls, instances: usize) -> Result<Way, RuntimeError> {
        let mut others = self.0.others.lock();
        if let Some((_, way)) = others.iter().find(|(own, _)| *own == calls) {
            return Ok(way.clone());
        }
        let way = make_way(self.config(), self.0.instances.max(instances), calls)?;
        self.0.clocked.lock().push(way.engine.weak());
        others.push((calls, way.clone()));
        Ok(way)
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.0.config
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

fn make_way(config: &EngineConfig, instances: usize, calls: Calls) -> Result<Way, RuntimeError> {
    let (engine, places) = make_engine(config, instances, calls)?;
    let mut linker = Linker::new(&engine);
    host::add_to_linker(&mut linker).map_err(RuntimeError::Engine)?;
    if calls == Calls::Concurrent {
        host::add_concurrent_to_linker(&mut linker).map_err(RuntimeError::Engine)?;
    }
    Ok(Way { engine, linker, room: Room { calls, places } })
}

/// An engine, with how many places its pool has, if it has one.
fn make_engine(
    config: &EngineConfig,
    instances: usize,
    calls: Calls,
) -> Result<(Engine, Option<usize>), RuntimeError> {
    let pooled = || {
        let mut own = config.wasmtime(calls);
        own.allocation_strategy(InstanceAllocationStrategy::Pooling(config.pool(instances)));
        Engine::new(&own)
    };
    let on_demand = || {
        let mut own = config.wasmtime(calls);
        own.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&own)
    };
    let made = match config.allocation {
        Allocation::OnDemand => on_demand().map(|engine| (engine, None)),
        Allocation::Pooling => pooled().map(|engine| (engine, Some(instances))),
        Allocation::Auto => pooled().map(|engine| (engine, Some(instances))).or_else(|error| {
            // A container or ulimit with little address space.
            tracing::warn!(
                instances,
                error = %error.root_cause(),
                "no room for a pool of instances: they are made on demand, more slowly"
            );
            on_demand().map(|engine| (engine, None))
        }),
    };
    let (engine, places) = made.map_err(RuntimeError::Engine)?;
    tracing::debug!(
        ?calls,
        pool = places,
        memory_reservation = config.memory_reservation,
        copy_on_write = config.copy_on_write,
        keep_resident = config.keep_resident,
        pagemap_scan = PoolingAllocationConfig::is_pagemap_scan_available(),
        stack = config.stack,
        tick_ms = config.tick.as_millis() as u64,
        "an engine was made"
    );
    Ok((engine, places))
}

/// Moves the epoch, on a thread of the operating system's: a clock on the
/// guests' threads would stop with them.
fn start_clock(engines: Weak<Mutex<Vec<EngineWeak>>>, ticks: Ticks) -> std::io::Result<()> {
    let began = Instant::now();
    thread::Builder::new().name("epoch".into()).spawn(move || {
        loop {
            thread::sleep(ticks.each());
            let Some(engines) = engines.upgrade() else { break };
            let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            ticks.now.store(now, Ordering::Relaxed);
            for engine in engines.lock().iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
        }
    })?;
    Ok(())
}
