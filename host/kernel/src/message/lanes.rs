//! The order of a mailbox: one lane, or one for each replica.
//!
//! Where messages are partitioned, each waits in the lane of its topic, and a lane is read
//! by one replica alone. What overflows is still the oldest of them all, so each message
//! knows its place among all; what comes back to the head of its lane is older than
//! whatever is there.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Message;

/// See this module's header.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The only one, of most mailboxes.
    first: VecDeque<Placed>,
    others: Vec<VecDeque<Placed>>,
    count: usize,
    /// The places before the oldest and after the newest.
    before: i64,
    after: i64,
}

#[derive(Debug)]
struct Placed {
    at: i64,
    message: Message,
}

impl Lanes {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many lanes there are.
    pub(super) fn lanes(&self) -> usize {
        self.others.len() + 1
    }

    /// The lane of messages to that topic.
    pub(super) fn lane_of(&self, topic: &str) -> usize {
        if self.others.is_empty() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        // Less than the number of lanes, which is a usize.
        (hasher.finish() % self.lanes() as u64) as usize
    }

    /// How many wait in that lane; none where there is no such lane.
    pub(super) fn waiting(&self, lane: usize) -> usize {
        self.lane(lane).map_or(0, VecDeque::len)
    }

    fn lane(&self, lane: usize) -> Option<&VecDeque<Placed>> {
        match lane.checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.others.get(other),
        }
    }

    fn lane_mut(&mut self, lane: usize) -> Option<&mut VecDeque<Placed>> {
        match lane.checked_sub(1) {
            None => Some(&mut self.first),
            Some(other) => self.others.get_mut(other),
        }
    }

    fn own(&mut self, message: &Message) -> &mut VecDeque<Placed> {
        let lane = self.lane_of(message.topic());
        self.lane_mut(lane).expect("the lane of a topic is one of them")
    }

    pub(super) fn push_back(&mut self, message: Message) {
        let at = self.after;
        self.after += 1;
        self.count += 1;
        self.own(&message).push_back(Placed { at, message });
    }

    pub(super) fn push_front(&mut self, message: Message) {
        self.before -= 1;
        self.count += 1;
        let at = self.before;
        self.own(&message).push_front(Placed { at, message });
    }

    /// Takes the oldest of all.
    pub(super) fn pop_oldest(&mut self) -> Option<Message> {
        let heads = (0..self.lanes()).filter_map(|lane| Some((self.lane(lane)?.front()?.at, lane)));
        let (_, lane) = heads.min()?;
        let oldest = self.lane_mut(lane)?.pop_front()?;
        self.count -= 1;
        Some(oldest.message)
    }

    /// Takes up to `most` from the head of a lane.
    pub(super) fn take(&mut self, lane: usize, most: usize) -> impl Iterator<Item = Message> + '_ {
        let count = most.min(self.waiting(lane));
        self.count -= count;
        let lane = self.lane_mut(lane).map(|lane| lane.drain(..count));
        lane.into_iter().flatten().map(|placed| placed.message)
    }

    /// Has that many lanes from now on, at least one. What waits keeps its order.
    pub(super) fn set_lanes(&mut self, lanes: usize) {
        let others = lanes.max(1) - 1;
        if others == self.others.len() {
            return;
        }
        let mut all: Vec<Placed> = std::mem::take(&mut self.first).into();
        all.extend(std::mem::take(&mut self.others).into_iter().flatten());
        all.sort_by_key(|placed| placed.at);
        self.others.resize_with(others, VecDeque::new);
        for placed in all {
            self.own(&placed.message).push_back(placed);
        }
    }

    /// All that wait, the oldest first.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<&Message> {
        let mut all: Vec<&Placed> =
            (0..self.lanes()).filter_map(|lane| self.lane(lane)).flatten().collect();
        all.sort_by_key(|placed| placed.at);
        all.into_iter().map(|placed| &placed.message).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::message::Address;

    fn message(id: u64, topic: &str) -> Message {
        let address = Address { topic: topic.into(), source: "s".into() };
        Message::new(id, Arc::new(address), Bytes::new())
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(String),
        /// From a lane, and so many; what is taken comes back if that is said.
        Take(usize, usize, bool),
        Drop,
        Lanes(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => "[a-h]".prop_map(Step::Push),
            2 => (0usize..4, 1usize..4, any::<bool>())
                .prop_map(|(lane, most, back)| Step::Take(lane, most, back)),
            1 => Just(Step::Drop),
            1 => (1usize..5).prop_map(Step::Lanes),
        ]
    }

    proptest! {
        /// A topic is in one lane and in order, what is dropped is the oldest of all, and
        /// nothing is lost or there twice, however many lanes there are.
        #[test]
        fn order_is_kept_in_each_topic_and_over_all(
            steps in prop::collection::vec(step(), 0..100),
        ) {
            let mut lanes = Lanes::default();
            // By place: what comes back is before all others.
            let mut expected: Vec<(u64, String)> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push(topic) => {
                        next += 1;
                        lanes.push_back(message(next, &topic));
                        expected.push((next, topic));
                    }
                    Step::Take(lane, most, back) => {
                        let taken: Vec<Message> = lanes.take(lane, most).collect();
                        let own = |(_, topic): &&(u64, String)| lanes.lane_of(topic) == lane;
                        let heads: Vec<_> =
                            expected.iter().filter(own).take(most).cloned().collect();
                        let ids: Vec<u64> = taken.iter().map(|one| one.id).collect();
                        prop_assert_eq!(&ids, &heads.iter().map(|own| own.0).collect::<Vec<_>>());
                        expected.retain(|own| !heads.contains(own));
                        if back {
                            for one in taken.into_iter().rev() {
                                lanes.push_front(one);
                            }
                            expected.splice(0..0, heads);
                        }
                    }
                    Step::Drop => {
                        let oldest = lanes.pop_oldest().map(|own| own.id);
                        let first = (!expected.is_empty()).then(|| expected.remove(0).0);
                        prop_assert_eq!(oldest, first);
                    }
                    Step::Lanes(count) => lanes.set_lanes(count),
                }
                let all: Vec<u64> = lanes.all().iter().map(|own| own.id).collect();
                prop_assert_eq!(&all, &expected.iter().map(|own| own.0).collect::<Vec<_>>());
                prop_assert_eq!(lanes.len(), expected.len());
                let waiting: usize = (0..lanes.lanes()).map(|lane| lanes.waiting(lane)).sum();
                prop_assert_eq!(waiting, expected.len());
            }
        }
    }

    #[test]
    fn topics_are_spread_over_lanes() {
        let mut lanes = Lanes::default();
        lanes.set_lanes(4);
        let mut counts = BTreeMap::new();
        for n in 0..1000 {
            *counts.entry(lanes.lane_of(&format!("orders.{n}"))).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| *count > 150), "{counts:?}");
    }
}
