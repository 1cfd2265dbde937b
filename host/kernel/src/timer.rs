//! Timers that wake a service: a pure wheel, and the task that turns it.
//!
//! A timer's tick is a message in the mailbox like any other, so it is ordered,
//! counted and redelivered like any other; what sets it apart is that it is
//! dropped when its predecessor still waits. The wheel runs on the host's own
//! runtime: guests that spin do not delay it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::message::{Address, Message, PendingTick, Router};
use crate::service::{Generation, ServiceId};
use crate::topic::{Topic, TopicError};
use crate::turn::TimerCall;

/// Most timers one service may have at a time.
const MAX_TIMERS: usize = 64;
/// Longest delay or period, in milliseconds: a year.
const MAX_MS: u64 = 366 * 24 * 3600 * 1000;
/// The source of a tick.
const SOURCE: &str = "ron.timer";

/// Why a timer was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimerError {
    /// The name cannot stand in a topic.
    #[error("not a timer's name: {0}")]
    Name(#[from] TopicError),
    /// A period of zero would never rest.
    #[error("a period is at least 1 ms")]
    ZeroPeriod,
    /// Over a year.
    #[error("a timer is set for at most {MAX_MS} ms (366 days)")]
    TooLong,
    /// The service has as many as it may.
    #[error("a service has at most {MAX_TIMERS} timers")]
    TooMany,
}

/// Whose timer: it ends with this generation. A tick goes to the service's
/// mailbox, and to whichever replica takes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TimerOwner {
    /// The service that gets the tick.
    pub(crate) service: ServiceId,
    /// Which replica of it.
    pub(crate) replica: usize,
    /// The incarnation that set it.
    pub(crate) generation: Generation,
}

#[derive(Clone, Debug)]
struct Timer {
    owner: TimerOwner,
    name: Box<str>,
    address: Arc<Address>,
    period: Option<Duration>,
    queued: Arc<AtomicBool>,
}

/// A tick that is due.
#[derive(Debug)]
struct Due {
    service: ServiceId,
    address: Arc<Address>,
    queued: Arc<AtomicBool>,
}

/// Timers by when they are due. Pure: `now` is an argument.
#[derive(Debug, Default)]
struct Wheel {
    due: BTreeMap<(Instant, u64), Timer>,
    by_owner: HashMap<TimerOwner, HashMap<Box<str>, (Instant, u64)>>,
    /// Tells two timers of one instant apart.
    sequence: u64,
}

impl Wheel {
    fn set(&mut self, at: Instant, timer: Timer) -> Result<(), TimerError> {
        let named = self.by_owner.entry(timer.owner.clone()).or_default();
        if named.len() >= MAX_TIMERS && !named.contains_key(&timer.name) {
            return Err(TimerError::TooMany);
        }
        self.sequence += 1;
        let key = (at, self.sequence);
        if let Some(earlier) = named.insert(timer.name.clone(), key) {
            self.due.remove(&earlier);
        }
        self.due.insert(key, timer);
        Ok(())
    }

    fn cancel(&mut self, owner: &TimerOwner, name: &str) {
        let Some(named) = self.by_owner.get_mut(owner) else { return };
        if let Some(key) = named.remove(name) {
            self.due.remove(&key);
        }
        if named.is_empty() {
            self.by_owner.remove(owner);
        }
    }

    fn cancel_all(&mut self, owner: &TimerOwner) {
        for key in self.by_owner.remove(owner).into_iter().flat_map(|named| named.into_values()) {
            self.due.remove(&key);
        }
    }

    /// Takes every timer of `owner` out, with its time.
    fn take_all(&mut self, owner: &TimerOwner) -> Vec<(Instant, Timer)> {
        let keys = self.by_owner.remove(owner).into_iter().flat_map(|named| named.into_values());
        keys.filter_map(|key| Some((key.0, self.due.remove(&key)?))).collect()
    }

    fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes what is due at `now`. A periodic timer that is late by more than
    /// a period skips what it missed and keeps its phase.
    fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let mut out = Vec::new();
        while let Some(entry) = self.due.first_entry() {
            let at = entry.key().0;
            if at > now {
                break;
            }
            let timer = entry.remove();
            out.push(Due {
                service: timer.owner.service.clone(),
                address: Arc::clone(&timer.address),
                queued: Arc::clone(&timer.queued),
            });
            match timer.period {
                None => self.cancel(&timer.owner.clone(), &timer.name),
                Some(period) => {
                    let behind = now.duration_since(at).as_nanos() / period.as_nanos().max(1);
                    let periods = u32::try_from(behind + 1).unwrap_or(u32::MAX);
                    let next = at.checked_add(period.saturating_mul(periods)).unwrap_or(now);
                    // It replaces itself, so it is not one more.
                    let _ = self.set(next, timer);
                }
            }
        }
        out
    }
}

/// The timers of an incarnation that is parked: they do not tick, and go on
/// where they were if its turn comes again.
#[derive(Debug, Default)]
pub(crate) struct ParkedTimers(Vec<(Instant, Timer)>);

/// The host's timers. A clone is the same wheel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wheel: Mutex<Wheel>,
    earlier: Notify,
}

impl Timers {
    pub(crate) fn after(
        &self,
        owner: &TimerOwner,
        name: &str,
        delay_ms: u64,
    ) -> Result<(), TimerError> {
        self.set(owner, name, delay_ms, None)
    }

    pub(crate) fn every(
        &self,
        owner: &TimerOwner,
        name: &str,
        period_ms: u64,
    ) -> Result<(), TimerError> {
        if period_ms == 0 {
            return Err(TimerError::ZeroPeriod);
        }
        self.set(owner, name, period_ms, Some(Duration::from_millis(period_ms)))
    }

    fn set(
        &self,
        owner: &TimerOwner,
        name: &str,
        first_ms: u64,
        period: Option<Duration>,
    ) -> Result<(), TimerError> {
        let topic = check(name, first_ms)?;
        let timer = Timer {
            owner: owner.clone(),
            name: name.into(),
            address: Arc::new(Address { topic: Arc::clone(topic.text()), source: SOURCE.into() }),
            period,
            queued: Arc::default(),
        };
        let at = Instant::now() + Duration::from_millis(first_ms);
        let mut wheel = self.0.wheel.lock();
        let before = wheel.next();
        wheel.set(at, timer)?;
        let is_first = before.is_none_or(|before| at < before);
        drop(wheel);
        if is_first {
            self.0.earlier.notify_one();
        }
        Ok(())
    }

    /// Stops every timer of `owner`, to be resumed.
    pub(crate) fn park(&self, owner: &TimerOwner) -> ParkedTimers {
        ParkedTimers(self.0.wheel.lock().take_all(owner))
    }

    /// Has parked timers tick again, as `owner`'s. One that would have ticked
    /// meanwhile ticks at once, and once.
    pub(crate) fn resume(&self, owner: &TimerOwner, parked: ParkedTimers) {
        let mut wheel = self.0.wheel.lock();
        for (at, timer) in parked.0 {
            // As many as there were fit.
            let _ = wheel.set(at, Timer { owner: owner.clone(), ..timer });
        }
        drop(wheel);
        self.0.earlier.notify_one();
    }

    /// What setting a timer would be refused for, without setting it.
    pub(crate) fn check(call: &TimerCall) -> Result<(), TimerError> {
        match call {
            TimerCall::Every(_, 0) => Err(TimerError::ZeroPeriod),
            TimerCall::After(name, ms) | TimerCall::Every(name, ms) => check(name, *ms).map(drop),
            TimerCall::Cancel(_) => Ok(()),
        }
    }

    /// Does what a service wants of its timers.
    pub(crate) fn call(&self, owner: &TimerOwner, call: &TimerCall) -> Result<(), TimerError> {
        match call {
            TimerCall::After(name, delay_ms) => self.after(owner, name, *delay_ms),
            TimerCall::Every(name, period_ms) => self.every(owner, name, *period_ms),
            TimerCall::Cancel(name) => {
                self.cancel(owner, name);
                Ok(())
            }
        }
    }

    pub(crate) fn cancel(&self, owner: &TimerOwner, name: &str) {
        self.0.wheel.lock().cancel(owner, name);
    }

    pub(crate) fn cancel_all(&self, owner: &TimerOwner) {
        self.0.wheel.lock().cancel_all(owner);
    }

    /// Delivers ticks until it is dropped.
    pub(crate) async fn run(&self, router: &Router) {
        loop {
            let next = self.0.wheel.lock().next();
            match next {
                None => self.0.earlier.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.0.earlier.notified() => continue,
                    }
                    let due = self.0.wheel.lock().take_due(Instant::now());
                    for tick in due {
                        deliver(router, tick);
                    }
                }
            }
        }
    }
}

fn check(name: &str, first_ms: u64) -> Result<Topic, TimerError> {
    if first_ms > MAX_MS {
        return Err(TimerError::TooLong);
    }
    Ok(Topic::parse(&format!("ron.timer.{name}"))?)
}

fn deliver(router: &Router, due: Due) {
    let Some(inbox) = router.inbox(&due.service) else { return };
    if let Some(tick) = PendingTick::raise(&due.queued) {
        let id = router.next_id();
        let message = Message::new(id, due.address, Bytes::new());
        inbox.push(Message { tick: Some(tick), ..message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Inbox, MailboxBounds};

    fn owner(generation: u64) -> TimerOwner {
        let service = ServiceId::parse("svc").expect("a name");
        TimerOwner { service, replica: 0, generation: Generation(generation) }
    }

    fn timer(generation: u64, name: &str, period: Option<u64>) -> Timer {
        Timer {
            owner: owner(generation),
            name: name.into(),
            address: Arc::new(Address {
                topic: format!("ron.timer.{name}").into(),
                source: SOURCE.into(),
            }),
            period: period.map(Duration::from_millis),
            queued: Arc::default(),
        }
    }

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<String> {
        wheel.take_due(now).iter().map(|due| due.address.topic.to_string()).collect()
    }

    #[test]
    fn a_timer_set_again_replaces_the_earlier_one() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::default();
        wheel.set(ms(10), timer(1, "a", None)).expect("room");
        wheel.set(ms(20), timer(1, "a", None)).expect("room");
        assert_eq!(due(&mut wheel, ms(15)), [""; 0]);
        assert_eq!(due(&mut wheel, ms(20)), ["ron.timer.a"]);
        assert_eq!(wheel.next(), None);
        assert!(wheel.by_owner.is_empty());
    }

    #[test]
    fn a_late_periodic_timer_skips_and_keeps_its_phase() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::default();
        wheel.set(ms(10), timer(1, "a", Some(10))).expect("room");
        assert_eq!(due(&mut wheel, ms(47)), ["ron.timer.a"]);
        assert_eq!(wheel.next(), Some(ms(50)));
    }

    #[test]
    fn timers_end_with_the_generation_that_set_them() {
        let start = Instant::now();
        let mut wheel = Wheel::default();
        wheel.set(start, timer(1, "a", Some(10))).expect("room");
        wheel.set(start, timer(2, "a", None)).expect("room");
        wheel.cancel_all(&owner(1));
        assert_eq!(due(&mut wheel, start), ["ron.timer.a"]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_service_has_so_many_timers() {
        let mut wheel = Wheel::default();
        for n in 0..MAX_TIMERS {
            wheel.set(Instant::now(), timer(1, &n.to_string(), None)).expect("room");
        }
        let set = |wheel: &mut Wheel, name| wheel.set(Instant::now(), timer(1, name, None));
        assert_eq!(set(&mut wheel, "more"), Err(TimerError::TooMany));
        assert_eq!(set(&mut wheel, "0"), Ok(()), "one of them may be set again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_service_is_not_buried_under_ticks() {
        let router = Router::new();
        let inbox = Inbox::new(owner(1).service, MailboxBounds::default());
        router.add(Arc::clone(&inbox));
        let timers = Timers::default();
        timers.every(&owner(1), "beat", 10).expect("set");
        let run =
            async { tokio::time::timeout(Duration::from_millis(105), timers.run(&router)).await };
        assert!(run.await.is_err());
        assert_eq!(inbox.stats().accepted, 1, "ten were due, one waits");
        // Once it is taken, the next one comes.
        let mut lease = inbox.lease(0, true);
        lease.next().await;
        assert!(lease.begin().is_some());
        lease.end(None);
        let _ = tokio::time::timeout(Duration::from_millis(10), timers.run(&router)).await;
        assert_eq!(inbox.stats().accepted, 2);
    }
}
