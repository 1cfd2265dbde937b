//! What moved on connections: of each, for whoever waits for it to go on, and of all
//! of a service, for whoever counts.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What went through a service's connections, whichever of its incarnations had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that are open.
    pub open: usize,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    used: AtomicBool,
    open: AtomicUsize,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counts {
    /// There may be connections from now on.
    pub(super) fn used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(super) fn traffic(&self) -> Option<Traffic> {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.used.load(Ordering::Relaxed).then(|| Traffic {
            open: self.open.load(Ordering::Relaxed),
            received: get(&self.received),
            sent: get(&self.sent),
        })
    }
}

/// One connection's, which is open for as long as there is this.
#[derive(Debug)]
pub(super) struct Account {
    all: Arc<Counts>,
    received: AtomicU64,
    sent: AtomicU64,
    /// When a byte moved last, in either direction.
    moved: Mutex<Instant>,
    /// Reading or writing has failed.
    broke: AtomicBool,
}

impl Account {
    pub(super) fn new(all: &Arc<Counts>) -> Self {
        all.open.fetch_add(1, Ordering::Relaxed);
        Self {
            all: Arc::clone(all),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
            broke: AtomicBool::new(false),
        }
    }

    /// Reading or writing has failed, which the service may notice.
    pub(super) fn breaks(&self) {
        self.broke.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broke.load(Ordering::Relaxed)
    }

    /// So many bytes came.
    pub(super) fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.received.fetch_add(bytes as u64, Ordering::Relaxed);
        *self.moved.lock() = Instant::now();
    }

    /// So many bytes went.
    pub(super) fn send(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        *self.moved.lock() = Instant::now();
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns when nothing has moved for that long.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let until = self.moved.lock().checked_add(limit);
            match until {
                // No clock gets there.
                None => pending().await,
                Some(until) if until <= Instant::now() => return,
                Some(until) => sleep_until(until).await,
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_nothing_moves_either_way() {
        const LIMIT: Duration = Duration::from_secs(60);
        let counts = Arc::<Counts>::default();
        let account = Account::new(&counts);
        let began = Instant::now();
        let moves = async {
            advance(LIMIT / 2).await;
            account.receive(1);
            advance(LIMIT / 2).await;
            account.send(2);
            pending::<()>().await;
        };
        tokio::select! {
            () = account.idle(LIMIT) => {}
            () = moves => {}
        }
        assert_eq!(began.elapsed(), 2 * LIMIT);
        let without_end = tokio::time::timeout(1000 * LIMIT, account.idle(Duration::MAX));
        assert!(without_end.await.is_err());
    }

    #[test]
    fn all_of_a_service_is_counted_together() {
        let counts = Arc::<Counts>::default();
        assert_eq!(counts.traffic(), None, "it is none for connections");
        counts.used();
        let (one, other) = (Account::new(&counts), Account::new(&counts));
        one.receive(1);
        other.receive(2);
        other.send(4);
        assert_eq!(counts.traffic(), Some(Traffic { open: 2, received: 3, sent: 4 }));
        assert_eq!((other.received(), other.sent()), (2, 4));
        drop(one);
        assert_eq!(counts.traffic(), Some(Traffic { open: 1, received: 3, sent: 4 }));
    }
}
