//! What a supervisor is told of a service.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use super::machine::Restart;
use super::swap::{self, Version};
use crate::message::{MailboxBounds, TopicGrants};
use crate::service::{Deadlines, ServiceId};
use crate::topic::TopicFilter;

/// What a supervisor is told of a service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub id: ServiceId,
    /// Whether the host is not ready without it, and fails when it gives up.
    pub critical: bool,
    /// When it is started again.
    pub restart: Restart,
    /// How much waits for it.
    pub mailbox: MailboxBounds,
    /// Which topics it may use.
    pub grants: Arc<TopicGrants>,
    /// What is delivered to it besides what it subscribes to itself.
    pub subscribe: Vec<TopicFilter>,
    /// How long it may take to start, to stop and to hand over.
    pub deadlines: Deadlines,
    /// What runs: for a component, its digest.
    pub version: Version,
    /// How many of it run side by side and share the mailbox; at least 1. A
    /// message goes to one of them, so messages are begun in order and may end
    /// in another; see [`MailboxBounds::partition_by`].
    pub replicas: usize,
    /// How long a version that took over is on probation.
    pub probation: Duration,
}

impl ServiceSpec {
    /// A service with the defaults of each field, not critical.
    #[must_use]
    pub fn new(id: ServiceId) -> Self {
        Self {
            id,
            critical: false,
            restart: Restart::default(),
            mailbox: MailboxBounds::default(),
            grants: Arc::default(),
            subscribe: vec![],
            deadlines: Deadlines::default(),
            version: "1".into(),
            replicas: 1,
            probation: swap::PROBATION,
        }
    }
    /// Takes over what an amendment changes, and nothing else.
    pub(super) fn follow(&mut self, amendment: &Amendment) {
        let Amendment { before, after } = amendment;
        fn take<T: PartialEq + Clone>(own: &mut T, before: &T, after: &T) {
            if before != after {
                own.clone_from(after);
            }
        }
        macro_rules! take {
            ($($($field:ident).+),+ $(,)?) => {
                $(take(&mut self.$($field).+, &before.$($field).+, &after.$($field).+);)+
            };
        }
        // Name and version are not among the rules.
        take!(
            critical,
            restart.policy,
            restart.budget,
            restart.within,
            restart.first_delay,
            restart.max_delay,
            restart.reset_after,
            mailbox.messages,
            mailbox.bytes,
            mailbox.overflow,
            mailbox.max_deliveries,
            mailbox.dead_letters,
            mailbox.partition_by,
            grants,
            deadlines.start,
            deadlines.stop,
            deadlines.handover,
            replicas,
            probation,
        );
        let mut filters = self.subscribe.iter().cloned().collect();
        amendment.subscribe(&mut filters);
        self.subscribe.retain(|filter| filters.remove(filter));
        self.subscribe.extend(after.subscribe.iter().filter(|new| filters.remove(*new)).cloned());
    }
}

/// What is said anew of a service: what changes from one spec to the other.
#[derive(Debug)]
pub(super) struct Amendment {
    pub(super) before: ServiceSpec,
    pub(super) after: ServiceSpec,
}

impl Amendment {
    /// Changes what is subscribed to.
    pub(super) fn subscribe(&self, filters: &mut HashSet<TopicFilter>) {
        let (before, after) = (&self.before.subscribe, &self.after.subscribe);
        filters.retain(|filter| !before.contains(filter) || after.contains(filter));
        filters.extend(after.iter().filter(|filter| !before.contains(filter)).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::RestartPolicy;

    /// A field that [`ServiceSpec::follow`] forgets is one that this destructuring
    /// does not, so whoever adds one is led here.
    #[test]
    fn all_that_changes_is_followed_and_nothing_else() {
        let filters = |texts: &[&str]| -> Vec<TopicFilter> {
            texts.iter().map(|text| TopicFilter::parse(text).expect("a filter")).collect()
        };
        let mut old = ServiceSpec::new(ServiceId::parse("svc").expect("a name"));
        old.subscribe = filters(&["always", "old"]);
        let mut brought = old.clone();
        brought.version = "2".into();
        brought.mailbox.bytes = 7;
        brought.deadlines.start = Duration::from_secs(7);
        brought.subscribe = filters(&["always", "brought"]);

        let s = Duration::from_secs;
        let mut later = brought.clone();
        later.critical = true;
        later.restart = Restart {
            policy: RestartPolicy::Never,
            budget: 99,
            within: s(99),
            first_delay: s(99),
            max_delay: s(99),
            reset_after: s(99),
        };
        later.mailbox.messages = 99;
        later.mailbox.overflow = crate::message::Overflow::Reject;
        later.mailbox.max_deliveries = 99;
        later.mailbox.dead_letters = 99;
        later.mailbox.partition_by = crate::message::PartitionBy::Topic;
        later.grants = Arc::new(TopicGrants { publish: vec![], subscribe: vec![] });
        later.subscribe = filters(&["brought", "later"]);
        later.deadlines.stop = s(99);
        later.deadlines.handover = s(99);
        later.replicas = 99;
        later.probation = s(99);

        let before = old.clone();
        old.follow(&Amendment { before: brought, after: later.clone() });
        let ServiceSpec {
            id,
            critical,
            restart,
            mailbox,
            grants,
            subscribe,
            deadlines,
            version,
            replicas,
            probation,
        } = old;
        assert_eq!((id, version), (before.id, before.version));
        let MailboxBounds { messages, bytes, overflow, max_deliveries, dead_letters, partition_by } =
            mailbox;
        assert_eq!(bytes, before.mailbox.bytes, "the swap brought it");
        assert_eq!((messages, max_deliveries, dead_letters), (99, 99, 99));
        assert_eq!(overflow, later.mailbox.overflow);
        assert_eq!(partition_by, later.mailbox.partition_by);
        let Deadlines { start, stop, handover } = deadlines;
        assert_eq!(start, before.deadlines.start, "the swap brought it");
        assert_eq!((stop, handover), (s(99), s(99)));
        assert_eq!((critical, restart, replicas), (true, later.restart, 99));
        assert_eq!((grants, probation), (later.grants, s(99)));
        assert_eq!(subscribe, filters(&["old", "later"]));
    }
}
