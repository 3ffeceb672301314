//! An ordered map of entries that knows how many of them are live before any key: a B+tree with subtree counts.
//!
//! Promises: finding, inserting, counting are O(log n); counting as of an older revision looks only into the leaves whose keys
//! have come or gone since; a walk passes over subtrees without a live key at once; keys inserted in order leave full nodes. Must not know versions, the engine or locks.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::index::entry::Entry;
use crate::index::keys::{Key, Keys, separator};
use crate::index::node::{FAN, Inner, Leaf, NODE_BYTES, Node, Split};

/// Entries in a leaf that is built in bulk: a few places are left for keys to come.
const BULK_LEAF: usize = 60;

/// The map.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Node,
}

/// What a walk may pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Subtrees without a live entry: right for the newest revision only.
    DeadSubtrees,
    /// Nothing.
    Nothing,
}

/// What a walk calls with each leaf and the entries of it that are in range.
pub(crate) type Visit<'v> = dyn FnMut(&Arc<Leaf>, Range<usize>) -> ControlFlow<()> + 'v;
/// What an edit calls: with the entry to change it, or without one to make it.
pub(crate) type Edit<'e> = dyn FnMut(Option<&mut Entry>) -> Option<Entry> + 'e;

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Node::Leaf(Arc::default()),
        }
    }
}

impl Tree {
    /// Builds the tree bottom-up from entries in ascending order of their keys.
    pub(crate) fn from_sorted<'k>(entries: impl IntoIterator<Item = (&'k [u8], Entry)>) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut separators: Vec<Box<[u8]>> = Vec::new();
        let mut entries = entries.into_iter().peekable();
        let mut last: Option<Key<'_>> = None;
        while let Some((first, _)) = entries.peek() {
            let first = Key::from(*first);
            separators.extend(last.map(|last| separator(last, first)));
            let (mut keys, mut leaf) =
                (Vec::with_capacity(BULK_LEAF), Vec::with_capacity(BULK_LEAF));
            let mut bytes = 0;
            while leaf.len() < BULK_LEAF
                && let Some((key, entry)) = entries.next_if(|(key, _)| {
                    bytes += key.len();
                    keys.is_empty() || bytes <= NODE_BYTES
                })
            {
                keys.push(Key::from(key));
                leaf.push(entry);
            }
            last = keys.last().copied();
            let leaf = Leaf::from_sorted(keys.iter().copied(), leaf);
            nodes.push(Node::Leaf(Arc::new(leaf)));
        }
        while nodes.len() > 1 {
            (nodes, separators) = next_level(nodes, separators);
        }
        nodes.pop().map_or_else(Self::default, |root| Self { root })
    }

    /// How many live entries there are.
    pub(crate) fn live(&self) -> u64 {
        self.root.live()
    }

    /// How many live entries there are before `key`.
    pub(crate) fn live_before(&self, key: &[u8]) -> u64 {
        let mut node = &self.root;
        let mut live = 0;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    live += inner.live[..child].iter().sum::<u64>();
                    node = &inner.children[child];
                }
                Node::Leaf(leaf) => {
                    let at = leaf.search(key).unwrap_or_else(|at| at);
                    return live + u64::from(leaf.live_in(0, at).count_ones());
                }
            }
        }
    }

    /// The leaf that holds `key`, and its place there.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(&Arc<Leaf>, usize)> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Node::Leaf(leaf) => return leaf.search(key).ok().map(|at| (leaf, at)),
            }
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.find(key).map(|(leaf, at)| &leaf.entries()[at])
    }

    /// The entry of `key`, not to be deleted or revived through this.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let (leaf, _) = self.leaf_mut(key);
        let at = leaf.search(key).ok()?;
        Some(Arc::make_mut(leaf).entry_mut(at))
    }

    /// As [`Tree::get_mut`], unless a reader is just going through the leaf.
    pub(crate) fn try_get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let (leaf, _) = self.leaf_mut(key);
        let at = leaf.search(key).ok()?;
        Some(Arc::get_mut(leaf)?.entry_mut(at))
    }

    /// The leaf where `key` is or would be, and the smallest key that the next leaf may have.
    pub(crate) fn leaf_mut(&mut self, key: &[u8]) -> (&mut Arc<Leaf>, Option<Box<[u8]>>) {
        let mut node = &mut self.root;
        let mut fence: Option<Box<[u8]>> = None;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_of(key);
                    if let Some(right) = inner.right_fence(child) {
                        fence = Some(right.to_boxed());
                    }
                    node = &mut inner.children[child];
                }
                Node::Leaf(leaf) => return (leaf, fence),
            }
        }
    }

    /// Changes the entry of `key`, or makes it: `edit` gets the entry, if there is one, and otherwise may return one.
    pub(crate) fn edit(&mut self, key: &[u8], edit: &mut Edit<'_>) {
        if let Some((separator, right)) = edit_below(&mut self.root, key, edit).split {
            let left = std::mem::take(self).root;
            let separator = Keys::pack(std::iter::once(Key::from(&separator[..])));
            self.root = Node::Inner(Box::new(Inner::new(separator, vec![left, right])));
        }
    }

    /// Removes an entry altogether.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let removed = remove_below(&mut self.root, key);
        while let Node::Inner(inner) = &mut self.root {
            if inner.children.len() > 1 {
                break;
            }
            let Some(child) = inner.children.pop() else {
                break;
            };
            self.root = child;
        }
        removed
    }

    /// Visits the entries with `from <= key`, and `key < to` if given, leaf by leaf in order; says whether `visit` has
    /// ended it.
    pub(crate) fn walk(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        pass: Pass,
        visit: &mut Visit<'_>,
    ) -> ControlFlow<()> {
        told(walk_below(&self.root, Some(from), to, pass, visit))
    }

    /// Counts the entries with `from <= key`, and `key < to` if given, that were live at main revision `at`, as far as the
    /// live ones of now tell; visits the leaves where keys have come or gone since, in order. When `visit` ends it, what
    /// lies before that leaf has been counted.
    pub(crate) fn count_settled(
        &self,
        (from, to): (&[u8], Option<&[u8]>),
        at: i64,
        visit: &mut Visit<'_>,
    ) -> (u64, ControlFlow<()>) {
        let mut counted = 0;
        let mut look = |leaf: &Arc<Leaf>, range: Range<usize>| {
            if leaf.turned() > at {
                return visit(leaf, range);
            }
            counted += u64::from(leaf.live_in(range.start, range.end).count_ones());
            ControlFlow::Continue(())
        };
        let mut settled = 0;
        let flow = count_below(&self.root, (Some(from), to), at, &mut settled, &mut look);
        (counted + settled, told(flow))
    }

    /// As [`Tree::walk`], with the leaves in descending order.
    pub(crate) fn walk_back(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        pass: Pass,
        visit: &mut Visit<'_>,
    ) -> ControlFlow<()> {
        told(walk_back_below(&self.root, from, to, pass, visit))
    }
}

fn next_level(nodes: Vec<Node>, separators: Vec<Box<[u8]>>) -> (Vec<Node>, Vec<Box<[u8]>>) {
    let mut parents = Vec::with_capacity(nodes.len() / FAN + 1);
    let mut between = Vec::with_capacity(nodes.len() / FAN);
    let mut nodes = nodes.into_iter().peekable();
    let mut separators = separators.into_iter();
    while nodes.peek().is_some() {
        let children: Vec<_> = nodes.by_ref().take(FAN).collect();
        let inside: Vec<_> = separators.by_ref().take(children.len() - 1).collect();
        let inside = Keys::pack(inside.iter().map(|key| Key::from(&key[..])));
        parents.push(Node::Inner(Box::new(Inner::new(inside, children))));
        between.extend(separators.next());
    }
    (parents, between)
}

/// What an edit has done to a subtree.
struct Edited {
    /// How many live entries there are more.
    live: i64,
    /// When a key last came or went.
    turned: i64,
    split: Split,
}

fn edit_below(node: &mut Node, key: &[u8], edit: &mut Edit<'_>) -> Edited {
    match node {
        Node::Leaf(leaf) => match leaf.search(key) {
            Ok(at) => {
                let leaf = Arc::make_mut(leaf);
                let made = edit(Some(leaf.entry_mut(at)));
                debug_assert!(made.is_none(), "the key has its entry");
                Edited {
                    live: leaf.refresh_live(at),
                    turned: leaf.turned(),
                    split: None,
                }
            }
            Err(at) => {
                let entry = edit(None);
                let live = entry.as_ref().map_or(0, |entry| i64::from(entry.is_live()));
                let turned = entry.as_ref().map_or(0, |entry| entry.current.turned());
                let split = entry.and_then(|entry| Arc::make_mut(leaf).insert(at, key, entry));
                Edited {
                    live,
                    turned,
                    split,
                }
            }
        },
        Node::Inner(inner) => {
            let child = inner.child_of(key);
            let edited = edit_below(&mut inner.children[child], key, edit);
            if edited.live != 0 {
                inner.live[child] = inner.live[child].wrapping_add_signed(edited.live);
                inner.turned[child] = inner.turned[child].max(edited.turned);
            }
            let split = edited.split;
            Edited {
                split: split.and_then(|(key, right)| inner.insert_split(child, key, right)),
                ..edited
            }
        }
    }
}

fn remove_below(node: &mut Node, key: &[u8]) -> Option<Entry> {
    match node {
        Node::Leaf(leaf) => {
            let at = leaf.search(key).ok()?;
            Some(Arc::make_mut(leaf).remove(at))
        }
        Node::Inner(inner) => {
            let child = inner.child_of(key);
            let removed = remove_below(&mut inner.children[child], key)?;
            inner.live[child] -= u64::from(removed.is_live());
            inner.tidy(child);
            Some(removed)
        }
    }
}

/// Why a walk ends before the end of the tree.
enum Ended {
    /// The range ends.
    Range,
    /// The visitor has had enough.
    Visitor,
}

fn told(ended: ControlFlow<Ended>) -> ControlFlow<()> {
    match ended {
        ControlFlow::Break(Ended::Visitor) => ControlFlow::Break(()),
        ControlFlow::Break(Ended::Range) | ControlFlow::Continue(()) => ControlFlow::Continue(()),
    }
}

fn walk_below(
    node: &Node,
    from: Option<&[u8]>,
    to: Option<&[u8]>,
    pass: Pass,
    visit: &mut Visit<'_>,
) -> ControlFlow<Ended> {
    match node {
        Node::Leaf(leaf) => {
            let entries = leaf.entries().len();
            let start = from.map_or(0, |key| leaf.search(key).unwrap_or_else(|at| at));
            let end = match to {
                Some(to) if entries > 0 && !leaf.key(entries - 1).is_below(to) => {
                    leaf.search(to).unwrap_or_else(|at| at)
                }
                _ => entries,
            };
            if start < end {
                visit(leaf, start..end).map_break(|()| Ended::Visitor)?;
            }
            if end < entries {
                return ControlFlow::Break(Ended::Range);
            }
        }
        Node::Inner(inner) => {
            let first = from.map_or(0, |key| inner.child_of(key));
            for child in first..inner.children.len() {
                if child > first
                    && let (Some(to), Some(fence)) = (to, inner.right_fence(child - 1))
                    && !fence.is_below(to)
                {
                    return ControlFlow::Break(Ended::Range);
                }
                if pass == Pass::DeadSubtrees && inner.live[child] == 0 {
                    continue;
                }
                let from = from.filter(|_| child == first);
                walk_below(&inner.children[child], from, to, pass, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}

/// As [`walk_below`], but subtrees that lie in the range and where no key has come or gone since `at` are counted instead.
fn count_below(
    node: &Node,
    (from, to): (Option<&[u8]>, Option<&[u8]>),
    at: i64,
    counted: &mut u64,
    visit: &mut Visit<'_>,
) -> ControlFlow<Ended> {
    let Node::Inner(inner) = node else {
        return walk_below(node, from, to, Pass::Nothing, visit);
    };
    let first = from.map_or(0, |key| inner.child_of(key));
    for child in first..inner.children.len() {
        if child > first
            && let (Some(to), Some(fence)) = (to, inner.right_fence(child - 1))
            && !fence.is_below(to)
        {
            return ControlFlow::Break(Ended::Range);
        }
        let from = from.filter(|_| child == first);
        let ends_inside = to.is_none_or(|to| {
            inner
                .right_fence(child)
                .is_some_and(|fence| !fence.is_above(to))
        });
        if from.is_none() && ends_inside && inner.turned[child] <= at {
            *counted += inner.live[child];
            continue;
        }
        count_below(&inner.children[child], (from, to), at, counted, visit)?;
    }
    ControlFlow::Continue(())
}

fn walk_back_below(
    node: &Node,
    from: &[u8],
    to: Option<&[u8]>,
    pass: Pass,
    visit: &mut Visit<'_>,
) -> ControlFlow<Ended> {
    match node {
        Node::Leaf(leaf) => {
            let end = to.map_or(leaf.entries().len(), |key| {
                leaf.search(key).unwrap_or_else(|at| at)
            });
            let start = leaf.search(from).unwrap_or_else(|at| at);
            if start < end {
                visit(leaf, start..end).map_break(|()| Ended::Visitor)?;
            }
            if start > 0 {
                return ControlFlow::Break(Ended::Range);
            }
        }
        Node::Inner(inner) => {
            let last = to.map_or(inner.children.len() - 1, |key| inner.child_of(key));
            for child in (0..=last).rev() {
                if child < last
                    && inner
                        .right_fence(child)
                        .is_some_and(|fence| !fence.is_above(from))
                {
                    return ControlFlow::Break(Ended::Range);
                }
                if pass == Pass::DeadSubtrees && inner.live[child] == 0 {
                    continue;
                }
                let to = to.filter(|_| child == last);
                walk_back_below(&inner.children[child], from, to, pass, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}
