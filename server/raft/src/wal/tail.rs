//! The newest entries, in memory.

use std::collections::VecDeque;

use super::Entry;

/// The last entries of the log without a hole, up to a number of bytes. Entries that are not in a file
/// yet are kept in any case.
#[derive(Debug)]
pub(super) struct Tail<E> {
    entries: VecDeque<E>,
    /// Index of the first in `entries`, or of the next that will come.
    first: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<E: Entry> Tail<E> {
    pub(super) fn new(next: u64, bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first: next,
            bytes: 0,
            bytes_max,
        }
    }

    /// Index of the first entry that is here.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: E) {
        if self.entries.is_empty() {
            self.first = entry.position().index;
        }
        self.bytes += entry.byte_len();
        self.entries.push_back(entry);
    }

    /// Forgets the entries from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        if next >= self.next() {
            return;
        }
        let keep = usize::try_from(next.saturating_sub(self.first)).expect("below the length");
        self.bytes -= self
            .entries
            .range(keep..)
            .map(Entry::byte_len)
            .sum::<usize>();
        self.entries.truncate(keep);
        self.first = self.first.min(next);
    }

    /// Forgets the entries before `first`.
    pub(super) fn purge(&mut self, first: u64) {
        while self.first < first && self.drop_first() {}
        if self.entries.is_empty() {
            self.first = self.first.max(first);
        }
    }

    /// Gives up the oldest entries until the bytes fit; those from `unwritten` on stay.
    pub(super) fn shrink(&mut self, unwritten: u64) {
        while self.bytes > self.bytes_max && self.first < unwritten && self.drop_first() {}
    }

    fn drop_first(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else {
            return false;
        };
        self.bytes -= entry.byte_len();
        self.first += 1;
        true
    }

    /// Copies `from..to` as far as it is here, which must hold for `from`; stops after `bytes_max`
    /// bytes, but not before the first entry.
    pub(super) fn copy(&self, from: u64, to: u64, bytes_max: usize, out: &mut Vec<E>) {
        let to = to.min(self.next());
        if from < self.first || from >= to {
            return;
        }
        let at = |index: u64| usize::try_from(index - self.first).expect("below the length");
        let range = self.entries.range(at(from)..at(to));
        if bytes_max == usize::MAX {
            out.extend(range.cloned());
            return;
        }
        let mut bytes = 0;
        for entry in range {
            bytes += entry.byte_len();
            if bytes > bytes_max && !out.is_empty() {
                return;
            }
            out.push(entry.clone());
        }
    }
}
