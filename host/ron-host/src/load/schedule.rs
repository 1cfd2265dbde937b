//! When one of several tasks is to send, and from when on the time of what it sends counts.
//! Pure.
//!
//! A task that sends the next message when the one before is answered sends less just when
//! the host is slow, and so would not see that it is: its latencies would leave out those
//! who would have come meanwhile (coordinated omission). So with a rate, what is late
//! because the message before took long counts from when it was due. What is late because
//! the timer was is not the host's doing: it counts from when the task woke, as do all that
//! had become due until then, and how late that was is told apart.

use std::time::{Duration, Instant};

/// How long after the end what was due before is still sent: as late as a timer is.
const LATE: Duration = Duration::from_millis(10);

/// One task's.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    start: Instant,
    end: Instant,
    /// Of the next message among those of all tasks.
    next: u64,
    tasks: u64,
    /// Messages a second, of all tasks together; none is as fast as they are answered.
    rate: Option<f64>,
}

impl Schedule {
    /// That of the task of this number, of so many.
    pub(super) fn new(
        (start, end): (Instant, Instant),
        (task, tasks): (u64, u64),
        rate: Option<f64>,
    ) -> Self {
        Self { start, end, next: task, tasks, rate }
    }

    /// When the next message is due, if there is a time for it; and nothing when no more is
    /// to be sent at `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Option<Instant>> {
        let Some(rate) = self.rate else { return (now < self.end).then_some(None) };
        if now >= self.end + LATE {
            return None;
        }
        let since = Duration::try_from_secs_f64(self.next as f64 / rate).ok()?;
        let due = self.start.checked_add(since)?;
        (due < self.end).then_some(Some(due))
    }

    /// The next message was sent.
    pub(super) fn sent(&mut self) {
        self.next += self.tasks;
    }

    /// Messages that were due and have not been sent, when none is sent any more.
    pub(super) fn missed(&self) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let due = (self.end.duration_since(self.start).as_secs_f64() * rate).ceil() as u64;
        due.saturating_sub(self.next).div_ceil(self.tasks)
    }
}

/// From when on a message counts that was due then and is sent at `now`, by a task that
/// `woke` then from its last sleep and has been free `since`.
pub(super) fn begins(due: Option<Instant>, woke: Instant, since: Instant, now: Instant) -> Instant {
    match due.map(|due| due.max(woke)) {
        Some(due) if since > due => due,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn tasks_share_a_rate() {
        let start = Instant::now();
        let mut all = Vec::new();
        for task in 0..3 {
            let mut own = Schedule::new((start, start + SECOND), (task, 3), Some(10.0));
            while let Some(due) = own.due(start) {
                all.push(due.expect("there is a rate") - start);
                own.sent();
            }
            assert_eq!(own.missed(), 0);
        }
        all.sort();
        assert_eq!(all, (0..10).map(|n| n * SECOND / 10).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_rate_there_is_no_time_but_an_end() {
        let start = Instant::now();
        let own = Schedule::new((start, start + SECOND), (0, 1), None);
        assert_eq!(own.due(start), Some(None));
        assert_eq!(own.due(start + SECOND), None);
        assert_eq!(own.missed(), 0);
    }

    #[test]
    fn what_was_not_sent_is_known() {
        let start = Instant::now();
        let mut own = Schedule::new((start, start + SECOND), (1, 2), Some(10.0));
        assert_eq!(own.missed(), 5);
        own.sent();
        assert_eq!(own.missed(), 4);
        assert_eq!(own.due(start + SECOND), Some(Some(start + SECOND * 3 / 10)), "a bit late");
        assert_eq!(own.due(start + 2 * SECOND), None);
    }

    #[test]
    fn lateness_is_the_hosts_where_the_task_waited_for_it() {
        let start = Instant::now();
        let (due, free, now) = (start + SECOND, start + 2 * SECOND, start + 3 * SECOND);
        assert_eq!(begins(Some(due), start, free, now), due, "it waited for an answer");
        assert_eq!(begins(Some(due), now, start, now), now, "its timer was late");
        // Those that had become due meanwhile wait for each other alone.
        let woke = start + SECOND * 3 / 2;
        assert_eq!(begins(Some(due), woke, free, now), woke);
        assert_eq!(begins(None, start, start, now), now);
    }
}
