//! Topics, filters, and the trie that finds who subscribes to a topic.
//!
//! The syntax is NATS': dot-separated tokens, `*` for one token, a trailing
//! `>` for one or more. Text is parsed once, here; everything behind this file
//! handles [`Topic`] and [`TopicFilter`] and cannot hold a malformed one.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use thiserror::Error;

/// Longest topic or filter, in bytes.
pub const MAX_TOPIC_BYTES: usize = 255;
/// Most tokens in a topic or filter.
pub const MAX_TOPIC_TOKENS: usize = 16;
/// The first token of topics that belong to the host.
const HOST_TOKEN: &str = "ron";

/// Why a text is no topic or filter; the display names the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// Nothing at all.
    #[error("a topic has at least one token")]
    Empty,
    /// Over [`MAX_TOPIC_BYTES`].
    #[error("a topic is at most {MAX_TOPIC_BYTES} bytes, this has {0}")]
    TooLong(usize),
    /// Over [`MAX_TOPIC_TOKENS`].
    #[error("a topic has at most {MAX_TOPIC_TOKENS} tokens, this has {0}")]
    TooManyTokens(usize),
    /// Two dots in a row, or one at an end.
    #[error("token {0} is empty: tokens are separated by single dots")]
    EmptyToken(usize),
    /// A character outside `A-Z a-z 0-9 _ -`.
    #[error("token {token} has {found:?}: a token is made of A-Z a-z 0-9 _ -")]
    BadCharacter {
        /// Which token, from 1.
        token: usize,
        /// The first offending character.
        found: char,
    },
    /// A wildcard in a topic that is published to.
    #[error("token {0} is a wildcard: wildcards belong in filters, not in topics")]
    WildcardInTopic(usize),
    /// `>` before the last token.
    #[error("token {0} is '>', which may only come last")]
    TailNotLast(usize),
}

/// Checks every rule in one pass over the bytes; `wildcards` admits `*` and `>`.
fn validate(text: &str, wildcards: bool) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong(text.len()));
    }
    let count = tokens(text).count();
    if count > MAX_TOPIC_TOKENS {
        return Err(TopicError::TooManyTokens(count));
    }
    let mut start = 0;
    for (index, token) in tokens(text).enumerate() {
        let number = index + 1;
        match token {
            b"" => return Err(TopicError::EmptyToken(number)),
            b"*" | b">" if !wildcards => return Err(TopicError::WildcardInTopic(number)),
            b">" if number != count => return Err(TopicError::TailNotLast(number)),
            b"*" | b">" => {}
            _ => {
                let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                // The bytes before it are ASCII, so a character begins there.
                let bad = token.iter().position(|byte| !good(byte));
                if let Some(found) = bad.and_then(|at| text[start + at..].chars().next()) {
                    return Err(TopicError::BadCharacter { token: number, found });
                }
            }
        }
        start += token.len() + 1;
    }
    Ok(())
}

/// The tokens of a topic or filter. As bytes: a start of a service reads a few
/// of them, and searching text for a character costs more than their length.
fn tokens(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split(|byte| *byte == b'.')
}

/// Where a message is published: `orders.eu.created`.
///
/// At most [`MAX_TOPIC_TOKENS`] tokens of `A-Z a-z 0-9 _ -` and
/// [`MAX_TOPIC_BYTES`] bytes. A clone shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Reads a topic.
    ///
    /// # Errors
    ///
    /// The first rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        validate(text, false)?;
        Ok(Self(text.into()))
    }

    /// The topic as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }

    /// Whether this is one of the host's own topics, which begin with `ron.`.
    #[must_use]
    pub fn is_hosts(&self) -> bool {
        tokens(&self.0).next() == Some(HOST_TOKEN.as_bytes())
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

/// What a subscription asks for: a topic that may hold `*` for one token and
/// end in `>` for one or more.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// The first rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        validate(text, true)?;
        Ok(Self(text.into()))
    }

    /// The filter that matches every topic.
    #[must_use]
    pub fn all() -> Self {
        Self(">".into())
    }

    /// The filter as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this names the host's own topics: its first token is `ron`.
    #[must_use]
    pub fn is_hosts(&self) -> bool {
        tokens(&self.0).next() == Some(HOST_TOKEN.as_bytes())
    }

    /// Whether `topic` is one that this filter asks for.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut wanted = tokens(&self.0);
        let mut given = tokens(&topic.0);
        loop {
            match (wanted.next(), given.next()) {
                (Some(b">"), Some(_)) | (None, None) => return true,
                (Some(b"*"), Some(_)) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// Whether every topic that `other` can match is matched by this filter
    /// too: what a grant must do for a subscription.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut wide = tokens(&self.0);
        let mut narrow = tokens(&other.0);
        loop {
            match (wide.next(), narrow.next()) {
                (Some(b">"), Some(_)) | (None, None) => return true,
                (Some(b"*"), Some(token)) if token != b">" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicFilter({})", self.0)
    }
}

/// Filters and who holds them, arranged by token so that a look-up costs the
/// topic's length and not the number of subscriptions.
///
/// A plain data structure: locking and versions are the router's.
#[derive(Debug)]
pub(crate) struct FilterTrie<V> {
    root: Node<V>,
}

#[derive(Debug)]
struct Node<V> {
    named: HashMap<String, Node<V>>,
    any: Option<Box<Node<V>>>,
    /// Filters that end here.
    here: Vec<V>,
    /// Filters whose `>` stands here.
    tail: Vec<V>,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { named: HashMap::new(), any: None, here: Vec::new(), tail: Vec::new() }
    }
}

impl<V> Node<V> {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.any.is_none() && self.here.is_empty() && self.tail.is_empty()
    }
}

impl<V> Default for FilterTrie<V> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<V: PartialEq> FilterTrie<V> {
    /// Adds `value` under `filter`; says whether it was new there.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, value: V) -> bool {
        let mut node = &mut self.root;
        for token in filter.0.split('.') {
            match token {
                ">" => return push_new(&mut node.tail, value),
                "*" => node = node.any.get_or_insert_default(),
                _ => node = node.named.entry_ref(token).or_default(),
            }
        }
        push_new(&mut node.here, value)
    }

    /// Takes `value` from under `filter`; says whether it was there. Branches
    /// that hold nothing any more go with it.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, value: &V) -> bool {
        fn take<'t, V: PartialEq>(
            node: &mut Node<V>,
            mut tokens: impl Iterator<Item = &'t str>,
            value: &V,
        ) -> bool {
            match tokens.next() {
                None => remove_from(&mut node.here, value),
                Some(">") => remove_from(&mut node.tail, value),
                Some("*") => {
                    let Some(next) = node.any.as_mut() else { return false };
                    let found = take(next, tokens, value);
                    if next.is_empty() {
                        node.any = None;
                    }
                    found
                }
                Some(token) => {
                    let Some(next) = node.named.get_mut(token) else { return false };
                    let found = take(next, tokens, value);
                    if next.is_empty() {
                        node.named.remove(token);
                    }
                    found
                }
            }
        }
        take(&mut self.root, &mut filter.0.split('.').collect::<Vec<_>>().into_iter(), value)
    }

    /// Every value whose filter matches, each once, in the order found.
    pub(crate) fn matches(&self, topic: &Topic) -> Vec<V>
    where
        V: Clone,
    {
        fn walk<V: Clone + PartialEq>(node: &Node<V>, rest: Option<&str>, out: &mut Vec<V>) {
            let Some(rest) = rest else {
                return add_new(out, &node.here);
            };
            add_new(out, &node.tail);
            let (token, rest) = match rest.split_once('.') {
                Some((token, rest)) => (token, Some(rest)),
                None => (rest, None),
            };
            if let Some(next) = node.named.get(token) {
                walk(next, rest, out);
            }
            if let Some(next) = &node.any {
                walk(next, rest, out);
            }
        }
        let mut out = Vec::new();
        walk(&self.root, Some(&topic.0), &mut out);
        out
    }
}

fn push_new<V: PartialEq>(list: &mut Vec<V>, value: V) -> bool {
    let new = !list.contains(&value);
    if new {
        list.push(value);
    }
    new
}

fn remove_from<V: PartialEq>(list: &mut Vec<V>, value: &V) -> bool {
    let at = list.iter().position(|held| held == value);
    at.map(|at| list.remove(at)).is_some()
}

fn add_new<V: Clone + PartialEq>(out: &mut Vec<V>, values: &[V]) {
    for value in values {
        if !out.contains(value) {
            out.push(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_are_named() {
        fn check(text: &str, topic: Result<(), TopicError>, filter: Result<(), TopicError>) {
            assert_eq!(Topic::parse(text).map(drop), topic, "topic {text:?}");
            assert_eq!(TopicFilter::parse(text).map(drop), filter, "filter {text:?}");
        }
        let both = |text: &str, error: TopicError| check(text, Err(error), Err(error));
        check("orders.eu.created", Ok(()), Ok(()));
        check("A-z_9", Ok(()), Ok(()));
        both("", TopicError::Empty);
        both("a..b", TopicError::EmptyToken(2));
        both(".a", TopicError::EmptyToken(1));
        both("a.", TopicError::EmptyToken(2));
        both("a b", TopicError::BadCharacter { token: 1, found: ' ' });
        both("a.b*", TopicError::BadCharacter { token: 2, found: '*' });
        both("a.ü", TopicError::BadCharacter { token: 2, found: 'ü' });
        check("a.*.c", Err(TopicError::WildcardInTopic(2)), Ok(()));
        check("a.>", Err(TopicError::WildcardInTopic(2)), Ok(()));
        check(">.a", Err(TopicError::WildcardInTopic(1)), Err(TopicError::TailNotLast(1)));
        check(&"a".repeat(255), Ok(()), Ok(()));
        both(&"a".repeat(256), TopicError::TooLong(256));
        check(&["a"; 16].join("."), Ok(()), Ok(()));
        both(&["a"; 17].join("."), TopicError::TooManyTokens(17));
    }

    #[test]
    fn wildcards_match_as_in_nats() {
        fn check(filter: &str, topic: &str, expected: bool) {
            let filter = TopicFilter::parse(filter).expect("a filter");
            let topic = Topic::parse(topic).expect("a topic");
            assert_eq!(filter.matches(&topic), expected, "{filter} on {topic}");
        }
        check("a.b", "a.b", true);
        check("a.b", "a.b.c", false);
        check("a.*", "a.b", true);
        check("a.*", "a", false);
        check("a.*", "a.b.c", false);
        check("a.>", "a.b.c", true);
        check("a.>", "a", false);
        check(">", "a", true);
        check("*.*.c", "a.b.c", true);
    }

    #[test]
    fn covering_is_for_every_topic() {
        fn check(wide: &str, narrow: &str, expected: bool) {
            let wide = TopicFilter::parse(wide).expect("a filter");
            let narrow = TopicFilter::parse(narrow).expect("a filter");
            assert_eq!(wide.covers(&narrow), expected, "{wide} over {narrow}");
        }
        check(">", "a.>", true);
        check("a.>", "a.*.c", true);
        check("a.>", ">", false);
        check("a.*", "a.>", false);
        check("a.*", "a.b", true);
        check("a.*", "a.*", true);
        check("a.b", "a.*", false);
        check("a.>", "a", false);
    }

    fn token() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "c"])
    }

    fn topic() -> impl Strategy<Value = Topic> {
        prop::collection::vec(token(), 1..5)
            .prop_map(|tokens| Topic::parse(&tokens.join(".")).expect("a topic"))
    }

    fn filter() -> impl Strategy<Value = TopicFilter> {
        let tokens = prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "*"]), 0..4);
        (tokens, prop::option::of(Just(">")))
            .prop_filter("not empty", |(tokens, tail)| !tokens.is_empty() || tail.is_some())
            .prop_map(|(mut tokens, tail)| {
                tokens.extend(tail);
                TopicFilter::parse(&tokens.join(".")).expect("a filter")
            })
    }

    proptest! {
        /// The trie finds what asking each filter in turn finds, through any
        /// sequence of insertions and removals, and holds nothing at the end.
        #[test]
        fn the_trie_equals_a_list(
            steps in prop::collection::vec((filter(), 0u8..4, any::<bool>()), 0..40),
            topics in prop::collection::vec(topic(), 1..8),
        ) {
            let mut trie = FilterTrie::default();
            let mut list: Vec<(TopicFilter, u8)> = Vec::new();
            for (filter, value, add) in steps {
                let at = list.iter().position(|held| *held == (filter.clone(), value));
                if add {
                    prop_assert_eq!(trie.insert(&filter, value), at.is_none());
                    if at.is_none() {
                        list.push((filter, value));
                    }
                } else {
                    prop_assert_eq!(trie.remove(&filter, &value), at.is_some());
                    if let Some(at) = at {
                        list.remove(at);
                    }
                }
                for topic in &topics {
                    let mut found = trie.matches(topic);
                    found.sort_unstable();
                    let mut expected: Vec<u8> =
                        list.iter().filter(|(f, _)| f.matches(topic)).map(|(_, v)| *v).collect();
                    expected.sort_unstable();
                    expected.dedup();
                    prop_assert_eq!(found, expected);
                }
            }
            for (filter, value) in list {
                trie.remove(&filter, &value);
            }
            prop_assert!(trie.root.is_empty());
        }

        /// `covers` is sound: what the narrow filter matches, the wide one does.
        #[test]
        fn covering_is_sound(wide in filter(), narrow in filter(), topic in topic()) {
            if wide.covers(&narrow) && narrow.matches(&topic) {
                prop_assert!(wide.matches(&topic));
            }
        }
    }
}
