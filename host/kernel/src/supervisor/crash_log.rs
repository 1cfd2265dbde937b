//! The log of crashes: one record for each, in their order.
//!
//! To find a stack's places in the source takes milliseconds, and a service
//! that crashed does not wait that long for its restart. So announcing a crash
//! ends with an entry here, and one task finds what the entry lacks, completes
//! the report and writes the record. Nothing is lost to that: what the queue has
//! no room for, and what it holds when the supervisor ends, is written with the
//! backtrace that it has.
//!
//! Rejected: a task for each crash. In a storm they would read debug
//! information on every thread at once, and the records come in any order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::CrashReport;
use crate::service::LateBacktrace;

/// How long a crash waits before its backtrace is looked for: restarting comes
/// first, and crashes come in bursts.
const DELAY: Duration = Duration::from_millis(10);
/// Crashes that wait to be written; one more has the oldest written as it is.
const QUEUE: usize = 256;

#[derive(Debug, Default)]
pub(super) struct CrashLog {
    queue: Mutex<Queue>,
    more: Notify,
    /// [`Queue::left`], for those who wait.
    left: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// How many entries were written and are gone: the number of the first.
    left: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    report: Arc<Mutex<CrashReport>>,
    /// Taken when it is looked for. The entry stays where it is meanwhile, so
    /// that whoever ends the wait writes the record, in its turn and once.
    late: Option<LateBacktrace>,
}

impl Queue {
    fn write_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.left += 1;
            entry.report.lock().log();
        }
    }
}

impl CrashLog {
    /// Takes a crash in. Never waits for a backtrace.
    pub(super) fn push(&self, report: Arc<Mutex<CrashReport>>, late: Option<LateBacktrace>) {
        let mut queue = self.queue.lock();
        let room = match (queue.closed, &late) {
            (true, _) => 0,
            // Nothing to wait for, and nobody to wait behind.
            (false, None) if queue.entries.is_empty() => 0,
            (false, _) => QUEUE,
        };
        queue.entries.push_back(Entry { report, late });
        self.write_down_to(room, queue);
        self.more.notify_one();
    }

    /// Writes what waits, and what is still to come at once.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        self.write_down_to(0, queue);
    }

    /// Waits until everything that was taken in is written.
    pub(super) async fn written(&self) {
        let last = {
            let queue = self.queue.lock();
            queue.left + queue.entries.len() as u64
        };
        // The sender lives in `self`.
        let _ = self.left.subscribe().wait_for(|left| *left >= last).await;
    }

    /// Writes what is taken in, until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            let (first, batch) = self.batch();
            let count = batch.len() as u64;
            if count == 0 {
                self.more.notified().await;
                sleep(DELAY).await;
                continue;
            }
            // A panic of the kernel's own, which should not be, costs places.
            let _ = spawn_blocking(|| batch.into_iter().for_each(complete)).await;
            let queue = self.queue.lock();
            // Some may have been written by somebody who had no time to wait.
            let written = queue.left - first;
            let rest = queue.entries.len() as u64 - count.saturating_sub(written);
            self.write_down_to(usize::try_from(rest).unwrap_or(usize::MAX), queue);
        }
    }

    /// Everything that waits, and the number of the first.
    fn batch(&self) -> (u64, Vec<Entry>) {
        let mut queue = self.queue.lock();
        let first = queue.left;
        let entries = queue.entries.iter_mut();
        let entry = |entry: &mut Entry| Entry {
            report: Arc::clone(&entry.report),
            late: entry.late.take(),
        };
        (first, entries.map(entry).collect())
    }

    /// Writes the oldest, until so many are left. The lock is held through it:
    /// it is what keeps the records in order.
    fn write_down_to(&self, room: usize, mut queue: parking_lot::MutexGuard<'_, Queue>) {
        while queue.entries.len() > room {
            queue.write_first();
        }
        self.left.send_replace(queue.left);
    }
}

/// Looks for what a report lacks.
fn complete(Entry { report, late }: Entry) {
    let Some(late) = late else { return };
    let found = catch_unwind(AssertUnwindSafe(|| late.find()));
    if let Ok(Some(backtrace)) = found {
        report.lock().detail.backtrace = backtrace;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::mpsc;
    use std::time::SystemTime;

    use tokio::task::JoinSet;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::{DefaultGuard, set_default};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::crash::CrashReason;
    use crate::service::{CrashDetail, Generation, ServiceId};

    /// The records written: which crash, and its backtrace.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<(u64, String)>>>);

    #[derive(Default)]
    struct Fields(u64, String);

    impl Visit for Fields {
        fn record_u64(&mut self, field: &Field, value: u64) {
            if field.name() == "generation" {
                self.0 = value;
            }
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "backtrace" {
                self.1 = value.to_owned();
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
    }

    impl Subscriber for Written {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            if fields.0 > 0 {
                self.0.lock().push((fields.0, fields.1));
            }
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    struct Stage {
        log: Arc<CrashLog>,
        reports: Vec<Arc<Mutex<CrashReport>>>,
        written: Written,
        task: JoinSet<()>,
        _subscribed: DefaultGuard,
    }

    impl Stage {
        fn new() -> Self {
            let written = Written::default();
            let _subscribed = set_default(written.clone());
            let log = Arc::<CrashLog>::default();
            let (writing, mut task) = (Arc::clone(&log), JoinSet::new());
            task.spawn(async move { writing.run().await });
            Self { log, reports: vec![], written, task, _subscribed }
        }

        /// The next crash, with the backtrace `had` and perhaps a late one.
        fn crash(&mut self, late: Option<LateBacktrace>) {
            let report = Arc::new(Mutex::new(CrashReport {
                service: ServiceId::parse("svc").expect("a name"),
                replica: 0,
                generation: Generation(self.reports.len() as u64 + 1),
                at: SystemTime::UNIX_EPOCH,
                reason: CrashReason::StackOverflow,
                detail: CrashDetail { backtrace: vec!["had".into()], ..CrashDetail::default() },
            }));
            self.reports.push(Arc::clone(&report));
            self.log.push(report, late);
        }

        /// Every crash has a record, in order, and those say what is `expected`.
        fn check(&self, expected: &[&str]) {
            let written = self.written.0.lock();
            let all: Vec<_> = written.iter().map(|(n, text)| (*n, text.as_str())).collect();
            let expected: Vec<_> = (1..).zip(expected.iter().copied()).collect();
            assert_eq!(all, expected);
        }

        fn report(&self, index: usize) -> String {
            self.reports[index].lock().detail.backtrace.join("\n")
        }
    }

    fn found() -> Option<LateBacktrace> {
        Some(LateBacktrace::new(|| Some(vec!["found".into()])))
    }

    /// Found when it is told to be, and says when it is looked for.
    fn gated() -> (Option<LateBacktrace>, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((begun, begins), (gate, opened)) = (mpsc::channel(), mpsc::channel::<()>());
        let late = LateBacktrace::new(move || {
            begun.send(()).ok();
            opened.recv().ok()?;
            Some(vec!["found".into()])
        });
        (Some(late), begins, gate)
    }

    async fn wait_for(begins: mpsc::Receiver<()>) {
        spawn_blocking(move || begins.recv()).await.expect("no panic").expect("it is looked for");
    }

    #[tokio::test]
    async fn records_keep_the_order_of_crashes() {
        let mut stage = Stage::new();
        stage.crash(None);
        stage.check(&["had"]);
        let (late, begins, gate) = gated();
        stage.crash(late);
        stage.crash(None);
        stage.crash(found());
        stage.crash(Some(LateBacktrace::new(|| None)));
        stage.crash(Some(LateBacktrace::new(|| panic!("damaged"))));
        wait_for(begins).await;
        stage.check(&["had"]);
        assert_eq!(stage.report(1), "had");
        gate.send(()).expect("it waits");
        stage.log.written().await;
        stage.check(&["had", "found", "had", "found", "had", "had"]);
        assert_eq!(stage.report(1), "found");
    }

    #[tokio::test]
    async fn a_full_queue_writes_what_it_has() {
        let mut stage = Stage::new();
        let (late, begins, gate) = gated();
        stage.crash(late);
        wait_for(begins).await;
        for _ in 0..=QUEUE {
            stage.crash(found());
        }
        stage.check(&["had", "had"]);
        gate.send(()).expect("it waits");
        stage.log.written().await;
        let mut expected = vec!["found"; QUEUE + 2];
        expected[..2].fill("had");
        stage.check(&expected);
        assert_eq!(stage.report(0), "found", "too late for the log, not for the report");
    }

    #[tokio::test]
    async fn nothing_is_left_unwritten_at_the_end() {
        let mut stage = Stage::new();
        let (late, begins, gate) = gated();
        stage.crash(late);
        stage.crash(found());
        wait_for(begins).await;
        stage.log.close();
        stage.check(&["had", "had"]);
        stage.crash(found());
        stage.check(&["had", "had", "had"]);
        gate.send(()).expect("it waits");
        stage.task.abort_all();
        while stage.task.join_next().await.is_some() {}
        stage.check(&["had", "had", "had"]);
    }
}
