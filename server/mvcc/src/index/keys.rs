//! The sorted keys of one node, packed: what they share at their start once, and the rest of each behind one another.
//!
//! Of each key the eight bytes behind the shared ones are kept side by side as a big-endian number. A search compares with
//! all of these numbers, which needs no memory access that depends on another: when the node is not in the processor's cache,
//! that takes as long as one access, where a binary search takes as long as four. It looks at the rest of a key only where
//! numbers tie.
//! Promises: the same answers as a binary search over the keys; a key costs its own rest and twelve bytes, and no allocation
//! of its own. Must not know what the keys belong to.

use std::cmp::Ordering;
use std::ops::Range;

/// The most keys that a node has.
pub(crate) const KEYS: usize = 64;
/// What keys that were removed may leave unused, beside as much as the others take.
const SPARE_BYTES: usize = 1 << 10;

/// Sorted keys, each once; at most [`KEYS`], and less than 4 GiB of them.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    len: usize,
    /// How many bytes at the start of `bytes` all keys begin with.
    shared: usize,
    /// The shared bytes, and behind them the rests of the keys in order.
    bytes: Vec<u8>,
    /// Where the rest of each key ends.
    ends: [u32; KEYS],
    /// The first eight bytes of each rest; filled up with the greatest number.
    heads: [u64; KEYS],
}

/// A key as it lies there, in two pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'k> {
    shared: &'k [u8],
    rest: &'k [u8],
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            len: 0,
            shared: 0,
            bytes: Vec::new(),
            ends: [0; KEYS],
            heads: [u64::MAX; KEYS],
        }
    }
}

impl Keys {
    /// Packs sorted keys.
    pub(crate) fn pack<'k>(
        keys: impl DoubleEndedIterator<Item = Key<'k>> + ExactSizeIterator + Clone,
    ) -> Self {
        let mut packed = Self::default();
        let (Some(first), Some(last)) = (keys.clone().next(), keys.clone().next_back()) else {
            return packed;
        };
        let mut shared = shared_prefix(first, last);
        if keys.len() == 1 {
            // Leave something to tell the next key from it by.
            shared = shared.saturating_sub(8);
        }
        let rests: usize = keys.clone().map(|key| key.len() - shared).sum();
        packed.bytes.reserve_exact(shared + rests);
        first.copy(0..shared, &mut packed.bytes);
        packed.shared = shared;
        for (at, key) in keys.enumerate() {
            let begin = packed.bytes.len();
            key.copy(shared..key.len(), &mut packed.bytes);
            packed.heads[at] = head_of(&packed.bytes[begin..]);
            packed.ends[at] = packed.bytes.len() as u32;
            packed.len = at + 1;
        }
        packed
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all keys as they would be by themselves: at most so many move when one is put in.
    pub(crate) fn whole_bytes(&self) -> usize {
        self.bytes.len() - self.shared + self.shared * self.len
    }

    /// The key at `at`, which must be there.
    pub(crate) fn get(&self, at: usize) -> Key<'_> {
        debug_assert!(at < self.len);
        Key {
            shared: &self.bytes[..self.shared],
            rest: self.rest(at),
        }
    }

    pub(crate) fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = Key<'_>> + ExactSizeIterator + Clone {
        (0..self.len).map(|at| self.get(at))
    }

    fn start(&self, at: usize) -> usize {
        match at {
            0 => self.shared,
            _ => self.ends[at - 1] as usize,
        }
    }

    fn rest(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// Where `key` is among the keys, or where it would go.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let shared = &self.bytes[..self.shared];
        let Some((start, rest)) = key.split_at_checked(self.shared) else {
            return Err(if key > shared { self.len } else { 0 });
        };
        let wanted = head_of(rest);
        let smaller = self.heads.iter().map(|head| usize::from(*head < wanted));
        let mut low: usize = smaller.sum();
        let mut high = low;
        while high < self.len && self.heads[high] == wanted {
            high += 1;
        }
        // Whoever finds the rest compares the start then, and need not before.
        while low < high {
            let middle = low.midpoint(high);
            match self.rest(middle).cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal if shared == start => return Ok(middle),
                Ordering::Equal => break,
            }
        }
        match start.cmp(shared) {
            Ordering::Less => Err(0),
            Ordering::Greater => Err(self.len),
            Ordering::Equal => Err(low),
        }
    }

    /// Puts a key in at `at`, where it belongs; there must be room.
    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) {
        debug_assert!(self.len < KEYS);
        if self.len == 0 || !key.starts_with(&self.bytes[..self.shared]) {
            let new = std::iter::once(Key::from(key));
            let before = self.iter().take(at);
            let keys: Vec<_> = before.chain(new).chain(self.iter().skip(at)).collect();
            *self = Self::pack(keys.iter().copied());
            return;
        }
        let rest = &key[self.shared..];
        let start = self.start(at);
        if self.bytes.capacity() - self.bytes.len() < rest.len() {
            let more = rest.len().max(self.bytes.len() / 8);
            self.bytes.reserve_exact(more);
        }
        let moved = self.bytes.len();
        self.bytes.extend_from_slice(rest);
        self.bytes.copy_within(start..moved, start + rest.len());
        self.bytes[start..start + rest.len()].copy_from_slice(rest);

        self.heads.copy_within(at..self.len, at + 1);
        self.heads[at] = head_of(rest);
        self.ends.copy_within(at..self.len, at + 1);
        self.ends[at] = start as u32;
        self.len += 1;
        for end in &mut self.ends[at..self.len] {
            *end += rest.len() as u32;
        }
    }

    /// Takes the key at `at` out.
    pub(crate) fn remove(&mut self, at: usize) {
        let range = self.start(at)..self.ends[at] as usize;
        let gone = range.len() as u32;
        self.bytes.drain(range);
        if self.bytes.capacity() > 2 * self.bytes.len() + SPARE_BYTES {
            self.bytes.shrink_to(self.bytes.len() + SPARE_BYTES);
        }
        self.heads.copy_within(at + 1..self.len, at);
        self.ends.copy_within(at + 1..self.len, at);
        self.len -= 1;
        self.heads[self.len] = u64::MAX;
        for end in &mut self.ends[at..self.len] {
            *end -= gone;
        }
    }

    /// Keeps the keys before `at` and gives the others.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let right = Self::pack(self.iter().skip(at));
        *self = Self::pack(self.iter().take(at));
        right
    }

    /// Takes in keys that are all greater than these.
    pub(crate) fn append<'k>(&mut self, right: impl Iterator<Item = Key<'k>>) {
        let mut keys: Vec<Key<'_>> = self.iter().collect();
        for key in right {
            keys.push(key);
        }
        *self = Self::pack(keys.iter().copied());
    }
}

impl<'k> From<&'k [u8]> for Key<'k> {
    fn from(key: &'k [u8]) -> Self {
        Self {
            shared: &[],
            rest: key,
        }
    }
}

impl Key<'_> {
    pub(crate) fn len(self) -> usize {
        self.shared.len() + self.rest.len()
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        [self.shared, self.rest].concat()
    }

    pub(crate) fn to_boxed(self) -> Box<[u8]> {
        self.to_vec().into()
    }

    /// The key in `buffer`, in place of what was there.
    pub(crate) fn read_into(self, buffer: &mut Vec<u8>) -> &[u8] {
        buffer.clear();
        buffer.extend_from_slice(self.shared);
        buffer.extend_from_slice(self.rest);
        buffer
    }

    pub(crate) fn is_below(self, other: &[u8]) -> bool {
        self.compare(other) == Ordering::Less
    }

    pub(crate) fn is_above(self, other: &[u8]) -> bool {
        self.compare(other) == Ordering::Greater
    }

    fn compare(self, other: &[u8]) -> Ordering {
        match other.split_at_checked(self.shared.len()) {
            Some((start, rest)) => self.shared.cmp(start).then_with(|| self.rest.cmp(rest)),
            None => self.shared.cmp(other),
        }
    }

    /// Appends a range of the key's bytes.
    fn copy(self, range: Range<usize>, out: &mut Vec<u8>) {
        let of = |piece: &[u8], skipped: usize| {
            let clamp = |at: usize| at.saturating_sub(skipped).min(piece.len());
            clamp(range.start)..clamp(range.end)
        };
        out.extend_from_slice(&self.shared[of(self.shared, 0)]);
        out.extend_from_slice(&self.rest[of(self.rest, self.shared.len())]);
    }
}

/// The shortest key above `left` and not above `right`.
pub(crate) fn separator(left: Key<'_>, right: Key<'_>) -> Box<[u8]> {
    let end = (shared_prefix(left, right) + 1).min(right.len());
    let mut separator = Vec::with_capacity(end);
    right.copy(0..end, &mut separator);
    separator.into()
}

/// How many bytes two keys share at their start.
fn shared_prefix(a: Key<'_>, b: Key<'_>) -> usize {
    if a.shared.len() == b.shared.len() && a.shared == b.shared {
        let same = a.rest.iter().zip(b.rest).take_while(|(x, y)| x == y);
        return a.shared.len() + same.count();
    }
    let a = a.shared.iter().chain(a.rest);
    let b = b.shared.iter().chain(b.rest);
    a.zip(b).take_while(|(x, y)| x == y).count()
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

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Vec<u8>),
        Remove(usize),
        SplitOff(usize, bool),
        Append,
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(255u8)];
        let long = (0..40u8).prop_map(|at| format!("/registry/pods/{at:03}").into_bytes());
        prop_oneof![proptest::collection::vec(byte, 0..14), long]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => key().prop_map(Step::Insert),
            2 => (0..KEYS).prop_map(Step::Remove),
            1 => (0..KEYS, any::<bool>()).prop_map(|(at, right)| Step::SplitOff(at, right)),
            1 => Just(Step::Append),
        ]
    }

    fn packed(keys: &[Vec<u8>]) -> Keys {
        Keys::pack(keys.iter().map(|key| Key::from(&key[..])))
    }

    proptest! {
        #[test]
        fn packed_keys_are_as_a_sorted_list(
            steps in proptest::collection::vec(step(), 0..80),
            probes in proptest::collection::vec(key(), 30),
        ) {
            let (mut keys, mut model) = (Keys::default(), Vec::<Vec<u8>>::new());
            for step in steps {
                match step {
                    Step::Insert(key) => if let (Err(at), true) = (model.binary_search(&key), model.len() < KEYS) {
                        prop_assert_eq!(keys.search(&key), Err(at));
                        keys.insert(at, &key);
                        model.insert(at, key);
                    },
                    Step::Remove(at) => if at < model.len() {
                        keys.remove(at);
                        model.remove(at);
                    },
                    Step::SplitOff(at, right) => if at <= model.len() {
                        let other = keys.split_off(at);
                        let other_model = model.split_off(at);
                        if right {
                            (keys, model) = (other, other_model);
                        }
                    },
                    Step::Append => {
                        let more = vec![vec![255; 20], [&[255; 20][..], b"more"].concat()];
                        if model.len() < KEYS - 1 && model.last() < Some(&more[0]) {
                            keys.append(packed(&more).iter());
                            model.extend(more);
                        }
                    }
                }
                prop_assert_eq!(keys.len(), model.len());
                prop_assert_eq!(keys.iter().map(Key::to_vec).collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(keys.whole_bytes(), model.iter().map(Vec::len).sum::<usize>());
            }
            for probe in probes.iter().chain(&model) {
                prop_assert_eq!(keys.search(probe), model.binary_search(probe));
                for (at, key) in model.iter().enumerate() {
                    prop_assert_eq!(keys.get(at).compare(probe), key.cmp(probe));
                }
            }
            for pair in model.windows(2) {
                let separator = separator(Key::from(&pair[0][..]), Key::from(&pair[1][..]));
                prop_assert!(*pair[0] < *separator && *separator <= *pair[1]);
            }
        }
    }
}
