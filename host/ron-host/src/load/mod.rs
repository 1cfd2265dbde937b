//! A load of messages on the bus of this host, for `ron-host bench`.
//!
//! It runs in the host, on the threads of its services, as one of them would: over the
//! control socket, a message would cost more on its way to the bus than on the bus.

mod schedule;
mod tally;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use ron_kernel::message::{BusError, Publisher, Router};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use tokio::time::{Interval, MissedTickBehavior, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::schedule::{Schedule, begins};
use self::tally::{Tally, told};
use crate::control::code;
use crate::control::wire::{BenchLine, BenchReport, BenchSecond};

/// Tasks share their tallies in so many groups.
const TALLIES: usize = 8;
/// How often it is told how things go.
const TELL: Duration = Duration::from_secs(1);
/// After an error, a task without a rate waits so long: an error comes at once, and would
/// be all that the host does.
const AFTER_ERROR: Duration = Duration::from_millis(1);
/// How long what was sent is waited for, when the end is wanted early.
const GRACE: Duration = Duration::from_secs(1);

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// How long an answer is waited for; none is asked for where there is none.
    pub(crate) answer: Option<Duration>,
    pub(crate) tasks: usize,
    /// Messages a second, of all tasks together.
    pub(crate) rate: Option<f64>,
    /// Nothing counts before.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// One that runs. Dropped, it ends at once.
pub(crate) struct Bench {
    load: Arc<Load>,
    router: Router,
    tasks: JoinSet<()>,
    tallies: Arc<[Mutex<Tally>]>,
    all: Tally,
    stop: CancellationToken,
    ticks: Interval,
    /// Since when it counts.
    counts: Instant,
    end: Instant,
    /// What mailboxes had dropped when it began to count.
    dropped: u64,
    over: bool,
}

impl Bench {
    /// Begins, on those threads; `publisher` makes one for a task.
    pub(crate) fn start(
        load: Load,
        router: &Router,
        publisher: impl Fn() -> Publisher,
        threads: &Handle,
        stop: CancellationToken,
    ) -> Self {
        let load = Arc::new(load);
        let began = Instant::now();
        let counts = began + load.warm_up;
        let end = counts + load.duration;
        let tallies: Arc<[Mutex<Tally>]> =
            (0..load.tasks.min(TALLIES)).map(|_| Mutex::new(Tally::new())).collect();
        let mut tasks = JoinSet::new();
        for task in 0..load.tasks {
            let of = (task as u64, load.tasks as u64);
            let worker = Worker {
                load: Arc::clone(&load),
                schedule: Schedule::new((began, end), of, load.rate),
                publisher: publisher(),
                tallies: Arc::clone(&tallies),
                tally: task % tallies.len(),
                stop: stop.clone(),
            };
            tasks.spawn_on(worker.run(), threads);
        }
        let mut ticks = tokio::time::interval_at((counts + TELL).into(), TELL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (router, all) = (router.clone(), Tally::new());
        Self {
            load,
            router,
            tasks,
            tallies,
            all,
            stop,
            ticks,
            counts,
            end,
            dropped: 0,
            over: false,
        }
    }

    /// How it goes, and at the end what came of it; then nothing.
    pub(crate) async fn next(&mut self) -> Option<BenchLine> {
        if self.over {
            return None;
        }
        if Instant::now() < self.counts {
            tokio::select! {
                () = sleep_until(self.counts.into()) => {}
                () = self.stop.cancelled() => {}
            }
            drop(Tally::take(&self.tallies));
            self.dropped = self.dropped_now();
            self.counts = Instant::now();
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.end = self.end.min(Instant::now()),
            // They end by themselves, as soon as the last answer is there.
            () = ended(&mut self.tasks) => {}
            at = self.ticks.tick() => {
                let second = self.count();
                let at_s = at.into_std().duration_since(self.counts).as_secs_f64().round();
                return Some(BenchLine::Second(BenchSecond { at_s, ..second }));
            }
        }
        // Nobody waits for ever for what was sent.
        if timeout(GRACE, ended(&mut self.tasks)).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.over = true;
        self.count();
        Some(BenchLine::Report(self.report()))
    }

    /// What was counted since the last time.
    fn count(&mut self) -> BenchSecond {
        let own = Tally::take(&self.tallies);
        self.all.and(&own);
        let us = |percentile: f64| own.latency.value_at_percentile(percentile) as f64 / 1e3;
        BenchSecond {
            at_s: 0.0,
            done: own.done,
            errors: own.errors.values().sum(),
            p50_us: us(50.0),
            p99_us: us(99.0),
            max_us: us(100.0),
        }
    }

    fn report(&self) -> BenchReport {
        let seconds = self.end.min(Instant::now()).saturating_duration_since(self.counts);
        let seconds = seconds.as_secs_f64();
        let all = &self.all;
        let per_second = if seconds > 0.0 { all.done as f64 / seconds } else { 0.0 };
        BenchReport {
            topic: self.load.topic.clone(),
            answers: self.load.answer.is_some(),
            payload_bytes: self.load.payload.len() as u64,
            tasks: self.load.tasks as u64,
            rate: self.load.rate,
            seconds,
            done: all.done,
            delivered: all.delivered,
            per_second,
            errors: all.errors.iter().map(|(label, count)| ((*label).into(), *count)).collect(),
            missed: all.missed,
            dropped: self.dropped_now().saturating_sub(self.dropped),
            latency: told(&all.latency),
            late: told(&all.late),
        }
    }

    /// What all mailboxes have lost or refused.
    fn dropped_now(&self) -> u64 {
        let all = self.router.stats().into_iter();
        all.map(|(_, stats)| stats.dropped_oldest + stats.dropped_newest + stats.rejected).sum()
    }
}

/// Waits for the end of all.
async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

struct Worker {
    load: Arc<Load>,
    schedule: Schedule,
    publisher: Publisher,
    tallies: Arc<[Mutex<Tally>]>,
    tally: usize,
    stop: CancellationToken,
}

impl Worker {
    async fn run(mut self) {
        let mut patience = Box::pin(sleep(Duration::ZERO));
        let mut free = Instant::now();
        let mut woke = free;
        while !self.stop.is_cancelled()
            && let Some(due) = self.schedule.due(free)
        {
            // Others have a turn now and then, though nothing is waited for.
            consume_budget().await;
            let mut now = free;
            if let Some(due) = due {
                let sleeps = due > now;
                if sleeps {
                    sleep_until(due.into()).await;
                }
                now = Instant::now();
                if sleeps {
                    woke = now;
                }
            }
            let since = begins(due, woke, free, now);
            self.schedule.sent();
            let result = self.send(now, patience.as_mut()).await;
            free = Instant::now();
            self.tell(&result, free.duration_since(since), due.map(|due| now.duration_since(due)));
            if result.is_err() && self.load.rate.is_none() {
                sleep(AFTER_ERROR).await;
                free = Instant::now();
            }
        }
        if !self.stop.is_cancelled() {
            self.tallies[self.tally].lock().missed += self.schedule.missed();
        }
    }

    /// Counts what came of one that took so long, and was sent so late.
    fn tell(&self, result: &Result<u32, BusError>, took: Duration, late: Option<Duration>) {
        let mut tally = self.tallies[self.tally].lock();
        match result {
            Ok(delivered) => tally.done(*delivered, took),
            Err(error) => tally.failed(code(error)),
        }
        if let Some(late) = late {
            tally.was_late(late);
        }
    }

    /// Sends one at `now`; answers how many took it in.
    async fn send(&mut self, now: Instant, patience: Pin<&mut Sleep>) -> Result<u32, BusError> {
        let payload = self.load.payload.clone();
        match self.load.answer {
            None => self.publisher.publish(&self.load.topic, payload),
            Some(limit) => {
                let answer = self.publisher.request(&self.load.topic, payload)?;
                answered(answer, now + limit, patience).await.map(|()| 1)
            }
        }
    }
}

/// Waits for an answer until then. The timer is the task's own and is moved only when it
/// runs out: to set one for each message would cost as much as the message.
async fn answered(
    mut answer: oneshot::Receiver<Result<Bytes, BusError>>,
    until: Instant,
    mut patience: Pin<&mut Sleep>,
) -> Result<(), BusError> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = Pin::new(&mut answer).poll(cx) {
            return Poll::Ready(answer.unwrap_or(Err(BusError::NoResponder)).map(drop));
        }
        while patience.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(Err(BusError::Timeout));
            }
            patience.as_mut().reset(until.into());
        }
        Poll::Pending
    })
    .await
}
