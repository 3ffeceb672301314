//! The memory engine's ordered map: a B+tree whose nodes are shared until they are changed.
//!
//! Promises: a clone costs one reference count and never changes; a change copies only nodes that
//! a clone still holds. Appends in ascending order fill leaves to the brim. Must not know spaces,
//! batches or files.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::leaf::{LEAF_BYTES, Leaf};
use crate::Visit;

/// Children of an inner node.
const FANOUT: usize = if cfg!(test) { 4 } else { 64 };

/// Memory of a leaf beside its buffers: its node, and its entry and separator in the parent.
const LEAF_OVERHEAD: usize = 128;

/// An ordered map of byte strings.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Arc<Node>,
    size: Size,
}

/// Sums over the leaves of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) leaves: usize,
    /// Bytes of live rows, as a dump writes them.
    pub(super) live: usize,
    /// Bytes of memory held by leaves.
    pub(super) held: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Child `i` holds the keys from `firsts[i]` (for the first child: from the beginning) up to
/// `firsts[i + 1]`. All leaves are equally deep.
#[derive(Clone, Debug, Default)]
struct Inner {
    firsts: Vec<First>,
    children: Vec<Arc<Node>>,
}

/// The lower bound of a child's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct First {
    /// The first eight bytes of the key, which decide most comparisons without a look elsewhere.
    hint: u64,
    key: Box<[u8]>,
}

/// What a node gives its parent when it is full: the node to its right, and that node's bound.
type Split = Option<(First, Arc<Node>)>;

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Leaf::default())),
            size: Size::default(),
        }
    }
}

impl Tree {
    /// Builds a tree of leaves that are not empty and whose keys ascend.
    pub(super) fn from_leaves(leaves: Vec<Leaf>) -> Self {
        let mut size = Size::default();
        let mut level: Vec<(First, Arc<Node>)> = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            size.add(&leaf);
            level.push((First::new(leaf.key(0)), Arc::new(Node::Leaf(leaf))));
        }
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len().div_ceil(FANOUT));
            let mut below = level.into_iter().peekable();
            while let Some((first, _)) = below.peek() {
                let first = first.clone();
                let (firsts, children) = below.by_ref().take(FANOUT).unzip();
                above.push((first, Arc::new(Node::Inner(Inner { firsts, children }))));
            }
            level = above;
        }
        match level.pop() {
            Some((_, root)) => Self { root, size },
            None => Self::default(),
        }
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.get(key),
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
            }
        }
    }

    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) {
        if let Some((first, right)) = insert(&mut self.root, key, value, &mut self.size) {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Leaf::default())));
            self.root = Arc::new(Node::Inner(Inner {
                firsts: vec![First::default(), first],
                children: vec![left, right],
            }));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.get(key).is_some() {
            remove(&mut self.root, key, &mut self.size);
            self.lower_root();
        }
    }

    /// Removes the rows with `from <= key < to`.
    pub(super) fn remove_range(&mut self, from: &[u8], to: &[u8]) {
        if from < to {
            remove_range(&mut self.root, from, to, &mut self.size);
            self.lower_root();
        }
    }

    /// Visits the rows with `from <= key < to` in ascending order until `visit` breaks.
    pub(super) fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> ControlFlow<()> {
        scan(&self.root, from, to, visit)
    }

    /// Visits the leaves that are not empty, in ascending order of their keys.
    pub(super) fn leaves<E>(&self, mut visit: impl FnMut(&Leaf) -> Result<(), E>) -> Result<(), E> {
        leaves(&self.root, &mut visit)
    }

    fn lower_root(&mut self) {
        loop {
            let only_child = match &*self.root {
                Node::Inner(inner) if inner.children.len() <= 1 => inner.children.first().cloned(),
                _ => return,
            };
            self.root = only_child.unwrap_or_else(|| Arc::new(Node::Leaf(Leaf::default())));
        }
    }
}

impl Size {
    fn add(&mut self, leaf: &Leaf) {
        self.rows += leaf.rows();
        self.leaves += 1;
        self.live += leaf.live();
        self.held += leaf.held() + LEAF_OVERHEAD;
    }

    fn subtract(&mut self, leaf: &Leaf) {
        self.rows -= leaf.rows();
        self.leaves -= 1;
        self.live -= leaf.live();
        self.held -= leaf.held() + LEAF_OVERHEAD;
    }

    /// Takes a leaf out before it is changed: a copy on write may hold less than its original.
    fn subtract_leaf(&mut self, node: &Node) {
        match node {
            // The root of an empty tree is not counted.
            Node::Leaf(leaf) if self.leaves > 0 => self.subtract(leaf),
            _ => {}
        }
    }

    fn subtract_all(&mut self, node: &Node) {
        match node {
            Node::Leaf(leaf) => self.subtract(leaf),
            Node::Inner(inner) => {
                for child in &inner.children {
                    self.subtract_all(child);
                }
            }
        }
    }
}

impl First {
    fn new(key: &[u8]) -> Self {
        Self {
            hint: hint(key),
            key: key.into(),
        }
    }
}

/// A number that never orders two keys otherwise than their bytes do.
fn hint(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

impl Inner {
    /// The child whose range `key` is in.
    fn child_of(&self, key: &[u8]) -> usize {
        let hint = hint(key);
        let is_up_to_key =
            |first: &First| first.hint < hint || (first.hint == hint && &*first.key <= key);
        match self.firsts.last() {
            Some(last) if is_up_to_key(last) => self.firsts.len() - 1,
            _ => self.firsts.partition_point(is_up_to_key).saturating_sub(1),
        }
    }

    fn remove_children(&mut self, children: Range<usize>) {
        self.firsts.drain(children.clone());
        self.children.drain(children);
    }

    /// Drops child `index` if it became empty, or merges it with a neighbour if both are small.
    fn tidy(&mut self, index: usize, size: &mut Size) {
        if self.children[index].is_empty() {
            size.subtract_all(&self.children[index]);
            self.remove_children(index..index + 1);
            return;
        }
        if index + 1 < self.children.len() && self.merge(index, size) {
            return;
        }
        if index > 0 {
            self.merge(index - 1, size);
        }
    }

    /// Merges child `left` with the next one where both fit into three quarters of a node.
    fn merge(&mut self, left: usize, size: &mut Size) -> bool {
        let right = left + 1;
        let fits = match (&*self.children[left], &*self.children[right]) {
            (Node::Leaf(a), Node::Leaf(b)) => a.live() + b.live() <= LEAF_BYTES * 3 / 4,
            (Node::Inner(a), Node::Inner(b)) => {
                a.children.len() + b.children.len() <= FANOUT * 3 / 4
            }
            _ => false,
        };
        if !fits {
            return false;
        }
        size.subtract_leaf(&self.children[left]);
        size.subtract_leaf(&self.children[right]);
        let moved = self.children.remove(right);
        let first = self.firsts.remove(right);
        match (Arc::make_mut(&mut self.children[left]), &*moved) {
            (Node::Leaf(a), Node::Leaf(b)) => {
                a.merge(b);
                size.add(a);
            }
            (Node::Inner(a), Node::Inner(b)) => {
                let begin = a.firsts.len();
                a.firsts.extend_from_slice(&b.firsts);
                a.firsts[begin] = first;
                a.children.extend_from_slice(&b.children);
            }
            _ => unreachable!("all leaves are equally deep"),
        }
        true
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.rows() == 0,
            Node::Inner(inner) => inner.children.is_empty(),
        }
    }
}

fn insert(node: &mut Arc<Node>, key: &[u8], value: &[u8], size: &mut Size) -> Split {
    size.subtract_leaf(node);
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let right = insert_into_leaf(leaf, key, value);
            size.add(leaf);
            let right = right?;
            size.add(&right);
            Some((First::new(right.key(0)), Arc::new(Node::Leaf(right))))
        }
        Node::Inner(inner) => {
            let index = inner.child_of(key);
            let (first, right) = insert(&mut inner.children[index], key, value, size)?;
            inner.firsts.insert(index + 1, first);
            inner.children.insert(index + 1, right);
            if inner.children.len() <= FANOUT {
                return None;
            }
            // Where rows are appended the left node stays full.
            let middle = if index + 2 == inner.children.len() {
                FANOUT
            } else {
                FANOUT / 2
            };
            let right = Inner {
                firsts: inner.firsts.split_off(middle),
                children: inner.children.split_off(middle),
            };
            Some((right.firsts[0].clone(), Arc::new(Node::Inner(right))))
        }
    }
}

fn insert_into_leaf(leaf: &mut Leaf, key: &[u8], value: &[u8]) -> Option<Leaf> {
    let index = match leaf.find_to_write(key) {
        Ok(index) if leaf.row(index).1.len() == value.len() || leaf.has_room(key, value) => {
            leaf.replace(index, value);
            return None;
        }
        Ok(index) => {
            leaf.remove(index..index + 1);
            index
        }
        Err(index) => index,
    };
    if leaf.has_room(key, value) {
        leaf.insert(index, key, value);
        return None;
    }
    if index == leaf.rows() {
        leaf.seal();
        let mut right = Leaf::for_appends();
        right.insert(0, key, value);
        return Some(right);
    }
    let middle = leaf.rows() / 2;
    let mut right = leaf.split_off(middle);
    if index <= middle {
        leaf.insert(index, key, value);
    } else {
        right.insert(index - middle, key, value);
    }
    Some(right)
}

fn remove(node: &mut Arc<Node>, key: &[u8], size: &mut Size) {
    size.subtract_leaf(node);
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            if let Ok(index) = leaf.find(key) {
                leaf.remove(index..index + 1);
            }
            size.add(leaf);
        }
        Node::Inner(inner) => {
            let index = inner.child_of(key);
            remove(&mut inner.children[index], key, size);
            inner.tidy(index, size);
        }
    }
}

fn remove_range(node: &mut Arc<Node>, from: &[u8], to: &[u8], size: &mut Size) {
    size.subtract_leaf(node);
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let bound = |key| leaf.find(key).unwrap_or_else(|index| index);
            leaf.remove(bound(from)..bound(to));
            size.add(leaf);
        }
        Node::Inner(inner) => {
            let (first, last) = (inner.child_of(from), inner.child_of(to));
            if first == last {
                remove_range(&mut inner.children[first], from, to, size);
                inner.tidy(first, size);
                return;
            }
            remove_range(&mut inner.children[last], from, to, size);
            remove_range(&mut inner.children[first], from, to, size);
            for covered in &inner.children[first + 1..last] {
                size.subtract_all(covered);
            }
            inner.remove_children(first + 1..last);
            inner.tidy(first + 1, size);
            inner.tidy(first, size);
        }
    }
}

fn scan(node: &Node, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> ControlFlow<()> {
    match node {
        Node::Leaf(leaf) => {
            let bound = |key| leaf.find(key).unwrap_or_else(|index| index);
            for index in bound(from)..to.map_or(leaf.rows(), bound) {
                let (key, value) = leaf.row(index);
                visit(key, value)?;
            }
        }
        Node::Inner(inner) => {
            let last = to.map_or(inner.children.len(), |to| inner.child_of(to) + 1);
            for child in inner.child_of(from)..last {
                scan(&inner.children[child], from, to, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn leaves<E>(node: &Node, visit: &mut impl FnMut(&Leaf) -> Result<(), E>) -> Result<(), E> {
    match node {
        Node::Leaf(leaf) if leaf.rows() == 0 => Ok(()),
        Node::Leaf(leaf) => visit(leaf),
        Node::Inner(inner) => inner
            .children
            .iter()
            .try_for_each(|child| leaves(child, visit)),
    }
}

#[cfg(test)]
mod tests;
