//! Counting the keys of a range at a revision.
//!
//! Promises: O(log n) at the newest revision; at an older one the cost of what was written since, or of a walk over
//! the range, whichever is less.

use std::ops::Range;
use std::sync::Arc;

use crate::Error;
use crate::event::Event;
use crate::pins::Pin;
use crate::read::scan::{Direction, Next, Scan};
use crate::read::span::{Span, To};
use crate::revision::Revision;
use crate::shared::{Index, Shared};

/// Correcting for one change costs as much as walking over so many keys.
const WALKED_PER_CHANGE: u64 = 16;
/// Changes or keys handled per lock.
const STEP: u64 = 128;

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

/// A key that changed, inside its key-value.
type Changed = (Arc<[u8]>, Range<usize>);

impl Shared {
    /// The count at `at`, which `pin` holds. No lock may be held.
    pub(crate) fn count_at(&self, span: Span<'_>, at: i64, pin: &Pin) -> Result<i64, Error> {
        let index = self.index.read();
        if let Some(count) = count_now(&index, span, at) {
            return Ok(count);
        }
        let (tip, count) = (index.tip, count_tip(&index, span));
        let recent = self.recent.read();
        let changes =
            (recent.next() - recent.position(Revision::start_of(at + 1))) + index.open.len() as u64;
        let covered = recent.covered_from() <= at + 1;
        if !covered || changes * WALKED_PER_CHANGE > count as u64 + STEP {
            drop(recent);
            drop(index);
            return self.count_by_walk(span, at, pin);
        }
        let (from, to) = (recent.position(Revision::start_of(at + 1)), recent.next());
        let mut changed: Vec<Changed> = Vec::new();
        collect(span, index.open.iter(), &mut changed);
        drop(recent);
        drop(index);
        self.collect_recent(span, from, to, &mut changed);
        if self.recent.read().covered_from() > at + 1 {
            // Some may have been evicted before they were collected.
            return self.count_by_walk(span, at, pin);
        }
        changed.sort_unstable_by(|a, b| a.0[a.1.clone()].cmp(&b.0[b.1.clone()]));
        changed.dedup_by(|a, b| a.0[a.1.clone()] == b.0[b.1.clone()]);
        let mut count = count;
        for some in changed.chunks(STEP as usize) {
            let index = self.index.read();
            for (kv, key) in some {
                let entry = index.tree.get(&kv[key.clone()]);
                let live = |at| entry.is_some_and(|entry| entry.live_at(at).is_some());
                count += i64::from(live(at)) - i64::from(live(tip));
            }
        }
        self.unless_revoked(pin, count)
    }

    fn collect_recent(&self, span: Span<'_>, from: u64, to: u64, changed: &mut Vec<Changed>) {
        let mut at = from;
        while at < to {
            let recent = self.recent.read();
            let some = (at..to.min(at + STEP)).filter_map(|sequence| recent.get(sequence));
            collect(span, some, changed);
            at += STEP;
        }
    }

    fn count_by_walk(&self, span: Span<'_>, at: i64, pin: &Pin) -> Result<i64, Error> {
        let mut count = 0;
        let mut scan = Scan::new(span, at, Direction::Up);
        while !scan.is_done() {
            scan.step(self, usize::MAX, &mut |_| {
                count += 1;
                Next::Go(0)
            })?;
        }
        self.unless_revoked(pin, count)
    }

    fn unless_revoked(&self, pin: &Pin, count: i64) -> Result<i64, Error> {
        if pin.holds() {
            Ok(count)
        } else {
            Err(self.compacted())
        }
    }
}

fn collect<'e>(
    span: Span<'_>,
    events: impl Iterator<Item = &'e Event>,
    changed: &mut Vec<Changed>,
) {
    for event in events {
        if span.contains(event.key()) {
            changed.push((Arc::clone(&event.kv), event.key_range()));
        }
    }
}
