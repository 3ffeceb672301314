//! The write transaction.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::{Error, Page, Prev, Query, Revision, Store};

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

/// What a put replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prior {
    /// The key before the put; `None` when it did not exist.
    pub meta: Option<Meta>,
    /// Its value, or where to find it: [`Txn::resolve`].
    pub prev: Prev,
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
    pub(crate) value: Option<Arc<[u8]>>,
    pub(crate) store: &'a Store,
}

impl Visited<'_> {
    /// The encoded `mvccpb.KeyValue`; read from the engine only if it must be.
    pub fn kv(&self) -> Result<Arc<[u8]>, Error> {
        unimplemented!()
    }

    /// The bare value; read from the engine only if it must be.
    pub fn value(&self) -> Result<Vec<u8>, Error> {
        unimplemented!()
    }
}

/// The one writer. Blocking; owned by whoever applies the log.
pub struct Writer {}

impl Writer {
    /// Starts a transaction.
    pub fn begin(&mut self) -> Txn<'_> {
        unimplemented!()
    }

    /// Everything committed so far belongs to `applied` (an opaque log position): the engine gets it in one atomic
    /// batch with it. Transactions reach the engine only once this has been called after them. Waits while more than
    /// `Options::pending_bytes` are unwritten.
    pub fn set_applied(&mut self, applied: &[u8]) {
        let _ = applied;
        unimplemented!()
    }

    /// Compacts: readers below `revision` are refused from now on, garbage is removed in the background.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let _ = revision;
        unimplemented!()
    }

    /// The read side.
    pub fn store(&self) -> &Store {
        unimplemented!()
    }
}

/// A transaction: all its writes get one main revision. Reads see its own writes.
///
/// Nothing written can be taken back: dropping it commits it as well.
pub struct Txn<'w> {
    _writer: &'w mut Writer,
}

impl Txn<'_> {
    /// Writes a key.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, lease: i64) -> Prior {
        let _ = (key, value, lease);
        unimplemented!()
    }

    /// Deletes a range (etcd's encoding of `end`, see [`Query::end`]).
    pub fn delete_range(
        &mut self,
        key: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
        collect_prev: bool,
    ) -> Result<Deleted, Error> {
        let _ = (key, end, collect_prev);
        unimplemented!()
    }

    /// As [`Store::range`], seeing the writes of this transaction.
    pub fn range(&mut self, query: &Query) -> Result<Page, Error> {
        let _ = query;
        unimplemented!()
    }

    /// What the index knows about a key; `None` when it does not exist.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        let _ = key;
        unimplemented!()
    }

    /// The encoded `mvccpb.KeyValue` of a key; `None` when it does not exist.
    pub fn value(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Error> {
        let _ = key;
        unimplemented!()
    }

    /// The encoded `mvccpb.KeyValue` behind a [`Prev`].
    pub fn resolve(&self, prev: &Prev) -> Result<Option<Arc<[u8]>>, Error> {
        let _ = prev;
        unimplemented!()
    }

    /// Visits the keys of a range in order until the visitor breaks.
    pub fn visit(
        &self,
        key: &[u8],
        end: &[u8],
        visit: &mut dyn FnMut(Visited<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let _ = (key, end, visit);
        unimplemented!()
    }

    /// Sets a row of the key space `System` with this transaction; it makes no revision.
    pub fn put_system(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
        unimplemented!()
    }

    /// Removes a row of the key space `System` with this transaction.
    pub fn delete_system(&mut self, name: &[u8]) {
        let _ = name;
        unimplemented!()
    }

    /// The revision that reads inside this transaction report: the next one as soon as something was written.
    pub fn revision(&self) -> i64 {
        unimplemented!()
    }

    /// Publishes the transaction and returns the newest revision, unchanged when nothing was written.
    pub fn commit(self) -> i64 {
        unimplemented!()
    }
}
