//! What the bus promises: counts, waits through lag, and an announcement that
//! overflow cannot feed. Time is paused; nothing sleeps.

use super::*;
use crate::crash::CrashReason;
use crate::event::BUS_OVERFLOW;
use std::pin::pin;
use std::task::{Context, Waker};
use tokio::time::Instant;

fn health(n: usize) -> KernelEvent {
    KernelEvent::Health { service: format!("s{n}"), ok: true }
}

fn fill(bus: &Bus<u32>, numbers: std::ops::Range<u32>) {
    for n in numbers {
        bus.publish(n);
    }
}

fn fill_health(bus: &Bus, numbers: std::ops::Range<usize>) {
    for n in numbers {
        bus.publish(health(n));
    }
}

fn overflow(event: &KernelEvent) -> Option<u64> {
    match event {
        KernelEvent::ServiceCrashed { service, reason: CrashReason::BusOverflow { dropped } } => {
            assert_eq!(service, BUS_OVERFLOW);
            Some(*dropped)
        }
        _ => None,
    }
}

/// Everything that can be received now: events, announcements, lost.
fn drain(sub: &mut Subscription) -> (usize, Vec<u64>, u64) {
    let (mut events, mut announced, mut lost) = (0, Vec::new(), 0);
    loop {
        match sub.try_recv() {
            Ok(event) => match overflow(&event) {
                Some(dropped) => announced.push(dropped),
                None => events += 1,
            },
            Err(TryRecvError::Lagged(missed)) => lost += missed,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return (events, announced, lost),
        }
    }
}

#[test]
fn publish_reaches_every_subscriber_and_says_how_many() {
    let bus = Bus::new(4);
    assert_eq!(bus.publish(7), 0, "nobody there");
    let (mut a, mut b) = (bus.subscribe(), bus.subscribe_as("b"));
    assert_eq!(bus.clone().publish(8), 2);
    assert_eq!((a.try_recv(), b.try_recv()), (Ok(8), Ok(8)));
    assert_eq!(a.try_recv(), Err(TryRecvError::Empty));
    drop(b);
    assert_eq!(bus.publish(9), 1);
    drop(bus);
    assert_eq!(a.try_recv(), Ok(9), "what was published is received after the close");
    assert_eq!(a.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn capacity_is_rounded_up_and_zero_is_one() {
    for (asked, holds) in [(0, 1), (1, 1), (3, 4), (1000, 1024)] {
        let bus = Bus::new(asked);
        let mut sub = bus.subscribe();
        (0..=holds).for_each(|n| assert_eq!(bus.publish(n), 1));
        assert_eq!(sub.try_recv(), Err(TryRecvError::Lagged(1)), "capacity {asked}");
        assert_eq!(sub.try_recv(), Ok(1));
    }
}

#[test]
fn a_bus_carries_any_event_that_can_be_cloned_and_sent() {
    // `Cell` is not `Sync`, and has no other trait that matters.
    let bus: Bus<std::cell::Cell<u8>> = Bus::new(1);
    let mut sub = bus.subscribe();
    bus.publish(1.into());
    bus.publish(2.into());
    assert_eq!(sub.try_recv(), Err(TryRecvError::Lagged(1)));
    assert_eq!(sub.try_recv().map(|cell| cell.get()), Ok(2), "and no announcement");
    assert_eq!(sub.try_recv().map(|cell| cell.get()), Err(TryRecvError::Empty));
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    send_and_sync(&bus);
    send_and_sync(&sub);
}

#[test]
fn lag_is_counted_by_events_and_by_name() {
    let bus = Bus::new(4);
    let (mut slow, mut fast) = (bus.subscribe_as("slow"), bus.subscribe_as("fast"));
    let mut twin = bus.subscribe_as("slow");
    for n in 0..10 {
        bus.publish(n);
        assert_eq!(fast.try_recv(), Ok(n));
    }
    assert_eq!(bus.stats().dropped, 0, "not noticed yet");
    assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(6)));
    assert_eq!(twin.try_recv(), Err(TryRecvError::Lagged(6)));
    assert_eq!((slow.lagged(), fast.lagged()), (6, 0));
    let stats = bus.stats();
    assert_eq!((stats.subscribers["slow"], stats.subscribers["fast"]), (12, 0));
    assert_eq!(stats.dropped, 12);
    drop((slow, twin));
    assert_eq!(bus.stats().subscribers["slow"], 12, "counts outlive the subscription");
}

#[test]
fn a_subscription_dropped_while_behind_counts_what_was_overwritten() {
    let bus = Bus::new(4);
    let sub = bus.subscribe_as("gone");
    fill(&bus, 0..4);
    drop(sub);
    assert_eq!(bus.stats().dropped, 0, "all of it could still be received");
    let sub = bus.subscribe_as("gone");
    fill(&bus, 0..9);
    drop(sub);
    assert_eq!(bus.stats().subscribers["gone"], 5);
}

#[tokio::test(start_paused = true)]
async fn waiting_goes_on_through_lag() {
    let bus = Bus::new(2);
    let mut sub = bus.subscribe();
    fill(&bus, 0..10);
    assert_eq!(sub.recv_with_timeout(Duration::ZERO).await, Ok(8));
    assert_eq!(sub.lagged(), 8);
    fill(&bus, 10..20);
    assert_eq!(sub.recv_matching(|n| *n == 19).await, Ok(19));
    assert_eq!(sub.lagged(), 17);
    assert_eq!(bus.stats().dropped, 17);
    fill(&bus, 20..30);
    drop(bus);
    assert_eq!(sub.recv_matching(|_| false).await, Err(Closed));
    assert_eq!(sub.recv_with_timeout(Duration::ZERO).await, Err(RecvTimeoutError::Closed));
    assert_eq!(sub.recv().await, Err(RecvError::Closed));
}

#[tokio::test(start_paused = true)]
async fn timeouts_last_their_time_under_lag() {
    let bus = Bus::new(2);
    let mut sub = bus.subscribe();
    let start = Instant::now();
    let empty = sub.recv_with_timeout(Duration::from_secs(3)).await;
    assert_eq!((empty, start.elapsed()), (Err(RecvTimeoutError::Timeout), Duration::from_secs(3)));

    // Overrun it every 700 ms while it waits for what never comes.
    let flood = async {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            fill(&bus, 0..50);
        }
    };
    let start = Instant::now();
    let wait = tokio::time::timeout(Duration::from_secs(5), sub.recv_matching(|n| *n == 99));
    tokio::select! {
        waited = wait => assert!(waited.is_err(), "nothing matched"),
        () = flood => unreachable!("it floods for ever"),
    }
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(sub.lagged(), 7 * 48);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_recv_takes_nothing() {
    let bus = Bus::default();
    let (mut sub, mut slow) = (bus.subscribe(), bus.subscribe());
    let mut cx = Context::from_waker(Waker::noop());
    for n in 0..100 {
        {
            let mut waiting = pin!(sub.recv());
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            // Ready now, and dropped without being polled again.
            bus.publish(health(n));
        }
        assert_eq!(sub.recv().await, Ok(health(n)));
    }
    {
        let mut waiting = pin!(sub.recv());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        fill_health(&bus, 0..5000);
        assert_eq!(slow.recv().await, Err(RecvError::Lagged(100 + 5000 - 4096)));
    }
    // Neither the events nor the announcement that came while it waited.
    assert_eq!(drain(&mut sub), (4096, vec![1004], 904));
}

#[tokio::test(start_paused = true)]
async fn a_busy_bus_lets_other_tasks_run() {
    let bus = Bus::new(1);
    let mut sub = bus.subscribe();
    let neighbour = tokio::spawn(async {});
    tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            bus.publish(());
            sub.recv().await.expect("an event is always there");
            if neighbour.is_finished() {
                break;
            }
        }
    })
    .await
    .expect("the neighbour ran");
}

#[tokio::test(start_paused = true)]
async fn overflow_is_announced_to_all_and_wakes_those_that_wait() {
    let bus = Bus::new(4);
    let (mut slow, mut idle) = (bus.subscribe_as("slow"), bus.subscribe_as("idle"));
    for n in 0..10 {
        bus.publish(health(n));
        assert_eq!(idle.try_recv(), Ok(health(n)));
    }
    let waiter = tokio::spawn(async move { idle.recv().await });
    tokio::task::yield_now().await;
    assert_eq!(slow.recv().await, Err(RecvError::Lagged(6)));
    let woken = tokio::time::timeout(Duration::from_secs(1), waiter).await.expect("woken");
    assert_eq!(woken.expect("it ran").ok().as_ref().and_then(overflow), Some(6));
    // Before what lies in the ring: who is always behind never finds that empty.
    assert_eq!(slow.try_recv().ok().as_ref().and_then(overflow), Some(6));
    assert_eq!(drain(&mut slow), (4, vec![], 0), "it took no place in the ring");
    let mut late = bus.subscribe();
    assert_eq!(late.try_recv(), Err(TryRecvError::Empty), "old news");
}

#[tokio::test(start_paused = true)]
async fn announcements_are_throttled_and_carry_what_was_lost_between() {
    let bus = Bus::new(4);
    let (mut slow, mut watcher) = (bus.subscribe(), bus.subscribe());
    let mut lose = |events: usize| {
        let lost = u64::try_from(events - 4).expect("more than fit");
        fill_health(&bus, 0..events);
        assert_eq!(drain(&mut watcher).2, lost);
        drain(&mut slow)
    };
    // Both lose alike, so each announcement is the sum over both.
    assert_eq!(lose(14), (4, vec![10], 10), "at once, with what was noticed by then");
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert_eq!(lose(24), (4, vec![], 20), "not yet");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(lose(34), (4, vec![10 + 40 + 30], 30), "all since the last");
    assert_eq!(lose(14), (4, vec![], 10), "and not again");
}

#[tokio::test(start_paused = true)]
async fn what_was_left_unannounced_is_announced_later() {
    let bus = Bus::new(4);
    let mut sub = bus.subscribe();
    fill_health(&bus, 0..10);
    assert_eq!(drain(&mut sub), (4, vec![6], 6));
    fill_health(&bus, 0..12);
    assert_eq!(drain(&mut sub), (4, vec![], 8));
    tokio::time::advance(ANNOUNCE_EVERY).await;
    assert_eq!(drain(&mut sub), (0, vec![8], 0));
    // The same for one that waits.
    fill_health(&bus, 0..7);
    assert_eq!(drain(&mut sub), (4, vec![], 3));
    tokio::time::advance(ANNOUNCE_EVERY).await;
    let waited = tokio::time::timeout(Duration::ZERO, sub.recv()).await.expect("due");
    assert_eq!(waited.ok().as_ref().and_then(overflow), Some(3));
}

#[tokio::test(start_paused = true)]
async fn announcements_cannot_feed_themselves() {
    // One slot: an announcement in the ring would displace whatever is there.
    let bus = Bus::new(1);
    let mut slow = bus.subscribe();
    fill_health(&bus, 0..3);
    assert_eq!(drain(&mut slow), (1, vec![2], 2));
    // From here on the bus is idle, and it is polled slower than the throttle.
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(drain(&mut slow), (0, vec![], 0));
    }
    assert_eq!(bus.stats().dropped, 2);
}
