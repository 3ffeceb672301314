//! How RocksDB is set up for rows that are appended in order, read rarely and deleted once.
//!
//! Promises: memtables and block cache share the memory budget; background work is bounded in
//! threads and bytes per second; nothing but a dead disk stalls a write.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options as Rocks,
    WriteBufferManager,
};

use crate::{Options, Space};

/// A flush starts where one family's memtable has this share of the budget, or where those of all
/// families have twice as much. Writes go on into new memtables meanwhile. As much room must be on
/// a disk that was full before RocksDB goes on.
const WRITE_BUFFER_SHARE: usize = 4;

/// Memtables of one family before RocksDB stops writes; the engine itself waits before that.
const WRITE_BUFFERS: i32 = 16;

/// Tables on level 0 before they are merged into the next one. Appended rows do not overlap and are
/// only moved; merging tombstones with the rows that they delete costs less in larger portions.
const LEVEL0_TABLES: i32 = 8;

/// Tables on level 0 that do not overlap cost little, so writes are slowed late.
const LEVEL0_SLOWDOWN: i32 = 400;
const LEVEL0_STOP: i32 = 800;

/// Records are read one by one, and a small block is found, checked and unpacked in a third of the
/// time of one of 16 KiB. The other rows are scanned.
const RECORD_BLOCK_BYTES: usize = 4 << 10;
const BLOCK_BYTES: usize = 16 << 10;

/// Size of a table once it is merged.
pub(super) const TABLE_BYTES: usize = 32 << 20;
const COMPACTION_BYTES: u64 = 256 << 20;
const LEVEL_BYTES: u64 = 256 << 20;

/// Bits for each row, with which one table in a hundred is looked into in vain.
const FILTER_BITS: f64 = 10.0;

/// Dirty bytes of a table before its write-back is started.
const BYTES_PER_SYNC: u64 = 512 << 10;

const INFO_LOG_BYTES: usize = 1 << 20;
const MANIFEST_BYTES: usize = 16 << 20;

/// One second's bytes are granted in ten parts; compaction gets one turn in ten before a flush.
const RATE_REFILL_MICROS: i64 = 100_000;
const RATE_FAIRNESS: i32 = 10;

/// What counts the memtables' memory, charges it to `cache` and has them flushed.
pub(super) fn memtables(options: &Options, cache: &Cache) -> WriteBufferManager {
    let bytes = 2 * write_buffer_bytes(options);
    WriteBufferManager::new_write_buffer_manager_with_cache(bytes, false, cache.clone())
}

/// Bytes of memtables at which a write waits for a flush.
pub(super) fn memtables_bytes_max(options: &Options) -> usize {
    3 * write_buffer_bytes(options)
}

/// Settings of the database.
pub(super) fn database(options: &Options, memtables: &WriteBufferManager) -> Rocks {
    let mut rocks = Rocks::default();
    rocks.create_if_missing(true);
    rocks.create_missing_column_families(true);
    rocks.set_atomic_flush(true);
    rocks.set_paranoid_checks(true);

    rocks.set_write_buffer_manager(memtables);
    rocks.set_max_open_files(i32::try_from(options.open_files).unwrap_or(i32::MAX));
    rocks.set_skip_stats_update_on_db_open(true);

    // One writer, whose rows come in order: the memtable finds the place of the next one at once.
    rocks.set_allow_concurrent_memtable_write(false);
    rocks.set_enable_write_thread_adaptive_yield(false);

    // One flush and one compaction. Their threads keep their priority, since they hold locks that
    // readers wait for; what they take from the disk is bounded instead.
    rocks.set_max_background_jobs(2);
    rocks.set_avoid_unnecessary_blocking_io(true);
    rocks.set_bytes_per_sync(BYTES_PER_SYNC);
    let rate = i64::try_from(options.background_bytes_per_second).unwrap_or(i64::MAX);
    if rate > 0 {
        rocks.set_ratelimiter(rate, RATE_REFILL_MICROS, RATE_FAIRNESS);
    }

    rocks.set_log_level(LogLevel::Warn);
    rocks.set_max_log_file_size(INFO_LOG_BYTES);
    rocks.set_keep_log_file_num(2);
    rocks.set_stats_dump_period_sec(0);
    rocks.set_stats_persist_period_sec(0);
    rocks.set_max_manifest_file_size(MANIFEST_BYTES);
    rocks
}

/// Settings of a space's column family.
pub(super) fn family(options: &Options, cache: &Cache, space: Space) -> Rocks {
    let mut rocks = Rocks::default();
    rocks.set_write_buffer_size(write_buffer_bytes(options));
    rocks.set_max_write_buffer_number(WRITE_BUFFERS);

    rocks.set_block_based_table_factory(&tables(cache, space));
    rocks.set_compression_type(DBCompressionType::Lz4);
    rocks.set_target_file_size_base(TABLE_BYTES as u64);
    rocks.set_max_bytes_for_level_base(LEVEL_BYTES);
    rocks.set_max_compaction_bytes(COMPACTION_BYTES);
    rocks.set_level_compaction_dynamic_level_bytes(true);
    // Rows that are asked for exist, so the last level needs no filters.
    rocks.set_optimize_filters_for_hits(true);

    rocks.set_level_zero_file_num_compaction_trigger(LEVEL0_TABLES);
    rocks.set_level_zero_slowdown_writes_trigger(LEVEL0_SLOWDOWN);
    rocks.set_level_zero_stop_writes_trigger(LEVEL0_STOP);
    rocks.set_soft_pending_compaction_bytes_limit(0);
    rocks.set_hard_pending_compaction_bytes_limit(0);
    rocks
}

/// Settings of the family that RocksDB insists on and nothing is written to.
pub(super) fn unused_family() -> Rocks {
    let mut rocks = Rocks::default();
    rocks.set_write_buffer_size(64 << 10);
    rocks
}

fn write_buffer_bytes(options: &Options) -> usize {
    options.memory_budget_bytes / WRITE_BUFFER_SHARE
}

/// Blocks whose indexes are in the cache too, in partitions, so that memory does not grow with
/// the store.
fn tables(cache: &Cache, space: Space) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_block_size(match space {
        Space::Record => RECORD_BLOCK_BYTES,
        Space::Meta | Space::System => BLOCK_BYTES,
    });
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    if space == Space::Record {
        tables.set_bloom_filter(FILTER_BITS, false);
        tables.set_partition_filters(true);
    }
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables.set_pin_top_level_index_and_filter(true);
    tables
}
