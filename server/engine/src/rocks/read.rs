//! Reading from RocksDB, as it is now or through a snapshot.
//!
//! Promises: every read verifies the blocks' checksums; a scan does not push single reads' blocks
//! out of the cache.

use std::sync::Arc;

use rocksdb::{DB, DBPinnableSlice, ReadOptions, Snapshot};
use self_cell::self_cell;

use super::{Database, failed, family};
use crate::{Error, Read, Space, View, Visit};

/// Keys after which it is decided anew whether they are adjacent.
const SAMPLE: usize = 16;

/// Rows walked over to reach the next key before looking for it.
const STEPS: usize = 4;

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

    /// Gets the first of `keys` by walking from row to row, and goes on as long as that finds
    /// enough of them: then it costs a fifth of looking for each.
    fn get_adjacent(
        &self,
        space: Space,
        keys: &[&[u8]],
        values: &mut Vec<Option<Vec<u8>>>,
    ) -> Result<(), Error> {
        let mut rows = self
            .db
            .raw_iterator_cf_opt(family(self.db, space), self.options());
        let mut seeks = 0;
        for (number, &key) in keys.iter().enumerate() {
            if number % SAMPLE == 0 {
                if seeks > SAMPLE / 4 {
                    return Ok(());
                }
                seeks = 0;
            }
            let mut steps = 0;
            while steps < STEPS && rows.key().is_some_and(|found| found < key) {
                rows.next();
                steps += 1;
            }
            if rows.key().is_none_or(|found| found < key) {
                rows.status().map_err(|error| self.failed(error))?;
                rows.seek(key);
                seeks += 1;
            }
            let row = rows.item().filter(|(found, _)| *found == key);
            values.push(row.map(|(_, value)| value.to_vec()));
        }
        rows.status().map_err(|error| self.failed(error))
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
        let mut values = Vec::with_capacity(keys.len());
        if keys.len() >= SAMPLE {
            self.get_adjacent(space, keys, &mut values)?;
        }
        let rest = keys[values.len()..].iter().copied();
        let found =
            self.db
                .batched_multi_get_cf_opt(family(self.db, space), rest, true, &self.options());
        for value in found {
            let value = value.map_err(|error| self.failed(error))?;
            values.push(value.map(copy));
        }
        Ok(values)
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
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
        visit: Visit<'_>,
    ) -> Result<(), Error> {
        self.reader().scan(space, from, to, visit)
    }
}

impl View for Pinned {}

fn copy(value: DBPinnableSlice<'_>) -> Vec<u8> {
    value.to_vec()
}
