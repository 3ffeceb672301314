//! Counting the keys of a range at a revision.
//!
//! Promises: O(log n) at the newest revision; at an older one the leaves are looked into where keys have come or gone
//! since, a few at a time; rewriting a key costs a later count nothing.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::Error;
use crate::index::Leaf;
use crate::pins::Pin;
use crate::read::span::{Span, To};
use crate::shared::{Index, Shared};

/// Leaves taken hold of per lock.
const LEAVES_PER_LOCK: usize = 32;

/// The count at `at` if the subtree counts tell it: at the newest revision, or of a single key.
pub(crate) fn count_now(index: &Index, span: Span<'_>, at: i64) -> Option<i64> {
    if span.is_one() {
        let live = index
            .tree
            .get(span.from)
            .is_some_and(|entry| entry.live_at(at).is_some());
        return Some(i64::from(live));
    }
    (at >= index.tip).then(|| count_tip(index, span))
}

/// The count at the newest write of the index.
fn count_tip(index: &Index, span: Span<'_>) -> i64 {
    let end = match span.to {
        To::Before(end) => index.tree.live_before(end),
        To::First | To::End => index.tree.live(),
    };
    end.saturating_sub(index.tree.live_before(span.from)) as i64
}

impl Shared {
    /// The count at `at`, which `pin` holds. No lock may be held.
    pub(crate) fn count_at(&self, span: Span<'_>, at: i64, pin: &Pin) -> Result<i64, Error> {
        let mut count = 0;
        let mut resume: Option<Vec<u8>> = None;
        loop {
            let mut leaves: Vec<(Arc<Leaf>, Range<usize>)> = Vec::new();
            let mut next = None;
            let mut take = |leaf: &Arc<Leaf>, range: Range<usize>| {
                if leaves.len() == LEAVES_PER_LOCK {
                    next = Some(leaf.key(range.start).to_vec());
                    return ControlFlow::Break(());
                }
                leaves.push((Arc::clone(leaf), range));
                ControlFlow::Continue(())
            };
            let from = resume.as_deref().unwrap_or(span.from);
            let index = self.index.read();
            let (settled, _) = index
                .tree
                .count_settled((from, span.bound()), at, &mut take);
            drop(index);
            count += settled as i64;
            for (leaf, range) in leaves {
                let live = leaf.entries()[range].iter();
                count += live.filter(|entry| entry.live_at(at).is_some()).count() as i64;
            }
            if !pin.holds() {
                return Err(self.compacted());
            }
            resume = next;
            if resume.is_none() {
                return Ok(count);
            }
        }
    }
}
