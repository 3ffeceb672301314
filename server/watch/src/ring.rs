//! The newest commits, shared by all streams.
//!
//! Promises: holds an unbroken run of revisions within a budget of bytes, and at least the newest commit. Costs nothing
//! to those who do not read it. Must not know watches.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::history::Commit;

/// An unbroken run of commits up to the newest.
#[derive(Debug)]
pub(crate) struct Ring {
    commits: VecDeque<Arc<Commit>>,
    /// The revision of the first commit, or of the next one when there is none.
    first: i64,
    bytes: usize,
    budget: usize,
}

impl Ring {
    /// Empty; `next` is the revision that it expects.
    pub(crate) fn new(next: i64, budget: usize) -> Self {
        Self {
            commits: VecDeque::new(),
            first: next,
            bytes: 0,
            budget,
        }
    }

    /// Forgets everything and expects `next`.
    pub(crate) fn reset(&mut self, next: i64) {
        self.commits = VecDeque::new();
        self.first = next;
        self.bytes = 0;
    }

    /// The revision after the last one here.
    fn next(&self) -> i64 {
        self.first + self.commits.len() as i64
    }

    /// Adds a commit; one that does not follow the last starts the run anew.
    pub(crate) fn push(&mut self, commit: Arc<Commit>) {
        if commit.revision != self.next() {
            self.reset(commit.revision);
        }
        self.bytes += commit.bytes;
        self.commits.push_back(commit);
        while self.bytes > self.budget && self.commits.len() > 1 {
            if let Some(oldest) = self.commits.pop_front() {
                self.bytes -= oldest.bytes;
                self.first += 1;
            }
        }
    }

    pub(crate) fn get(&self, revision: i64) -> Option<&Arc<Commit>> {
        let at = usize::try_from(revision.checked_sub(self.first)?).ok()?;
        self.commits.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(revision: i64) -> Arc<Commit> {
        Arc::new(Commit {
            revision,
            bytes: 10,
            changes: Box::new([]),
        })
    }

    #[test]
    fn the_oldest_go_when_the_budget_is_exceeded() {
        let mut ring = Ring::new(5, 30);
        assert_eq!((ring.first, ring.next()), (5, 5));
        (5..10).for_each(|revision| ring.push(commit(revision)));
        assert_eq!((ring.first, ring.next()), (7, 10));
        assert!(ring.get(6).is_none());
        assert_eq!(ring.get(7).map(|commit| commit.revision), Some(7));
        assert_eq!(ring.get(9).map(|commit| commit.revision), Some(9));
        assert!(ring.get(10).is_none());
    }

    #[test]
    fn the_newest_stays_however_large_it_is() {
        let mut ring = Ring::new(2, 5);
        ring.push(commit(2));
        ring.push(commit(3));
        assert_eq!((ring.first, ring.next()), (3, 4));
    }

    #[test]
    fn a_gap_starts_the_run_anew() {
        let mut ring = Ring::new(2, 100);
        ring.push(commit(2));
        ring.push(commit(8));
        assert_eq!((ring.first, ring.next()), (8, 9));
        assert!(ring.get(2).is_none());
    }
}
