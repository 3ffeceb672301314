//! The key index: every key with its versions, in order, in memory.
//!
//! Promises: get, put and count in O(log n); metadata per key of constant size. Must not know the engine or locks.

mod entry;
mod keys;
mod node;
mod older;
mod tree;
#[cfg(test)]
mod tree_tests;
mod write;

pub(crate) use entry::{Entry, Version};
pub(crate) use keys::{Key, head_of};
pub(crate) use node::Leaf;
pub(crate) use older::Older;
pub(crate) use tree::{Pass, Tree};
