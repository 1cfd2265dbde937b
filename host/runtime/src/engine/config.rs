//! What of the engine can be said by whoever runs it, and what it is otherwise.

use std::num::NonZero;
use std::time::Duration;

use wasmtime::{Config, Enabled, PoolingAllocationConfig, WasmBacktraceDetails};

use super::Calls;
use crate::symbols::FRAMES;

/// What a stack has besides the guest's part, for host functions.
const HOST_STACK: usize = 512 << 10;
/// The largest linear memory that there is.
const LARGEST: u64 = 1 << 32;

/// Where instances have their memories, tables and stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// In a pool, if there is address space for one, and on demand otherwise.
    #[default]
    Auto,
    /// In a pool that is made with the engine: quick, and as many as it was made for.
    Pooling,
    /// Each for itself: slower, and as many as the machine holds.
    OnDemand,
}

/// How an engine is set. The default is what was measured to be best for many small
/// services on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Where instances are.
    pub allocation: Allocation,
    /// Address space for each linear memory, in bytes. With less than 4 GiB, accesses are
    /// checked one by one, which makes work on memory take about twice as long, and in a
    /// pool no memory grows past it.
    pub memory_reservation: u64,
    /// Whether memories begin as copy-on-write images of their component, which costs
    /// mappings and saves memory and time.
    pub copy_on_write: bool,
    /// Bytes of a memory that stay resident in the pool when its instance ends, for the
    /// next one; where Linux can tell which were written (6.7 and later).
    pub keep_resident: usize,
    /// A guest's stack, in bytes.
    pub stack: usize,
    /// How often a guest is looked at, and yields.
    pub tick: Duration,
    /// Threads for guests; the number of processors, and at least 2, when not said.
    pub workers: Option<NonZero<u32>>,
    /// Instances that answer requests, of all services together, at least.
    pub request_instances: usize,
    /// Instances for connections of byte streams, of all services together, at least. Each
    /// connection has one for as long as it lasts; one more is refused, and counted.
    pub connection_instances: usize,
}

impl Default for EngineConfig {
    /// A pool where there is room, 4 GiB, copy-on-write, 2 MiB, 512 KiB, 1 ms, a thread
    /// for each processor, 1,024 instances for requests and 1,024 for connections.
    fn default() -> Self {
        Self {
            allocation: Allocation::Auto,
            memory_reservation: LARGEST,
            copy_on_write: true,
            keep_resident: 2 << 20,
            stack: 512 << 10,
            tick: Duration::from_millis(1),
            workers: None,
            request_instances: 1024,
            connection_instances: 1024,
        }
    }
}

impl EngineConfig {
    /// Instances for requests of one service, at most: the others, and what is to replace
    /// one, find room besides.
    pub(crate) const fn requests_each(&self) -> usize {
        self.request_instances - self.request_instances / 4
    }

    /// Why each is as it is, is said beside it.
    pub(super) fn wasmtime(&self, calls: Calls) -> Config {
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
            .max_wasm_stack(self.stack)
            .async_stack_size(self.stack + HOST_STACK)
            .memory_reservation(self.memory_reservation)
            .memory_init_cow(self.copy_on_write);
        config
    }

    /// A pool with room for so many.
    pub(super) fn pool(&self, instances: usize) -> PoolingAllocationConfig {
        let count = u32::try_from(instances).unwrap_or(u32::MAX);
        let largest = self.memory_reservation.min(LARGEST);
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
            .max_memory_size(usize::try_from(largest).unwrap_or(usize::MAX));
        if PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.linear_memory_keep_resident(self.keep_resident)
                .table_keep_resident(self.keep_resident.min(64 << 10))
                .pagemap_scan(Enabled::Auto);
        }
        pool
    }
}
