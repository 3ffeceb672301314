//! What the log's handles, its readers and its writer share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};

use super::disk::{Directory, SegmentFile};
use super::history::{History, Position, Vote};
use super::keeper::Keeper;
use super::metrics::Counters;
use super::places::Places;
use super::tail::Tail;
use super::{Done, Error, Options};

pub(super) struct Shared<E> {
    pub(super) options: Options,
    pub(super) directory: Directory,
    /// The log as its callers see it: everything that was queued has happened. Locked before `queue`.
    pub(super) view: RwLock<View<E>>,
    pub(super) queue: Mutex<Queue<E>>,
    /// Wakes the writer.
    pub(super) wake: Condvar,
    pub(super) keeper: Keeper,
    pub(super) counters: Counters,
    /// Bytes queued or being written.
    pub(super) pending: AtomicUsize,
}

pub(super) struct View<E> {
    pub(super) history: History,
    pub(super) tail: Tail<E>,
    pub(super) places: Places,
    /// Oldest first; the last is being written.
    pub(super) segments: VecDeque<Segment>,
    /// Entries before this index are in the files.
    pub(super) written: u64,
    /// How often the log was truncated since it was opened.
    pub(super) truncations: u64,
}

pub(super) struct Segment {
    pub(super) file: Arc<SegmentFile>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// When it is finished: the last index of the log at that time, if there was an entry.
    pub(super) finished: Option<Option<u64>>,
}

impl<E> View<E> {
    /// Takes out the segments that hold nothing after `index`.
    pub(super) fn take_purged(&mut self, index: u64) -> Vec<Arc<SegmentFile>> {
        let holds_nothing = |segment: &Segment| {
            segment
                .finished
                .is_some_and(|last| last.is_none_or(|last| last <= index))
        };
        let gone = self
            .segments
            .iter()
            .take_while(|segment| holds_nothing(segment))
            .count();
        let taken: Vec<_> = self
            .segments
            .drain(..gone)
            .map(|segment| segment.file)
            .collect();
        if let Some(last) = taken.last() {
            self.places.forget_before(last.id + 1);
        }
        taken
    }

    pub(super) fn segment(&self, id: u64) -> Option<&Segment> {
        let at = self
            .segments
            .binary_search_by_key(&id, |segment| segment.file.id)
            .ok()?;
        self.segments.get(at)
    }
}

/// What is to be written.
pub(super) enum Op<E> {
    Entries(Vec<E>),
    Vote(Vote),
    TruncateAfter(Option<Position>),
    Purge(Position),
    Committed(Position),
    /// Nothing; only to be told when everything before is durable.
    Barrier,
}

pub(super) struct Queued<E> {
    pub(super) op: Op<E>,
    /// Bytes of entries, as they will be in the file.
    pub(super) bytes: usize,
    pub(super) done: Option<Done>,
}

/// What waits for the writer, in order.
pub(super) struct Queue<E> {
    pub(super) ops: VecDeque<Queued<E>>,
    /// Somebody waits for one of `ops`.
    pub(super) urgent: bool,
    /// Since when `ops` holds something that nobody waits for.
    pub(super) lazy_since: Option<Instant>,
    pub(super) closing: bool,
    /// Why nothing is written any more.
    pub(super) failed: Option<Error>,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self {
            ops: VecDeque::new(),
            urgent: false,
            lazy_since: None,
            closing: false,
            failed: None,
        }
    }
}

impl<E> Shared<E> {
    /// Queues what somebody waits for.
    pub(super) fn queue_urgent(&self, op: Op<E>, bytes: usize, done: Done) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        queue.check()?;
        self.pending.fetch_add(bytes, Relaxed);
        queue.ops.push_back(Queued {
            op,
            bytes,
            done: Some(done),
        });
        if !std::mem::replace(&mut queue.urgent, true) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Queues what goes with the next record, or alone after a while.
    pub(super) fn queue_lazy(&self, op: Op<E>) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        queue.check()?;
        let newest = queue.ops.back_mut().map(|queued| &mut queued.op);
        if let (Some(Op::Committed(newest)), Op::Committed(at)) = (newest, &op) {
            *newest = *at;
            return Ok(());
        }
        queue.ops.push_back(Queued {
            op,
            bytes: 0,
            done: None,
        });
        if queue.lazy_since.is_none() {
            queue.lazy_since = Some(Instant::now());
            if !queue.urgent {
                self.wake.notify_one();
            }
        }
        Ok(())
    }
}

impl<E> Queue<E> {
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(Error::Closed),
            None => Ok(()),
        }
    }
}
