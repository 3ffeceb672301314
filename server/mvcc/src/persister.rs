//! The thread that brings committed transactions to the engine, and the queue before it.
//!
//! ```text
//!  writer ── set_applied ──► marks ──► persister ──► one atomic batch each ──► engine
//!                              │           └── reads the changes from `recent`
//!                              └── waits here while too much is pending
//! ```
//!
//! Promises: the engine always holds the state at some mark, with the applied value of that mark; the order is the
//! commit order; a failed write loses nothing. Must not know what an applied value means.

use std::collections::VecDeque;
use std::error::Error as _;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use metastore_engine::{Batch, Operation, Space};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::event::{Event, EventKind};
use crate::meta_row::MetaRow;
use crate::record::KeyValue;
use crate::shared::Shared;
use crate::{Error, Health};

/// The row of `System` with the applied value.
pub(crate) const APPLIED: &[u8] = b"mvcc/applied";

/// So much pending is written at once, without waiting for more.
const EAGER_BYTES: usize = 4 << 20;
/// Marks are merged into one batch up to here.
const BATCH_BYTES: usize = 2 << 20;
/// Changes encoded per lock of `recent`.
const STEP: u64 = 64;
/// The pause before a write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What a change costs in the engine's batch beside its key-value.
const CHANGE_OVERHEAD: usize = 100;

/// A state of the store that the engine may hold.
#[derive(Debug, Default)]
struct Mark {
    /// Its number; a merged mark has the newest.
    number: u64,
    /// All changes below this sequence number of `recent` belong to it.
    end: u64,
    system: Batch,
    applied: Option<Vec<u8>>,
    bytes: usize,
}

#[derive(Debug)]
struct State {
    marks: VecDeque<Mark>,
    /// The number of the newest mark, and of the newest one that the engine holds.
    marked: u64,
    written: u64,
    /// The applied value that the engine holds.
    applied: Option<Vec<u8>>,
    pending_bytes: usize,
    /// The thread sleeps until it is told.
    idle: bool,
    /// Somebody waits: do not gather.
    urgent: bool,
    stop: bool,
    attempts: u64,
    failure: Option<Error>,
    health: Health,
    counts: Counts,
}

/// What the persister has counted since the store was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) back_pressure_waits: u64,
    pub(crate) batches_written: u64,
    pub(crate) write_errors: u64,
    pub(crate) pending_bytes: usize,
}

/// The queue of marks.
#[derive(Debug)]
pub(crate) struct Persister {
    state: Mutex<State>,
    /// The thread waits here.
    work: Condvar,
    /// Those who wait for the thread wait here.
    progress: Condvar,
}

/// What a change will weigh in the queue.
pub(crate) fn pending_cost(event: &Event) -> usize {
    event.kv.len() + CHANGE_OVERHEAD
}

impl Persister {
    pub(crate) fn new(applied: Option<Vec<u8>>) -> Self {
        Self {
            state: Mutex::new(State {
                marks: VecDeque::new(),
                marked: 0,
                written: 0,
                applied,
                pending_bytes: 0,
                idle: false,
                urgent: false,
                stop: false,
                attempts: 0,
                failure: None,
                health: Health::Good,
                counts: Counts::default(),
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Marks the state in which every change below `end` is in: `bytes` of changes since the last mark, the `system`
    /// rows (left empty), and the applied value. Waits while more than `bound` bytes are pending.
    pub(crate) fn mark(
        &self,
        end: u64,
        bytes: usize,
        system: &mut Batch,
        applied: &[u8],
        bound: usize,
    ) {
        let bytes = bytes + system.byte_len() + applied.len();
        let mut state = self.state.lock();
        state.marked += 1;
        let number = state.marked;
        state.pending_bytes += bytes;
        match state.marks.back_mut() {
            Some(last) if last.bytes + bytes <= BATCH_BYTES => {
                last.merge(number, end, bytes, system, applied);
            }
            _ => {
                let mut mark = Mark::default();
                mark.merge(number, end, bytes, system, applied);
                state.marks.push_back(mark);
            }
        }
        if state.idle || state.pending_bytes >= EAGER_BYTES {
            state.idle = false;
            self.work.notify_one();
        }
        if state.pending_bytes > bound {
            self.hold_back(state, bound);
        }
    }

    /// Whether more than `bytes` are pending.
    pub(crate) fn has_pending(&self, bytes: usize) -> bool {
        self.state.lock().pending_bytes > bytes
    }

    /// Waits until the engine has caught up to `bound` bytes, unless it never will.
    fn hold_back(&self, mut state: MutexGuard<'_, State>, bound: usize) {
        state.counts.back_pressure_waits += 1;
        state.urgent = true;
        self.work.notify_one();
        tracing::warn!(
            pending_bytes = state.pending_bytes,
            "writes wait for the storage engine"
        );
        while state.pending_bytes > bound
            && !state.stop
            && !matches!(state.health, Health::Failed(_))
        {
            self.progress.wait(&mut state);
        }
    }

    /// Waits until the engine holds every mark made before the call; returns the applied value that it then holds.
    pub(crate) fn drain(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut state = self.state.lock();
        let (target, attempts) = (state.marked, state.attempts);
        while state.written < target {
            if state.stop {
                return Err(Error::Stopped);
            }
            match &state.failure {
                Some(failure) if state.attempts > attempts || state.health_failed() => {
                    return Err(failure.clone());
                }
                _ => {}
            }
            state.urgent = true;
            self.work.notify_one();
            self.progress.wait(&mut state);
        }
        Ok(state.applied.clone())
    }

    /// The number that the next mark will get.
    pub(crate) fn next_number(&self) -> u64 {
        self.state.lock().marked + 1
    }

    /// Waits until the engine holds the mark `number`, which need not have been made yet; false when it never will.
    pub(crate) fn wait_written(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        while state.written < number && !state.stop {
            self.progress.wait(&mut state);
        }
        state.written >= number
    }

    pub(crate) fn health(&self) -> Health {
        self.state.lock().health.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts {
            pending_bytes: state.pending_bytes,
            ..state.counts
        }
    }

    /// Ends the thread after the batch at hand, and wakes everybody who waits.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// The next mark to write, after having given others the time to join it; `None` at the end.
    fn next_mark(&self, gather: Duration) -> Option<Mark> {
        let mut state = self.state.lock();
        while state.marks.is_empty() && !state.stop {
            state.urgent = false;
            state.idle = true;
            self.work.wait(&mut state);
        }
        state.idle = false;
        let deadline = Instant::now() + gather;
        while !state.stop
            && !state.urgent
            && state.marks.len() == 1
            && state.pending_bytes < EAGER_BYTES
        {
            if self.work.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        if state.stop {
            return None;
        }
        state.marks.pop_front()
    }

    /// Notes that `mark` is in the engine; true when that changes the health.
    fn succeeded(&self, mark: Mark) -> bool {
        let mut state = self.state.lock();
        state.written = mark.number;
        state.pending_bytes -= mark.bytes;
        state.applied = mark.applied;
        state.counts.batches_written += 1;
        state.failure = None;
        self.progress.notify_all();
        std::mem::replace(&mut state.health, Health::Good) != Health::Good
    }

    /// Notes a failure; true when that changes the health.
    fn failed(&self, error: Error) -> bool {
        let health = if is_no_space(&error) {
            Health::NoSpace(error.to_string())
        } else {
            Health::Failed(error.to_string())
        };
        let mut state = self.state.lock();
        state.attempts += 1;
        state.counts.write_errors += 1;
        state.failure = Some(error);
        self.progress.notify_all();
        let changed = state.health != health;
        state.health = health;
        changed
    }

    /// Waits before the next attempt; false when there is none.
    fn wait_to_retry(&self) -> bool {
        let mut state = self.state.lock();
        let deadline = Instant::now() + RETRY;
        while !state.stop {
            if state.health_failed() {
                self.work.wait(&mut state);
            } else if self.work.wait_until(&mut state, deadline).timed_out() {
                return true;
            }
        }
        false
    }
}

impl State {
    fn health_failed(&self) -> bool {
        matches!(self.health, Health::Failed(_))
    }
}

impl Mark {
    fn merge(&mut self, number: u64, end: u64, bytes: usize, system: &mut Batch, applied: &[u8]) {
        self.number = number;
        self.end = end;
        self.bytes += bytes;
        if self.system.is_empty() {
            std::mem::swap(&mut self.system, system);
        } else {
            append(&mut self.system, system);
        }
        system.clear();
        let own = self.applied.get_or_insert_default();
        own.clear();
        own.extend_from_slice(applied);
    }
}

/// The thread.
pub(crate) fn run(shared: &Shared) {
    let mut batch = Batch::new();
    let mut row = Vec::new();
    while let Some(mark) = shared.persister.next_mark(shared.options.persist_delay) {
        batch.clear();
        let from = shared.recent.read().written();
        encode_changes(shared, from, mark.end, &mut batch, &mut row);
        append(&mut batch, &mark.system);
        if let Some(applied) = &mark.applied {
            batch.put(Space::System, APPLIED, applied);
        }
        if !write_until_it_succeeds(shared, &batch) {
            return;
        }
        let end = mark.end;
        if shared.persister.succeeded(mark) {
            shared.tell_health();
        }
        shared.recent.write().set_written(end);
        evict(shared);
        if batch.byte_len() > 2 * BATCH_BYTES {
            batch = Batch::new();
        }
    }
}

/// Brings the recent changes back to their budget, a piece at a time, and frees each outside the lock; frees what the
/// value cache has evicted as well.
fn evict(shared: &Shared) {
    let evicted = shared.index.write().take_evicted();
    drop(evicted);
    loop {
        let piece = shared.recent.write().evict(shared.options.recent_bytes);
        if piece.is_none() {
            return;
        }
    }
}

fn write_until_it_succeeds(shared: &Shared, batch: &Batch) -> bool {
    loop {
        let since = Instant::now();
        match shared.engine.write(batch) {
            Ok(()) => {
                shared.tally.times.commit.observe_time(since.elapsed());
                return true;
            }
            Err(error) => {
                let error = Error::from(error);
                tracing::error!(%error, "cannot write to the storage engine");
                if shared.persister.failed(error) {
                    shared.tell_health();
                }
                if !shared.persister.wait_to_retry() {
                    return false;
                }
            }
        }
    }
}

fn encode_changes(shared: &Shared, from: u64, end: u64, batch: &mut Batch, row: &mut Vec<u8>) {
    let mut at = from;
    while at < end {
        let recent = shared.recent.read();
        for sequence in at..end.min(at + STEP) {
            if let Some(event) = recent.get(sequence) {
                encode_change(event, batch, row);
            }
        }
        at += STEP;
    }
}

fn encode_change(event: &Event, batch: &mut Batch, row: &mut Vec<u8>) {
    let record = event.record();
    let (create, version) = match event.kind {
        EventKind::Delete => (0, 0),
        EventKind::Put => {
            KeyValue::decode(record).map_or((0, 0), |kv| (kv.create_revision, kv.version))
        }
    };
    row.clear();
    let meta = MetaRow {
        key: event.key(),
        create,
        version,
        lease: event.lease,
        record_len: record.len() as u32,
    };
    meta.encode(row);
    let key = event.revision.to_key();
    batch.put(Space::Record, &key, record);
    batch.put(Space::Meta, &key, row);
}

/// Adds the operations of another batch.
fn append(batch: &mut Batch, other: &Batch) {
    for operation in other.operations() {
        match operation {
            Operation::Put { space, key, value } => batch.put(space, key, value),
            Operation::Delete { space, key } => batch.delete(space, key),
            Operation::DeleteRange { space, from, to } => batch.delete_range(space, from, to),
        }
    }
}

/// Whether an engine's error says that the disk is full.
fn is_no_space(error: &Error) -> bool {
    let Error::Engine(error) = error else {
        return false;
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(error) = cause {
        let full = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
        });
        if full || error.to_string().contains("No space left on device") {
            return true;
        }
        cause = error.source();
    }
    false
}
