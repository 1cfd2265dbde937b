//! What systemd is told where it started the host: that it is ready, reads its settings
//! anew, or stops; and, for its watchdog, that it lives. See sd_notify(3). Without
//! `NOTIFY_SOCKET` nobody is told anything.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use ron_kernel::health::Heartbeat;
use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// See this module's header.
#[derive(Debug, Default)]
pub(crate) struct Systemd {
    ready: AtomicBool,
}

/// Settings are read anew for as long as this is there.
pub(crate) struct Reloading(bool);

impl Systemd {
    /// Everything that must be ready is.
    pub(crate) fn ready(&self, services: usize) {
        self.ready.store(true, Ordering::Relaxed);
        let status = format!("{services} services");
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Settings are read anew, which a host that is not ready yet need not say.
    pub(crate) fn reloading(&self) -> Reloading {
        let ready = self.ready.load(Ordering::Relaxed);
        if ready {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => tell(&[NotifyState::Reloading, now]),
                Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
            }
        }
        Reloading(ready)
    }

    /// It stops, whatever it was at.
    pub(crate) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    /// Tells the watchdog, if there is one, twice as often as it wants, for as long as the
    /// kernel's loop moves: what `/livez` says. Never ends.
    pub(crate) async fn watch<T>(heartbeat: &Heartbeat) -> T {
        let Some(within) = sd_notify::watchdog_enabled() else { return pending().await };
        let mut due = interval(within / 2);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            if heartbeat.alive(Instant::now()) {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("the kernel's loop is stuck: the watchdog is not told");
            }
        }
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        if self.0 {
            tell(&[NotifyState::Ready]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told: {states:?}");
    }
}
