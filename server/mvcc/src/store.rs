//! The read side of the store, and its opening.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use metastore_engine::{Engine, Space, View, Visit};
use parking_lot::RwLock;

use crate::compaction::{self, Compaction};
use crate::open::load;
use crate::persister::{self, Persister};
use crate::pins::Pins;
use crate::read::span::{Span, To};
use crate::recent::Recent;
use crate::shared::{Index, Listeners, Shared};
use crate::tally::Tally;
use crate::{
    Counters, Error, EventLimits, Events, HashKv, Health, Options, Page, Prev, Query, Revision,
    Times, Walk, Writer,
};

/// Keys copied per lock while leases are rebuilt.
const LEASED_PER_LOCK: usize = 256;

/// The whole store at one moment: every uncompacted revision and every system row, as the engine holds them.
pub struct Snapshot {
    /// The engine's rows, pinned.
    pub view: Box<dyn View>,
    /// The applied value that belongs to them.
    pub applied: Option<Vec<u8>>,
}

/// The read side: cheap to clone, used by any thread. Reads may block on the engine's disk, and only on that.
#[derive(Clone)]
pub struct Store {
    place: Arc<Place>,
}

/// Where the clones of a store find its content, which may be replaced as a whole.
struct Place {
    shared: ArcSwap<Shared>,
}

impl Store {
    /// Opens the store over an engine. Reads the index rows, never a value.
    pub fn open(engine: Arc<dyn Engine>, options: Options) -> Result<(Self, Writer), Error> {
        let (shared, threads) = start(engine, options, Kept::default())?;
        let place = Place {
            shared: ArcSwap::new(Arc::clone(&shared)),
        };
        let store = Self {
            place: Arc::new(place),
        };
        let writer = Writer::new(store.clone(), shared, threads);
        Ok((store, writer))
    }

    /// Puts the content of another engine in the place of the present one, for all clones of this store at once: for a
    /// state received from another member. The writer of the old content must write no more; reads that are under way
    /// end on the old content. Listeners stay and are told the new revision.
    pub fn replace(&self, engine: Arc<dyn Engine>) -> Result<(Self, Writer), Error> {
        let (options, kept) = {
            let old = self.shared();
            let kept = Kept {
                listeners: Arc::clone(&old.listeners),
                tally: Arc::clone(&old.tally),
            };
            (old.options.clone(), kept)
        };
        let (shared, threads) = start(engine, options, kept)?;
        let old = self.place.shared.swap(Arc::clone(&shared));
        old.stop();
        shared.tell_commit(shared.revision());
        let writer = Writer::new(self.clone(), shared, threads);
        Ok((self.clone(), writer))
    }

    fn shared(&self) -> Guard<Arc<Shared>> {
        self.place.shared.load()
    }

    /// The newest committed revision; 1 when nothing was ever written.
    pub fn revision(&self) -> i64 {
        self.shared().revision()
    }

    /// The compaction revision; -1 when never compacted, as etcd says.
    pub fn compact_revision(&self) -> i64 {
        self.shared().compact_revision()
    }

    /// The applied value that the engine held when the store was opened.
    pub fn applied(&self) -> Option<Vec<u8>> {
        self.shared().opened_applied.clone()
    }

    /// Answers a range request.
    pub fn range(&self, query: &Query) -> Result<Page, Error> {
        let shared = self.shared();
        shared.tally.ranges.fetch_add(1, Ordering::Relaxed);
        shared.range(query, None)
    }

    /// Answers a range request piece by piece, at one revision.
    pub fn walk(&self, query: Query) -> Result<Walk, Error> {
        let shared = self.place.shared.load_full();
        shared.tally.ranges.fetch_add(1, Ordering::Relaxed);
        Walk::new(shared, query)
    }

    /// The changes from revision `from` on: from memory, or from the engine when they are older.
    pub fn events(&self, from: i64, limits: &EventLimits) -> Result<Events, Error> {
        self.shared().events(from, limits)
    }

    /// The encoded `mvccpb.KeyValue` written at a revision; `None` when it was a deletion or is compacted.
    pub fn value_at(&self, revision: Revision) -> Result<Option<Arc<[u8]>>, Error> {
        Ok(self.shared().fetch_one(revision)?.map(Arc::from))
    }

    /// The encoded `mvccpb.KeyValue` behind a [`Prev`].
    pub fn resolve(&self, prev: &Prev) -> Result<Option<Arc<[u8]>>, Error> {
        self.shared().resolve(prev)
    }

    /// Calls `told` with each new revision after it has become visible. It must not block.
    pub fn on_commit(&self, told: Arc<dyn Fn(i64) + Send + Sync>) {
        self.shared().listeners.commit.write().push(told);
    }

    /// etcd's hash of everything up to `revision` (0 is the newest; of a negative one it is that of nothing).
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let (shared, since) = (self.place.shared.load_full(), Instant::now());
        let hash = shared.hash_kv(revision)?;
        shared.tally.times.hash_kv.observe_time(since.elapsed());
        Ok(hash)
    }

    /// A hash of every row of the engine.
    pub fn hash(&self) -> Result<u32, Error> {
        let (shared, since) = (self.place.shared.load_full(), Instant::now());
        let hash = shared.hash()?;
        shared.tally.times.hash.observe_time(since.elapsed());
        Ok(hash)
    }

    /// The size that the quota looks at: all revisions that are not compacted away, and a fixed overhead, in bytes.
    pub fn logical_bytes(&self) -> u64 {
        self.shared().index.read().logical_bytes()
    }

    /// The size without what a compaction could remove, in bytes.
    pub fn in_use_bytes(&self) -> u64 {
        self.shared().index.read().in_use_bytes()
    }

    /// How many keys there are now.
    pub fn key_count(&self) -> i64 {
        self.shared().index.read().tree.live() as i64
    }

    /// A row of the key space `System` as the engine holds it.
    pub fn read_system(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.shared().engine.get(Space::System, name)?)
    }

    /// The rows of the key space `System` whose name starts with `prefix`, in order, as the engine holds them.
    pub fn scan_system(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), Error> {
        self.shared()
            .engine
            .scan(Space::System, prefix, None, &mut |name, value| {
                if !name.starts_with(prefix) {
                    return ControlFlow::Break(());
                }
                visit(name, value)
            })?;
        Ok(())
    }

    /// Visits every key that hangs on a lease now, in order: to rebuild the leases after a restart.
    pub fn leased_keys(&self, visit: &mut dyn FnMut(&[u8], i64)) {
        let mut from: Vec<u8> = Vec::new();
        loop {
            let mut met: Vec<(Box<[u8]>, i64)> = Vec::with_capacity(LEASED_PER_LOCK);
            let span = Span {
                from: &from,
                to: To::End,
            };
            self.shared()
                .index
                .read()
                .visit_live(span, &mut |key, entry| {
                    met.push((key.to_boxed(), entry.lease));
                    if met.len() < LEASED_PER_LOCK {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
            for (key, lease) in met.iter().filter(|(_, lease)| *lease != 0) {
                visit(key, *lease);
            }
            if met.len() < LEASED_PER_LOCK {
                return;
            }
            from.clear();
            from.extend_from_slice(&met[LEASED_PER_LOCK - 1].0);
            from.push(0);
        }
    }

    /// Makes everything up to the last `set_applied` durable and returns the applied value that now is.
    pub fn flush(&self) -> Result<Option<Vec<u8>>, Error> {
        let shared = self.place.shared.load_full();
        let applied = shared.persister.drain()?;
        let since = Instant::now();
        shared.engine.flush()?;
        shared.tally.times.flush.observe_time(since.elapsed());
        Ok(applied)
    }

    /// A pinned view of the engine at a batch boundary, with everything in it that was applied before the call.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let shared = self.place.shared.load_full();
        shared.persister.drain()?;
        drop(shared);
        self.written_snapshot()
    }

    /// As [`Store::snapshot`], of what the engine holds already: for when it has no room for more.
    pub fn written_snapshot(&self) -> Result<Snapshot, Error> {
        let view = self.shared().engine.view()?;
        let applied = view.get(Space::System, persister::APPLIED)?;
        Ok(Snapshot { view, applied })
    }

    /// Whether the garbage below `revision` is gone.
    pub fn compaction_done(&self, revision: i64) -> bool {
        self.shared().compaction.is_done(revision)
    }

    /// Calls `done` once the garbage below `revision` is gone, at once when it is. When the store stops before, `done`
    /// is dropped without a call.
    pub fn when_compacted(&self, revision: i64, done: Box<dyn FnOnce() + Send>) {
        self.shared().compaction.when_done(revision, done);
    }

    /// Whether the engine is so far behind that writes may soon have to wait for it.
    pub fn is_behind(&self) -> bool {
        let shared = self.shared();
        shared
            .persister
            .has_pending(shared.options.pending_bytes / 2)
    }

    /// Whether committed transactions reach the engine.
    pub fn health(&self) -> Health {
        self.shared().persister.health()
    }

    /// Calls `told` whenever [`Store::health`] changes. It must not block.
    pub fn on_health(&self, told: Arc<dyn Fn(&Health) + Send + Sync>) {
        self.shared().listeners.health.write().push(told);
    }

    /// Ends the threads of the store after what they have at hand, and wakes a writer that waits for them. Nothing
    /// reaches the engine any more.
    pub fn stop(&self) {
        self.shared().stop();
    }

    /// Numbers for the metrics.
    pub fn counters(&self) -> Counters {
        let shared = self.shared();
        let counts = shared.persister.counts();
        let tally = &shared.tally;
        Counters {
            pending_bytes: counts.pending_bytes as u64,
            back_pressure_waits: counts.back_pressure_waits,
            cached_bytes: shared.index.read().cached_bytes() as u64,
            recent_bytes: shared.recent.read().bytes() as u64,
            batches_written: counts.batches_written,
            write_errors: counts.write_errors,
            compacted_revisions: shared.compaction.removed(),
            engine_reads: shared.engine_reads.load(Ordering::Relaxed),
            ranges: tally.ranges.load(Ordering::Relaxed),
            puts: tally.puts.load(Ordering::Relaxed),
            put_bytes: tally.put_bytes.load(Ordering::Relaxed),
            deletions: tally.deletions.load(Ordering::Relaxed),
            transactions: tally.transactions.load(Ordering::Relaxed),
            open_reads: shared.pins.count() as u64,
            last_compaction: tally.last_compaction.load(Ordering::Relaxed),
        }
    }

    /// Times for the metrics.
    pub fn times(&self) -> Arc<Times> {
        Arc::clone(&self.shared().tally.times)
    }

    /// Counts a transaction that only read, and of more than one range (see [`Counters::transactions`]).
    pub fn note_transaction(&self) {
        let transactions = &self.shared().tally.transactions;
        transactions.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine below.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.shared().engine)
    }
}

/// What outlives a replacement of the content.
#[derive(Default)]
struct Kept {
    listeners: Arc<Listeners>,
    tally: Arc<Tally>,
}

/// Loads what an engine holds and starts the threads.
fn start(
    engine: Arc<dyn Engine>,
    options: Options,
    kept: Kept,
) -> Result<(Arc<Shared>, Vec<JoinHandle<()>>), Error> {
    let loaded = load(&*engine)?;
    let budget = options.value_cache_bytes;
    let index = Index::loaded(loaded.tree, loaded.sizes, loaded.revision, budget);
    let shared = Arc::new(Shared {
        engine,
        options,
        index: RwLock::new(index),
        recent: RwLock::new(Recent::after(loaded.revision)),
        revision: AtomicI64::new(loaded.revision),
        compact_revision: AtomicI64::new(loaded.scheduled),
        pins: Arc::new(Pins::default()),
        persister: Persister::new(loaded.applied.clone()),
        compaction: Compaction::resumed(loaded.scheduled, loaded.finished),
        listeners: kept.listeners,
        opened_applied: loaded.applied,
        engine_reads: AtomicU64::new(0),
        tally: kept.tally,
    });
    let threads = vec![
        spawn("mvcc-persister", &shared, persister::run)?,
        spawn("mvcc-compaction", &shared, compaction::run)?,
    ];
    Ok((shared, threads))
}

fn spawn(name: &str, shared: &Arc<Shared>, run: fn(&Shared)) -> Result<JoinHandle<()>, Error> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&shared))
        .map_err(|error| Error::Thread(error.to_string()))
}
