//! The nodes of the tree: leaves with up to 64 keys and their entries, inner nodes with up to 64 children.
//!
//! Promises: each knows how to find, insert, split and join; a leaf tells live entries from deleted ones by one
//! bit each; a node knows since when none of its keys has come or gone. Must not know versions beyond that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::index::entry::Entry;
use crate::index::keys::{KEYS, Key, Keys, separator};

/// Entries in a leaf: as many as a word has bits.
pub(crate) const LEAF: usize = KEYS;
/// Children of an inner node; there may be one more while it is being split.
pub(crate) const FAN: usize = KEYS;
/// Neighbours are joined when together they are no fuller than this.
const JOINED: usize = 48;
/// Bytes of a node's keys, each by itself: where they are more, a node has fewer of them, so that putting one in moves little.
pub(crate) const NODE_BYTES: usize = 32 << 10;
/// As [`JOINED`], in bytes of keys.
const JOINED_BYTES: usize = 24 << 10;

/// A subtree.
#[derive(Debug)]
pub(crate) enum Node {
    /// Entries. A reader may hold on to a leaf while it goes through it; a writer then changes a copy.
    Leaf(Arc<Leaf>),
    /// Subtrees.
    Inner(Box<Inner>),
}

/// The right half of a node that was split, and the smallest key that may be in it.
pub(crate) type Split = Option<(Box<[u8]>, Node)>;

/// Keys and their entries, in the order of the keys.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    keys: Keys,
    entries: Vec<Entry>,
    /// Bit i: entry i exists now, it is not a deletion.
    live: u64,
    /// The newest main revision at which one of its keys came or went; not above it for a long time after a removal.
    turned: i64,
    /// Bit i: the cached value of entry i was read since the sweep was last here. Readers set it.
    touched: AtomicU64,
    /// Where the key behind the one that was put in last would go.
    next: usize,
}

/// Subtrees sorted by key.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The i-th is above all keys of child i and not above any of child i + 1.
    separators: Keys,
    pub(crate) children: Vec<Node>,
    /// Live entries below each child.
    pub(crate) live: Vec<u64>,
    /// When a key last came or went below each child.
    pub(crate) turned: Vec<i64>,
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            entries: self.entries.clone(),
            live: self.live,
            turned: self.turned,
            touched: AtomicU64::new(self.touched.load(Relaxed)),
            next: self.next,
        }
    }
}

/// The bits below `at`.
fn below(at: usize) -> u64 {
    if at >= LEAF { u64::MAX } else { (1 << at) - 1 }
}

/// Opens a gap of one bit at `at`.
fn open_bit(bits: u64, at: usize, bit: bool) -> u64 {
    let low = bits & below(at);
    let high = bits & !below(at);
    low | high << 1 | u64::from(bit) << at
}

/// Removes the bit at `at`.
fn close_bit(bits: u64, at: usize) -> u64 {
    let low = bits & below(at);
    let high = bits & !below(at + 1);
    low | high >> 1
}

impl Node {
    pub(crate) fn live(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => u64::from(leaf.live.count_ones()),
            Self::Inner(inner) => inner.live.iter().sum(),
        }
    }

    /// The main revision since which no key has come or gone.
    pub(crate) fn turned(&self) -> i64 {
        match self {
            Self::Leaf(leaf) => leaf.turned,
            Self::Inner(inner) => inner.turned.iter().copied().max().unwrap_or(0),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.entries.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    /// Bytes of its keys, each by itself.
    fn key_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.whole_bytes(),
            Self::Inner(inner) => inner.separators.whole_bytes(),
        }
    }

    /// Whether there is no entry below.
    fn is_hollow(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.entries.is_empty(),
            Self::Inner(inner) => inner.children.len() == 1 && inner.children[0].is_hollow(),
        }
    }
}

impl Leaf {
    /// A leaf of sorted keys, at most [`LEAF`], and their entries.
    pub(crate) fn from_sorted<'k>(
        keys: impl DoubleEndedIterator<Item = Key<'k>> + ExactSizeIterator + Clone,
        entries: Vec<Entry>,
    ) -> Self {
        let mut leaf = Self {
            keys: Keys::pack(keys),
            entries,
            ..Self::default()
        };
        leaf.rebuild_turned();
        for (at, entry) in leaf.entries.iter().enumerate() {
            leaf.live |= u64::from(entry.is_live()) << at;
        }
        leaf
    }

    /// The key at `at`.
    pub(crate) fn key(&self, at: usize) -> Key<'_> {
        self.keys.get(at)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `at`, not to be deleted or revived through this.
    pub(crate) fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.entries[at]
    }

    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.keys.search(key)
    }

    /// The bits of the live entries with `from <= index < to`.
    pub(crate) fn live_in(&self, from: usize, to: usize) -> u64 {
        self.live & below(to) & !below(from)
    }

    /// The bits of the entries with `from <= index < to`.
    pub(crate) fn all_in(&self, from: usize, to: usize) -> u64 {
        below(to) & !below(from)
    }

    /// Notes that the cached value of an entry was read.
    pub(crate) fn touch(&self, at: usize) {
        let bit = 1 << at;
        if self.touched.load(Relaxed) & bit == 0 {
            self.touched.fetch_or(bit, Relaxed);
        }
    }

    /// Clears the notes and returns what they were.
    pub(crate) fn take_touched(&mut self) -> u64 {
        std::mem::take(self.touched.get_mut())
    }

    /// Sets the live bit as the entry is now, and returns the change of the number of live entries.
    pub(crate) fn refresh_live(&mut self, at: usize) -> i64 {
        let before = self.live >> at & 1;
        let now = u64::from(self.entries[at].is_live());
        self.live = self.live & !(1 << at) | now << at;
        self.turned = self.turned.max(self.entries[at].current.turned());
        now as i64 - before as i64
    }

    /// The main revision since which no key has come or gone.
    pub(crate) fn turned(&self) -> i64 {
        self.turned
    }

    /// Inserts, splitting when full.
    pub(crate) fn insert(&mut self, at: usize, key: &[u8], entry: Entry) -> Split {
        if self.entries.len() < LEAF {
            self.insert_here(at, key, entry);
            let is_heavy = self.keys.whole_bytes() > NODE_BYTES && self.entries.len() > 1;
            return is_heavy.then(|| {
                let right = self.split_off(self.entries.len() / 2);
                self.split(right)
            });
        }
        // Keys that arrive in order leave full leaves behind them, at the end of the tree and elsewhere: what lies behind
        // them goes, and they go on here.
        let in_order = at == LEAF || at == self.next && at >= LEAF / 2;
        let middle = if in_order { at } else { LEAF / 2 };
        let mut right = self.split_off(middle);
        if at > middle || at == LEAF {
            right.insert_here(at - middle, key, entry);
        } else {
            self.insert_here(at, key, entry);
        }
        Some(self.split(right))
    }

    fn split(&self, right: Self) -> (Box<[u8]>, Node) {
        let separator = separator(self.key(self.entries.len() - 1), right.key(0));
        (separator, Node::Leaf(Arc::new(right)))
    }

    pub(crate) fn remove(&mut self, at: usize) -> Entry {
        self.keys.remove(at);
        self.live = close_bit(self.live, at);
        let touched = self.touched.get_mut();
        *touched = close_bit(*touched, at);
        self.entries.remove(at)
    }

    fn insert_here(&mut self, at: usize, key: &[u8], entry: Entry) {
        self.live = open_bit(self.live, at, entry.is_live());
        self.turned = self.turned.max(entry.current.turned());
        let touched = self.touched.get_mut();
        *touched = open_bit(*touched, at, false);
        self.keys.insert(at, key);
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(8);
        }
        self.entries.insert(at, entry);
        self.next = at + 1;
    }

    fn split_off(&mut self, at: usize) -> Self {
        let touched = self.touched.get_mut();
        let mut right = Self {
            keys: self.keys.split_off(at),
            entries: Vec::with_capacity((self.entries.len() - at + 8).min(LEAF)),
            live: if at < LEAF { self.live >> at } else { 0 },
            touched: AtomicU64::new(if at < LEAF { *touched >> at } else { 0 }),
            ..Self::default()
        };
        *touched &= below(at);
        self.live &= below(at);
        right.entries.extend(self.entries.drain(at..));
        if !right.entries.is_empty() {
            self.entries.shrink_to(at + 8);
            self.rebuild_turned();
            right.rebuild_turned();
        }
        right
    }

    fn rebuild_turned(&mut self) {
        let turned = self.entries.iter().map(|entry| entry.current.turned());
        self.turned = turned.max().unwrap_or(0);
    }

    fn absorb(&mut self, mut right: Self) {
        let at = self.entries.len();
        self.live |= right.live << at;
        self.turned = self.turned.max(right.turned);
        let touched = *right.touched.get_mut();
        *self.touched.get_mut() |= touched << at;
        self.keys.append(right.keys.iter());
        self.entries.append(&mut right.entries);
    }
}

impl Inner {
    /// An inner node over one or more subtrees; there is one separator less than there are children.
    pub(crate) fn new(separators: Keys, children: Vec<Node>) -> Self {
        debug_assert_eq!(separators.len() + 1, children.len());
        let live = children.iter().map(Node::live).collect();
        let turned = children.iter().map(Node::turned).collect();
        Self {
            separators,
            children,
            live,
            turned,
        }
    }

    /// The child that holds `key`, if any does.
    pub(crate) fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The smallest key that the child to the right of `child` may have.
    pub(crate) fn right_fence(&self, child: usize) -> Option<Key<'_>> {
        (child < self.separators.len()).then(|| self.separators.get(child))
    }

    /// Takes in the right half of a child that was split, splitting when full.
    pub(crate) fn insert_split(
        &mut self,
        child: usize,
        separator: Box<[u8]>,
        right: Node,
    ) -> Split {
        let right_live = right.live();
        self.live[child] -= right_live;
        self.turned[child] = self.children[child].turned();
        self.turned.insert(child + 1, right.turned());
        self.children.insert(child + 1, right);
        self.live.insert(child + 1, right_live);
        self.separators.insert(child, &separator);
        let is_heavy = self.separators.whole_bytes() > NODE_BYTES && self.children.len() > 3;
        if self.children.len() <= FAN && !is_heavy {
            return None;
        }
        // As in a leaf: in-order arrival leaves full nodes.
        let middle = match self.children.len() {
            all if child + 2 == all => all - 2,
            all => (all - 1) / 2,
        };
        let right_separators = self.separators.split_off(middle + 1);
        let up = self.separators.get(middle).to_boxed();
        self.separators.remove(middle);
        let right = Self::new(right_separators, self.children.split_off(middle + 1));
        self.live.truncate(middle + 1);
        self.turned.truncate(middle + 1);
        Some((up, Node::Inner(Box::new(right))))
    }

    /// After a removal below `child`: drops it when empty, joins it with a neighbour when both are small.
    pub(crate) fn tidy(&mut self, child: usize) {
        if self.children.len() == 1 {
            return;
        }
        if self.children[child].is_hollow() {
            self.children.remove(child);
            self.live.remove(child);
            self.turned.remove(child);
            let at = child.min(self.separators.len() - 1);
            self.separators.remove(at);
            return;
        }
        let left = child.saturating_sub(1);
        let last = child.min(self.children.len() - 2);
        if let Some(left) = (left..=last).find(|left| self.may_join(*left)) {
            self.join(left);
        }
    }

    /// Whether a child and its right neighbour are small enough to be one.
    fn may_join(&self, left: usize) -> bool {
        let (left, right) = (&self.children[left], &self.children[left + 1]);
        left.len() + right.len() <= JOINED && left.key_bytes() + right.key_bytes() <= JOINED_BYTES
    }

    fn join(&mut self, left: usize) {
        let right = self.children.remove(left + 1);
        let separator = self.separators.get(left).to_boxed();
        self.separators.remove(left);
        self.live[left] += self.live.remove(left + 1);
        self.turned[left] = self.turned[left].max(self.turned.remove(left + 1));
        match (&mut self.children[left], right) {
            (Node::Leaf(leaf), Node::Leaf(right)) => {
                Arc::make_mut(leaf).absorb(Arc::unwrap_or_clone(right));
            }
            (Node::Inner(inner), Node::Inner(mut right)) => {
                let separator = std::iter::once(Key::from(&separator[..]));
                inner
                    .separators
                    .append(separator.chain(right.separators.iter()));
                inner.children.append(&mut right.children);
                inner.live.append(&mut right.live);
                inner.turned.append(&mut right.turned);
            }
            _ => unreachable!("children of one node are of one height"),
        }
    }
}
