//! Whether what is to run finds room. The engine's pools are sized at the start of the
//! host and do not grow, so a change that would need more is refused before anything
//! of it is done: made, it would leave some services waiting for others to end.

use std::collections::BTreeMap;

use ron_kernel::ServiceId;
use ron_runtime::Room;

use crate::change::{Change, Changes};
use crate::exit::Failure;
use crate::plan::Plan;

/// The most instances that there are of one service while a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AtATime {
    /// Of what it has run so far.
    before: usize,
    /// Of what it runs from then on, where that is another version.
    after: usize,
}

/// What a change asks for. What stops has not ended before the last of what is new has
/// been made, and what is swapped stays through the probation of what replaces it.
fn at_a_time(changes: &Changes, old: &Plan, new: &Plan) -> BTreeMap<ServiceId, AtATime> {
    let replicas = |plan: &Plan, id: &ServiceId| {
        plan.services.get(id).map_or(0, |service| service.replicas as usize)
    };
    let each = |id: &ServiceId| {
        let (before, after) = (replicas(old, id), replicas(new, id));
        let most = match changes.of(id) {
            Some(Change::Start) => AtATime { before: 0, after },
            Some(Change::Stop) => AtATime { before, after: 0 },
            // It is swapped as it is, and has more or fewer replicas then.
            Some(Change::Swap { .. }) => AtATime { before, after: before.max(after) },
            None | Some(Change::Configure | Change::InPlace { .. }) => {
                AtATime { before: before.max(after), after: 0 }
            }
        };
        (id.clone(), most)
    };
    new.services.keys().chain(changes.touched()).map(each).collect()
}

/// Looks whether a change finds room. `before` and `after` say where a service's
/// instances have their places.
///
/// # Errors
///
/// How many places it would take, and how many there are.
pub(crate) fn check(
    changes: &Changes,
    old: &Plan,
    new: &Plan,
    before: impl Fn(&ServiceId) -> Option<Room>,
    after: impl Fn(&ServiceId) -> Option<Room>,
) -> Result<(), Failure> {
    // What asks for no more than there was finds what there was.
    let more = |id: &ServiceId| match changes.of(id) {
        Some(Change::Swap { .. }) => true,
        Some(Change::Stop) | None => false,
        Some(change) => change.concerns(&["replicas"]),
    };
    if !changes.touched().any(more) {
        return Ok(());
    }
    let mut wanted: BTreeMap<Room, usize> = BTreeMap::new();
    for (id, most) in at_a_time(changes, old, new) {
        for (room, count) in [(before(&id), most.before), (after(&id), most.after)] {
            if let Some(room) = room {
                *wanted.entry(room).or_default() += count;
            }
        }
    }
    let too_many = wanted.into_iter().find_map(|(room, wanted)| {
        room.places().filter(|places| wanted > *places).zip(Some(wanted))
    });
    match too_many {
        None => Ok(()),
        Some((places, wanted)) => Err(Failure::config(refusal(wanted, places))),
    }
}

fn refusal(wanted: usize, places: usize) -> String {
    format!(
        "no room for {wanted} instances at a time, which this change takes (a service that is \
         swapped has two); this host made room for {places} at its start; expected fewer \
         services, fewer of them swapped at a time, or a restart of the host, with a higher \
         engine.max_services where more are to come"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::PlannedService;

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).expect("a name")
    }

    fn plan(services: &[(&str, u32, u64)]) -> Plan {
        let own = |(name, replicas, memory): &(&str, u32, u64)| {
            let mut service = PlannedService { replicas: *replicas, ..PlannedService::default() };
            service.limits.memory = *memory;
            (id(name), Arc::new(service))
        };
        Plan { services: services.iter().map(own).collect(), ..Plan::default() }
    }

    #[test]
    fn a_change_takes_what_comes_and_what_has_not_gone() {
        let old = plan(&[("stays", 2, 1), ("grows", 1, 1), ("shrinks", 3, 1), ("stops", 4, 1)]);
        let new = plan(&[("stays", 2, 1), ("grows", 5, 1), ("shrinks", 1, 1), ("starts", 6, 1)]);
        let most = at_a_time(&Changes::between(&old, &new), &old, &new);
        let check = |name: &str, before, after| {
            assert_eq!(most[&id(name)], AtATime { before, after }, "{name}");
        };
        check("stays", 2, 0);
        check("grows", 5, 0);
        check("shrinks", 3, 0);
        check("stops", 4, 0);
        check("starts", 0, 6);
    }

    #[test]
    fn what_is_swapped_is_there_twice() {
        let old = plan(&[("same", 2, 1), ("more", 1, 1), ("fewer", 3, 1)]);
        let new = plan(&[("same", 2, 2), ("more", 4, 2), ("fewer", 1, 2)]);
        let most = at_a_time(&Changes::between(&old, &new), &old, &new);
        let check = |name: &str, before, after| {
            assert_eq!(most[&id(name)], AtATime { before, after }, "{name}");
        };
        check("same", 2, 2);
        check("more", 1, 4);
        check("fewer", 3, 3);
    }
}
