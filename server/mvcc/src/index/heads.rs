//! Finding a key among the sorted keys of one node without touching most of them.
//!
//! A node's keys share a prefix; of each, the eight bytes behind it are kept side by side as a big-endian number.
//! A search compares with all of them, which needs no memory access that depends on another: when the node is not in
//! the processor's cache, that takes as long as one access, where a binary search takes as long as four. It follows a
//! pointer only where numbers tie.
//! Promises: the same answers as a binary search over the keys. Must not know what the keys belong to.

use std::cmp::Ordering;

/// The most keys that a node has.
pub(crate) const HEADS: usize = 64;

/// Search aid over the sorted keys of one node; the keys themselves are the node's. Lies inside the node, so that a
/// search has one place to look at.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    len: usize,
    prefix: Box<[u8]>,
    /// Filled up with the greatest number.
    heads: [u64; HEADS],
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            len: 0,
            prefix: Box::default(),
            heads: [u64::MAX; HEADS],
        }
    }
}

impl Heads {
    /// Builds the aid anew, for sorted keys.
    pub(crate) fn rebuild<'k>(&mut self, keys: impl ExactSizeIterator<Item = &'k [u8]> + Clone) {
        self.len = keys.len();
        let mut both_ends = keys.clone();
        let Some(first) = both_ends.next() else {
            return;
        };
        let last = both_ends.last().unwrap_or(first);
        let mut shared = shared_prefix(first, last);
        if shared == first.len() {
            // One key, or keys that extend the first: leave something to tell them apart by.
            shared = shared.saturating_sub(8);
        }
        self.prefix = first[..shared].into();
        self.heads[self.len..].fill(u64::MAX);
        for (head, key) in self.heads.iter_mut().zip(keys) {
            *head = head_of(&key[shared..]);
        }
    }

    /// Where `key` is among the keys, or where it would go.
    pub(crate) fn search<'k>(
        &self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        let shared = self.prefix.len();
        let Some(rest) = key.get(shared..) else {
            return Err(self.place_of_short(key));
        };
        let wanted = head_of(rest);
        let smaller = self.heads.iter().map(|head| usize::from(*head < wanted));
        let mut low: usize = smaller.sum();
        let mut high = low;
        while high < self.len && self.heads[high] == wanted {
            high += 1;
        }
        // Whoever finds the key need not look at the prefix.
        while low < high {
            let middle = low.midpoint(high);
            let candidate = key_at(middle);
            match candidate[shared..].cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal if candidate[..shared] == key[..shared] => return Ok(middle),
                Ordering::Equal => break,
            }
        }
        match key[..shared].cmp(&self.prefix) {
            Ordering::Less => Err(0),
            Ordering::Greater => Err(self.len),
            Ordering::Equal => Err(low),
        }
    }

    /// Where a key goes that is shorter than the prefix.
    fn place_of_short(&self, key: &[u8]) -> usize {
        match key.cmp(&self.prefix) {
            Ordering::Greater => self.len,
            Ordering::Less | Ordering::Equal => 0,
        }
    }

    /// Takes in a key that has just been inserted at `at`; false when it does not share the prefix, so that the aid
    /// must be built anew.
    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) -> bool {
        if self.len == 0 || self.len == HEADS || !key.starts_with(&self.prefix) {
            return false;
        }
        self.heads.copy_within(at..self.len, at + 1);
        self.heads[at] = head_of(&key[self.prefix.len()..]);
        self.len += 1;
        true
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.heads.copy_within(at + 1..self.len, at);
        self.len -= 1;
        self.heads[self.len] = u64::MAX;
    }
}

/// How many bytes two keys share at their start.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The first eight bytes as a number that sorts as they do; short keys are filled with zeros.
pub(crate) fn head_of(rest: &[u8]) -> u64 {
    if let Some(bytes) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(255u8)];
        proptest::collection::vec(byte, 0..14)
    }

    proptest! {
        #[test]
        fn a_search_answers_as_binary_search(
            keys in proptest::collection::btree_set(key(), 0..40),
            added in key(),
            probes in proptest::collection::vec(key(), 30),
        ) {
            let mut keys: Vec<_> = keys.into_iter().collect();
            let mut heads = Heads::default();
            heads.rebuild(keys.iter().map(|key| &key[..]));
            if let Err(at) = keys.binary_search(&added) {
                keys.insert(at, added.clone());
                if !heads.insert(at, &added) {
                    heads.rebuild(keys.iter().map(|key| &key[..]));
                }
            }
            let all: BTreeSet<_> = probes.iter().chain(&keys).collect();
            for probe in all {
                prop_assert_eq!(heads.search(probe, |at| &keys[at]), keys.binary_search(probe));
            }
        }
    }
}
