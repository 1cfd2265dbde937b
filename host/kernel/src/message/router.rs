//! Publishing: from a topic to the mailboxes that subscribe to it.
//!
//! Subscriptions change rarely and messages come by the million, so a
//! [`Publisher`] keeps what it found for each topic and asks the shared table
//! again only after a subscription changed anywhere: a publish then costs one
//! atomic load, one look-up in a map of its own and a push for each mailbox. No
//! lock is shared by two services that do not talk to each other.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::tap::{Tap, TapEnd, Tapped};
use super::{Address, Answer, BusError, MAX_FRAME, Message, Pardon, ReplyHandle, Stats};
use crate::service::ServiceId;
use crate::topic::{FilterTrie, Topic, TopicFilter};
use crate::turn::Turn;

/// Topics that one publisher remembers the mailboxes of; past it, it forgets
/// all and starts again. Bounds what a guest that invents topics can hold.
const ROUTE_CACHE: usize = 512;
/// Message ids that a publisher takes from the shared counter at a time.
const ID_BLOCK: u64 = 1024;
/// Most filters one service may subscribe to.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 1024;

/// Which topics a service may use. Everything but the host's own by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicGrants {
    /// Filters, one of which must match a topic that is published to.
    pub publish: Vec<TopicFilter>,
    /// Filters, one of which must cover a filter that is subscribed to.
    pub subscribe: Vec<TopicFilter>,
}

impl Default for TopicGrants {
    fn default() -> Self {
        Self { publish: vec![TopicFilter::all()], subscribe: vec![TopicFilter::all()] }
    }
}

/// The table of who subscribes to what. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub struct Router(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: RwLock<Table>,
    /// Grows with each change of the table, inside its lock.
    version: AtomicU64,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    trie: FilterTrie<Target>,
    services: HashMap<ServiceId, (Arc<Inbox>, HashSet<TopicFilter>)>,
    taps: Vec<(TopicFilter, Arc<TapEnd>)>,
}

/// An inbox, compared by identity.
#[derive(Clone, Debug)]
struct Target(Arc<Inbox>);

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a publisher remembers of a topic.
#[derive(Debug)]
struct Route {
    address: Arc<Address>,
    targets: Vec<Target>,
    /// Those among `targets` that refuse publishers when full, in the order in
    /// which their locks are taken.
    rejecting: Vec<Target>,
    /// Who looks on.
    taps: Vec<Arc<TapEnd>>,
}

impl Router {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a service, which has no subscriptions yet. Of two with one name,
    /// the later stands; a supervisor enters a name once.
    pub fn add(&self, inbox: Arc<Inbox>) {
        let service = inbox.service().clone();
        self.0.table.write().services.insert(service, (inbox, HashSet::new()));
    }

    /// Takes a service out, with its subscriptions.
    pub fn remove(&self, service: &ServiceId) {
        let mut table = self.0.table.write();
        if let Some((inbox, filters)) = table.services.remove(service) {
            let target = Target(inbox);
            for filter in &filters {
                table.trie.remove(filter, &target);
            }
            self.0.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Has messages that match `filter` delivered to `service`. Repeating a
    /// filter changes nothing.
    ///
    /// # Errors
    ///
    /// [`BusError::Denied`] where the grants do not cover the filter or it
    /// names the host's topics, [`BusError::Limit`] past 1,024 filters.
    pub fn subscribe(
        &self,
        service: &ServiceId,
        filter: TopicFilter,
        grants: &TopicGrants,
    ) -> Result<(), BusError> {
        Self::may_subscribe(service, &filter, grants)?;
        // What most incarnations after the first find.
        let known = |(_, filters): &(_, HashSet<TopicFilter>)| filters.contains(&filter);
        if self.0.table.read().services.get(service).is_some_and(known) {
            return Ok(());
        }
        let mut table = self.0.table.write();
        let Some((inbox, filters)) = table.services.get_mut(service) else {
            return Err(BusError::Limit(format!("{service} is not on the bus")));
        };
        if filters.contains(&filter) {
            return Ok(());
        }
        if filters.len() >= MAX_SUBSCRIPTIONS {
            return Err(BusError::Limit(format!(
                "{service} already has {MAX_SUBSCRIPTIONS} subscriptions, the most a service may have"
            )));
        }
        filters.insert(filter.clone());
        let target = Target(Arc::clone(inbox));
        table.trie.insert(&filter, target);
        self.0.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Ends a subscription; one that is not there is ended already.
    pub fn unsubscribe(&self, service: &ServiceId, filter: &TopicFilter) {
        let mut table = self.0.table.write();
        let Some((inbox, filters)) = table.services.get_mut(service) else { return };
        if filters.remove(filter) {
            let target = Target(Arc::clone(inbox));
            table.trie.remove(filter, &target);
            self.0.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Has `service` subscribe to exactly these filters, which were granted
    /// before; gives those it had. No message finds it between the two.
    pub(crate) fn resubscribe(
        &self,
        service: &ServiceId,
        wanted: HashSet<TopicFilter>,
    ) -> HashSet<TopicFilter> {
        let mut table = self.0.table.write();
        let table = &mut *table;
        let Some((inbox, filters)) = table.services.get_mut(service) else { return wanted };
        let target = Target(Arc::clone(inbox));
        for filter in filters.difference(&wanted) {
            table.trie.remove(filter, &target);
        }
        for filter in wanted.difference(filters) {
            table.trie.insert(filter, target.clone());
        }
        self.0.version.fetch_add(1, Ordering::Release);
        std::mem::replace(filters, wanted)
    }

    /// What `service` subscribes to.
    #[must_use]
    pub fn subscriptions(&self, service: &ServiceId) -> HashSet<TopicFilter> {
        let table = self.0.table.read();
        table.services.get(service).map(|(_, filters)| filters.clone()).unwrap_or_default()
    }

    /// Forgets what publishers remember: something of an inbox changed.
    pub(crate) fn forget_routes(&self) {
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Whether a service may subscribe to `filter`.
    ///
    /// # Errors
    ///
    /// [`BusError::Denied`].
    pub(crate) fn may_subscribe(
        service: &ServiceId,
        filter: &TopicFilter,
        grants: &TopicGrants,
    ) -> Result<(), BusError> {
        if filter.is_hosts() {
            return Err(BusError::Denied(format!(
                "{filter}: topics that begin with 'ron.' are the host's"
            )));
        }
        if !grants.subscribe.iter().any(|granted| granted.covers(filter)) {
            return Err(BusError::Denied(format!(
                "{service} is not granted to subscribe to {filter}"
            )));
        }
        Ok(())
    }

    /// Looks on at what is published to `filter`, from now on and until the
    /// tap is dropped.
    #[must_use]
    pub fn tap(&self, filter: TopicFilter) -> Tap {
        let (end, tap) = Tap::new(self.clone());
        let mut table = self.0.table.write();
        table.taps.push((filter, end));
        self.0.version.fetch_add(1, Ordering::Release);
        tap
    }

    /// Takes a tap out whose looker-on is gone.
    pub(crate) fn untap(&self, end: &Arc<TapEnd>) {
        let mut table = self.0.table.write();
        table.taps.retain(|(_, own)| !Arc::ptr_eq(own, end));
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// How many services there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.table.read().services.len()
    }

    /// The inboxes of all services, in no order.
    #[must_use]
    pub fn inboxes(&self) -> Vec<Arc<Inbox>> {
        self.0.table.read().services.values().map(|(inbox, _)| Arc::clone(inbox)).collect()
    }

    /// The inbox of one service.
    #[must_use]
    pub fn inbox(&self, service: &ServiceId) -> Option<Arc<Inbox>> {
        self.0.table.read().services.get(service).map(|(inbox, _)| Arc::clone(inbox))
    }

    /// What each mailbox has seen, by service.
    #[must_use]
    pub fn stats(&self) -> Vec<(ServiceId, Stats)> {
        self.inboxes().iter().map(|inbox| (inbox.service().clone(), inbox.stats())).collect()
    }

    /// A publisher whose messages carry `source`.
    #[must_use]
    pub fn publisher(&self, source: &str, grants: Arc<TopicGrants>) -> Publisher {
        self.publisher_in_turn(source, grants, None)
    }

    /// A publisher that withholds until the turn comes.
    pub(crate) fn publisher_in_turn(
        &self,
        source: &str,
        grants: Arc<TopicGrants>,
        turn: Option<Arc<Turn>>,
    ) -> Publisher {
        Publisher {
            turn,
            router: self.clone(),
            source: source.into(),
            grants,
            routes: HashMap::new(),
            version: 0,
            ids: 0..0,
        }
    }

    /// An id for a message that no publisher sends.
    pub(crate) fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn route(&self, topic: &Topic, source: &Arc<str>) -> Route {
        let (targets, taps) = {
            let table = self.0.table.read();
            let taps = table.taps.iter().filter(|(filter, _)| filter.matches(topic));
            (table.trie.matches(topic), taps.map(|(_, end)| Arc::clone(end)).collect())
        };
        let mut rejecting: Vec<Target> =
            targets.iter().filter(|target| target.0.rejects()).cloned().collect();
        rejecting.sort_by_key(|target| Arc::as_ptr(&target.0));
        let address = Address { topic: Arc::clone(topic.text()), source: Arc::clone(source) };
        Route { address: Arc::new(address), targets, rejecting, taps }
    }
}

/// One service's way to publish. Cheap to call, not to make: keep it.
#[derive(Debug)]
pub struct Publisher {
    router: Router,
    /// There until its turn has come.
    turn: Option<Arc<Turn>>,
    source: Arc<str>,
    grants: Arc<TopicGrants>,
    routes: HashMap<Arc<str>, Route>,
    /// The table's version that `routes` was read from, or an older one.
    version: u64,
    ids: Range<u64>,
}

impl Publisher {
    /// Publishes to every subscribed service; says how many mailboxes took the
    /// message in. Never blocks.
    ///
    /// # Errors
    ///
    /// See [`BusError`]. With [`BusError::Overloaded`], nobody got it.
    pub fn publish(&mut self, topic: &str, payload: Bytes) -> Result<u32, BusError> {
        self.send(topic, payload, None)
    }

    /// Publishes, and gives the end on which the first answer comes. Whoever
    /// waits on it sets the time limit; dropping it makes the answer unwanted.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish). That nobody subscribes is told as the
    /// answer.
    pub fn request(
        &mut self,
        topic: &str,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<Answer>, BusError> {
        let (reply, answer) = ReplyHandle::new();
        self.send(topic, payload, Some(reply))?;
        Ok(answer)
    }

    fn send(
        &mut self,
        topic: &str,
        payload: Bytes,
        reply: Option<ReplyHandle>,
    ) -> Result<u32, BusError> {
        if payload.len() > MAX_FRAME {
            return Err(BusError::PayloadTooLarge { limit: MAX_FRAME as u64 });
        }
        if self.turn.is_some() && reply.is_none() {
            match self.withhold(topic, &payload) {
                Some(done) => return done,
                None => self.turn = None,
            }
        }
        let id = self.next_id();
        let route = self.route(topic)?;
        let message = Message {
            id,
            address: Arc::clone(&route.address),
            payload,
            attempt: 1,
            pardon: Pardon::default(),
            reply,
            tick: None,
        };
        if !route.taps.is_empty() {
            return deliver_tapped(route, message);
        }
        deliver(route, message)
    }

    /// Keeps a message for its publisher's turn; `None` when that has come.
    #[cold]
    fn withhold(&mut self, topic: &str, payload: &Bytes) -> Option<Result<u32, BusError>> {
        let turn = Arc::clone(self.turn.as_ref()?);
        turn.withhold(|withheld| {
            let targets = self.route(topic)?.targets.len();
            withheld.publish(topic, payload.clone())?;
            Ok(u32::try_from(targets).unwrap_or(u32::MAX))
        })
    }

    fn route(&mut self, topic: &str) -> Result<&Route, BusError> {
        let version = self.router.0.version.load(Ordering::Acquire);
        if version != self.version || self.routes.len() >= ROUTE_CACHE {
            self.routes.clear();
            self.version = version;
        }
        match self.routes.entry_ref(topic) {
            EntryRef::Occupied(known) => Ok(known.into_mut()),
            EntryRef::Vacant(new) => {
                let topic = Topic::parse(topic)?;
                if topic.is_hosts() {
                    return Err(BusError::Denied(format!(
                        "{topic}: topics that begin with 'ron.' are the host's"
                    )));
                }
                if !self.grants.publish.iter().any(|granted| granted.matches(&topic)) {
                    return Err(BusError::Denied(format!(
                        "{} is not granted to publish to {topic}",
                        self.source
                    )));
                }
                let route = self.router.route(&topic, &self.source);
                let key = Arc::clone(&route.address.topic);
                Ok(new.insert_with_key(key, route))
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        if let Some(id) = self.ids.next() {
            return id;
        }
        let first = self.router.0.next_id.fetch_add(ID_BLOCK, Ordering::Relaxed) + 1;
        self.ids = first + 1..first + ID_BLOCK;
        first
    }
}

fn deliver(route: &Route, message: Message) -> Result<u32, BusError> {
    if !route.rejecting.is_empty() {
        return send_all_or_none(route, &message);
    }
    let Some((last, others)) = route.targets.split_last() else { return Ok(0) };
    let mut accepted = 0;
    for target in others {
        accepted += u32::from(target.0.push(message.clone()));
    }
    accepted += u32::from(last.0.push(message));
    Ok(accepted)
}

/// [`deliver`], with somebody looking on; apart from it, so that it costs the
/// others nothing.
#[cold]
fn deliver_tapped(route: &Route, message: Message) -> Result<u32, BusError> {
    let seen = Tapped::of(&message);
    let delivered = deliver(route, message);
    for end in &route.taps {
        end.offer(Tapped { delivered: delivered.clone(), ..seen.clone() });
    }
    delivered
}

/// A fan-out in which a mailbox may refuse: either all of the rejecting ones
/// have room, or the publisher is refused and nobody got the message, so that
/// publishing again repeats nothing.
fn send_all_or_none(route: &Route, message: &Message) -> Result<u32, BusError> {
    let mut locked: Vec<_> = route.rejecting.iter().map(|target| target.0.lock()).collect();
    let mut full = false;
    for inbox in &mut locked {
        if inbox.would_refuse(message) {
            inbox.refuse();
            full = true;
        }
    }
    if full {
        return Err(BusError::Overloaded);
    }
    let mut accepted = 0;
    for inbox in locked {
        accepted += u32::from(inbox.push(message.clone()));
    }
    for target in route.targets.iter().filter(|target| !route.rejecting.contains(target)) {
        accepted += u32::from(target.0.push(message.clone()));
    }
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MailboxBounds, Overflow};

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).expect("a name")
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).expect("a filter")
    }

    fn service(router: &Router, name: &str, bounds: MailboxBounds, filters: &[&str]) -> Arc<Inbox> {
        let inbox = Inbox::new(id(name), bounds);
        router.add(Arc::clone(&inbox));
        for text in filters {
            router.subscribe(&id(name), filter(text), &TopicGrants::default()).expect("granted");
        }
        inbox
    }

    fn publisher(router: &Router) -> Publisher {
        router.publisher("test", Arc::default())
    }

    #[test]
    fn each_subscribed_service_gets_one_copy() {
        let router = Router::new();
        let a = service(&router, "a", MailboxBounds::default(), &["x.>", "x.y"]);
        let b = service(&router, "b", MailboxBounds::default(), &["x.*"]);
        let c = service(&router, "c", MailboxBounds::default(), &["z"]);
        let mut publisher = publisher(&router);
        assert_eq!(publisher.publish("x.y", Bytes::new()), Ok(2));
        let queued = [&a, &b, &c].map(|inbox| inbox.stats().queued);
        assert_eq!(queued, [1, 1, 0]);
    }

    #[test]
    fn a_publisher_sees_every_change_of_subscription() {
        let router = Router::new();
        let mut publisher = publisher(&router);
        assert_eq!(publisher.publish("x", Bytes::new()), Ok(0));
        service(&router, "a", MailboxBounds::default(), &["x"]);
        assert_eq!(publisher.publish("x", Bytes::new()), Ok(1));
        router.unsubscribe(&id("a"), &filter("x"));
        assert_eq!(publisher.publish("x", Bytes::new()), Ok(0));
        service(&router, "b", MailboxBounds::default(), &["x"]);
        assert_eq!(publisher.publish("x", Bytes::new()), Ok(1));
        router.remove(&id("b"));
        assert_eq!(publisher.publish("x", Bytes::new()), Ok(0));
    }

    #[test]
    fn ids_are_unique_across_publishers() {
        let router = Router::new();
        let mut publishers = [publisher(&router), publisher(&router)];
        let mut seen = HashSet::new();
        for round in 0..3 * ID_BLOCK {
            for publisher in &mut publishers {
                assert!(seen.insert(publisher.next_id()), "round {round}");
            }
        }
    }

    #[test]
    fn a_full_rejecting_mailbox_refuses_the_whole_fan_out() {
        let router = Router::new();
        let full = MailboxBounds { messages: 1, overflow: Overflow::Reject, ..Default::default() };
        let a = service(&router, "a", MailboxBounds::default(), &["x"]);
        let b = service(&router, "b", full, &["x"]);
        let c = service(&router, "c", full, &["x", "y"]);
        let mut publisher = publisher(&router);
        assert_eq!(publisher.publish("y", Bytes::new()), Ok(1));
        assert_eq!(publisher.publish("x", Bytes::new()), Err(BusError::Overloaded));
        let accepted = [&a, &b, &c].map(|inbox| inbox.stats().accepted);
        assert_eq!(accepted, [0, 0, 1]);
        assert_eq!(c.stats().rejected, 1);
    }

    #[test]
    fn refusals_name_their_cause() {
        let router = Router::new();
        service(&router, "a", MailboxBounds::default(), &["x"]);
        let grants = Arc::new(TopicGrants {
            publish: vec![filter("mine.>")],
            subscribe: vec![filter("mine.*")],
        });
        let mut publisher = router.publisher("p", Arc::clone(&grants));
        fn check<T: std::fmt::Debug>(result: Result<T, BusError>, text: &str) {
            assert_eq!(result.expect_err("refused").to_string(), text);
        }
        check(publisher.publish("x", Bytes::new()), "p is not granted to publish to x");
        check(
            publisher.publish("ron.x", Bytes::new()),
            "ron.x: topics that begin with 'ron.' are the host's",
        );
        check(
            publisher.publish("a..b", Bytes::new()),
            "not a topic: token 2 is empty: tokens are separated by single dots",
        );
        check(
            publisher.publish("mine.x", vec![0; MAX_FRAME + 1].into()),
            "a payload is at most 1048576 bytes",
        );
        check(
            router.subscribe(&id("a"), filter("mine.>"), &grants),
            "a is not granted to subscribe to mine.>",
        );
        assert_eq!(publisher.publish("mine.x", vec![0; MAX_FRAME].into()), Ok(0));
    }

    #[test]
    fn a_request_without_subscribers_has_no_responder() {
        let mut answer = publisher(&Router::new()).request("x", Bytes::new()).expect("sent");
        assert_eq!(answer.try_recv(), Ok(Err(BusError::NoResponder)));
    }
}
