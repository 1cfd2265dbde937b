//! What a store holds besides the instance: the host's side of one incarnation.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ron_kernel::Metrics;
use ron_kernel::message::Publisher;
use ron_kernel::metrics::ServiceMetrics;
use ron_kernel::service::ContextHandle;
use thiserror::Error;
use wasmtime::component::ResourceTable;
use wasmtime::{StoreContextMut, UpdateDeadline};
use wasmtime_wasi::filesystem::FsPerms;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::component::Component;
use crate::engine::Ticks;
use crate::grants::{Directory, Grants};
use crate::host::consumer::InFlight;
use crate::host::outbound::Outbound;
use crate::host::outgoing::Outgoing;
use crate::host::sockets::Sockets;
use crate::lane::LanePlace;
use crate::limits::{Limiter, Limits, MemoryUse, Rate, Rates};
use crate::log::{GuestLog, Source};
use crate::output::LineLog;
use crate::share::Shares;

/// Ticks until a call is looked at for the first time.
pub(crate) const FIRST_TICKS: u64 = 1;

/// A call's longest limit: what is meant to be endless is a day, which every
/// clock can add.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is left to look at when a call has failed. A clone sees the same.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) log: GuestLog,
    pub(crate) stdout: LineLog,
    pub(crate) stderr: LineLog,
    pub(crate) memory: Arc<MemoryUse>,
}

pub(crate) struct HostState {
    wasi: WasiCtx,
    /// A directory that was granted and is not there; see [`HostState::reached`].
    unreached: Option<Unreached>,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    sockets: Sockets,
    pub(crate) outbound: Outbound,
    pub(crate) shares: Arc<Shares>,
    pub(crate) grants: Arc<Grants>,
    /// The message that a handler of wasmCloud's is at, if it can be answered.
    pub(crate) in_flight: Option<InFlight>,
    /// Whether the request that is answered came over TLS.
    pub(crate) https: bool,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) call: Call,
    pub(crate) kernel: Arc<ContextHandle>,
    pub(crate) publisher: Publisher,
    pub(crate) publish_rate: Rate,
    /// Whether there is an `on-message` that a message can be delivered to.
    pub(crate) takes_messages: bool,
    pub(crate) ticks: Ticks,
    pub(crate) metrics: Metrics,
    /// Those of the service's own; most have none.
    series: OnceCell<ServiceMetrics>,
    max_series: usize,
    pub(crate) log: GuestLog,
    pub(crate) stdout: LineLog,
    pub(crate) stderr: LineLog,
}

/// When whatever an instance is at must end, since it was told to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hurry {
    until: Instant,
    /// How long that was from when it was told.
    pub(crate) limit: Duration,
}

impl Hurry {
    /// It is told now, and has `allowed` of that limit.
    pub(crate) fn new(limit: Duration, allowed: Duration) -> Self {
        Self { until: Instant::now() + allowed.min(LONGEST), limit }
    }
}

/// The call that is under way.
#[derive(Debug)]
pub(crate) struct Call {
    /// Set by whoever waits for it.
    pub(crate) hurry: Arc<Mutex<Option<Hurry>>>,
    /// None, for one that may go on for ever.
    limit: Option<Duration>,
    /// How often it is looked at.
    tick: Duration,
    /// When it has to end; known from its first tick on. Most calls never get
    /// there, and none of those asks the clock.
    deadline: Option<Instant>,
    pace: Pace,
    place: LanePlace,
    /// For an answer to a request: how far it is, and whether its head is there. What follows may
    /// take as long as its reader, and is held to the time that it computes.
    answering: Option<Arc<Progress>>,
    /// The time that the client had taken when `deadline` became known.
    taken: Duration,
    /// Ticks that it burned since.
    burned: u32,
}

/// How far a call is that answers a request.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    answered: AtomicBool,
    /// Microseconds for which it waited for more of the client's body.
    waited: AtomicU64,
}

impl Progress {
    /// Of a call whose answer has begun, as far as its deadline goes.
    pub(crate) fn begun() -> Arc<Self> {
        let this = Self::default();
        this.answer();
        Arc::new(this)
    }

    /// The head of the answer is there.
    pub(crate) fn answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// It has waited so much longer.
    pub(crate) fn wait(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(us, Ordering::Relaxed);
    }

    /// How long it has waited.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }
}

/// How a call spends its ticks.
///
/// A tick is wall time, and a thread that the operating system took off its
/// processor burns none: a short call would stand in line behind every hog for
/// it. So a call goes into the lane when it is seen to have computed through a
/// tick, by the thread's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// No tick came yet.
    Short,
    /// At its last tick, this thread had used so much time.
    Watched(ThreadId, Duration),
    /// It burns whole ticks.
    Hog,
}

impl Pace {
    /// What it is at a tick, on a thread that has used `used` time.
    fn at_tick(self, thread: ThreadId, used: Duration, tick: Duration) -> Self {
        match self {
            Self::Hog => Self::Hog,
            Self::Watched(before, at)
                if before == thread && used.saturating_sub(at) >= tick / 2 =>
            {
                Self::Hog
            }
            Self::Short | Self::Watched(..) => Self::Watched(thread, used),
        }
    }
}

impl Call {
    /// A new call begins.
    pub(crate) fn begin(&mut self, limit: Duration) {
        self.limit = Some(limit);
        self.deadline = None;
    }

    /// A call begins that has no deadline: it is looked at as others are, and ends
    /// when it does or is given up. Whoever awaits it says when it
    /// [rests](LanePlace::rest).
    pub(crate) fn begin_endless(&mut self) {
        self.limit = None;
        self.deadline = None;
    }

    /// What it has in the lane.
    pub(crate) fn place(&self) -> &LanePlace {
        &self.place
    }

    /// A call begins that answers a request, and may go on with the body.
    pub(crate) fn begin_answering(&mut self, limit: Duration, answering: Arc<Progress>) {
        self.begin(limit);
        self.answering = Some(answering);
        self.burned = 0;
    }

    /// A call begins that lasts as long as a connection. Its limit is for the time that
    /// it computes without [resting](LanePlace::rest), of which whoever awaits it says
    /// when it does.
    pub(crate) fn begin_connection(&mut self, limit: Duration) {
        self.begin_answering(limit, Progress::begun());
    }

    /// The call has ended.
    pub(crate) fn end(&mut self) {
        if self.deadline.take().is_some() || self.pace != Pace::Short {
            self.pace = Pace::Short;
            self.place.leave();
        }
    }

    /// The call has reached a tick: it goes on, here or in the lane, or it is
    /// over.
    fn tick(&mut self) -> UpdateDeadline {
        if self.place.has_rested() {
            self.pace = Pace::Short;
            self.burned = 0;
        }
        self.pace = self.pace.at_tick(thread::current().id(), thread_time(), self.tick);
        if self.is_over() {
            return UpdateDeadline::Interrupt;
        }
        match self.pace {
            Pace::Hog => UpdateDeadline::YieldCustom(1, self.place.queue()),
            Pace::Short | Pace::Watched(..) => UpdateDeadline::Continue(1),
        }
    }

    /// Whether a call that has reached a tick has had its time.
    fn is_over(&mut self) -> bool {
        let Some(limit) = self.limit else { return false };
        let now = Instant::now();
        if self.hurry.lock().is_some_and(|hurry| now >= hurry.until) {
            return true;
        }
        let limit = limit.min(LONGEST).saturating_sub(self.tick);
        let answering = self.answering.as_ref();
        let waited = answering.map(|own| own.waited()).unwrap_or_default();
        let deadline = *self.deadline.get_or_insert_with(|| {
            self.taken = waited;
            now + limit
        });
        match answering.is_some_and(|own| own.is_answered()) {
            // What the client takes is not the service's.
            false => now >= deadline + waited.saturating_sub(self.taken),
            true => {
                self.burned += u32::from(self.pace == Pace::Hog);
                self.tick * self.burned >= limit
            }
        }
    }
}

/// Processor time that this thread has used.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std has no clock of a thread's own time")]
    // SAFETY: `time` is a valid place for the result; this clock always exists.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

impl HostState {
    pub(crate) fn new(
        component: &Component,
        kernel: Arc<ContextHandle>,
        metrics: Metrics,
        limits: &Limits,
        grants: &Arc<Grants>,
        rates: Rates,
        gauge: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        let runtime = component.runtime();
        let ticks = runtime.ticks().clone();
        let (own, told) = (Arc::clone(&kernel), metrics.clone());
        let log = GuestLog::new(own, told, limits, ticks.clone(), rates.log);
        let stdout = LineLog::new(log.clone(), Source::Stdout);
        let stderr = LineLog::new(log.clone(), Source::Stderr);
        let outbound = Outbound::new(
            Arc::clone(grants),
            Arc::clone(&kernel),
            Arc::clone(runtime.shares()),
            log.clone(),
            metrics.clone(),
            limits.outgoing_requests,
        );
        // Sockets and names are linked, because many languages import them, and
        // lead where was granted.
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            .arg(kernel.id.as_str())
            .args(&grants.args)
            .envs(&grants.env);
        let unreached = open(&mut wasi, &grants.dirs).err();
        let sockets = Sockets::new(outbound.clone(), &mut wasi);
        let wasi = wasi.build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        Self {
            wasi,
            unreached,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(outbound.clone(), Arc::clone(runtime.client())),
            sockets,
            outbound,
            shares: Arc::clone(runtime.shares()),
            grants: Arc::clone(grants),
            in_flight: None,
            https: false,
            table,
            limiter: Limiter::new(limits, gauge),
            call: Call {
                hurry: Arc::default(),
                limit: Some(LONGEST),
                tick: ticks.each(),
                deadline: None,
                pace: Pace::Short,
                place: runtime.lane().place(),
                answering: None,
                taken: Duration::ZERO,
                burned: 0,
            },
            publisher: kernel.publisher(),
            publish_rate: rates.publish,
            takes_messages: component.kind().takes_messages(),
            series: OnceCell::new(),
            max_series: limits.metric_series,
            kernel,
            ticks,
            metrics,
            log,
            stdout,
            stderr,
        }
    }

    /// Whether all that was granted is there. Asked before anything is instantiated:
    /// a service without its data is better not run than run on nothing.
    pub(crate) fn reached(&mut self) -> wasmtime::Result<()> {
        self.unreached.take().map_or(Ok(()), |unreached| Err(wasmtime::Error::new(unreached)))
    }

    /// Where the service reports of itself.
    pub(crate) fn series(&self) -> &ServiceMetrics {
        self.series
            .get_or_init(|| self.metrics.service_metrics(self.kernel.id.as_str(), self.max_series))
    }

    /// wasmtime's sockets, and what stands before them.
    pub(crate) fn sockets_and_guard(&mut self) -> (WasiSocketsCtxView<'_>, &mut Sockets) {
        let ctx = self.wasi.sockets();
        (WasiSocketsCtxView { ctx, table: &mut self.table }, &mut self.sockets)
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness {
            log: self.log.clone(),
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            memory: Arc::clone(self.limiter.memory()),
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

/// A directory that was granted cannot be opened.
#[derive(Debug, Error)]
#[error("the directory {} that it was granted cannot be opened: {error}", host.display())]
pub(crate) struct Unreached {
    host: PathBuf,
    error: wasmtime::Error,
}

/// Opens the directories that were granted. What lies outside of one is not reached
/// from within, by `..` or by a link: wasmtime-wasi resolves each step of a path.
fn open(wasi: &mut WasiCtxBuilder, dirs: &[Directory]) -> Result<(), Unreached> {
    for Directory { host, guest, writable } in dirs {
        let perms = if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        let opened = wasi.preopened_dir(host, guest, perms).map(drop);
        opened.map_err(|error| Unreached { host: host.clone(), error })?;
    }
    Ok(())
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn only_a_call_that_computes_through_a_tick_is_a_hog() {
        let here = thread::current().id();
        let other = thread::spawn(|| thread::current().id()).join().expect("it ends");
        let us = Duration::from_micros;
        let at_tick = |pace: Pace, thread, used| pace.at_tick(thread, used, TICK);
        let watched = at_tick(Pace::Short, here, us(100));
        assert_eq!(watched, Pace::Watched(here, us(100)));
        // Taken off its processor for most of the tick, or woken on another thread.
        assert_eq!(at_tick(watched, here, us(300)), Pace::Watched(here, us(300)));
        assert_eq!(at_tick(watched, other, us(9000)), Pace::Watched(other, us(9000)));
        assert_eq!(at_tick(watched, here, us(1100)), Pace::Hog);
        assert_eq!(at_tick(Pace::Hog, other, us(0)), Pace::Hog);
    }

    #[test]
    fn a_connection_is_held_to_what_it_computes_without_resting() {
        let mut call = Call {
            hurry: Arc::default(),
            limit: None,
            tick: TICK,
            deadline: None,
            pace: Pace::Short,
            place: crate::lane::HogLane::new(2).place(),
            answering: None,
            taken: Duration::ZERO,
            burned: 0,
        };
        // A tick through which it has computed.
        let burn = |call: &mut Call| {
            call.pace = Pace::Hog;
            call.tick()
        };
        call.begin_connection(10 * TICK);
        for _ in 0..3 {
            for _ in 0..8 {
                assert!(matches!(burn(&mut call), UpdateDeadline::YieldCustom(..)));
            }
            call.place().rest();
            assert!(matches!(call.tick(), UpdateDeadline::Continue(1)), "it begins anew");
        }
        for _ in 0..8 {
            assert!(matches!(burn(&mut call), UpdateDeadline::YieldCustom(..)));
        }
        assert!(matches!(burn(&mut call), UpdateDeadline::Interrupt));
    }
}
