//! What the log says besides its entries: vote, floor, committed, last, and which term each index has.

use super::Error;

/// A place in the log: the order of positions is that of raft, term first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// Whom this member voted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The term of the vote.
    pub term: u64,
    /// The candidate.
    pub member: u64,
    /// A quorum granted it: the candidate is the leader.
    pub granted: bool,
}

/// The state of a log, without its entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The last vote.
    pub vote: Option<Vote>,
    /// Everything up to here is gone.
    pub purged: Option<Position>,
    /// Everything up to here is known to be committed.
    pub committed: Option<Position>,
    /// The last entry; `purged` when there is none.
    pub last: Option<Position>,
    /// Where each term begins, ascending; empty when there is no entry.
    pub(super) runs: Vec<Run>,
}

/// Entries of one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Index of the first.
    pub(super) first: u64,
    pub(super) term: u64,
}

impl History {
    /// Index of the first entry; none when there is no entry.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.runs.first().map(|run| run.first)
    }

    /// The term of the entry at `index`, if there is one.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if self.last.is_none_or(|last| index > last.index) {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        after.checked_sub(1).map(|at| self.runs[at].term)
    }

    /// The last position of each term, ascending.
    pub fn last_of_terms(&self) -> impl Iterator<Item = Position> + '_ {
        let ends = self
            .runs
            .iter()
            .skip(1)
            .map(|run| run.first - 1)
            .chain(self.last.map(|last| last.index));
        self.runs.iter().zip(ends).map(|(run, index)| Position {
            term: run.term,
            index,
        })
    }

    /// The index that comes next; none when the log may begin anywhere.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    pub(super) fn append(&mut self, at: Position) -> Result<(), Error> {
        if let Some(expected) = self.next_index().filter(|expected| *expected != at.index) {
            return Err(Error::Gap {
                expected,
                found: at.index,
            });
        }
        if self.runs.last().is_none_or(|run| run.term != at.term) {
            self.runs.push(Run {
                first: at.index,
                term: at.term,
            });
        }
        self.last = Some(at);
        Ok(())
    }

    /// Forgets the entries after `index`, or all.
    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        let next = index.map_or(0, |index| index + 1);
        if self.last.is_none_or(|last| last.index < next) {
            return;
        }
        self.runs.retain(|run| run.first < next);
        self.last = match (self.runs.last(), index) {
            (Some(run), Some(index)) => Some(Position {
                term: run.term,
                index,
            }),
            _ => self.purged,
        };
    }

    /// Forgets the entries up to `at`; the floor never goes down.
    pub(super) fn purge(&mut self, at: Position) {
        if self.purged.is_some_and(|purged| purged.index >= at.index) {
            return;
        }
        self.purged = Some(at);
        if self.last.is_none_or(|last| last.index <= at.index) {
            self.last = Some(at);
            self.runs.clear();
            return;
        }
        let gone = self
            .runs
            .partition_point(|run| run.first <= at.index + 1)
            .saturating_sub(1);
        self.runs.drain(..gone);
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(at.index + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    fn history(positions: &[(u64, u64)]) -> History {
        let mut history = History::default();
        for (term, index) in positions {
            history.append(at(*term, *index)).unwrap();
        }
        history
    }

    #[test]
    fn terms_are_found_by_index_and_last_positions_by_term() {
        let history = history(&[(1, 5), (1, 6), (3, 7), (4, 8), (4, 9)]);
        assert_eq!(history.term_at(4), None);
        assert_eq!(
            (5..10)
                .map(|index| history.term_at(index).unwrap())
                .collect::<Vec<_>>(),
            [1, 1, 3, 4, 4]
        );
        assert_eq!(history.term_at(10), None);
        assert_eq!(
            history.last_of_terms().collect::<Vec<_>>(),
            [at(1, 6), at(3, 7), at(4, 9)]
        );
    }

    #[test]
    fn a_gap_is_refused() {
        let mut history = history(&[(1, 5)]);
        assert!(matches!(
            history.append(at(1, 7)),
            Err(Error::Gap {
                expected: 6,
                found: 7
            })
        ));
        assert!(history.append(at(1, 5)).is_err());
    }

    #[test]
    fn truncating_goes_back_to_an_earlier_term_or_to_the_floor() {
        let mut history = history(&[(1, 0), (2, 1), (2, 2), (3, 3)]);
        history.truncate_after(Some(7));
        assert_eq!(history.last, Some(at(3, 3)));
        history.truncate_after(Some(1));
        assert_eq!(history.last, Some(at(2, 1)));
        history.truncate_after(Some(0));
        assert_eq!(history.last, Some(at(1, 0)));
        history.truncate_after(None);
        assert_eq!(history, History::default());
    }

    #[test]
    fn purging_keeps_the_term_of_what_remains_and_may_go_past_the_end() {
        let mut history = history(&[(1, 0), (2, 1), (2, 2), (2, 3), (3, 4)]);
        history.purge(at(2, 2));
        assert_eq!(
            (
                history.first_index(),
                history.term_at(3),
                history.term_at(2)
            ),
            (Some(3), Some(2), None)
        );
        history.purge(at(1, 0));
        assert_eq!(history.purged, Some(at(2, 2)));
        history.truncate_after(Some(2));
        assert_eq!(
            (history.last, history.first_index()),
            (Some(at(2, 2)), None)
        );
        history.purge(at(9, 20));
        assert_eq!(
            (history.last, history.purged),
            (Some(at(9, 20)), Some(at(9, 20)))
        );
        history.append(at(9, 21)).unwrap();
        assert_eq!(history.term_at(20), None);
    }
}
