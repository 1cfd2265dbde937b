//! `ron-host dev`: what components are made from is watched, and made into components
//! again; the host swaps them as it does any file that changed.
//!
//! One build at a time. When its sources change meanwhile it is ended, for what it would
//! make is out of date, and begun again. While a build is broken, what runs goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ron_kernel::ServiceId;
use ron_runtime::Digest;

use super::build::{BuildError, Job, jobs};
use super::sources::{Snapshot, Watch};
use crate::deployment::{Deployment, How};
use crate::exit::chain;
use crate::logging::Format;
use crate::report;
use crate::settings::{Inputs, Settings};

/// Files that are named as the cause of a build.
const NAMED: usize = 3;

/// Makes components while a host runs.
pub(crate) struct Workshop {
    inputs: Inputs,
    watch: Watch,
    orders: Vec<Order>,
    /// Services that run, or that ran: what they need is told to the host by its file.
    running: BTreeSet<ServiceId>,
}

/// A job, and its sources when it was last done, if it was.
struct Order {
    job: Job,
    seen: Option<Snapshot>,
}

impl Order {
    fn new(job: Job, watch: &mut Watch) -> Self {
        for source in job.sources() {
            watch.add(&source);
        }
        Self { seen: None, job }
    }

    fn look(&self) -> Snapshot {
        let sources: Vec<PathBuf> = self.job.sources().collect();
        let before = self.seen.as_ref();
        Snapshot::of(sources.iter().map(PathBuf::as_path), &self.job.component, before)
    }

    /// Takes a component that is newer than all that it is made from for what a build would
    /// make: an interpreted language's takes long to build, and is another each time, which
    /// takes long to compile. What makes the builds is looked at too.
    fn trust(&mut self, settings: Option<&Path>) {
        let seen = self.look();
        let sources: Vec<PathBuf> = self.job.sources().collect();
        let all = sources.iter().map(PathBuf::as_path).chain(settings);
        let all = Snapshot::of(all, &self.job.component, Some(&seen));
        if !sources.is_empty() && self.job.made().is_some_and(|made| all.is_older_than(made)) {
            self.seen = Some(seen);
        }
    }

    /// Does the job if its sources are others than before; nothing if they are not. Does it
    /// again when they change meanwhile, of which `watch` has word.
    async fn renew(&mut self, watch: &Watch) -> Option<Result<(), BuildError>> {
        let mut done = None;
        loop {
            let now = self.look();
            let because = match &self.seen {
                Some(seen) if now == *seen => return done,
                Some(seen) => because(&now.changed_since(seen)),
                None => String::new(),
            };
            // Before the build: what changes during it is news.
            self.seen = Some(now);
            let outdated = async {
                loop {
                    watch.news().await;
                    if Some(self.look()) != self.seen {
                        return;
                    }
                }
            };
            done = tokio::select! {
                done = self.job.run(&because) => Some(done),
                () = outdated => None,
            };
        }
    }
}

/// Makes every component, and waits for better sources as long as one cannot be made.
pub(crate) async fn first_builds(inputs: &Inputs, settings: &Settings) -> Workshop {
    let mut watch = Watch::new();
    let format = settings.plan.log.format;
    let mut orders: Vec<Order> =
        jobs(settings).into_iter().map(|job| Order::new(job, &mut watch)).collect();
    for order in &mut orders {
        order.trust(inputs.file());
    }
    let unmade = |(_, order): &(usize, &Order)| order.seen.is_none();
    let mut open: BTreeSet<usize> =
        orders.iter().enumerate().filter(unmade).map(|(index, _)| index).collect();
    loop {
        for (index, order) in orders.iter_mut().enumerate() {
            let Some(done) = order.renew(&watch).await else { continue };
            match done {
                Ok(()) => drop(open.remove(&index)),
                Err(error) => {
                    open.insert(index);
                    tell(format, &order.job.id, &error, "waiting for a change");
                }
            }
        }
        if open.is_empty() {
            let running = settings.plan.services.keys().cloned().collect();
            return Workshop { inputs: inputs.clone(), watch, orders, running };
        }
        watch.news().await;
    }
}

impl Workshop {
    /// Follows the sources, for as long as it is polled. Never ends.
    pub(crate) async fn follow<T>(&mut self, deployment: &Deployment) -> T {
        loop {
            self.watch.news().await;
            self.read_anew();
            for order in &mut self.orders {
                let Some(done) = order.renew(&self.watch).await else { continue };
                let (id, component) = (&order.job.id, &order.job.component);
                if let Err(error) = done {
                    let now = "what runs goes on";
                    tell(order.job.format, id, &error, now);
                    continue;
                }
                if self.running.insert(id.clone()) {
                    // The file that speaks of it was refused, for want of a component.
                    let _ = deployment.reload("a component was built", None, How::default()).await;
                } else if let Some(digest) = digest_of(component).await {
                    deployment.component_built(component, digest).await;
                }
            }
        }
    }

    /// Takes in what `ron.toml` says of builds now, if it can be read.
    fn read_anew(&mut self) {
        let Ok(settings) = self.inputs.read() else { return };
        let now = jobs(&settings);
        if now.iter().eq(self.orders.iter().map(|order| &order.job)) {
            return;
        }
        let mut old: Vec<Order> = std::mem::take(&mut self.orders);
        for job in now {
            let known = old.iter().position(|order| order.job == job);
            self.orders.push(match known {
                Some(index) => old.swap_remove(index),
                None => Order::new(job, &mut self.watch),
            });
        }
    }
}

async fn digest_of(component: &Path) -> Option<Digest> {
    let path = component.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    Some(Digest::of(&read.ok()?.ok()?))
}

fn tell(format: Format, id: &ServiceId, error: &BuildError, now: &str) {
    report::build_failed(format, id.as_str(), &chain(error), now);
}

/// The files that changed, in few words.
fn because(changed: &BTreeSet<&Path>) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let name = |path: &&Path| path.strip_prefix(&here).unwrap_or(path).display().to_string();
    let mut named: Vec<String> = changed.iter().take(NAMED).map(name).collect();
    match changed.len() {
        0 => String::new(),
        all => {
            if all > NAMED {
                named.push(format!("{} more", all - NAMED));
            }
            named.join(", ")
        }
    }
}
