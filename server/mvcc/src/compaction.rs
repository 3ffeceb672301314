//! The removal of superseded revisions, in the background.
//!
//! The changes since the last compaction name the keys that can have garbage; the index tells which of their versions
//! are, and forgets them; then the engine deletes them. Each step is small, and its cost is that of the writes since
//! the last compaction, never that of the store.
//!
//! Promises: after a crash at any moment the same compaction, begun again, removes what is left. For that, rows are
//! deleted in the order of a key's revisions, and only once the engine holds the compaction revision.
//! Must not know who asked.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metastore_engine::{Batch, Space};
use parking_lot::{Condvar, Mutex};

use crate::Error;
use crate::hash::{CompactionHash, Part, hash_record};
use crate::index::Version;
use crate::record;
use crate::revision::Revision;
use crate::shared::{Index, Shared};

/// The row of `System` with the compaction revision, 8 bytes big-endian.
pub(crate) const SCHEDULED: &[u8] = b"mvcc/compaction/scheduled";
/// The row of `System` with the revision up to which garbage is gone, 8 bytes big-endian.
pub(crate) const FINISHED: &[u8] = b"mvcc/compaction/finished";

/// Keys cleaned per lock of the index.
const KEYS_PER_LOCK: usize = 4;
/// Versions removed per lock of the index.
const VERSIONS_PER_LOCK: usize = 64;
/// The pause before a failed step is tried again.
const RETRY: Duration = Duration::from_secs(1);

type Done = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    scheduled: i64,
    /// The mark that must be in the engine first.
    mark: u64,
    finished: i64,
    stop: bool,
    waiting: Vec<(i64, Done)>,
    /// The compaction before the scheduled one was finished when that was scheduled.
    in_turn: bool,
    /// Of the last finished compaction, if it was neither interrupted nor begun before the end of the one before.
    hash: Option<CompactionHash>,
}

/// What is to be compacted, and how far that is.
#[derive(Default)]
pub(crate) struct Compaction {
    state: Mutex<State>,
    changed: Condvar,
    removed: AtomicU64,
}

impl Compaction {
    /// The state found at the opening; what was not finished goes on.
    pub(crate) fn resumed(scheduled: i64, finished: i64) -> Self {
        Self {
            state: Mutex::new(State {
                scheduled,
                finished,
                ..State::default()
            }),
            ..Self::default()
        }
    }

    /// Asks for a compaction once the engine holds the mark `mark`.
    pub(crate) fn schedule(&self, revision: i64, mark: u64) {
        let mut state = self.state.lock();
        state.in_turn = state.scheduled <= state.finished;
        state.scheduled = revision;
        state.mark = mark;
        self.changed.notify_all();
    }

    pub(crate) fn is_done(&self, revision: i64) -> bool {
        self.state.lock().finished >= revision
    }

    pub(crate) fn when_done(&self, revision: i64, done: Done) {
        let mut state = self.state.lock();
        if state.finished < revision && !state.stop {
            state.waiting.push((revision, done));
            return;
        }
        drop(state);
        done();
    }

    /// How many revisions have been removed.
    pub(crate) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// The next thing to do: finished and scheduled revision, and the mark to wait for; `None` at the end.
    fn next(&self) -> Option<(i64, i64, u64)> {
        let mut state = self.state.lock();
        while state.scheduled <= state.finished && !state.stop {
            self.changed.wait(&mut state);
        }
        (!state.stop).then_some((state.finished, state.scheduled, state.mark))
    }

    /// A compaction failed half-way: it will be done, but its hash will not be known.
    fn interrupted(&self) {
        self.state.lock().in_turn = false;
    }

    /// Rests between two steps; false when the store stops.
    fn rest(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let deadline = Instant::now() + pause;
        while !state.stop && Instant::now() < deadline {
            self.changed.wait_until(&mut state, deadline);
        }
        !state.stop
    }

    /// What is known of the hash at `revision`, if that is the compaction revision and the compaction is finished.
    pub(crate) fn hash_at(&self, revision: i64) -> Option<CompactionHash> {
        let state = self.state.lock();
        state
            .hash
            .filter(|hash| hash.revision == revision && state.scheduled == revision)
    }

    fn finish(&self, revision: i64, hash: CompactionHash) {
        let mut state = self.state.lock();
        state.finished = revision;
        state.hash = state.in_turn.then_some(hash);
        let waiting = std::mem::take(&mut state.waiting);
        let (done, waiting): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(wanted, _)| *wanted <= revision);
        state.waiting = waiting;
        drop(state);
        for (_, done) in done {
            done();
        }
    }
}

/// The thread.
pub(crate) fn run(shared: &Shared) {
    while let Some((finished, scheduled, mark)) = shared.compaction.next() {
        if !shared.persister.wait_written(mark) {
            return;
        }
        let stopped = || shared.compaction.stopped();
        shared
            .pins
            .clear_below(scheduled, shared.options.pin_patience, stopped);
        match compact(shared, finished, scheduled) {
            Ok(Ended::Done(hash)) => shared.compaction.finish(scheduled, hash),
            Ok(Ended::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "compaction stopped and will be tried again");
                shared.compaction.interrupted();
                if !shared.compaction.rest(RETRY) {
                    return;
                }
            }
        }
    }
}

/// How a compaction ended.
enum Ended {
    Done(CompactionHash),
    /// The store stops.
    Stopped,
}

/// Removes what a compaction at `to` does not keep, given that one at `from` is finished.
fn compact(shared: &Shared, from: i64, to: i64) -> Result<Ended, Error> {
    let mut changes = Changes {
        from,
        to,
        // A deletion written by `from` itself has been kept and goes now.
        next: Some(Revision::start_of(from.max(0))),
        rows_max: shared.options.compaction_rows.max(1),
        keys: Vec::new(),
        tail: 0,
        tail_bytes: 0,
    };
    let (since, mut locked) = (Instant::now(), Duration::ZERO);
    let times = &shared.tally.times;
    let whole = shared.hash_before_compaction(from, to)?;
    let mut step = Instant::now();
    while changes.collect(shared)? {
        // What has not been hashed yet stays until it has.
        let below = changes.next.unwrap_or(Revision::start_of(to + 1));
        for some in changes.keys.chunks(KEYS_PER_LOCK) {
            if !clean(shared, some, (to, below), &mut locked) {
                return Ok(Ended::Stopped);
            }
        }
        times.compaction_step.observe_millis(step.elapsed());
        if !shared.compaction.rest(shared.options.compaction_pause) {
            return Ok(Ended::Stopped);
        }
        step = Instant::now();
    }
    let mut batch = Batch::new();
    batch.put(Space::System, FINISHED, &to.to_be_bytes());
    if !write_until_it_succeeds(shared, &batch) {
        return Ok(Ended::Stopped);
    }
    times.index_pause.observe_millis(locked);
    times.compaction.observe_millis(since.elapsed());
    shared.tally.compacted();
    Ok(Ended::Done(CompactionHash {
        revision: to,
        previous: from,
        part: whole.map_or(Part::Tail(changes.tail, changes.tail_bytes), Part::Whole),
    }))
}

/// The changes since the last compaction, gone through in pieces.
struct Changes {
    from: i64,
    to: i64,
    next: Option<Revision>,
    /// Rows of one piece.
    rows_max: usize,
    /// The keys that changed in the last piece, each once.
    keys: Vec<Box<[u8]>>,
    /// The hash of all changes after `from` so far, and how many bytes that is.
    tail: u32,
    tail_bytes: usize,
}

impl Changes {
    /// Collects the next piece; false when there is none.
    fn collect(&mut self, shared: &Shared) -> Result<bool, Error> {
        let Some(start) = self.next.take() else {
            return Ok(false);
        };
        self.keys.clear();
        let mut rows = 0;
        let mut read = Ok(());
        let end = Revision::start_of(self.to + 1).to_key();
        shared.engine.scan(
            Space::Record,
            &start.to_key(),
            Some(&end),
            &mut |key, row| {
                if rows == self.rows_max {
                    self.next = Revision::from_key(key);
                    return ControlFlow::Break(());
                }
                rows += 1;
                read = self.take(key, row);
                match read {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            },
        )?;
        read?;
        self.keys.sort_unstable();
        self.keys.dedup();
        Ok(true)
    }

    fn take(&mut self, key: &[u8], row: &[u8]) -> Result<(), Error> {
        let read = Revision::from_key(key).zip(record::key_range(row));
        let (revision, key) =
            read.ok_or_else(|| Error::Corrupt("a record is unreadable".to_owned()))?;
        if revision.main > self.from {
            let (tail, bytes) = hash_record(self.tail, revision, row);
            self.tail = tail;
            self.tail_bytes += bytes;
        }
        let key = &row[key.start as usize..key.end as usize];
        if self.keys.last().is_none_or(|last| **last != *key) {
            self.keys.push(key.into());
        }
        Ok(())
    }
}

/// Removes the garbage of some keys from the index and then from the engine: what a compaction at the first bound does
/// not keep and what was written before the second. Adds to `locked` how long the index was.
fn clean(
    shared: &Shared,
    keys: &[Box<[u8]>],
    bounds: (i64, Revision),
    locked: &mut Duration,
) -> bool {
    let mut garbage = Vec::with_capacity(VERSIONS_PER_LOCK);
    let mut batch = Batch::new();
    let mut rest = keys;
    while !rest.is_empty() {
        garbage.clear();
        batch.clear();
        {
            let mut index = shared.index.write();
            let since = Instant::now();
            rest = clean_some(&mut index, rest, bounds, &mut garbage);
            *locked += since.elapsed();
        }
        for version in &garbage {
            let key = version.revision().to_key();
            batch.delete(Space::Record, &key);
            batch.delete(Space::Meta, &key);
        }
        if !batch.is_empty() && !write_until_it_succeeds(shared, &batch) {
            return false;
        }
        shared
            .compaction
            .removed
            .fetch_add(garbage.len() as u64, Ordering::Relaxed);
    }
    true
}

/// Cleans keys until enough versions have been removed; returns the keys that are left.
fn clean_some<'k>(
    index: &mut Index,
    keys: &'k [Box<[u8]>],
    bounds: (i64, Revision),
    garbage: &mut Vec<Version>,
) -> &'k [Box<[u8]>] {
    for (at, key) in keys.iter().enumerate() {
        let Some(entry) = index.tree.get_mut(key) else {
            continue;
        };
        let left = VERSIONS_PER_LOCK.saturating_sub(garbage.len());
        let before = garbage.len();
        let done = left > 0 && entry.drain_garbage(bounds, left, garbage);
        if done && entry.is_garbage(bounds) {
            garbage.push(entry.current);
            index.tree.remove(key);
        }
        for version in &garbage[before..] {
            index.count_removal(version);
        }
        if !done {
            return &keys[at..];
        }
    }
    &[]
}

fn write_until_it_succeeds(shared: &Shared, batch: &Batch) -> bool {
    while let Err(error) = shared.engine.write(batch) {
        tracing::error!(%error, "cannot delete compacted revisions");
        if !shared.compaction.rest(RETRY) {
            return false;
        }
    }
    true
}
