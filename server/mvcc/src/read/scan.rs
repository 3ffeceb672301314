//! Going through a range at one revision, in steps that hold the index lock only briefly.
//!
//! Promises: every key that existed at the revision is met once, in order; between two steps no lock is held and a pin
//! keeps compaction off. Must not know what is done with the keys.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::Error;
use crate::index::{Entry, Leaf, Pass, Version};
use crate::pins::Pin;
use crate::read::span::Span;
use crate::shared::{Index, Shared};

/// Entries looked at in one step.
const STEP_ENTRIES: usize = 192;
/// Bytes copied in one step.
const STEP_BYTES: usize = 64 << 10;

/// A key that existed at the revision of the scan.
pub(crate) struct Found<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) version: &'a Version,
    /// The encoded key-value, if the index has it.
    pub(crate) value: Option<&'a Arc<[u8]>>,
}

/// What the visitor of a scan wants next.
pub(crate) enum Next {
    /// The next key; `0` is the number of bytes that it copied.
    Go(usize),
    /// Nothing: the scan is over.
    Stop,
}

/// The order in which a scan meets the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Smallest first.
    Up,
    /// Greatest first.
    Down,
}

/// A position in a range at a revision.
#[derive(Debug)]
pub(crate) struct Scan<'k> {
    span: Span<'k>,
    at: i64,
    direction: Direction,
    /// Once the first step is done: going up the next key, going down the key that follows the next one at once.
    resume: Option<Vec<u8>>,
    done: bool,
    pin: Option<Pin>,
    /// Bytes copied in one step, at most [`STEP_BYTES`].
    step_bytes: usize,
}

impl<'k> Scan<'k> {
    pub(crate) fn new(span: Span<'k>, at: i64, direction: Direction) -> Self {
        Self {
            span,
            at,
            direction,
            resume: None,
            done: false,
            pin: None,
            step_bytes: STEP_BYTES,
        }
    }

    /// Goes on where another scan of the same range has stopped.
    pub(crate) fn resumed(
        span: Span<'k>,
        at: i64,
        direction: Direction,
        (resume, pin): (Option<Vec<u8>>, Option<Pin>),
        step_bytes: usize,
    ) -> Self {
        Self {
            resume,
            pin,
            step_bytes: step_bytes.clamp(1, STEP_BYTES),
            ..Self::new(span, at, direction)
        }
    }

    /// The position and the claim, for [`Scan::resumed`].
    pub(crate) fn suspend(self) -> (Option<Vec<u8>>, Option<Pin>) {
        (self.resume, self.pin)
    }

    pub(crate) fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// One step under the index lock. A caller that afterwards needs the engine also calls [`Scan::keep`] under it.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        index: &Index,
        visit: &mut dyn FnMut(Found<'_>) -> Next,
    ) -> Result<(), Error> {
        self.check(shared)?;
        let mut budget = Budget {
            entries: STEP_ENTRIES,
            bytes: self.step_bytes,
        };
        if self.span.is_one() {
            if let Some((leaf, at)) = index.tree.find(self.span.from) {
                let _ = self.visit_entry(leaf, at, visit);
            }
            self.done = true;
            return Ok(());
        }
        let resume = self.resume.take();
        let pass = if self.at >= index.tip {
            Pass::DeadSubtrees
        } else {
            Pass::Nothing
        };
        let mut next: Option<Vec<u8>> = None;
        let mut visit_leaf = |leaf: &Leaf, range: Range<usize>| {
            self.visit_leaf(leaf, range, pass, &mut budget, &mut next, visit)
        };
        let (from, to) = (self.span.from, self.span.bound());
        match self.direction {
            Direction::Up => {
                let from = resume.as_deref().unwrap_or(from);
                index.tree.walk(from, to, pass, &mut visit_leaf);
            }
            Direction::Down => {
                let to = resume.as_deref().or(to);
                index.tree.walk_back(from, to, pass, &mut visit_leaf);
            }
        }
        self.done = next.is_none();
        self.resume = next;
        if !self.done {
            self.keep(shared);
        }
        Ok(())
    }

    /// Claims the revision; to be called under the index lock.
    pub(crate) fn keep(&mut self, shared: &Shared) {
        if self.pin.is_none() {
            self.pin = Some(shared.pins.pin(self.at));
        }
    }

    /// Whether the claim still holds.
    pub(crate) fn check(&self, shared: &Shared) -> Result<(), Error> {
        match &self.pin {
            Some(pin) if !pin.holds() => Err(shared.compacted()),
            _ => Ok(()),
        }
    }

    fn visit_leaf(
        &self,
        leaf: &Leaf,
        range: Range<usize>,
        pass: Pass,
        budget: &mut Budget,
        next: &mut Option<Vec<u8>>,
        visit: &mut dyn FnMut(Found<'_>) -> Next,
    ) -> ControlFlow<()> {
        let mut bits = match pass {
            Pass::DeadSubtrees => leaf.live_in(range.start, range.end),
            Pass::Nothing => leaf.all_in(range.start, range.end),
        };
        while bits != 0 {
            let at = match self.direction {
                Direction::Up => bits.trailing_zeros(),
                Direction::Down => bits.ilog2(),
            } as usize;
            bits &= !(1 << at);
            if budget.spent() {
                *next = Some(self.resume_at(&leaf.entries()[at].key));
                return ControlFlow::Break(());
            }
            budget.entries -= 1;
            match self.visit_entry(leaf, at, visit) {
                Next::Go(bytes) => budget.bytes = budget.bytes.saturating_sub(bytes),
                Next::Stop => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    fn resume_at(&self, key: &[u8]) -> Vec<u8> {
        let mut resume = Vec::with_capacity(key.len() + 1);
        resume.extend_from_slice(key);
        if self.direction == Direction::Down {
            resume.push(0);
        }
        resume
    }

    fn visit_entry(
        &self,
        leaf: &Leaf,
        at: usize,
        visit: &mut dyn FnMut(Found<'_>) -> Next,
    ) -> Next {
        let entry = &leaf.entries()[at];
        let is_current = entry.current.main <= self.at;
        let Some(version) = entry.live_at(self.at) else {
            return Next::Go(0);
        };
        let value = entry.value.as_ref().filter(|_| is_current);
        if value.is_some() {
            leaf.touch(at);
        }
        visit(Found {
            entry,
            version,
            value,
        })
    }
}

struct Budget {
    entries: usize,
    bytes: usize,
}

impl Budget {
    fn spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }
}
