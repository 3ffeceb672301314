//! The write-ahead log: the one thing that is synced on the way of a write.
//!
//! Promises:
//! - an entry can be read as soon as [`Wal::append`] returns, and is durable when its callback says so;
//!   callbacks come in the order of the calls;
//! - everything queued while the disk is busy goes out with one write and one sync;
//! - after a crash everything that was reported durable is there, and the log is cut only where its last
//!   write was torn; anything else that is wrong is an error, and the files stay as they are;
//! - a disk that becomes full is reported ([`Space::Full`]) while there is still room, and a failed
//!   write or sync ends the log instead of being tried again.
//!
//! The log is a row of segment files, filled with zeros before they are used, never used twice. Must not
//! know openraft, nor what an entry holds.

mod disk;
mod error;
mod format;
mod history;
mod keeper;
mod metrics;
mod ops;
mod places;
mod reader;
mod recovery;
mod shared;
mod tail;
mod window;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

pub use error::Error;
pub use history::{History, Position, Vote};
pub use keeper::Space;
pub use metrics::{Metrics, Times};

use disk::{Directory, SegmentFile};
use keeper::{Keeper, Plan};
use metrics::Counters;
use places::Places;
use reader::OnDisk;
use recovery::Examined;
use shared::{Op, Queue, Segment, Shared, View};
use tail::Tail;
use writer::{Cursor, Writer};

/// Told once when something is durable, or will never be; on the log's thread, so it must not block.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;
/// Told how long each sync of a record took; must not block.
pub type OnSync = Arc<dyn Fn(Duration) + Send + Sync>;
/// Told when the log runs out of room, and when it has room again; must not block.
pub type OnSpace = Arc<dyn Fn(Space) + Send + Sync>;

/// An entry of the log. A clone must be cheap: the newest entries are kept in memory.
pub trait Entry: Clone + Send + Sync + 'static {
    /// Term and index.
    fn position(&self) -> Position;
    /// Exactly the bytes that [`Self::encode`] appends.
    fn byte_len(&self) -> usize;
    /// Appends the entry's bytes, without its position.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what `encode` wrote; the error is shown to people.
    ///
    /// # Errors
    /// When the bytes are no entry.
    fn decode(position: Position, bytes: Bytes) -> Result<Self, String>;
}

/// Room for a few records.
const SEGMENT_BYTES_MIN: u64 = 1 << 10;
/// Offsets in a segment have 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How a log is kept.
#[derive(Clone)]
pub struct Options {
    /// Directory of the segments; created when it is missing, locked while the log is open.
    pub directory: PathBuf,
    /// Length of a segment, at most 1 GiB. The first is shorter, each next one longer, up to this.
    pub segment_bytes: u64,
    /// Length of the first segment of a new log; short, so that a first start is quick.
    pub first_segment_bytes: u64,
    /// Bytes of the newest entries kept in memory.
    pub cache_bytes: usize,
    /// Bytes of entries that go into one record, so that one sync does not take forever.
    pub record_bytes: usize,
    /// Bytes that are left free on the file system; below, the log is [`Space::Full`].
    pub reserve_bytes: u64,
    /// How long something that nobody waits for (committed, purged) may wait for a record to go with.
    pub lazy_delay: Duration,
    /// Wait for the disk before anything counts as durable. Without it a power cut loses what was acknowledged.
    pub fsync: bool,
    /// See [`OnSync`].
    pub on_sync: Option<OnSync>,
    /// See [`OnSpace`].
    pub on_space: Option<OnSpace>,
}

impl Options {
    /// The usual values.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            segment_bytes: 64 << 20,
            first_segment_bytes: 1 << 20,
            cache_bytes: 16 << 20,
            record_bytes: 8 << 20,
            reserve_bytes: 64 << 20,
            lazy_delay: Duration::from_secs(1),
            fsync: true,
            on_sync: None,
            on_space: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// A handle of an open log; clones are the same log. The last one to go closes it.
pub struct Wal<E: Entry> {
    shared: Arc<Shared<E>>,
    running: Arc<Running<E>>,
}

impl<E: Entry> Clone for Wal<E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            running: self.running.clone(),
        }
    }
}

impl<E: Entry> fmt::Debug for Wal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("directory", &self.shared.options.directory)
            .finish_non_exhaustive()
    }
}

/// The log's threads; ends them when dropped.
struct Running<E> {
    shared: Arc<Shared<E>>,
    threads: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
}

impl<E: Entry> Wal<E> {
    /// Opens the log of a directory, or begins one in an empty directory.
    ///
    /// # Errors
    /// When the log is damaged ([`Error::Corrupt`]), newer ([`Error::NewerFormat`]) or in use; then no
    /// file has been changed. When the operating system refuses.
    pub fn open(mut options: Options) -> Result<Self, Error> {
        options.segment_bytes = options
            .segment_bytes
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let directory = Directory::open(&options.directory)?;
        let (cursor, view) = match recovery::examine(&directory)? {
            Examined::Log(log) => {
                log.repair(&directory)?;
                let next = log.history.next_index().unwrap_or(0);
                let view = View {
                    tail: Tail::new(next, options.cache_bytes),
                    places: log.places,
                    segments: log.segments.into(),
                    written: next,
                    truncations: 0,
                    history: log.history,
                };
                (log.cursor, view)
            }
            Examined::Nothing => begin(&directory, &options)?,
        };
        for leftover in directory.list()?.unfinished {
            directory.remove_file(&leftover)?;
        }
        Self::run(options, directory, cursor, view)
    }

    fn run(
        options: Options,
        directory: Directory,
        cursor: Cursor,
        view: View<E>,
    ) -> Result<Self, Error> {
        let plan = Plan {
            segment_bytes_max: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            on_space: options.on_space.clone(),
        };
        let keeper = Keeper::new(plan, &cursor.segment);
        let path = options.directory.clone();
        let shared = Arc::new(Shared {
            options,
            directory,
            view: RwLock::new(view),
            queue: Mutex::new(Queue::new()),
            wake: Condvar::new(),
            keeper,
            counters: Counters::default(),
            pending: 0.into(),
        });
        let failed = |error| Error::io("start the threads of", &path, error);
        let writer = Writer::new(shared.clone(), cursor);
        let writer = thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run())
            .map_err(failed)?;
        let keeping = shared.clone();
        let keeper = thread::Builder::new()
            .name("raft-log-room".into())
            .spawn(move || keeping.keeper.run(&keeping.directory))
            .map_err(failed)?;
        let running = Running {
            shared: shared.clone(),
            threads: Mutex::new(Some((writer, keeper))),
        };
        Ok(Self {
            shared,
            running: Arc::new(running),
        })
    }

    /// Appends entries, which must follow the last one; `done` is told when they are durable. They can be
    /// read when this returns.
    ///
    /// # Errors
    /// When they do not follow, or the log has stopped; then nothing was appended, and `done` is dropped.
    pub fn append(&self, entries: Vec<E>, done: Done) -> Result<(), Error> {
        let bytes = writer::bytes_of(&entries)?;
        let mut view = self.shared.view.write();
        let mut next = view.history.next_index();
        for at in entries.iter().map(Entry::position) {
            match next {
                Some(expected) if expected != at.index => {
                    return Err(Error::Gap {
                        expected,
                        found: at.index,
                    });
                }
                _ => next = Some(at.index + 1),
            }
        }
        self.shared.check()?;
        for entry in &entries {
            view.history.append(entry.position())?;
            view.tail.push(entry.clone());
        }
        // Queued under the lock: the files must have the order of the view.
        self.shared.queue_urgent(Op::Entries(entries), bytes, done)
    }

    /// Saves a vote; `done` is told when it is durable.
    ///
    /// # Errors
    /// When the log has stopped.
    pub fn save_vote(&self, vote: Vote, done: Done) -> Result<(), Error> {
        let mut view = self.shared.view.write();
        self.shared.check()?;
        view.history.vote = Some(vote);
        self.shared.queue_urgent(Op::Vote(vote), 0, done)
    }

    /// Remembers how far the log is committed. Goes with the next record, or alone after a while.
    ///
    /// # Errors
    /// When the log has stopped.
    pub fn save_committed(&self, at: Position) -> Result<(), Error> {
        let mut view = self.shared.view.write();
        if view.history.committed == Some(at) {
            return Ok(());
        }
        self.shared.check()?;
        view.history.committed = Some(at);
        self.shared.queue_lazy(Op::Committed(at))
    }

    /// Forgets the entries after `after`, or all. Durable at the latest with what is appended next.
    ///
    /// # Errors
    /// When the log has stopped.
    pub fn truncate_after(&self, after: Option<Position>) -> Result<(), Error> {
        let mut view = self.shared.view.write();
        self.shared.check()?;
        let next = after.map_or(0, |at| at.index + 1);
        if view.history.next_index().is_none_or(|end| end <= next) {
            return Ok(());
        }
        view.history.truncate_after(after.map(|at| at.index));
        view.tail.truncate(next);
        view.written = view.written.min(next);
        view.truncations += 1;
        self.shared.queue_lazy(Op::TruncateAfter(after))
    }

    /// Forgets the entries up to `at`, which may lie beyond the last. Segments without any other entry are
    /// removed in the background.
    ///
    /// # Errors
    /// When the log has stopped.
    pub fn purge(&self, at: Position) -> Result<(), Error> {
        let mut view = self.shared.view.write();
        self.shared.check()?;
        if view
            .history
            .purged
            .is_some_and(|purged| purged.index >= at.index)
        {
            return Ok(());
        }
        view.history.purge(at);
        view.tail.purge(at.index + 1);
        self.shared.keeper.remove(view.take_purged(at.index));
        self.shared.queue_lazy(Op::Purge(at))
    }

    /// Tells `done` when everything before this call is durable or needs nobody to wait for it.
    ///
    /// # Errors
    /// When the log has stopped.
    pub fn barrier(&self, done: Done) -> Result<(), Error> {
        self.shared.queue_urgent(Op::Barrier, 0, done)
    }

    /// Reads `range`, as far as there are such entries, whole.
    ///
    /// # Errors
    /// When a file cannot be read, or is damaged.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<E>, Error> {
        let mut newest = Vec::new();
        let on_disk = {
            let view = self.shared.view.read();
            let Range { start, end } = clip(&view.history, &range);
            view.tail
                .copy(start.max(view.tail.first()), end, usize::MAX, &mut newest);
            let end = end.min(view.tail.first());
            if start < end {
                Some(self.plan(&view, start, end, usize::MAX)?)
            } else {
                None
            }
        };
        let Some(on_disk) = on_disk else {
            return Ok(newest);
        };
        let mut entries = on_disk.read(usize::MAX)?;
        entries.append(&mut newest);
        Ok(entries)
    }

    /// Reads the first entries of `range`: at least one, if the first is there, and about `bytes_max` at most.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_some(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<E>, Error> {
        let on_disk = {
            let view = self.shared.view.read();
            let Range { start, end } = clip(&view.history, &range);
            if start >= end || start > range.start {
                return Ok(Vec::new());
            }
            let first = view.tail.first();
            if start >= first {
                let mut entries = Vec::new();
                view.tail.copy(start, end, bytes_max, &mut entries);
                return Ok(entries);
            }
            self.plan(&view, start, end.min(first), bytes_max / 4096 + 2)?
        };
        on_disk.read(bytes_max)
    }

    /// Index from which on reading does no I/O.
    #[must_use]
    pub fn cached_from(&self) -> u64 {
        self.shared.view.read().tail.first()
    }

    fn plan(
        &self,
        view: &View<E>,
        start: u64,
        end: u64,
        regions_max: usize,
    ) -> Result<OnDisk, Error> {
        OnDisk::plan(view, start, end, regions_max).ok_or_else(|| {
            Error::corrupt(
                &self.shared.options.directory,
                0,
                format!("entry {start} is in no segment"),
            )
        })
    }

    /// Vote, floor, committed and last, and the terms between.
    #[must_use]
    pub fn history(&self) -> History {
        self.shared.view.read().history.clone()
    }

    /// The last vote.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.shared.view.read().history.vote
    }

    /// Index of the first entry, if there is one.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.shared.view.read().history.first_index()
    }

    /// The term of the entry at `index`, if there is one.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.shared.view.read().history.term_at(index)
    }

    /// Whether there is room to go on.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.keeper.space()
    }

    /// Bytes of entries that are queued or being written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending.load(Relaxed)
    }

    /// Bytes of records in the segments that are kept.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.shared
            .view
            .read()
            .segments
            .iter()
            .map(|segment| segment.end)
            .sum()
    }

    /// How far the log may be purged so that about `bytes` of it are kept, counted in whole segments; none
    /// when it is not longer.
    #[must_use]
    pub fn purge_point(&self, bytes: u64) -> Option<u64> {
        let view = self.shared.view.read();
        let mut kept = 0;
        let enough = view.segments.iter().rposition(|segment| {
            kept += segment.end;
            kept >= bytes
        })?;
        view.segments.get(enough.checked_sub(1)?)?.finished?
    }

    /// Counters since the log was opened.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.counters.read()
    }

    /// How long records took since the log was opened.
    #[must_use]
    pub fn times(&self) -> Times {
        self.shared.counters.times()
    }
}

impl<E> Shared<E> {
    fn check(&self) -> Result<(), Error> {
        self.queue.lock().check()
    }
}

impl<E> Drop for Running<E> {
    fn drop(&mut self) {
        self.shared.queue.lock().closing = true;
        self.shared.wake.notify_one();
        self.shared.keeper.close();
        let Some((writer, keeper)) = self.threads.lock().take() else {
            return;
        };
        // A callback may hold the last handle; a thread cannot wait for itself.
        if writer.thread().id() != thread::current().id() {
            let _ = writer.join();
        }
        self.shared.keeper.stop();
        if keeper.thread().id() != thread::current().id() {
            let _ = keeper.join();
        }
    }
}

/// The part of `range` that the log has.
fn clip(history: &History, range: &Range<u64>) -> Range<u64> {
    let (Some(first), Some(end)) = (history.first_index(), history.next_index()) else {
        return 0..0;
    };
    range.start.max(first)..range.end.min(end)
}

/// Begins a log: its first segment with the first record.
fn begin<E: Entry>(directory: &Directory, options: &Options) -> Result<(Cursor, View<E>), Error> {
    let bytes = options
        .first_segment_bytes
        .clamp(SEGMENT_BYTES_MIN, options.segment_bytes);
    let log = rand::random();
    let record = writer::first_record(log, 1, bytes);
    let end = record.len() as u64;
    let file = directory
        .create_segment(1, bytes, &record, &mut || true)?
        .ok_or(Error::Closed)?;
    let file: Arc<SegmentFile> = Arc::new(file);
    let cursor = Cursor {
        log,
        segment: file.clone(),
        offset: end,
        sequence: 1,
        history: History::default(),
    };
    let view = View {
        history: History::default(),
        tail: Tail::new(0, options.cache_bytes),
        places: Places::default(),
        segments: [Segment {
            file,
            end,
            finished: None,
        }]
        .into(),
        written: 0,
        truncations: 0,
    };
    Ok((cursor, view))
}
