//! The RocksDB engine: a column family for each space, no write-ahead log, atomic flushes.
//!
//! Batches go to the memtables of the three families at once and reach the disk together, since
//! one manifest record names the tables of a flush of all of them. So the files are always at a
//! batch boundary. Must not know what rows mean.
//!
//! Errors of the disk: a full disk refuses `write` and `flush` until there is room again, which
//! RocksDB looks for every five seconds; nothing is lost meanwhile. Any other failed write or sync
//! is final: every later `write` and `flush` fails, reads go on, and the engine must be opened
//! anew, which is a restart of the process, since what was not flushed is lost.

mod options;
mod read;
mod reclaim;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    Cache, ColumnFamily, DB, ErrorKind, FlushOptions, WriteBatch, WriteOptions, properties,
};

use crate::batch::Operation;
use crate::directory::{self, Directory};
use crate::{Batch, Engine, Error, Kind, Options, Progress, Read, Space, View};
use read::{Pinned, Reader};

/// Where RocksDB's own files are, inside the engine's directory.
const FOLDER: &str = "rocksdb";

/// Bytes that RocksDB adds to an operation at most: kind, family and two lengths.
const OPERATION_OVERHEAD: usize = 16;

/// An engine in RocksDB. See the module for what it promises.
pub(crate) struct RocksEngine {
    // Closed before the lock on the directory is given back.
    db: Arc<DB>,
    cache: Cache,
    write_options: WriteOptions,
    directory: Directory,
}

impl RocksEngine {
    /// Opens or creates the database in `path`.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let directory = Directory::open(path, Kind::RocksDb)?;
        let folder = directory.path().join(FOLDER);
        let cache = Cache::new_lru_cache(options.memory_budget_bytes);
        let database = options::database(options, &cache);
        let families =
            Space::ALL.map(|space| (family_name(space), options::family(options, &cache, space)));
        let db = DB::open_cf_with_opts(&database, &folder, families)
            .map_err(|error| failed("open", &folder, error))?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Self {
            db: Arc::new(db),
            cache,
            write_options,
            directory,
        })
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            db: &self.db,
            snapshot: None,
        }
    }

    fn encode(&self, batch: &Batch) -> WriteBatch {
        let [record, meta, system] = Space::ALL.map(|space| family(&self.db, space));
        let family = |space| match space {
            Space::Record => record,
            Space::Meta => meta,
            Space::System => system,
        };
        let size = batch.byte_len() + batch.len() * OPERATION_OVERHEAD;
        let mut encoded = WriteBatch::with_capacity_bytes(size);
        for operation in batch.operations() {
            match operation {
                Operation::Put { space, key, value } => encoded.put_cf(family(space), key, value),
                Operation::Delete { space, key } => encoded.delete_cf(family(space), key),
                Operation::DeleteRange { space, from, to } if from < to => {
                    encoded.delete_range_cf(family(space), from, to);
                }
                Operation::DeleteRange { .. } => {}
            }
        }
        encoded
    }

    /// A number that RocksDB keeps for each family, summed; 0 where it keeps none.
    fn sum(&self, property: &properties::PropName) -> u64 {
        let value = |space| {
            self.db
                .property_int_value_cf(family(&self.db, space), property)
        };
        Space::ALL
            .into_iter()
            .filter_map(|space| value(space).ok().flatten())
            .sum()
    }
}

/// The column family of a space; families are created with the database and never dropped.
fn family(db: &DB, space: Space) -> &ColumnFamily {
    db.cf_handle(family_name(space))
        .expect("the database was opened with every space's family")
}

fn family_name(space: Space) -> &'static str {
    match space {
        Space::Record => "record",
        Space::Meta => "meta",
        Space::System => "system",
    }
}

/// Wraps what RocksDB answered; its text names the file, where it knows it.
fn failed(action: &'static str, path: &Path, error: rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => Error::damaged(path, error.into_string()),
        _ => Error::Storage {
            action,
            source: Box::new(error),
        },
    }
}

impl Read for RocksEngine {
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

impl Engine for RocksEngine {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        self.db
            .write_opt(self.encode(batch), &self.write_options)
            .map_err(|error| failed("write", self.db.path(), error))
    }

    fn flush(&self) -> Result<(), Error> {
        let families = Space::ALL.map(|space| family(&self.db, space));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&families.each_ref().map(|family| *family), &options)
            .map_err(|error| failed("flush", self.db.path(), error))
    }

    fn flush_cost_bytes(&self) -> u64 {
        self.sum(properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    fn view(&self) -> Result<Box<dyn View>, Error> {
        Ok(Box::new(Pinned::new(Arc::clone(&self.db), |db| {
            db.snapshot()
        })))
    }

    fn reclaim(&self, progress: &dyn Fn(Progress) -> ControlFlow<()>) -> Result<(), Error> {
        self.flush()?;
        reclaim::reclaim(&self.db, progress)
    }

    fn disk_bytes(&self) -> u64 {
        directory::file_bytes(self.directory.path()) + directory::file_bytes(self.db.path())
    }

    fn memory_bytes(&self) -> u64 {
        // The cache accounts for the memtables too.
        self.cache.get_usage() as u64 + self.sum(properties::ESTIMATE_TABLE_READERS_MEM)
    }

    fn stalls(&self) -> u64 {
        let stalls = |space| {
            let stats = self
                .db
                .property_value_cf(family(&self.db, space), "rocksdb.cf-write-stall-stats");
            stats.ok().flatten().map_or(0, |text| count_stalls(&text))
        };
        Space::ALL.into_iter().map(stalls).sum()
    }

    fn kind(&self) -> Kind {
        Kind::RocksDb
    }
}

/// Delays and stops in `Write Stall (count): …, total-delays: 1, total-stops: 2`.
fn count_stalls(stats: &str) -> u64 {
    stats
        .split([',', '\n'])
        .filter_map(|part| part.trim().split_once(": "))
        .filter(|(name, _)| name.ends_with("total-delays") || name.ends_with("total-stops"))
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_the_delays_and_the_stops() {
        let text = "Write Stall (count): l0-file-count-limit-delays: 9, memtable-limit-stops: 1, \
                    total-delays: 3, total-stops: 4\n";
        assert_eq!(count_stalls(text), 7);
        assert_eq!(count_stalls(""), 0);
    }

    #[test]
    fn rocksdb_answers_the_properties_that_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(folder.path(), &Options::default()).unwrap();
        for space in Space::ALL {
            let family = family(&engine.db, space);
            let stats = engine
                .db
                .property_value_cf(family, "rocksdb.cf-write-stall-stats")
                .unwrap()
                .unwrap();
            assert!(stats.contains("total-delays: 0"), "{stats}");
            assert!(stats.contains("total-stops: 0"), "{stats}");
            for property in [
                properties::CUR_SIZE_ALL_MEM_TABLES,
                properties::ESTIMATE_TABLE_READERS_MEM,
                properties::BACKGROUND_ERRORS,
            ] {
                let value = engine.db.property_int_value_cf(family, property);
                assert!(value.unwrap().is_some(), "{property:?}");
            }
        }
    }
}
