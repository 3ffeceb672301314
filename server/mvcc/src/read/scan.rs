//! Going through a range at one revision, in steps that hold the index lock only to find the leaves.
//!
//! Promises: every key that existed at the revision is met once, in order; no lock is held while keys are looked at, so
//! that a reader that is not running holds up nobody; a pin keeps compaction off. Must not know what is done with the
//! keys.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::Error;
use crate::index::{Entry, Key, Leaf, Pass, Version};
use crate::pins::Pin;
use crate::read::span::Span;
use crate::shared::{Index, Shared};

/// Entries in the leaves of one step, about.
const STEP_ENTRIES: usize = 256;
/// Bytes copied in one step.
const STEP_BYTES: usize = 64 << 10;

/// A key that existed at the revision of the scan.
pub(crate) struct Found<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) entry: &'a Entry,
    pub(crate) version: &'a Version,
    /// The encoded key-value, if the index has it.
    pub(crate) value: Option<&'a Arc<[u8]>>,
}

/// What the visitor of a scan wants next.
pub(crate) enum Next {
    /// The next key, after having copied so many bytes.
    Go(usize),
    /// Nothing: the scan is over.
    Stop,
}

/// What a scan calls with each key.
pub(crate) type Visit<'v> = dyn FnMut(Found<'_>) -> Next + 'v;

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
    /// Once the first step is done: going up the next key that may be met, going down the first that may not.
    resume: Option<Vec<u8>>,
    done: bool,
    pin: Option<Pin>,
    /// Bytes copied in one step, at most [`STEP_BYTES`].
    step_bytes: usize,
    /// What the next look goes through.
    leaves: Vec<(Arc<Leaf>, Range<usize>)>,
    pass: Pass,
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
            leaves: Vec::new(),
            pass: Pass::Nothing,
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

    /// Whether the claim still holds.
    pub(crate) fn check(&self, shared: &Shared) -> Result<(), Error> {
        match &self.pin {
            Some(pin) if !pin.holds() => Err(shared.compacted()),
            _ => Ok(()),
        }
    }

    /// Claims the revision; to be called under the index lock.
    pub(crate) fn keep(&mut self, shared: &Shared) {
        if self.pin.is_none() {
            self.pin = Some(shared.pins.pin(self.at));
        }
    }

    /// Takes the next step: about `wanted` keys at most.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        wanted: usize,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        self.grab(shared, &shared.index.read(), wanted)?;
        self.look(visit);
        Ok(())
    }

    /// The first half of a step, under the index lock: takes hold of the leaves, and claims the revision if the engine
    /// or another step may be needed.
    pub(crate) fn grab(
        &mut self,
        shared: &Shared,
        index: &Index,
        wanted: usize,
    ) -> Result<(), Error> {
        self.check(shared)?;
        if self.span.is_one() {
            if let Some((leaf, at)) = index.tree.find(self.span.from) {
                let entry = &leaf.entries()[at];
                if entry.current.main > self.at || entry.value.is_none() {
                    self.keep(shared);
                }
                self.leaves.push((Arc::clone(leaf), at..at + 1));
            }
            return Ok(());
        }
        self.keep(shared);
        self.pass = if self.at >= index.tip {
            Pass::DeadSubtrees
        } else {
            Pass::Nothing
        };
        let mut entries = 0;
        let leaves = &mut self.leaves;
        let mut take = |leaf: &Arc<Leaf>, range: Range<usize>| {
            if entries >= wanted.min(STEP_ENTRIES) {
                return ControlFlow::Break(());
            }
            entries += range.len();
            leaves.push((Arc::clone(leaf), range));
            ControlFlow::Continue(())
        };
        let (from, to) = (self.span.from, self.span.bound());
        let resume = self.resume.take();
        let flow = match self.direction {
            Direction::Up => {
                let from = resume.as_deref().unwrap_or(from);
                index.tree.walk(from, to, self.pass, &mut take)
            }
            Direction::Down => {
                let to = resume.as_deref().or(to);
                index.tree.walk_back(from, to, self.pass, &mut take)
            }
        };
        if flow.is_break()
            && let Some((leaf, range)) = self.leaves.last()
        {
            self.resume = Some(match self.direction {
                Direction::Up => after(leaf.key(range.end - 1)),
                Direction::Down => leaf.key(range.start).to_vec(),
            });
        }
        Ok(())
    }

    /// The second half of a step, without the lock: meets the keys.
    pub(crate) fn look(&mut self, visit: &mut Visit<'_>) {
        let mut bytes = self.step_bytes;
        let leaves = std::mem::take(&mut self.leaves);
        for (leaf, range) in &leaves {
            let mut bits = match self.pass {
                Pass::DeadSubtrees => leaf.live_in(range.start, range.end),
                Pass::Nothing => leaf.all_in(range.start, range.end),
            };
            while bits != 0 {
                let at = match self.direction {
                    Direction::Up => bits.trailing_zeros(),
                    Direction::Down => bits.ilog2(),
                } as usize;
                bits &= !(1 << at);
                if bytes == 0 {
                    let key = leaf.key(at);
                    self.resume = Some(match self.direction {
                        Direction::Up => key.to_vec(),
                        Direction::Down => after(key),
                    });
                    return;
                }
                match self.meet(leaf, at, visit) {
                    Next::Go(copied) => bytes = bytes.saturating_sub(copied),
                    Next::Stop => {
                        self.done = true;
                        return;
                    }
                }
            }
        }
        self.done = self.resume.is_none();
    }

    fn meet(&self, leaf: &Leaf, at: usize, visit: &mut Visit<'_>) -> Next {
        let entry = &leaf.entries()[at];
        let Some(version) = entry.live_at(self.at) else {
            return Next::Go(0);
        };
        let is_current = entry.current.main <= self.at;
        let value = entry.value.as_ref().filter(|_| is_current);
        if value.is_some() {
            leaf.touch(at);
        }
        visit(Found {
            key: leaf.key(at),
            entry,
            version,
            value,
        })
    }
}

/// The key that follows `key` at once.
fn after(key: Key<'_>) -> Vec<u8> {
    let mut after = Vec::with_capacity(key.len() + 1);
    key.read_into(&mut after);
    after.push(0);
    after
}
