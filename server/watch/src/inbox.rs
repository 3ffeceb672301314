//! What the hub tells a stream: which revisions have something for it.
//!
//! Promises: bounded, whatever the stream does: when it does not read, revisions are not listed any more but only their
//! span is remembered, and the stream looks through all of it later. Must not know events.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::task::Waker;

use parking_lot::Mutex;

/// Revisions that are listed; a stream that has more to read is told their span only.
pub(crate) const MARKS: usize = 256;

/// Shared by the hub, which fills it, and one stream, which empties it.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    pub(crate) tally: Tally,
}

/// A stream's numbers for the metrics. Only the stream changes them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) watchers: AtomicI64,
    pub(crate) live: AtomicI64,
    pub(crate) lagging: AtomicI64,
    pub(crate) events: AtomicU64,
    pub(crate) pending: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    marks: VecDeque<i64>,
    unlisted: Option<Span>,
    waker: Option<Waker>,
}

/// Revisions from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// What is in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// Revisions are listed; this is the first.
    Mark(i64),
    /// None is listed, but these must be looked through.
    Unlisted(Span),
}

impl Inbox {
    /// Adds revisions, in order and above all before, and returns whom to wake.
    pub(crate) fn mark(&self, revisions: &[i64]) -> Option<Waker> {
        let mut state = self.state.lock();
        let State {
            marks, unlisted, ..
        } = &mut *state;
        for &revision in revisions {
            match unlisted {
                Some(span) => span.last = revision,
                None if marks.len() < MARKS => marks.push_back(revision),
                None => {
                    *unlisted = Some(Span {
                        first: revision,
                        last: revision,
                    });
                }
            }
        }
        state.waker.take()
    }

    /// Adds revisions that nobody has matched, above all before, and returns whom to wake.
    pub(crate) fn mark_unmatched(&self, span: Span) -> Option<Waker> {
        let mut state = self.state.lock();
        match &mut state.unlisted {
            Some(known) => known.last = span.last,
            None => state.unlisted = Some(span),
        }
        state.waker.take()
    }

    /// Whom to wake without any news.
    pub(crate) fn waker(&self) -> Option<Waker> {
        self.state.lock().waker.take()
    }

    /// Whether there is more than is listed.
    pub(crate) fn is_behind(&self) -> bool {
        self.state.lock().unlisted.is_some()
    }

    /// What is to be read next.
    pub(crate) fn next(&self) -> Next {
        self.state.lock().next()
    }

    /// Has `waker` woken by the next mark; returns what is there already.
    pub(crate) fn register(&self, waker: &Waker) -> Next {
        let mut state = self.state.lock();
        match &mut state.waker {
            Some(registered) => registered.clone_from(waker),
            None => state.waker = Some(waker.clone()),
        }
        state.next()
    }

    /// Takes all listed revisions, in exchange for an empty list.
    pub(crate) fn take_marks(&self, empty: &mut VecDeque<i64>) {
        debug_assert!(
            empty.is_empty(),
            "marks must be used up before more are taken"
        );
        std::mem::swap(&mut self.state.lock().marks, empty);
    }

    /// Turns `taken` (marks already taken) and everything in the inbox into a span to be looked through from `first` on.
    pub(crate) fn unlist(&self, first: i64, taken: &mut VecDeque<i64>) -> Span {
        let mut state = self.state.lock();
        let listed = state.marks.back().or(taken.back()).copied();
        let last = state
            .unlisted
            .map(|span| span.last)
            .or(listed)
            .unwrap_or(first);
        let span = Span {
            first,
            last: last.max(first),
        };
        state.marks.clear();
        taken.clear();
        state.unlisted = Some(span);
        span
    }

    /// Everything up to `through` has been looked through: what is left of the span, if anything. Once nothing is, marks
    /// are listed again.
    pub(crate) fn looked_through(&self, through: i64) -> Option<Span> {
        let mut state = self.state.lock();
        let span = state.unlisted?;
        state.unlisted = (through < span.last).then_some(Span {
            first: through + 1,
            last: span.last,
        });
        state.unlisted
    }

    /// Throws everything away and returns the last revision that was in it.
    pub(crate) fn clear(&self) -> Option<i64> {
        let mut state = self.state.lock();
        let unlisted = state.unlisted.take().map(|span| span.last);
        let marked = state.marks.back().copied();
        state.marks.clear();
        unlisted.or(marked)
    }
}

impl State {
    fn next(&self) -> Next {
        match (self.marks.front(), self.unlisted) {
            (Some(&mark), _) => Next::Mark(mark),
            (None, Some(span)) => Next::Unlisted(span),
            (None, None) => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_goes_on_as_a_span_until_it_was_looked_through() {
        let inbox = Inbox::default();
        let all: Vec<i64> = (0..MARKS as i64 + 3).map(|at| at * 2).collect();
        inbox.mark(&all);
        let (first, last) = (MARKS as i64 * 2, MARKS as i64 * 2 + 4);
        let mut taken = VecDeque::new();
        inbox.take_marks(&mut taken);
        assert_eq!(taken.len(), MARKS);
        assert_eq!(inbox.next(), Next::Unlisted(Span { first, last }));
        inbox.mark(&[last + 1]);
        let rest = Span {
            first: first + 2,
            last: last + 1,
        };
        assert_eq!(inbox.looked_through(first + 1), Some(rest));
        assert_eq!(inbox.looked_through(last + 1), None);
        inbox.mark(&[last + 7]);
        assert_eq!(inbox.next(), Next::Mark(last + 7), "listed again");
    }

    #[test]
    fn unmatched_revisions_come_after_the_marks_before_them() {
        let inbox = Inbox::default();
        inbox.mark(&[3]);
        inbox.mark_unmatched(Span { first: 4, last: 9 });
        inbox.mark(&[12]);
        let mut taken = VecDeque::new();
        assert_eq!(inbox.next(), Next::Mark(3));
        inbox.take_marks(&mut taken);
        assert_eq!(inbox.next(), Next::Unlisted(Span { first: 4, last: 12 }));
    }

    #[test]
    fn unlisting_covers_marks_taken_and_not_taken() {
        let inbox = Inbox::default();
        inbox.mark(&[3, 5]);
        let mut taken = VecDeque::new();
        inbox.take_marks(&mut taken);
        inbox.mark(&[8]);
        assert_eq!(inbox.unlist(5, &mut taken), Span { first: 5, last: 8 });
        assert!(taken.is_empty());
        assert_eq!(inbox.next(), Next::Unlisted(Span { first: 5, last: 8 }));
        assert_eq!(inbox.clear(), Some(8));
        assert_eq!(inbox.next(), Next::Nothing);

        let inbox = Inbox::default();
        inbox.mark(&[3, 5]);
        inbox.take_marks(&mut taken);
        assert_eq!(inbox.unlist(3, &mut taken), Span { first: 3, last: 5 });
    }
}
