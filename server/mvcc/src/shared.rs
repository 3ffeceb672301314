//! What the read side, the writer and the threads share: one store over one engine.
//!
//! Locks, in the order in which they may be taken: `index`, then `recent`, then those inside `pins` and `persister`.
//! No lock is held while the engine is called or a listener told.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use metastore_engine::Engine;
use parking_lot::RwLock;

use crate::compaction::Compaction;
use crate::index::{Entry, Key, Pass, Tree, Version};
use crate::persister::Persister;
use crate::pins::Pins;
use crate::read::span::Span;
use crate::recent::Recent;
use crate::revision::Revision;
use crate::size::{EMPTY_STORE_BYTES, revision_bytes};
use crate::tally::Tally;
use crate::{Error, Event, Health, Options};

/// Hears of each new revision.
type OnCommit = Arc<dyn Fn(i64) + Send + Sync>;
/// Hears of each change of the store's health.
type OnHealth = Arc<dyn Fn(&Health) + Send + Sync>;

/// Those who want to be told. They outlive a replacement of the store's content.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) commit: RwLock<Vec<OnCommit>>,
    pub(crate) health: RwLock<Vec<OnHealth>>,
}

/// Everything of one store.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) options: Options,
    pub(crate) index: RwLock<Index>,
    pub(crate) recent: RwLock<Recent>,
    /// The newest committed main revision. Grows under the write lock of `index`, after `recent` has its changes.
    pub(crate) revision: AtomicI64,
    /// Reads below are refused; -1 when never compacted. Grows under the write lock of `index`.
    pub(crate) compact_revision: AtomicI64,
    pub(crate) pins: Arc<Pins>,
    pub(crate) persister: Persister,
    pub(crate) compaction: Compaction,
    pub(crate) listeners: Arc<Listeners>,
    /// The applied value found at the opening.
    pub(crate) opened_applied: Option<Vec<u8>>,
    pub(crate) engine_reads: AtomicU64,
    pub(crate) tally: Arc<Tally>,
}

/// The key index with the sums that follow it.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) tree: Tree,
    /// The main revision of the newest write in the tree; above the committed one while a transaction is open.
    pub(crate) tip: i64,
    /// The changes of the open transaction.
    pub(crate) open: Vec<Event>,
    /// Bytes of all revisions in the tree, and of the live keys' newest ones.
    logical: u64,
    in_use: u64,
    cache: Cache,
}

/// The bound on cached values, kept by a clock hand that moves from leaf to leaf.
#[derive(Debug, Default)]
struct Cache {
    bytes: usize,
    budget: usize,
    /// Leaves whose smallest key may be this one are next.
    hand: Box<[u8]>,
    /// What has been evicted, to be freed by a thread that nobody waits for.
    evicted: Vec<Arc<[u8]>>,
}

/// Beyond so many evicted values the writer frees them itself.
const EVICTED: usize = 64 << 10;

impl Shared {
    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn compact_revision(&self) -> i64 {
        self.compact_revision.load(Ordering::Acquire)
    }

    pub(crate) fn compacted(&self) -> Error {
        Error::Compacted {
            compact_revision: self.compact_revision(),
        }
    }

    /// Ends the threads and wakes whoever waits for them.
    pub(crate) fn stop(&self) {
        self.persister.stop();
        self.compaction.stop();
    }

    pub(crate) fn tell_commit(&self, revision: i64) {
        for told in self.listeners.commit.read().iter() {
            told(revision);
        }
    }

    pub(crate) fn tell_health(&self) {
        let health = self.persister.health();
        for told in self.listeners.health.read().iter() {
            told(&health);
        }
    }
}

impl Index {
    /// An index over a loaded tree, the newest write at main revision `tip`.
    pub(crate) fn loaded(tree: Tree, sizes: (u64, u64), tip: i64, budget: usize) -> Self {
        Self {
            tree,
            tip,
            logical: sizes.0,
            in_use: sizes.1,
            cache: Cache {
                budget,
                ..Cache::default()
            },
            open: Vec::new(),
        }
    }

    /// The size that the quota looks at.
    pub(crate) fn logical_bytes(&self) -> u64 {
        EMPTY_STORE_BYTES + self.logical
    }

    /// The size of the live keys.
    pub(crate) fn in_use_bytes(&self) -> u64 {
        EMPTY_STORE_BYTES + self.in_use
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cache.bytes
    }

    /// Whether a value of `bytes` fits into the cache without evicting another.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.cache.bytes + bytes <= self.cache.budget
    }

    /// Follows a write: `version` came, `superseded` was the newest.
    pub(crate) fn count_write(&mut self, version: &Version, superseded: Option<&Version>) {
        let bytes = revision_bytes(version.record_len);
        self.logical += bytes;
        if version.is_live() {
            self.in_use += bytes;
        }
        if let Some(old) = superseded.filter(|old| old.is_live()) {
            self.in_use -= revision_bytes(old.record_len);
        }
    }

    /// Follows the removal of a superseded version.
    pub(crate) fn count_removal(&mut self, version: &Version) {
        self.logical -= revision_bytes(version.record_len);
    }

    /// Follows a change of what is cached, and lets the hand move on when that is too much.
    pub(crate) fn count_cached(&mut self, added: usize, removed: usize) {
        self.cache.bytes = self.cache.bytes + added - removed;
        if self.cache.bytes > self.cache.budget {
            self.sweep();
        }
    }

    /// Whether values are cached at all.
    pub(crate) fn caches(&self) -> bool {
        self.cache.budget > 0
    }

    /// Puts a value read from the engine into the cache, if its key still has it and no reader is in the way.
    pub(crate) fn admit(&mut self, key: &[u8], revision: Revision, kv: Arc<[u8]>) {
        let bytes = kv.len();
        let Some(entry) = self.tree.try_get_mut(key) else {
            return;
        };
        if entry.value.is_none() && entry.current.revision() == revision && entry.is_live() {
            entry.value = Some(kv);
            self.count_cached(bytes, 0);
        }
    }

    /// Visits one leaf: values read since the last visit stay, others go. One that a reader is going through is left alone.
    fn sweep(&mut self) {
        let (leaf, fence) = self.tree.leaf_mut(&self.cache.hand);
        self.cache.hand = fence.unwrap_or_default();
        let Some(leaf) = Arc::get_mut(leaf) else {
            return;
        };
        let touched = leaf.take_touched();
        let mut freed = 0;
        for at in 0..leaf.entries().len() {
            if touched >> at & 1 == 0
                && let Some(value) = leaf.entry_mut(at).value.take()
            {
                freed += value.len();
                self.cache.evicted.push(value);
            }
        }
        self.cache.bytes -= freed;
        if self.cache.evicted.len() >= EVICTED {
            self.cache.evicted.clear();
        }
    }

    /// Takes the evicted values away; to be dropped without the lock.
    pub(crate) fn take_evicted(&mut self) -> Vec<Arc<[u8]>> {
        std::mem::take(&mut self.cache.evicted)
    }

    /// Visits the live entries of a range, of more than one key, in order.
    pub(crate) fn visit_live(
        &self,
        span: Span<'_>,
        visit: &mut dyn FnMut(Key<'_>, &Entry) -> ControlFlow<()>,
    ) {
        let _ = self.tree.walk(
            span.from,
            span.bound(),
            Pass::DeadSubtrees,
            &mut |leaf, range| {
                let live = range.filter(|at| leaf.entries()[*at].is_live());
                for at in live {
                    visit(leaf.key(at), &leaf.entries()[at])?;
                }
                ControlFlow::Continue(())
            },
        );
    }
}
