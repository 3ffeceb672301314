//! The nodes of the tree: leaves with up to 64 entries, inner nodes with up to 64 children.
//!
//! Promises: each knows how to find, insert, split and join; a leaf tells live entries from deleted ones by one
//! bit each; a node knows since when none of its keys has come or gone. Must not know versions beyond that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::index::entry::Entry;
use crate::index::heads::{HEADS, Heads, shared_prefix};

/// Entries in a leaf: as many as a word has bits.
pub(crate) const LEAF: usize = HEADS;
/// Children of an inner node; there may be one more while it is being split.
pub(crate) const FAN: usize = HEADS;
/// Neighbours are joined when together they are no fuller than this.
const JOINED: usize = 48;

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

/// Entries sorted by key.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    heads: Heads,
    entries: Vec<Entry>,
    /// Bit i: entry i exists now, it is not a deletion.
    live: u64,
    /// The newest main revision at which one of its keys came or went; not above it for a long time after a removal.
    turned: i64,
    /// Bit i: the cached value of entry i was read since the sweep was last here. Readers set it.
    touched: AtomicU64,
}

/// Subtrees sorted by key.
#[derive(Debug)]
pub(crate) struct Inner {
    heads: Heads,
    /// `separators[i]` is above all keys of child i and not above any of child i + 1.
    separators: Vec<Box<[u8]>>,
    pub(crate) children: Vec<Node>,
    /// Live entries below each child.
    pub(crate) live: Vec<u64>,
    /// When a key last came or went below each child.
    pub(crate) turned: Vec<i64>,
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self {
            heads: self.heads.clone(),
            entries: self.entries.clone(),
            live: self.live,
            turned: self.turned,
            touched: AtomicU64::new(self.touched.load(Relaxed)),
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

    /// Whether there is no entry below.
    fn is_hollow(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.entries.is_empty(),
            Self::Inner(inner) => inner.children.len() == 1 && inner.children[0].is_hollow(),
        }
    }
}

impl Leaf {
    /// A leaf of sorted entries, at most [`LEAF`].
    pub(crate) fn from_sorted(entries: Vec<Entry>) -> Self {
        let mut leaf = Self {
            entries,
            ..Self::default()
        };
        leaf.rebuild_heads();
        leaf.rebuild_turned();
        for (at, entry) in leaf.entries.iter().enumerate() {
            leaf.live |= u64::from(entry.is_live()) << at;
        }
        leaf
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `at`, not to be deleted or revived through this.
    pub(crate) fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.entries[at]
    }

    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(key, |at| &self.entries[at].key)
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
    pub(crate) fn insert(&mut self, at: usize, entry: Entry) -> Split {
        if self.entries.len() < LEAF {
            self.insert_here(at, entry);
            return None;
        }
        // Keys that arrive in order leave full leaves behind them.
        let middle = if at == LEAF { LEAF } else { LEAF / 2 };
        let mut right = self.split_off(middle);
        if at >= middle {
            right.insert_here(at - middle, entry);
        } else {
            self.insert_here(at, entry);
        }
        let left_last = &self.entries[self.entries.len() - 1].key;
        let separator = separator(left_last, &right.entries[0].key);
        Some((separator, Node::Leaf(Arc::new(right))))
    }

    pub(crate) fn remove(&mut self, at: usize) -> Entry {
        self.heads.remove(at);
        self.live = close_bit(self.live, at);
        let touched = self.touched.get_mut();
        *touched = close_bit(*touched, at);
        self.entries.remove(at)
    }

    fn insert_here(&mut self, at: usize, entry: Entry) {
        self.live = open_bit(self.live, at, entry.is_live());
        self.turned = self.turned.max(entry.current.turned());
        let touched = self.touched.get_mut();
        *touched = open_bit(*touched, at, false);
        let kept = self.heads.insert(at, &entry.key);
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(8);
        }
        self.entries.insert(at, entry);
        if !kept {
            self.rebuild_heads();
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        let touched = self.touched.get_mut();
        let mut right = Self {
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
            self.rebuild_heads();
            self.rebuild_turned();
            right.rebuild_heads();
            right.rebuild_turned();
        }
        right
    }

    fn rebuild_heads(&mut self) {
        self.heads
            .rebuild(self.entries.iter().map(|entry| &entry.key[..]));
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
        self.entries.append(&mut right.entries);
        self.rebuild_heads();
    }
}

impl Inner {
    /// An inner node over two or more subtrees; `separators` is one shorter than `children`.
    pub(crate) fn new(separators: Vec<Box<[u8]>>, children: Vec<Node>) -> Self {
        debug_assert_eq!(separators.len() + 1, children.len());
        let live = children.iter().map(Node::live).collect();
        let turned = children.iter().map(Node::turned).collect();
        let mut inner = Self {
            heads: Heads::default(),
            separators,
            children,
            live,
            turned,
        };
        inner.rebuild_heads();
        inner
    }

    /// The child that holds `key`, if any does.
    pub(crate) fn child_of(&self, key: &[u8]) -> usize {
        match self.heads.search(key, |at| &self.separators[at]) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The smallest key that the child to the right of `child` may have.
    pub(crate) fn right_fence(&self, child: usize) -> Option<&[u8]> {
        self.separators.get(child).map(|key| &key[..])
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
        let kept = self.heads.insert(child, &separator);
        self.separators.insert(child, separator);
        self.children.insert(child + 1, right);
        self.live.insert(child + 1, right_live);
        if !kept {
            self.rebuild_heads();
        }
        if self.children.len() <= FAN {
            return None;
        }
        // As in a leaf: in-order arrival leaves full nodes.
        let middle = if child + 2 == self.children.len() {
            FAN - 1
        } else {
            FAN / 2
        };
        let right_separators = self.separators.split_off(middle + 1);
        let up = self.separators.pop().expect("a full node has separators");
        let right = Self::new(right_separators, self.children.split_off(middle + 1));
        self.live.truncate(middle + 1);
        self.turned.truncate(middle + 1);
        self.rebuild_heads();
        Some((up, Node::Inner(Box::new(right))))
    }

    /// After a removal below `child`: drops it when empty, joins it with a neighbour when both are small.
    pub(crate) fn tidy(&mut self, child: usize) {
        if self.children[child].is_hollow() && self.children.len() > 1 {
            self.children.remove(child);
            self.live.remove(child);
            self.turned.remove(child);
            let at = child.min(self.separators.len() - 1);
            self.separators.remove(at);
            self.heads.remove(at);
            return;
        }
        let left = child.saturating_sub(1);
        for left in left..=child {
            if left + 1 < self.children.len()
                && self.children[left].len() + self.children[left + 1].len() <= JOINED
            {
                self.join(left);
                return;
            }
        }
    }

    fn join(&mut self, left: usize) {
        let right = self.children.remove(left + 1);
        let separator = self.separators.remove(left);
        self.heads.remove(left);
        self.live[left] += self.live.remove(left + 1);
        self.turned[left] = self.turned[left].max(self.turned.remove(left + 1));
        match (&mut self.children[left], right) {
            (Node::Leaf(leaf), Node::Leaf(right)) => {
                Arc::make_mut(leaf).absorb(Arc::unwrap_or_clone(right));
            }
            (Node::Inner(inner), Node::Inner(mut right)) => {
                inner.separators.push(separator);
                inner.separators.append(&mut right.separators);
                inner.children.append(&mut right.children);
                inner.live.append(&mut right.live);
                inner.turned.append(&mut right.turned);
                inner.rebuild_heads();
            }
            _ => unreachable!("children of one node are of one height"),
        }
    }

    fn rebuild_heads(&mut self) {
        self.heads
            .rebuild(self.separators.iter().map(|key| &key[..]));
    }
}

/// The shortest key above `left` and not above `right`.
pub(crate) fn separator(left: &[u8], right: &[u8]) -> Box<[u8]> {
    right[..(shared_prefix(left, right) + 1).min(right.len())].into()
}
