//! The store's bounds, and what it tells about itself.

use std::time::Duration;

/// Bounds of memory and pace. The defaults are those of a production member.
#[derive(Debug, Clone)]
pub struct Options {
    /// Values of current keys kept in memory.
    pub value_cache_bytes: usize,
    /// Newest transactions kept in memory for watchers.
    pub recent_bytes: usize,
    /// Transactions not yet written to the engine; at this bound `set_applied` waits.
    pub pending_bytes: usize,
    /// How long a transaction may wait before it is written to the engine.
    pub persist_delay: Duration,
    /// Revisions that the compaction looks at in one step; at least one.
    pub compaction_rows: usize,
    /// How long the compaction rests between two of its steps.
    pub compaction_pause: Duration,
    /// How long the compaction waits for a reader at an older revision before it goes on without it.
    pub pin_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            value_cache_bytes: 40 << 20,
            recent_bytes: 24 << 20,
            pending_bytes: 256 << 20,
            persist_delay: Duration::from_millis(50),
            compaction_rows: 256,
            compaction_pause: Duration::from_millis(1),
            pin_patience: Duration::from_secs(10),
        }
    }
}

/// Whether what was committed reaches the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Good,
    /// The engine has no space; it is tried again until it has.
    NoSpace(String),
    /// The engine failed for good; the member should stop.
    Failed(String),
}

/// Numbers for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes of committed transactions that the engine has not got yet.
    pub pending_bytes: u64,
    /// How often `set_applied` had to wait for the engine.
    pub back_pressure_waits: u64,
    /// Bytes of values held with the key index.
    pub cached_bytes: u64,
    /// Bytes of the recent transactions.
    pub recent_bytes: u64,
    /// Batches written to the engine.
    pub batches_written: u64,
    /// Attempts to write a batch that failed.
    pub write_errors: u64,
    /// Revisions that compaction has removed since the store was opened.
    pub compacted_revisions: u64,
    /// Values that a reader had to fetch from the engine.
    pub engine_reads: u64,
    /// Ranges that were asked for.
    pub ranges: u64,
    /// Keys that were put.
    pub puts: u64,
    /// Bytes of their keys and values.
    pub put_bytes: u64,
    /// Deletions that were asked for, each of a range.
    pub deletions: u64,
    /// Transactions of more than one of these.
    pub transactions: u64,
    /// Reads at a revision that go on now.
    pub open_reads: u64,
    /// When the last compaction ended, in seconds since 1970; 0 when there was none since the start.
    pub last_compaction: i64,
}
