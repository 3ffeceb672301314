//! Who is interested in which keys: watches with the same range share a topic.
//!
//! Promises: finding the topics of a key costs one hash lookup for all single keys together, and a tree search for the
//! ranges. Must not know what a topic's interest is made of.

use std::collections::HashMap;
use std::sync::Arc;

use crate::intervals::Intervals;
use crate::key_range::{End, KeyRange};

/// A topic's place; reused after its removal.
pub(crate) type TopicId = u32;

/// The topics of a hub or of a stream, each with an `I` for those interested.
#[derive(Debug)]
pub(crate) struct Topics<I> {
    singles: HashMap<Arc<[u8]>, TopicId>,
    ranges: Intervals,
    topics: Vec<Option<Topic<I>>>,
    free: Vec<TopicId>,
}

#[derive(Debug)]
struct Topic<I> {
    range: KeyRange,
    interest: I,
}

impl<I> Topics<I> {
    pub(crate) fn new() -> Self {
        Self {
            singles: HashMap::new(),
            ranges: Intervals::new(),
            topics: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.topics.len() == self.free.len()
    }

    /// The topic of exactly this range.
    pub(crate) fn find(&self, range: &KeyRange) -> Option<TopicId> {
        match &range.to {
            End::Single => self.singles.get(&range.from).copied(),
            to => self.ranges.find(&range.from, bound(to)),
        }
    }

    /// Adds a topic for a range that has none.
    pub(crate) fn insert(&mut self, range: KeyRange, interest: I) -> TopicId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            u32::try_from(self.topics.len() - 1).expect("fewer topics than 2^32")
        });
        match &range.to {
            End::Single => {
                self.singles.insert(range.from.clone(), id);
            }
            End::Before(to) => self.ranges.insert(range.from.clone(), Some(to.clone()), id),
            End::Unbounded => self.ranges.insert(range.from.clone(), None, id),
        }
        self.topics[id as usize] = Some(Topic { range, interest });
        id
    }

    /// Removes a topic and returns its range.
    pub(crate) fn remove(&mut self, id: TopicId) -> Option<KeyRange> {
        let Topic { range, .. } = self.topics.get_mut(id as usize)?.take()?;
        self.free.push(id);
        match &range.to {
            End::Single => {
                self.singles.remove(&range.from);
            }
            to => self.ranges.remove(&range.from, bound(to)),
        }
        Some(range)
    }

    /// Those interested in a topic.
    pub(crate) fn get_mut(&mut self, id: TopicId) -> Option<&mut I> {
        Some(&mut self.topics.get_mut(id as usize)?.as_mut()?.interest)
    }

    /// The ranges of all topics.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &KeyRange> {
        self.topics.iter().flatten().map(|topic| &topic.range)
    }

    /// Calls `hit` with every topic that has `key`, and its interest.
    pub(crate) fn hits(&mut self, key: &[u8], mut hit: impl FnMut(TopicId, &mut I)) {
        let Self {
            singles,
            ranges,
            topics,
            ..
        } = self;
        let mut call = |id: TopicId| {
            if let Some(topic) = &mut topics[id as usize] {
                hit(id, &mut topic.interest);
            }
        };
        if !singles.is_empty()
            && let Some(&id) = singles.get(key)
        {
            call(id);
        }
        ranges.stab(key, &mut call);
    }
}

fn bound(to: &End) -> Option<&[u8]> {
    match to {
        End::Before(to) => Some(to),
        End::Single | End::Unbounded => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(topics: &mut Topics<&'static str>, key: &[u8]) -> Vec<&'static str> {
        let mut found = Vec::new();
        topics.hits(key, |_, name| found.push(*name));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_key_hits_its_own_topic_and_the_ranges_around_it() {
        let range = |key: &[u8], end: &[u8]| KeyRange::of_request(key, end).unwrap();
        let mut topics = Topics::new();
        let single = topics.insert(range(b"b", b""), "single");
        topics.insert(range(b"a", b"c"), "a to c");
        topics.insert(range(b"b", b"\0"), "b on");
        assert_eq!(hits(&mut topics, b"b"), ["a to c", "b on", "single"]);
        assert_eq!(hits(&mut topics, b"a"), ["a to c"]);
        assert_eq!(hits(&mut topics, b"z"), ["b on"]);
        assert_eq!(hits(&mut topics, b"A"), Vec::<&str>::new());
        assert_eq!(topics.find(&range(b"b", b"")), Some(single));
        assert_eq!(topics.find(&range(b"c", b"")), None);

        topics.remove(single);
        assert_eq!(hits(&mut topics, b"b"), ["a to c", "b on"]);
        assert_eq!(
            topics.insert(range(b"x", b""), "x"),
            single,
            "places are reused"
        );
        for range in topics.ranges().cloned().collect::<Vec<_>>() {
            let id = topics.find(&range).unwrap();
            topics.remove(id);
        }
        assert!(topics.is_empty());
        assert_eq!(hits(&mut topics, b"b"), Vec::<&str>::new());
    }
}
