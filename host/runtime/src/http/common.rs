//! What the requests to one service with a state have in common: room for bodies, and
//! who waits.
//!
//! Neither is one client's. Of the room a client has at most a quarter, and one that was
//! waited for in vain while others waited is hardly waited for again until [`FORGIVEN`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use ron_kernel::message::Inbox;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Client;

/// Bytes of a body that the host holds for one of the two ends, about, whatever others do.
pub(super) const AHEAD: usize = 256 << 10;
/// The same, as long as there is room in the spool: twice what a listener lets a body have
/// by default.
pub(super) const LONGEST: usize = 16 << 20;
/// KiB that all bodies of a service have in the spool together.
const SPOOL: usize = 64 << 10;
/// KiB of them that are one client's at the most.
const SHARE: usize = SPOOL / 4;
/// KiB in which room is taken.
const STEP: usize = 256;

/// How long a client is waited for when somebody else waits for a turn.
const CROWDED: Duration = Duration::from_millis(100);
/// The same, of one that was waited for in vain not long ago.
const BRIEF: Duration = Duration::from_millis(5);
/// How long that is not forgotten.
const FORGIVEN: Duration = Duration::from_secs(60);
/// How many of those are remembered; of more, those for the longest.
const REMEMBERED: usize = 1024;

/// Whoever sent a request of which nobody says who did.
pub(super) const UNKNOWN: Client = Client(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// What a request has of what all have.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    shared: Arc<Shared>,
    client: Client,
    /// The messages that the service may have to handle meanwhile.
    inbox: Option<Arc<Inbox>>,
}

/// What all have.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How many requests wait for a turn.
    waiting: AtomicUsize,
    spool: Mutex<Spool>,
    slow: Mutex<HashMap<Client, Instant>>,
}

impl Shared {
    /// So many wait for a turn now.
    pub(super) fn waiting(&self, count: usize) {
        self.waiting.store(count, Ordering::Relaxed);
    }
}

impl Common {
    pub(super) fn new(shared: &Arc<Shared>, client: Client) -> Self {
        Self { shared: Arc::clone(shared), client, inbox: None }
    }

    /// Its turn has come, at a service with these messages.
    pub(crate) fn beside(self, inbox: &Arc<Inbox>) -> Self {
        Self { inbox: Some(Arc::clone(inbox)), ..self }
    }

    /// Whether somebody else waits for a turn.
    fn is_crowded(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > 0
            || self.inbox.as_ref().is_some_and(|inbox| {
                let stats = inbox.stats();
                stats.queued + stats.in_flight > 0
            })
    }

    /// How long its client is waited for while others wait.
    fn patience(&self, now: Instant) -> Duration {
        let slow = self.shared.slow.lock().get(&self.client).is_some_and(|until| now < *until);
        if slow { BRIEF } else { CROWDED }
    }

    /// Its client was waited for in vain.
    fn was_slow(&self, now: Instant) {
        let mut slow = self.shared.slow.lock();
        if slow.len() >= REMEMBERED && !slow.contains_key(&self.client) {
            slow.retain(|_, until| now < *until);
            let oldest = slow.iter().min_by_key(|(_, until)| **until).map(|(client, _)| *client);
            if let Some(oldest) = oldest.filter(|_| slow.len() >= REMEMBERED) {
                slow.remove(&oldest);
            }
        }
        slow.insert(self.client, now + FORGIVEN);
    }
}

/// Room for bodies, in KiB.
#[derive(Debug, Default)]
struct Spool {
    taken: usize,
    of: HashMap<Client, usize>,
}

impl Spool {
    /// Takes a step more for a client, if there is room.
    fn take(&mut self, client: Client) -> bool {
        let own = self.of.get(&client).copied().unwrap_or_default();
        if self.taken + STEP > SPOOL || own + STEP > SHARE {
            return false;
        }
        self.taken += STEP;
        self.of.insert(client, own + STEP);
        true
    }

    fn give_back(&mut self, client: Client, taken: usize) {
        self.taken -= taken;
        if let Some(own) = self.of.get_mut(&client) {
            *own -= taken;
            if *own == 0 {
                self.of.remove(&client);
            }
        }
    }
}

/// What one body has of the spool, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    common: Common,
    /// In KiB.
    taken: usize,
}

impl Room {
    pub(super) fn of(common: &Common) -> Self {
        Self { common: common.clone(), taken: 0 }
    }

    /// Whether more may be held of a body than these bytes.
    pub(super) fn has_more_than(&mut self, bytes: usize) -> bool {
        if bytes < AHEAD {
            return true;
        }
        if bytes >= LONGEST {
            return false;
        }
        if bytes - AHEAD < self.taken << 10 {
            return true;
        }
        let took = self.common.shared.spool.lock().take(self.common.client);
        if took {
            self.taken += STEP;
        }
        took
    }

    /// Nothing is held any more.
    pub(super) fn clear(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken > 0 {
            self.common.shared.spool.lock().give_back(self.common.client, taken);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How long a client is waited for in a turn.
pub(super) struct Patience {
    until: Instant,
    common: Common,
    /// There as long as it is waited for, from the first time on.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(until: Instant, common: &Common) -> Self {
        Self { until, common: common.clone(), timer: None }
    }

    /// Ready when the client is waited for no more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = || {
                let now = Instant::now();
                sleep_until((now + self.common.patience(now)).min(self.until))
            };
            ready!(self.timer.get_or_insert_with(|| Box::pin(next())).as_mut().poll(cx));
            let now = Instant::now();
            let crowded = self.common.is_crowded();
            if crowded {
                self.common.was_slow(now);
            }
            if crowded || now >= self.until {
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Client {
        Client(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn a_client_has_a_quarter_of_the_spool() {
        let shared = Arc::new(Shared::default());
        let room = |last| Room::of(&Common::new(&shared, client(last)));
        let fill = |room: &mut Room| {
            let mut bytes = AHEAD;
            while room.has_more_than(bytes) {
                bytes += STEP << 10;
            }
            bytes
        };
        let mut first = room(1);
        assert_eq!(fill(&mut first), LONGEST, "one body has what a body may have");
        let mut second = room(1);
        assert_eq!(fill(&mut second), AHEAD + (SHARE << 10) - (LONGEST - AHEAD));
        let mut others: Vec<Room> = (2..5).map(room).collect();
        for other in &mut others {
            assert_eq!(fill(other), LONGEST, "another has as much");
        }
        first.clear();
        assert!(room(5).has_more_than(AHEAD), "it was given back");
        drop((second, others));
        let spool = shared.spool.lock();
        assert_eq!((spool.taken, spool.of.len()), (0, 0), "nothing is kept of who is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_waited_for_in_vain_is_hardly_waited_for_again() {
        let shared = Arc::new(Shared::default());
        let wait = async |last| {
            let (began, common) = (Instant::now(), Common::new(&shared, client(last)));
            let mut patience = Patience::new(began + Duration::from_secs(2), &common);
            std::future::poll_fn(|cx| patience.poll(cx)).await;
            began.elapsed()
        };
        assert_eq!(wait(1).await, Duration::from_secs(2), "nobody else waits");
        shared.waiting(1);
        assert_eq!(wait(1).await, CROWDED);
        assert_eq!(wait(1).await, BRIEF);
        assert_eq!(wait(2).await, CROWDED, "that is another's");
        tokio::time::advance(FORGIVEN).await;
        assert_eq!(wait(1).await, CROWDED);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_that() {
        let shared = Arc::new(Shared::default());
        for number in 0..2 * REMEMBERED as u32 {
            let client = Client(Ipv4Addr::from_bits(number).into());
            Common::new(&shared, client).was_slow(Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let slow = shared.slow.lock();
        assert_eq!(slow.len(), REMEMBERED);
        let newest = Client(Ipv4Addr::from_bits(2 * REMEMBERED as u32 - 1).into());
        assert!(slow.contains_key(&newest));
    }
}
