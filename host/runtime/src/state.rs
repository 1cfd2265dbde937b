//! What a store holds besides the instance: the host's side of one incarnation.

use std::time::{Duration, Instant};

use ron_kernel::Metrics;
use ron_kernel::message::Publisher;
use ron_kernel::metrics::ServiceMetrics;
use ron_kernel::service::ContextHandle;
use wasmtime::component::ResourceTable;
use wasmtime::{StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::engine::{Runtime, TICK, Ticks};
use crate::lane::LanePlace;
use crate::limits::{Limiter, Limits, RateLimit};
use crate::log::{GuestLog, Source};
use crate::output::LineLog;

/// Ticks a call may take before it goes into the hog lane. With one, a short
/// call in a hundred straddles a tick and waits behind every hog.
pub(crate) const FIRST_TICKS: u64 = 2;

pub(crate) struct HostState {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) call: Call,
    pub(crate) kernel: ContextHandle,
    pub(crate) publisher: Publisher,
    pub(crate) publish_rate: RateLimit,
    pub(crate) ticks: Ticks,
    pub(crate) metrics: Metrics,
    pub(crate) series: ServiceMetrics,
    pub(crate) log: GuestLog,
    pub(crate) stdout: LineLog,
    pub(crate) stderr: LineLog,
}

/// The call that is under way.
#[derive(Debug)]
pub(crate) struct Call {
    limit: Duration,
    /// When it has to end; known once it has taken [`FIRST_TICKS`]. Most calls
    /// never get there, and none of those asks the clock.
    deadline: Option<Instant>,
    place: LanePlace,
}

impl Call {
    /// A new call begins.
    pub(crate) fn begin(&mut self, limit: Duration) {
        self.limit = limit;
        self.deadline = None;
    }

    /// The call has ended.
    pub(crate) fn end(&mut self) {
        if self.deadline.take().is_some() {
            self.place.leave();
        }
    }

    /// The call has reached a tick: it goes on in the lane, or it is over.
    fn tick(&mut self) -> UpdateDeadline {
        let now = Instant::now();
        let limit = self.limit;
        let deadline = *self.deadline.get_or_insert_with(|| {
            let used = TICK * u32::try_from(FIRST_TICKS).unwrap_or(1);
            now + limit.saturating_sub(used)
        });
        if now >= deadline {
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::YieldCustom(1, self.place.queue())
    }
}

impl HostState {
    pub(crate) fn new(
        runtime: &Runtime,
        kernel: ContextHandle,
        metrics: Metrics,
        limits: &Limits,
    ) -> Self {
        let ticks = runtime.ticks().clone();
        let log = GuestLog::new(
            kernel.id.clone(),
            kernel.generation,
            metrics.clone(),
            limits,
            ticks.clone(),
        );
        let stdout = LineLog::new(log.clone(), Source::Stdout);
        let stderr = LineLog::new(log.clone(), Source::Stderr);
        // No directory, no environment, no arguments; sockets and names are
        // linked, because many languages import them, and deny everything.
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        Self {
            wasi,
            table,
            limiter: Limiter::new(limits),
            call: Call { limit: Duration::MAX, deadline: None, place: runtime.lane().place() },
            publisher: kernel.publisher(),
            publish_rate: RateLimit::new(
                limits.publish_rate,
                limits.publish_rate / 10,
                ticks.now(),
            ),
            series: metrics.service_metrics(kernel.id.as_str(), limits.metric_series),
            kernel,
            ticks,
            metrics,
            log,
            stdout,
            stderr,
        }
    }

    /// What the engine calls when a call reaches a tick.
    #[expect(clippy::unnecessary_wraps, reason = "the signature is wasmtime's")]
    pub(crate) fn on_tick(
        mut store: StoreContextMut<'_, Self>,
    ) -> wasmtime::Result<UpdateDeadline> {
        Ok(store.data_mut().call.tick())
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
