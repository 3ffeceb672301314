//! Finding a key among the sorted keys of one node without touching most of them.
//!
//! A node's keys share a prefix; of each, the eight bytes behind it are kept side by side as a big-endian number.
//! A search compares numbers in a few cache lines, and follows a pointer only where they tie.
//! Promises: the same answers as a binary search over the keys. Must not know what the keys belong to.

use std::cmp::Ordering;

/// Search aid over the sorted keys of one node; the keys themselves are the node's.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    prefix: Box<[u8]>,
    heads: Vec<u64>,
}

impl Heads {
    /// Builds the aid for sorted keys.
    pub(crate) fn build<'k>(keys: impl Iterator<Item = &'k [u8]> + Clone) -> Self {
        let mut both_ends = keys.clone();
        let Some(first) = both_ends.next() else {
            return Self::default();
        };
        let last = both_ends.last().unwrap_or(first);
        let mut shared = shared_prefix(first, last);
        if shared == first.len() {
            // One key, or keys that extend the first: leave something to tell them apart by.
            shared = shared.saturating_sub(8);
        }
        let prefix: Box<[u8]> = first[..shared].into();
        let mut heads = Vec::with_capacity(keys.clone().count());
        heads.extend(keys.map(|key| head(&key[shared..])));
        Self { prefix, heads }
    }

    /// Where `key` is among the keys, or where it would go.
    pub(crate) fn search<'k>(
        &self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        let shared = self.prefix.len();
        let common = key.len().min(shared);
        match key[..common].cmp(&self.prefix[..common]) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.heads.len()),
            Ordering::Equal if common < shared => return Err(0),
            Ordering::Equal => {}
        }
        let wanted = head(&key[shared..]);
        let mut low = self.heads.partition_point(|head| *head < wanted);
        let mut high = low;
        while high < self.heads.len() && self.heads[high] == wanted {
            high += 1;
        }
        while low < high {
            let middle = low.midpoint(high);
            match key_at(middle)[shared..].cmp(&key[shared..]) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Takes in a key that has just been inserted at `at`; false when it does not share the prefix, so that the aid
    /// must be built anew.
    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) -> bool {
        if self.heads.is_empty() || !key.starts_with(&self.prefix) {
            return false;
        }
        if self.heads.len() == self.heads.capacity() {
            self.heads.reserve_exact(8);
        }
        self.heads.insert(at, head(&key[self.prefix.len()..]));
        true
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.heads.remove(at);
    }
}

/// How many bytes two keys share at their start.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The first eight bytes as a number that sorts as they do; short keys are filled with zeros.
pub(crate) fn head(rest: &[u8]) -> u64 {
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
            let mut heads = Heads::build(keys.iter().map(|key| &key[..]));
            if let Err(at) = keys.binary_search(&added) {
                keys.insert(at, added.clone());
                if !heads.insert(at, &added) {
                    heads = Heads::build(keys.iter().map(|key| &key[..]));
                }
            }
            let all: BTreeSet<_> = probes.iter().chain(&keys).collect();
            for probe in all {
                prop_assert_eq!(heads.search(probe, |at| &keys[at]), keys.binary_search(probe));
            }
        }
    }
}
