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

mod gather;
mod options;
mod read;
mod reclaim;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocksdb::{
    Cache, ColumnFamily, DB, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions, WriteBatch,
    WriteBufferManager, WriteOptions, properties,
};

use crate::batch::Operation;
use crate::directory::{self, Directory};
use crate::{Batch, Engine, Error, Kind, Options, Progress, Read, Space, View, Visit};
use gather::Gatherer;
use read::{Pinned, Reader};

/// Where RocksDB's own files are, inside the engine's directory.
const FOLDER: &str = "rocksdb";

/// Bytes that RocksDB adds to an operation at most: kind, family and two lengths.
const OPERATION_OVERHEAD: usize = 16;

/// An engine in RocksDB. See the module for what it promises.
pub(crate) struct RocksEngine {
    database: Arc<Database>,
    cache: Cache,
    memtables: WriteBufferManager,
    memtables_bytes_max: usize,
    write_options: WriteOptions,
    /// Writes that waited for a flush.
    waits: AtomicU64,
    waited_nanos: AtomicU64,
    gatherer: Gatherer,
}

/// An open database and its directory, which views share with the engine.
struct Database {
    // Closed before the lock on the directory is given back.
    db: DB,
    directory: Directory,
}

impl RocksEngine {
    /// Opens or creates the database in `path`.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let directory = Directory::open(path, Kind::RocksDb)?;
        let folder = directory.path().join(FOLDER);
        let cache = Cache::new_lru_cache(options.memory_budget_bytes);
        let memtables = options::memtables(options, &cache);
        let settings = options::database(options, &memtables);
        let families = Space::ALL
            .map(|space| (family_name(space), options::family(options, &cache, space)))
            .into_iter()
            .chain([(DEFAULT_COLUMN_FAMILY_NAME, options::unused_family())]);
        let db = DB::open_cf_with_opts(&settings, &folder, families)
            .map_err(|error| failed("open", &folder, error))?;
        // The folder may be new, and RocksDB syncs only what is in it.
        directory::sync(directory.path())?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let database = Arc::new(Database { db, directory });
        let gatherer = Gatherer::start(Arc::clone(&database))
            .map_err(Error::io("start a thread for", path))?;
        Ok(Self {
            database,
            cache,
            memtables,
            memtables_bytes_max: options::memtables_bytes_max(options),
            write_options,
            waits: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
            gatherer,
        })
    }

    fn db(&self) -> &DB {
        &self.database.db
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            db: self.db(),
            snapshot: None,
        }
    }

    fn encode(&self, batch: &Batch) -> WriteBatch {
        let [record, meta, system] = Space::ALL.map(|space| family(self.db(), space));
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

    /// Waits for a flush where writes came faster than flushes for so long that the budget is
    /// nearly used up.
    fn wait_for_memory(&self) -> Result<(), Error> {
        // Memtables that a scan still holds count in the first number only.
        if self.memtables.get_usage() < self.memtables_bytes_max
            || self.flush_cost_bytes() < self.memtables_bytes_max as u64
        {
            return Ok(());
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        let flushed = self.flush();
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
        flushed
    }

    /// Tells the error for which RocksDB refuses writes, if it does. A flush asked for meanwhile
    /// would hold up the thread that looks for room.
    fn check_not_stopped(&self) -> Result<(), Error> {
        self.db()
            .write_opt(WriteBatch::default(), &self.write_options)
            .map_err(|error| failed("flush", self.db().path(), error))
    }

    /// A number that RocksDB keeps for each family, summed; 0 where it keeps none.
    fn sum(&self, property: &properties::PropName) -> u64 {
        let value = |space| {
            self.db()
                .property_int_value_cf(family(self.db(), space), property)
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
        visit: Visit<'_>,
    ) -> Result<(), Error> {
        self.reader().scan(space, from, to, visit)
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        self.wait_for_memory()?;
        self.db()
            .write_opt(self.encode(batch), &self.write_options)
            .map_err(|error| failed("write", self.db().path(), error))
    }

    fn flush(&self) -> Result<(), Error> {
        self.check_not_stopped()?;
        let families = Space::ALL.map(|space| family(self.db(), space));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db()
            .flush_cfs_opt(&families.each_ref().map(|family| *family), &options)
            .map_err(|error| failed("flush", self.db().path(), error))?;
        self.gatherer.note_flush();
        Ok(())
    }

    fn flush_cost_bytes(&self) -> u64 {
        self.sum(properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    fn view(&self) -> Result<Box<dyn View>, Error> {
        let database = Arc::clone(&self.database);
        Ok(Box::new(Pinned::new(database, |database| {
            database.db.snapshot()
        })))
    }

    fn reclaim(&self, progress: &dyn Fn(Progress) -> ControlFlow<()>) -> Result<(), Error> {
        self.flush()?;
        reclaim::reclaim(self.db(), progress)?;
        gather::gather(self.db(), &|| false);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        directory::file_bytes(self.database.directory.path())
            + directory::file_bytes(self.db().path())
    }

    fn memory_bytes(&self) -> u64 {
        // The cache accounts for the memtables too.
        self.cache.get_usage() as u64 + self.sum(properties::ESTIMATE_TABLE_READERS_MEM)
    }

    fn stalls(&self) -> u64 {
        let stalls = |space| {
            let stats = self
                .db()
                .property_value_cf(family(self.db(), space), "rocksdb.cf-write-stall-stats");
            stats.ok().flatten().map_or(0, |text| count_stalls(&text))
        };
        let waits = self.waits.load(Ordering::Relaxed);
        waits + Space::ALL.into_iter().map(stalls).sum::<u64>()
    }

    fn stall_time(&self) -> Duration {
        let waited = Duration::from_nanos(self.waited_nanos.load(Ordering::Relaxed));
        let stats = self.db().property_value(properties::DBSTATS);
        waited
            + stats
                .ok()
                .flatten()
                .map_or(Duration::ZERO, |text| time_stalled(&text))
    }

    fn kind(&self) -> Kind {
        Kind::RocksDb
    }
}

/// The time in `Cumulative stall: 01:02:3.500 H:M:S, 0.1 percent`: hours, minutes, seconds.
fn time_stalled(stats: &str) -> Duration {
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("Cumulative stall: "));
    let time = line
        .and_then(|line| line.split(' ').next())
        .unwrap_or_default();
    let seconds = time.split(':').try_fold(0.0, |sum, part| {
        part.parse::<f64>().ok().map(|number| sum * 60.0 + number)
    });
    Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default()
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
    fn the_time_of_stalls_is_read_from_hours_minutes_and_seconds() {
        let text = "Cumulative WAL: 0 writes\nCumulative stall: 01:02:3.500 H:M:S, 0.1 percent\n";
        assert_eq!(time_stalled(text), Duration::from_millis(3_723_500));
        assert_eq!(time_stalled(""), Duration::ZERO);
    }

    #[test]
    fn rocksdb_answers_the_properties_that_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(folder.path(), &Options::default()).unwrap();
        for space in Space::ALL {
            let family = family(engine.db(), space);
            let stats = engine
                .db()
                .property_value_cf(family, "rocksdb.cf-write-stall-stats")
                .unwrap()
                .unwrap();
            assert!(stats.contains("total-delays: 0"), "{stats}");
            assert!(stats.contains("total-stops: 0"), "{stats}");
            let stats = engine.db().property_value(properties::DBSTATS);
            let stats = stats.unwrap().unwrap();
            assert!(
                stats.contains("Cumulative stall: 00:00:0.000 H:M:S"),
                "{stats}"
            );
            for property in [
                properties::CUR_SIZE_ALL_MEM_TABLES,
                properties::ESTIMATE_TABLE_READERS_MEM,
                properties::BACKGROUND_ERRORS,
            ] {
                let value = engine.db().property_int_value_cf(family, property);
                assert!(value.unwrap().is_some(), "{property:?}");
            }
        }
    }

    #[test]
    fn the_tables_of_many_flushes_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(folder.path(), &Options::default()).unwrap();
        for main in 0..96u64 {
            let mut batch = Batch::new();
            for space in Space::ALL {
                batch.put(space, &main.to_be_bytes(), &[7; 300]);
            }
            engine.write(&batch).unwrap();
            engine.flush().unwrap();
        }
        gather::gather(engine.db(), &|| false);
        let tables = engine.db().live_files().unwrap().len();
        assert!(tables < 3 * 32, "{tables} tables");
        for space in Space::ALL {
            let mut rows = 0;
            let scanned = engine.scan(space, &[], None, &mut |_, _| {
                rows += 1;
                ControlFlow::Continue(())
            });
            scanned.unwrap();
            assert_eq!(rows, 96);
        }
    }
}
