//! Reading from RocksDB, as it is now or through a snapshot.
//!
//! Promises: every read verifies the blocks' checksums; a scan does not push single reads' blocks
//! out of the cache.

use std::ops::ControlFlow;
use std::sync::Arc;

use rocksdb::{DB, DBPinnableSlice, ReadOptions, Snapshot};
use self_cell::self_cell;

use super::{Database, failed, family};
use crate::{Error, Read, Space, View};

/// Reads of the present, or of a snapshot.
pub(super) struct Reader<'a> {
    pub(super) db: &'a DB,
    pub(super) snapshot: Option<&'a Snapshot<'a>>,
}

self_cell!(
    /// A snapshot with its share in the database, so that it may outlive the engine.
    pub(super) struct Pinned {
        owner: Arc<Database>,
        #[covariant]
        dependent: Snapshot,
    }
);

impl Reader<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    fn failed(&self, error: rocksdb::Error) -> Error {
        failed("read", self.db.path(), error)
    }
}

impl Read for Reader<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self
            .db
            .get_pinned_cf_opt(family(self.db, space), key, &self.options())
            .map_err(|error| self.failed(error))?;
        Ok(value.map(copy))
    }

    fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let keys = keys.iter().copied();
        self.db
            .batched_multi_get_cf_opt(family(self.db, space), keys, true, &self.options())
            .into_iter()
            .map(|value| value.map(|value| value.map(copy)))
            .collect::<Result<_, _>>()
            .map_err(|error| self.failed(error))
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let mut options = self.options();
        options.fill_cache(false);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = self.db.raw_iterator_cf_opt(family(self.db, space), options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| self.failed(error))
    }
}

impl Pinned {
    fn reader(&self) -> Reader<'_> {
        Reader {
            db: &self.borrow_owner().db,
            snapshot: Some(self.borrow_dependent()),
        }
    }
}

impl Read for Pinned {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.reader().get(space, key)
    }

    fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.reader().get_many(space, keys)
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.reader().scan(space, from, to, visit)
    }
}

impl View for Pinned {}

fn copy(value: DBPinnableSlice<'_>) -> Vec<u8> {
    value.to_vec()
}
