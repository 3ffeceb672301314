//! The write transaction.
//!
//! Promises etcd's semantics (`server/storage/mvcc/kvstore_txn.go`): one main revision for all writes of a
//! transaction, one sub revision for each; reads inside see them, readers outside only the whole.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use metastore_engine::{Batch, Space};

use crate::index::Version;
use crate::persister::pending_cost;
use crate::read::range::TAG_PREV_KVS;
use crate::read::scan::{Direction, Next, Scan};
use crate::read::span::Span;
use crate::record::KeyValue;
use crate::shared::Shared;
use crate::tally::Operations;
use crate::{Error, Page, Prev, Query, Revision, Store, compaction};

/// Keys deleted per lock.
const DELETED_PER_LOCK: usize = 64;

/// What the index knows about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that wrote it last.
    pub mod_revision: Revision,
    /// How often it was written since its creation.
    pub version: i64,
    /// The lease it hangs on; 0 is none.
    pub lease: i64,
}

impl Meta {
    pub(crate) fn of(version: &Version, lease: i64) -> Self {
        Self {
            create_revision: version.create,
            mod_revision: version.revision(),
            version: version.version,
            lease,
        }
    }
}

/// What a put replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prior {
    /// The key before the put; `None` when it did not exist.
    pub meta: Option<Meta>,
    /// The way to its value: [`Txn::resolve`].
    pub prev: Replaced,
}

/// The way to the key-value that a put of the open transaction has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// The revision of the put.
    pub(crate) by: Revision,
    /// The change that was replaced, by its number, if it is one of the same transaction.
    pub(crate) own: Option<u32>,
}

/// What a range deletion removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many keys.
    pub count: i64,
    /// If asked for: the key-values, encoded as field 3 of `DeleteRangeResponse` (tag 0x1a each).
    pub kvs: Vec<u8>,
    /// The deleted keys that hung on a lease, with that lease.
    pub leased: Vec<(Box<[u8]>, i64)>,
}

/// One key during [`Txn::visit`].
pub struct Visited<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What the index knows about it.
    pub meta: Meta,
    value: Option<&'a Arc<[u8]>>,
    shared: &'a Shared,
}

impl Visited<'_> {
    /// The encoded `mvccpb.KeyValue`; read from the engine only if it must be.
    pub fn kv(&self) -> Result<Arc<[u8]>, Error> {
        match self.value {
            Some(kv) => Ok(Arc::clone(kv)),
            None => self.shared.must_fetch(self.meta.mod_revision),
        }
    }

    /// The bare value; read from the engine only if it must be.
    pub fn value(&self) -> Result<Vec<u8>, Error> {
        let kv = self.kv()?;
        let decoded = KeyValue::decode(&kv);
        Ok(decoded.map_or_else(Vec::new, |kv| kv.value.to_vec()))
    }
}

/// The one writer. Blocking; owned by whoever applies the log. Dropping it stops the threads of the store; what has
/// not been flushed by then is for the log to bring again.
pub struct Writer {
    store: Store,
    shared: Arc<Shared>,
    /// System rows since the last mark.
    system: Batch,
    /// The sequence number after the newest committed change.
    sequence: u64,
    unmarked_bytes: usize,
    scratch: Vec<u8>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn new(store: Store, shared: Arc<Shared>, threads: Vec<JoinHandle<()>>) -> Self {
        Self {
            store,
            shared,
            system: Batch::new(),
            sequence: 0,
            unmarked_bytes: 0,
            scratch: Vec::new(),
            threads,
        }
    }

    /// Starts a transaction.
    pub fn begin(&mut self) -> Txn<'_> {
        let main = self.shared.revision() + 1;
        Txn {
            writer: self,
            main,
            writes: 0,
            committed: false,
            done: Operations::default(),
        }
    }

    /// Everything committed so far belongs to `applied` (an opaque log position): the engine gets it in one atomic
    /// batch with it. Transactions reach the engine only once this has been called after them. Waits while more than
    /// `Options::pending_bytes` are unwritten.
    pub fn set_applied(&mut self, applied: &[u8]) {
        self.shared.persister.mark(
            self.sequence,
            std::mem::take(&mut self.unmarked_bytes),
            &mut self.system,
            applied,
            self.shared.options.pending_bytes,
        );
    }

    /// Compacts: readers below `revision` are refused from now on, garbage is removed in the background, but not
    /// before the next `set_applied` has reached the engine.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let shared = &self.shared;
        {
            let _index = shared.index.write();
            if revision <= shared.compact_revision() {
                return Err(shared.compacted());
            }
            let newest = shared.revision();
            if revision > newest {
                return Err(Error::FutureRevision { revision: newest });
            }
            shared.compact_revision.store(revision, Ordering::Release);
        }
        self.system.put(
            Space::System,
            compaction::SCHEDULED,
            &revision.to_be_bytes(),
        );
        let mark = shared.persister.next_number();
        shared.compaction.schedule(revision, mark);
        Ok(())
    }

    /// The read side.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

/// A transaction: all its writes get one main revision. Reads see its own writes.
///
/// Nothing written can be taken back: dropping it commits it as well.
pub struct Txn<'w> {
    writer: &'w mut Writer,
    main: i64,
    writes: u32,
    committed: bool,
    done: Operations,
}

impl Txn<'_> {
    /// Writes a key.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, lease: i64) -> Prior {
        let (key, value) = (key.as_ref(), value.as_ref());
        let revision = self.next_revision();
        self.done.puts += 1;
        self.done.put_bytes += (key.len() + value.len()) as u64;
        let writer = &mut *self.writer;
        writer
            .shared
            .index
            .write()
            .put((key, value), lease, revision, &mut writer.scratch)
    }

    /// Deletes a range (etcd's encoding of `end`, see [`Query::end`]).
    pub fn delete_range(
        &mut self,
        key: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
        collect_prev: bool,
    ) -> Result<Deleted, Error> {
        let (key, end) = (key.as_ref(), end.as_ref());
        self.done.deletions += 1;
        let mut deleted = Deleted::default();
        if collect_prev {
            let query = Query::range(key.to_vec(), end.to_vec());
            let own = Some(self.revision());
            let page = self
                .writer
                .shared
                .range_in_order(&query, own, TAG_PREV_KVS)?;
            deleted.kvs = page.kvs;
        }
        let span = Span::decode(key, end);
        if span.is_one() {
            self.delete_keys(&[key], &mut deleted);
            return Ok(deleted);
        }
        let shared = Arc::clone(&self.writer.shared);
        let mut from = key.to_vec();
        loop {
            // What has been deleted is not met again, so that each step begins where the one before began.
            let mut keys: Vec<Box<[u8]>> = Vec::with_capacity(DELETED_PER_LOCK);
            let rest = Span {
                from: &from,
                ..span
            };
            shared.index.read().visit_live(rest, &mut |key, _| {
                keys.push(key.to_boxed());
                if keys.len() < DELETED_PER_LOCK {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            let Some(last) = keys.last() else {
                return Ok(deleted);
            };
            from = last.to_vec();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
            self.delete_keys(&keys, &mut deleted);
        }
    }

    fn delete_keys(&mut self, keys: &[&[u8]], deleted: &mut Deleted) {
        let writer = &mut *self.writer;
        let mut index = writer.shared.index.write();
        for key in keys {
            let revision = Revision {
                main: self.main,
                sub: self.writes,
            };
            let Some(meta) = index.delete(key, revision, &mut writer.scratch) else {
                continue;
            };
            self.writes += 1;
            deleted.count += 1;
            if meta.lease != 0 {
                deleted.leased.push(((*key).into(), meta.lease));
            }
        }
    }

    /// As [`Store::range`], seeing the writes of this transaction.
    pub fn range(&mut self, query: &Query) -> Result<Page, Error> {
        self.note_range();
        self.writer.shared.range(query, Some(self.revision()))
    }

    /// Counts a range that the request asks for and that is answered in another way (see
    /// [`crate::Counters::ranges`]).
    pub fn note_range(&self) {
        self.done.ranges.set(self.done.ranges.get() + 1);
    }

    /// Counts what was done so far as a transaction of its own: etcd evaluates compares in one, and writes in the
    /// next (`server/etcdserver/txn/txn.go`).
    pub fn end_reads(&mut self) {
        let done = std::mem::take(&mut self.done);
        self.writer.shared.tally.note(&done);
    }

    /// What the index knows about a key; `None` when it does not exist.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        let index = self.writer.shared.index.read();
        let entry = index.tree.get(key)?;
        entry
            .is_live()
            .then(|| Meta::of(&entry.current, entry.lease))
    }

    /// The encoded `mvccpb.KeyValue` of a key; `None` when it does not exist.
    pub fn value(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Error> {
        let shared = &self.writer.shared;
        let revision = {
            let index = shared.index.read();
            match index.tree.get(key).filter(|entry| entry.is_live()) {
                None => return Ok(None),
                Some(entry) => match &entry.value {
                    Some(kv) => return Ok(Some(Arc::clone(kv))),
                    None => entry.current.revision(),
                },
            }
        };
        shared.must_fetch(revision).map(Some)
    }

    /// The encoded `mvccpb.KeyValue` that a put of this transaction has replaced; `None` when there was none.
    pub fn resolve(&self, prev: &Replaced) -> Result<Option<Arc<[u8]>>, Error> {
        let shared = &self.writer.shared;
        let prev = {
            let index = shared.index.read();
            let event = index.open.get(prev.by.sub as usize);
            let event = event.filter(|event| event.revision == prev.by);
            match (event, prev.own) {
                (None, _) => Prev::None,
                (Some(event), None) => event.prev.clone(),
                (Some(_), Some(own)) => Prev::Cached(Arc::clone(&index.open[own as usize].kv)),
            }
        };
        shared.resolve(&prev)
    }

    /// Visits the keys of a range in order until the visitor breaks.
    pub fn visit(
        &self,
        key: &[u8],
        end: &[u8],
        visit: &mut dyn FnMut(Visited<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let shared = &*self.writer.shared;
        let mut scan = Scan::new(Span::decode(key, end), self.revision(), Direction::Up);
        let mut broken = ControlFlow::Continue(());
        let mut key = Vec::new();
        while !scan.is_done() && broken.is_continue() {
            scan.step(shared, usize::MAX, &mut |found| {
                broken = visit(Visited {
                    key: found.key.read_into(&mut key),
                    meta: Meta::of(found.version, found.entry.lease),
                    value: found.value,
                    shared,
                });
                if broken.is_continue() {
                    Next::Go(0)
                } else {
                    Next::Stop
                }
            })?;
        }
        Ok(())
    }

    /// Sets a row of the key space `System` with this transaction; it makes no revision. Names that start with
    /// `mvcc/` are the store's own.
    pub fn put_system(&mut self, name: &[u8], value: &[u8]) {
        self.writer.system.put(Space::System, name, value);
    }

    /// Removes a row of the key space `System` with this transaction.
    pub fn delete_system(&mut self, name: &[u8]) {
        self.writer.system.delete(Space::System, name);
    }

    /// The revision that reads inside this transaction report: the next one as soon as something was written.
    pub fn revision(&self) -> i64 {
        if self.writes == 0 {
            self.main - 1
        } else {
            self.main
        }
    }

    /// Publishes the transaction and returns the newest revision, unchanged when nothing was written.
    pub fn commit(mut self) -> i64 {
        self.finish();
        self.revision()
    }

    fn next_revision(&mut self) -> Revision {
        let sub = self.writes;
        self.writes += 1;
        Revision {
            main: self.main,
            sub,
        }
    }

    fn finish(&mut self) {
        self.end_reads();
        if self.committed || self.writes == 0 {
            return;
        }
        self.committed = true;
        let writer = &mut *self.writer;
        let shared = &writer.shared;
        {
            let mut index = shared.index.write();
            writer.sequence += index.open.len() as u64;
            writer.unmarked_bytes += index.open.iter().map(pending_cost).sum::<usize>();
            shared.recent.write().append(&mut index.open);
            shared.revision.store(self.main, Ordering::Release);
        }
        shared.tell_commit(self.main);
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}
