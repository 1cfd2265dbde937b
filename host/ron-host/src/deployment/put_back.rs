//! Versions that took over and were put back: what runs is not what the settings say,
//! and the host knows it, says it, and tries again when that is wanted.
//!
//! A service that was put back stays as it is while the same would be tried again
//! within the time for which the supervisor holds it: all else that a reload changes is
//! applied around it. When the time is over, when the component is another, or when it is
//! forced, a reload swaps it again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ron_kernel::ServiceId;
use ron_kernel::metrics::Observation;
use ron_kernel::supervisor::swap::HOLD;
use ron_kernel::supervisor::{Cut, Verdict};
use tokio::sync::oneshot;

use super::in_force::{InForce, InUse};
use super::{Deployment, NOTE, keep};
use crate::change::{Again, differs, rebase};
use crate::components::{self, Stamp};
use crate::exit::Failure;
use crate::plan::{Plan, PlannedService};

/// Under which name the host's notes speak of it.
const NOTE_BACK: &str = "put-back";
/// Characters of a digest that tell it from others: `b3:` and twelve.
const SHORT: usize = 15;

/// A version that has taken over and may yet be put back.
#[derive(Clone)]
pub(super) struct Trial {
    pub(super) service: ServiceId,
    /// What ran before, and what is tried.
    pub(super) before: (PlannedService, InUse),
    pub(super) tried: (PlannedService, InUse),
}

/// A version that was put back.
#[derive(Clone)]
pub(super) struct PutBack {
    pub(super) tried: PlannedService,
    pub(super) used: InUse,
    why: String,
    /// When it may be tried again.
    until: Instant,
    /// The revision of what is in force that it came with.
    pub(super) at: u64,
}

impl PutBack {
    /// Whether the settings want it, and not just somebody who asked for that swap.
    pub(super) fn is_wanted(&self) -> bool {
        !self.used.asked_for
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        self.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Whether it still tells of something: what nobody wants any more is told of for as
    /// long as it would not be tried again.
    pub(super) fn counts(&self, now: Instant) -> bool {
        self.is_wanted() || self.left(now).is_some()
    }

    /// Whether `new` is the same component again, and too early, as far as that can be told
    /// without reading it. What else is said of it does not make it a better one.
    fn holds(&self, new: &PlannedService, now: Instant) -> bool {
        self.is_tried_with(new) && self.left(now).is_some()
    }

    /// Whether `new` is another try of it, though perhaps in another way.
    pub(super) fn is_tried_with(&self, new: &PlannedService) -> bool {
        self.is_wanted() && self.tried.component == new.component
    }

    /// How a plan tells of it, that gets from `running` to `new` or, if it is held,
    /// does not.
    pub(super) fn again(
        &self,
        running: &PlannedService,
        new: &PlannedService,
        held: bool,
        now: Instant,
    ) -> Again {
        let mut because = differs(running, new);
        if because.is_empty() {
            because.push("the component's content");
        }
        let left = self.left(now).filter(|_| held);
        Again { why: self.why.clone(), because, again_in_s: left.map(|left| left.as_secs().max(1)) }
    }

    /// What was put back, and why.
    fn what(&self) -> String {
        let digest: String = self.used.component.digest().to_string().chars().take(SHORT).collect();
        format!("{digest} was put back: {}", self.why)
    }

    /// The same, with what can be done about it.
    fn explained(&self, now: Instant) -> String {
        let what = self.what();
        match (self.is_wanted(), self.left(now)) {
            (false, _) => what,
            (true, None) => format!("{what}; a reload swaps it again"),
            (true, Some(left)) => {
                let minutes = left.as_secs().div_ceil(60).max(1);
                format!("{what}; a reload swaps it again with --force, or in {minutes} min")
            }
        }
    }
}

impl InForce {
    /// The version before is back, unless something else runs by now. What the swap
    /// brought is undone, and what came after it is not.
    fn put_back(&mut self, trial: Trial, why: String, now: Instant) -> bool {
        let Trial { service: id, before, tried } = trial;
        if self.since(&id) != Some(tried.1.since) {
            return false;
        }
        let runs = self.settings.plan.services.get(&id);
        let Some(runs) = runs.map(|runs| rebase(&tried.0, &before.0, runs)) else { return false };
        let at = self.change(&id, Arc::new(runs), before.1);
        let (tried, used) = tried;
        let until = now + HOLD;
        self.put_back.insert(id, PutBack { tried, used, why, until, at });
        true
    }
}

impl Deployment {
    /// Waits for the end of a probation, and knows what came of it before whoever asks
    /// for it here.
    pub(super) fn follow(&self, trial: Trial, cut: Cut) -> oneshot::Receiver<Verdict> {
        let (tell, told) = oneshot::channel();
        let this = self.this.clone();
        self.trials.fetch_add(1, Ordering::Relaxed);
        self.begin(async move {
            let verdict = cut.verdict().await;
            if let Some(this) = this.upgrade() {
                if let Verdict::PutBack { why } = &verdict {
                    this.was_put_back(trial, why.clone()).await;
                }
                this.trials.fetch_sub(1, Ordering::Relaxed);
                this.keep_good();
            }
            // Nobody may care.
            let _ = tell.send(verdict);
        });
        told
    }

    async fn was_put_back(&self, trial: Trial, why: String) {
        // What is being made is in force before it is undone.
        let _cutting = self.cutting.lock().await;
        let ways = {
            let mut state = self.in_force.lock();
            if !state.put_back(trial, why, Instant::now()) {
                return;
            }
            state.watch(self.watcher.as_ref());
            // Who shares a fate may have come with the swap.
            self.supervisor.set_groups(state.settings.plan.groups());
            state.ways_with(None)
        };
        match ways {
            Ok(ways) => self.front.lock().lead(&ways),
            Err(failure) => {
                tracing::error!("requests go where they went: {}", failure.lines().join("; "));
            }
        }
        self.tell();
    }

    /// Keeps the configuration in force, unless something of it may yet be put back, or was:
    /// a host that is started with it would begin with a version that is known to be bad.
    pub(super) fn keep_good(&self) {
        let state = self.in_force.lock();
        let back = state.put_back.values().any(PutBack::is_wanted);
        let settings = Arc::clone(&state.settings);
        drop(state);
        if back && self.last_good.is_some() {
            // Nor what is applied meanwhile, which has it in it.
            tracing::warn!(
                "not kept as the last good configuration, for what was put back is in it"
            );
        } else if !back && self.trials.load(Ordering::Relaxed) == 0 {
            keep(self.last_good.as_ref(), &settings);
        }
    }

    /// Which services of `new` were put back and stay so for now.
    pub(super) async fn held(
        &self,
        seen: &InForce,
        new: &Plan,
        now: Instant,
    ) -> Result<BTreeSet<ServiceId>, Failure> {
        let same = seen.put_back.iter().filter_map(|(id, back)| {
            let wanted = new.services.get(id)?;
            back.holds(wanted, now).then_some((id, back, wanted))
        });
        let same: Vec<_> = same.collect();
        // Whoever mended the component did not change the settings.
        let touched = same.iter().filter(|(_, back, wanted)| {
            back.used.stamp.as_ref() != Stamp::of(&wanted.component).as_ref()
        });
        let touched = touched.map(|(id, _, wanted)| (*id, *wanted));
        let loading = components::load(&self.runtime, touched, || seen.known()).await?;
        let mended = |id: &ServiceId, back: &PutBack| {
            let digest = loading.loaded.get(id).map(|loaded| loaded.component.digest());
            // What is wrong with one that cannot be loaded is to be told.
            loading.failed.contains_key(id)
                || digest.is_some_and(|digest| digest != back.used.component.digest())
        };
        let held = same.into_iter().filter(|(id, back, _)| !mended(id, back));
        Ok(held.map(|(id, ..)| id.clone()).collect())
    }

    /// What the service runs in place of, if something was put back.
    pub(crate) fn put_back(&self, id: &ServiceId) -> Option<String> {
        let now = Instant::now();
        let state = self.in_force.lock();
        state.put_back.get(id).filter(|back| back.counts(now)).map(|back| back.explained(now))
    }

    /// Tells whoever looks closely what of the settings is not in force.
    pub(super) fn tell(&self) {
        let back: Vec<String> = {
            let state = self.in_force.lock();
            let wanted = state.put_back.iter().filter(|(_, back)| back.is_wanted());
            wanted.map(|(id, back)| format!("{id}: {}", back.what())).collect()
        };
        let refused = self.refused.lock().clone();
        let stale = refused.is_some() || !back.is_empty();
        let health = self.kernel().health();
        health.note(NOTE, refused);
        health.note(NOTE_BACK, (!back.is_empty()).then(|| back.join("; ")));
        self.kernel().metrics().observe(&Observation::ConfigStale { stale });
    }
}
