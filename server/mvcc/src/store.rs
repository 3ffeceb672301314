//! The read side of the store.

use std::ops::ControlFlow;
use std::sync::Arc;

use metastore_engine::{Engine, View};

use crate::{
    Counters, Error, EventLimits, Events, Health, Options, Page, Prev, Query, Revision, Writer,
};

/// etcd's hash of the key space, with what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The crc32c of `server/storage/mvcc/hash.go`.
    pub hash: u32,
    /// The compaction revision that it was computed with; -1 when never compacted.
    pub compact_revision: i64,
    /// The revision up to which it was computed.
    pub hash_revision: i64,
    /// The newest revision when it was asked for.
    pub current_revision: i64,
}

/// The whole store at one moment: every uncompacted revision and every system row, as the engine holds them.
pub struct Snapshot {
    /// The engine's rows, pinned.
    pub view: Box<dyn View>,
    /// The applied value that belongs to them.
    pub applied: Option<Vec<u8>>,
    /// The newest revision in it.
    pub revision: i64,
}

/// The read side: cheap to clone, used by any thread.
#[derive(Clone)]
pub struct Store {}

#[allow(unused_variables)]
impl Store {
    /// Opens the store over an engine. Reads the index rows, never a value.
    pub fn open(engine: Arc<dyn Engine>, options: Options) -> Result<(Self, Writer), Error> {
        unimplemented!()
    }

    /// The newest committed revision; 1 when nothing was ever written.
    pub fn revision(&self) -> i64 {
        unimplemented!()
    }

    /// The compaction revision; -1 when never compacted, as etcd says.
    pub fn compact_revision(&self) -> i64 {
        unimplemented!()
    }

    /// The applied value that the engine held when the store was opened.
    pub fn applied(&self) -> Option<Vec<u8>> {
        unimplemented!()
    }

    /// Answers a range request.
    pub fn range(&self, query: &Query) -> Result<Page, Error> {
        unimplemented!()
    }

    /// Answers a range request piece by piece, at one revision.
    pub fn walk(&self, query: Query) -> Result<Walk, Error> {
        unimplemented!()
    }

    /// The changes from revision `from` on: from memory, or from the engine when they are older.
    pub fn events(&self, from: i64, limits: &EventLimits) -> Result<Events, Error> {
        unimplemented!()
    }

    /// The encoded `mvccpb.KeyValue` written at a revision; `None` when it was a deletion or is compacted.
    pub fn value_at(&self, revision: Revision) -> Result<Option<Arc<[u8]>>, Error> {
        unimplemented!()
    }

    /// The encoded `mvccpb.KeyValue` behind a [`Prev`].
    pub fn resolve(&self, prev: &Prev) -> Result<Option<Arc<[u8]>>, Error> {
        unimplemented!()
    }

    /// Calls `told` with each new revision after it has become visible. It must not block.
    pub fn on_commit(&self, told: Arc<dyn Fn(i64) + Send + Sync>) {
        unimplemented!()
    }

    /// etcd's hash of everything up to `revision` (0 is the newest).
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        unimplemented!()
    }

    /// A hash of every row of the engine.
    pub fn hash(&self) -> Result<u32, Error> {
        unimplemented!()
    }

    /// The size that the quota looks at: all uncompacted revisions and a fixed overhead, in bytes.
    pub fn logical_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// The size without what a compaction could remove, in bytes.
    pub fn in_use_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// How many keys there are now.
    pub fn key_count(&self) -> i64 {
        unimplemented!()
    }

    /// A row of the key space `System` as the engine holds it.
    pub fn read_system(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        unimplemented!()
    }

    /// The rows of the key space `System` whose name starts with `prefix`, in order, as the engine holds them.
    pub fn scan_system(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// Visits every key that hangs on a lease now: to rebuild the leases after a restart.
    pub fn leased_keys(&self, visit: &mut dyn FnMut(&[u8], i64)) {
        unimplemented!()
    }

    /// Makes everything up to the last `set_applied` durable and returns the applied value that now is.
    pub fn flush(&self) -> Result<Option<Vec<u8>>, Error> {
        unimplemented!()
    }

    /// A pinned view of the engine at a batch boundary, with everything applied before the call in it.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        unimplemented!()
    }

    /// Whether the garbage below `revision` is gone.
    pub fn compaction_done(&self, revision: i64) -> bool {
        unimplemented!()
    }

    /// Calls `done` once the garbage below `revision` is gone, at once when it is.
    pub fn when_compacted(&self, revision: i64, done: Box<dyn FnOnce() + Send>) {
        unimplemented!()
    }

    /// Whether committed transactions reach the engine.
    pub fn health(&self) -> Health {
        unimplemented!()
    }

    /// Calls `told` whenever [`Store::health`] changes. It must not block.
    pub fn on_health(&self, told: Arc<dyn Fn(&Health) + Send + Sync>) {
        unimplemented!()
    }

    /// Numbers for the metrics.
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }

    /// The engine below.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        unimplemented!()
    }
}

/// A long answer at one revision; holds no lock between two calls.
pub struct Walk {}

#[allow(unused_variables)]
impl Walk {
    /// The next piece of about `byte_budget` bytes, at least one key; `None` after the last one. Every piece carries
    /// the range's `count` and the header's `revision`, the last one `more`.
    pub fn next(&mut self, byte_budget: usize) -> Result<Option<Page>, Error> {
        unimplemented!()
    }
}
