//! What is wrong with a plan as a whole, though each value alone is right.

use std::collections::BTreeSet;

use imbl::ordmap::DiffItem;
use ron_kernel::ServiceId;

use super::check::{Places, join, nearest};
use super::keys::{DEFAULTS, SERVICE};
use super::layers::there_is;
use super::mistake::{In, Mistake, Place, TOLD};
use super::read::{self, Environment};
use crate::plan::{Plan, PlannedService};

pub(super) struct Whole<'a> {
    pub(super) plan: &'a Plan,
    pub(super) places: &'a Places,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

pub(super) fn check(
    plan: &Plan,
    environment: &Environment,
    places: &Places,
    mistakes: &mut Vec<Mistake>,
) {
    let mut whole = Whole { plan, places, mistakes };
    for (id, service) in &plan.services {
        whole.alone(id, service, environment);
        whole.dependencies(id, service);
        whole.routes(id, service);
    }
    whole.listeners();
    whole.twice();
    whole.circles();
}

/// The same of a plan that differs from one in which nothing is wrong by services alone.
/// That there is something wrong is right; where it was said is not known here.
pub(super) fn check_changed(
    before: &Plan,
    plan: &Plan,
    environment: &Environment,
    mistakes: &mut Vec<Mistake>,
) {
    let mut whole = Whole { plan, places: &Places::new(), mistakes };
    let (mut relations, mut routes) = (false, false);
    for differs in before.services.diff(&plan.services) {
        match differs {
            DiffItem::Add(id, new) => {
                whole.alone(id, new, environment);
                whole.dependencies(id, new);
                relations |= !new.depends_on.is_empty();
                routes |= !(new.http.is_empty() && new.stream.is_empty());
            }
            DiffItem::Update { old: (_, old), new: (id, new) } => {
                whole.alone(id, new, environment);
                whole.dependencies(id, new);
                relations |= old.depends_on != new.depends_on;
                routes |= (&old.http, &old.stream) != (&new.http, &new.stream);
            }
            // Somebody may depend on it, or lead to what it led to.
            DiffItem::Remove(..) => (relations, routes) = (true, true),
        }
    }
    if relations {
        for (id, service) in &plan.services {
            whole.dependencies(id, service);
        }
        whole.circles();
    }
    if routes {
        for (id, service) in &plan.services {
            whole.routes(id, service);
        }
        whole.listeners();
        whole.twice();
    }
}

impl Whole<'_> {
    /// What is wrong with a service, whatever the others are.
    fn alone(&mut self, id: &ServiceId, service: &PlannedService, environment: &Environment) {
        self.component(id, service);
        self.delays(id, service);
        self.variables(id, service, environment);
        self.directories(id, service);
    }

    fn component(&mut self, id: &ServiceId, service: &PlannedService) {
        let key = join(&join(SERVICE.0, id.as_str()), "component");
        // A line that cannot be read may have been it.
        let unclear = |one: &Mistake| one.key == key || one.key.is_empty();
        if service.component.as_os_str().is_empty() && !self.mistakes.iter().any(unclear) {
            let wrong = "there is none".to_owned();
            self.wrong(id, "component", wrong, "expected component = \"PATH\"");
        }
    }

    fn delays(&mut self, id: &ServiceId, service: &PlannedService) {
        if service.restart.first_delay > service.restart.max_delay {
            let said = |key: &&str| {
                let tables = [&format!("{}.{id}", SERVICE.0), DEFAULTS.0];
                tables.iter().any(|table| self.places.contains_key(&format!("{table}.{key}")))
            };
            let keys = ["restart.first_delay", "restart.max_delay"];
            let key = keys.into_iter().find(said).unwrap_or(keys[0]);
            let wrong = "first_delay is over max_delay".to_owned();
            self.wrong(id, key, wrong, "expected first_delay to be at most max_delay");
        }
    }

    fn dependencies(&mut self, id: &ServiceId, service: &PlannedService) {
        for (index, on) in service.depends_on.iter().enumerate() {
            if !self.plan.services.contains_key(on) {
                let wrong = format!("there is no service named {on}");
                // Each name is compared to all; nobody is told of so many.
                let near = (self.mistakes.len() < TOLD).then(|| {
                    let others = self.plan.services.keys().filter(|other| *other != id);
                    nearest(on.as_str(), &others.map(ServiceId::as_str).collect::<Vec<_>>())
                });
                let expected = match near.flatten() {
                    Some(near) => format!("the nearest name is {near:?}"),
                    None => there_is(self.plan),
                };
                self.wrong(id, &format!("depends_on[{index}]"), wrong, &expected);
            }
        }
    }

    /// Each circle, told where it closes. Depth first, without recursion: ten
    /// thousand services may depend on each other in one line.
    fn circles(&mut self) {
        let plan = self.plan;
        let services = &plan.services;
        let mut seen = BTreeSet::new();
        for root in services.keys() {
            // The way here, each with the next of its dependencies to look at.
            let mut way: Vec<(&ServiceId, usize)> = Vec::new();
            let mut on_way = BTreeSet::new();
            if seen.insert(root) {
                way.push((root, 0));
                on_way.insert(root);
            }
            while let Some((id, next)) = way.last_mut() {
                let (id, index) = (*id, *next);
                *next += 1;
                let Some(on) = services[id].depends_on.get(index) else {
                    way.pop();
                    on_way.remove(id);
                    continue;
                };
                if on_way.contains(on) {
                    let at = way.iter().position(|(id, _)| *id == on).unwrap_or_default();
                    let names: Vec<&str> = way[at..].iter().map(|(id, _)| id.as_str()).collect();
                    let wrong = format!("{} -> {on} is a circle", names.join(" -> "));
                    let expected = "expected no service to depend on itself, nor through others";
                    self.wrong(id, &format!("depends_on[{index}]"), wrong, expected);
                } else if let Some((on, _)) = services.get_key_value(on)
                    && seen.insert(on)
                {
                    way.push((on, 0));
                    on_way.insert(on);
                }
            }
        }
    }

    /// Each variable once; and one that is passed on is the host's.
    fn variables(&mut self, id: &ServiceId, service: &PlannedService, environment: &Environment) {
        let mut seen = BTreeSet::new();
        for (index, variable) in service.grants.env.iter().enumerate() {
            let (key, name) = (format!("grants.env[{index}]"), &variable.name);
            if !seen.insert(name) {
                let wrong = format!("{name} is there twice");
                self.wrong(id, &key, wrong, "expected each variable once");
            }
            let expected =
                format!("expected a variable of the host's environment, or {name}=value");
            if variable.value.is_none() {
                let wrong = match environment.text(name) {
                    Some(Err(wrong)) => wrong,
                    _ => "is not set".to_owned(),
                };
                self.wrong(id, &key, format!("${name} {wrong}"), &expected);
            }
        }
    }

    /// Each directory is there, and called by a name of its own.
    fn directories(&mut self, id: &ServiceId, service: &PlannedService) {
        let mut seen = BTreeSet::new();
        for (index, directory) in service.grants.dirs.iter().enumerate() {
            let (key, guest) = (format!("grants.dirs[{index}]"), &directory.guest);
            if !seen.insert(guest) {
                let wrong = format!("two directories are called {guest:?}");
                self.wrong(id, &key, wrong, "expected a name for each: HOST::GUEST");
            }
            if let Err(wrong) = read::directory(&directory.host) {
                let wrong = format!("{}: {wrong}", directory.host.display());
                self.wrong(id, &key, wrong, "expected a directory, relative to this file");
            }
        }
    }

    /// A mistake where the key was said: for the service, in the defaults, or
    /// else where the service was.
    fn wrong(&mut self, id: &ServiceId, key: &str, wrong: String, expected: &str) {
        let service = join(SERVICE.0, id.as_str());
        let own = format!("{service}.{key}");
        let shared = format!("{}.{key}", DEFAULTS.0);
        let (key, place) = [own.as_str(), shared.as_str(), service.as_str()]
            .into_iter()
            .find_map(|at| Some((at, self.places.get(at)?.clone())))
            .unwrap_or((&own, Place::Flag("--component".into())));
        // What is wrong in the defaults is wrong once.
        let known = |one: &Mistake| one.place == place && one.wrong == wrong;
        if key == shared && self.mistakes.iter().any(known) {
            return;
        }
        let key = if key == service { &own } else { key };
        let key = key.split('[').next().unwrap_or_default().to_owned();
        let expected = expected.to_owned();
        self.mistakes.push(Mistake { is: In::Settings, place, key, wrong, expected });
    }
}
