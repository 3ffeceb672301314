//! Decides whether answers to concurrent clients could have come from one register that does one thing at a time.
//!
//! The search of Wing and Gong, with Lowe's memory of what was tried: operations are put in an order that respects
//! who had ended before whom, and each answer must be right in that order. Keys are independent, so each is searched
//! alone.

use std::collections::{BTreeMap, HashSet};

/// A register's value; none where the key does not exist.
pub type Value = Option<u64>;

/// What was asked and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set to this.
    Write(u64),
    /// Found this.
    Read(Value),
    /// Set to `to` if it was `from`; whether it was, where that is known.
    Swap {
        /// What was expected.
        from: Value,
        /// What was to be set.
        to: u64,
        /// What was answered.
        done: Option<bool>,
    },
}

/// One operation of a client.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// When it was sent, on a clock that all clients share.
    pub begin: u64,
    /// When the answer came; none where none came: then it may have happened at any later time, or never.
    pub end: Option<u64>,
    /// What it was.
    pub action: Action,
}

impl Action {
    /// The register's next value, if the answer is right for this one.
    fn step(self, value: Value) -> Option<Value> {
        match self {
            Self::Write(new) => Some(Some(new)),
            Self::Read(found) => (found == value).then_some(value),
            Self::Swap { from, to, done } => {
                let fits = from == value;
                let right = done.is_none_or(|done| done == fits);
                right.then_some(if fits { Some(to) } else { value })
            }
        }
    }
}

/// All operations by key.
pub type History = BTreeMap<String, Vec<Operation>>;

/// Beyond so many places in the search it is given up.
const TRIED_MAX: usize = 300_000;

/// The keys whose operations are not linearizable; a register does not exist at first.
pub fn broken_keys(history: &History) -> Vec<&String> {
    keys_judged(history, Some(false))
}

/// The keys of which it would take too long to tell.
pub fn undecided_keys(history: &History) -> Vec<&String> {
    keys_judged(history, None)
}

fn keys_judged(history: &History, judgement: Option<bool>) -> Vec<&String> {
    let found = history
        .iter()
        .filter(|(_, operations)| judge(operations) == judgement);
    found.map(|(key, _)| key).collect()
}

/// Whether the operations of one key have an order in which every answer is right; none when it would take too long
/// to tell, as it can with many operations without an answer.
pub fn judge(operations: &[Operation]) -> Option<bool> {
    let mut search = Search {
        operations,
        done: vec![0; operations.len().div_ceil(64)],
        left: operations.iter().filter(|one| one.end.is_some()).count(),
        tried: HashSet::new(),
    };
    let found = search.go_on(None);
    (found || search.tried.len() < TRIED_MAX).then_some(found)
}

struct Search<'a> {
    operations: &'a [Operation],
    /// A bit for each operation that has its place.
    done: Vec<u64>,
    /// Answered operations without a place.
    left: usize,
    tried: HashSet<(Vec<u64>, Value)>,
}

impl Search<'_> {
    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn go_on(&mut self, value: Value) -> bool {
        // What was never answered need not have happened.
        if self.left == 0 {
            return true;
        }
        let is_new = self.tried.len() < TRIED_MAX && self.tried.insert((self.done.clone(), value));
        if !is_new {
            return false;
        }
        let open = (0..self.operations.len()).filter(|at| !self.is_done(*at));
        let mut open: Vec<usize> = open.collect();
        // What may never have happened comes last.
        open.sort_by_key(|at| self.operations[*at].end.is_none());
        let first_end = open.iter().filter_map(|at| self.operations[*at].end).min();
        for at in open {
            let operation = self.operations[at];
            // Somebody had ended before this began.
            if first_end.is_some_and(|end| end < operation.begin) {
                continue;
            }
            let Some(next) = operation.action.step(value) else {
                continue;
            };
            let answered = usize::from(operation.end.is_some());
            self.done[at / 64] |= 1 << (at % 64);
            self.left -= answered;
            if self.go_on(next) {
                return true;
            }
            self.done[at / 64] &= !(1 << (at % 64));
            self.left += answered;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(begin: u64, end: u64, action: Action) -> Operation {
        Operation {
            begin,
            end: Some(end),
            action,
        }
    }

    #[test]
    fn a_read_sees_the_write_that_ended_before_it() {
        let write = operation(0, 1, Action::Write(7));
        assert_eq!(
            Some(true),
            judge(&[write, operation(2, 3, Action::Read(Some(7)))])
        );
        assert_eq!(
            Some(false),
            judge(&[write, operation(2, 3, Action::Read(None))])
        );
    }

    #[test]
    fn a_read_beside_a_write_may_see_it_or_not_but_not_first_and_then_no_longer() {
        let write = operation(0, 10, Action::Write(7));
        let read = |begin, found| operation(begin, begin + 1, Action::Read(found));
        assert_eq!(Some(true), judge(&[write, read(2, None), read(4, Some(7))]));
        assert_eq!(
            Some(false),
            judge(&[write, read(2, Some(7)), read(4, None)])
        );
    }

    #[test]
    fn a_write_without_an_answer_may_happen_late_or_never() {
        let lost = Operation {
            begin: 0,
            end: None,
            action: Action::Write(7),
        };
        let read = |begin, found| operation(begin, begin + 1, Action::Read(found));
        assert_eq!(Some(true), judge(&[lost, read(2, None), read(4, None)]));
        assert_eq!(Some(true), judge(&[lost, read(2, None), read(4, Some(7))]));
        assert_eq!(Some(false), judge(&[lost, read(2, Some(7)), read(4, None)]));
    }

    #[test]
    fn only_one_of_two_swaps_from_the_same_value_can_succeed() {
        let swap = |to, done| {
            operation(
                0,
                9,
                Action::Swap {
                    from: None,
                    to,
                    done: Some(done),
                },
            )
        };
        assert_eq!(Some(true), judge(&[swap(1, true), swap(2, false)]));
        assert_eq!(Some(false), judge(&[swap(1, true), swap(2, true)]));
        assert_eq!(Some(false), judge(&[swap(1, false), swap(2, false)]));
    }

    #[test]
    fn keys_are_judged_alone() {
        let good = vec![operation(0, 1, Action::Write(1))];
        let bad = vec![operation(0, 1, Action::Read(Some(1)))];
        let history = History::from([("a".to_owned(), good), ("b".to_owned(), bad)]);
        assert_eq!(broken_keys(&history), ["b"]);
    }
}
