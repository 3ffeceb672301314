//! An ordered set of ranges that finds those around a key.
//!
//! A balanced (AVL) tree by start and end, in which every node knows the furthest end below it. Promises: `insert`,
//! `remove` and `find` take O(log n), `stab` O(log n) for each range that it finds. Must not know watches.

use std::cmp::Ordering;
use std::sync::Arc;

/// No node.
const NONE: u32 = u32::MAX;

/// A tree of ranges `[from, to)`, each with a number; `to` of `None` is unbounded.
#[derive(Debug)]
pub(crate) struct Intervals {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
}

#[derive(Debug)]
struct Node {
    from: Arc<[u8]>,
    to: Option<Arc<[u8]>>,
    value: u32,
    left: u32,
    right: u32,
    height: u8,
    /// The node of this subtree whose range ends last.
    furthest: u32,
}

impl Intervals {
    pub(crate) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }

    /// Adds a range that is not in the tree yet.
    pub(crate) fn insert(&mut self, from: Arc<[u8]>, to: Option<Arc<[u8]>>, value: u32) {
        let node = Node {
            from,
            to,
            value,
            left: NONE,
            right: NONE,
            height: 1,
            furthest: 0,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer ranges than 2^32")
            }
        };
        self.nodes[at as usize].furthest = at;
        self.root = self.insert_below(self.root, at);
    }

    /// Removes a range.
    pub(crate) fn remove(&mut self, from: &[u8], to: Option<&[u8]>) {
        let mut removed = NONE;
        self.root = self.remove_below(self.root, from, to, &mut removed);
        if removed != NONE {
            let node = &mut self.nodes[removed as usize];
            node.from = Arc::default();
            node.to = None;
            self.free.push(removed);
        }
    }

    /// The number of exactly this range.
    pub(crate) fn find(&self, from: &[u8], to: Option<&[u8]>) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            at = match order(from, to, &node.from, node.to.as_deref()) {
                Ordering::Equal => return Some(node.value),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// Calls `hit` with the number of every range that has `key` inside.
    pub(crate) fn stab(&self, key: &[u8], hit: &mut impl FnMut(u32)) {
        self.stab_below(self.root, key, hit);
    }

    fn stab_below(&self, mut at: u32, key: &[u8], hit: &mut impl FnMut(u32)) {
        while at != NONE {
            let node = &self.nodes[at as usize];
            let furthest = &self.nodes[node.furthest as usize];
            if !ends_beyond(furthest.to.as_deref(), key) {
                return;
            }
            self.stab_below(node.left, key, hit);
            if &*node.from > key {
                return;
            }
            if ends_beyond(node.to.as_deref(), key) {
                hit(node.value);
            }
            at = node.right;
        }
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let (here, node) = (&self.nodes[at as usize], &self.nodes[new as usize]);
        if order(
            &node.from,
            node.to.as_deref(),
            &here.from,
            here.to.as_deref(),
        ) == Ordering::Less
        {
            let left = self.insert_below(here.left, new);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.insert_below(here.right, new);
            self.nodes[at as usize].right = right;
        }
        self.balance(at)
    }

    fn remove_below(&mut self, at: u32, from: &[u8], to: Option<&[u8]>, removed: &mut u32) -> u32 {
        if at == NONE {
            return NONE;
        }
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        match order(from, to, &node.from, node.to.as_deref()) {
            Ordering::Less => {
                let left = self.remove_below(left, from, to, removed);
                self.nodes[at as usize].left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(right, from, to, removed);
                self.nodes[at as usize].right = right;
            }
            Ordering::Equal => {
                *removed = at;
                if right == NONE {
                    return left;
                }
                let (heir, rest) = self.detach_first(right);
                self.nodes[heir as usize].left = left;
                self.nodes[heir as usize].right = rest;
                return self.balance(heir);
            }
        }
        self.balance(at)
    }

    /// Takes the first node out of a subtree: that node, and what is left.
    fn detach_first(&mut self, at: u32) -> (u32, u32) {
        let node = &self.nodes[at as usize];
        if node.left == NONE {
            return (at, node.right);
        }
        let (first, rest) = self.detach_first(node.left);
        self.nodes[at as usize].left = rest;
        (first, self.balance(at))
    }

    fn balance(&mut self, at: u32) -> u32 {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        if self.height(left) > self.height(right) + 1 {
            if self.height(self.nodes[left as usize].right)
                > self.height(self.nodes[left as usize].left)
            {
                self.nodes[at as usize].left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        if self.height(right) > self.height(left) + 1 {
            if self.height(self.nodes[right as usize].left)
                > self.height(self.nodes[right as usize].right)
            {
                self.nodes[at as usize].right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        self.refresh(at);
        at
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].right;
        self.nodes[at as usize].right = self.nodes[up as usize].left;
        self.nodes[up as usize].left = at;
        self.refresh(at);
        self.refresh(up);
        up
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].left;
        self.nodes[at as usize].left = self.nodes[up as usize].right;
        self.nodes[up as usize].right = at;
        self.refresh(at);
        self.refresh(up);
        up
    }

    fn height(&self, at: u32) -> u8 {
        if at == NONE {
            0
        } else {
            self.nodes[at as usize].height
        }
    }

    /// Computes again what a node says about its subtree.
    fn refresh(&mut self, at: u32) {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        let mut furthest = at;
        for child in [left, right] {
            if child != NONE {
                let candidate = self.nodes[child as usize].furthest;
                let (best, other) = (
                    &self.nodes[furthest as usize].to,
                    &self.nodes[candidate as usize].to,
                );
                if ends_later(other.as_deref(), best.as_deref()) {
                    furthest = candidate;
                }
            }
        }
        let height = 1 + self.height(left).max(self.height(right));
        let node = &mut self.nodes[at as usize];
        node.furthest = furthest;
        node.height = height;
    }
}

/// Whether a range with this end goes on beyond `key`.
fn ends_beyond(to: Option<&[u8]>, key: &[u8]) -> bool {
    to.is_none_or(|to| key < to)
}

/// Whether the first end is later than the second.
fn ends_later(to: Option<&[u8]>, than: Option<&[u8]>) -> bool {
    match (to, than) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(to), Some(than)) => to > than,
    }
}

fn order(from: &[u8], to: Option<&[u8]>, other_from: &[u8], other_to: Option<&[u8]>) -> Ordering {
    from.cmp(other_from).then_with(|| to.cmp(&other_to))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Intervals {
        /// Checks order-independent invariants of the whole tree and returns its height.
        fn check(&self, at: u32) -> u8 {
            if at == NONE {
                return 0;
            }
            let node = &self.nodes[at as usize];
            let (left, right) = (self.check(node.left), self.check(node.right));
            assert!(left.abs_diff(right) <= 1, "unbalanced");
            assert_eq!(node.height, 1 + left.max(right));
            let furthest = self.nodes[node.furthest as usize].to.as_deref();
            for other in [at, node.left, node.right] {
                if other != NONE {
                    assert!(!ends_later(
                        self.nodes[other as usize].to.as_deref(),
                        furthest
                    ));
                }
            }
            node.height
        }
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_list_finds(
            steps in prop::collection::vec((any::<bool>(), 0u8..12, 0u8..14), 1..200),
        ) {
            let mut tree = Intervals::new();
            let mut list: BTreeMap<(u8, Option<u8>), u32> = BTreeMap::new();
            for (number, (add, from, to)) in steps.into_iter().enumerate() {
                let to = (to < 13).then_some(to);
                let bounds = ([from], to.map(|to| [to]));
                let end = bounds.1.as_ref().map(|to| &to[..]);
                if add {
                    if list.contains_key(&(from, to)) {
                        continue;
                    }
                    list.insert((from, to), number as u32);
                    tree.insert(bounds.0[..].into(), end.map(Into::into), number as u32);
                } else {
                    list.remove(&(from, to));
                    tree.remove(&bounds.0, end);
                }
                tree.check(tree.root);
                prop_assert_eq!(tree.find(&bounds.0, end), list.get(&(from, to)).copied());
                for key in 0u8..14 {
                    let mut found = Vec::new();
                    tree.stab(&[key], &mut |value| found.push(value));
                    found.sort_unstable();
                    let mut expected: Vec<_> = list
                        .iter()
                        .filter(|((from, to), _)| *from <= key && to.is_none_or(|to| key < to))
                        .map(|(_, value)| *value)
                        .collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
