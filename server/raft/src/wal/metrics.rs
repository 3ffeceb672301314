//! What the log counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use metastore_histogram::{Histogram, Reading};

/// Counters since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Syncs of records; preparing segments is not counted.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_time: Duration,
    /// Bytes of records written, padding included.
    pub bytes: u64,
    /// Records written: groups of what was queued together.
    pub records: u64,
    /// Entries written.
    pub entries: u64,
}

/// How long records took since the log was opened, in seconds, with the buckets of etcd's metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// Syncing one.
    pub sync: Reading,
    /// Writing one, before it is synced.
    pub write: Reading,
}

#[derive(Debug)]
pub(super) struct Counters {
    sync: Histogram,
    write: Histogram,
    bytes: AtomicU64,
    records: AtomicU64,
    entries: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let seconds = || Histogram::exponential(0.001, 2.0, 14);
        Self {
            sync: seconds(),
            write: seconds(),
            bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
            entries: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(super) fn synced(&self, took: Duration) {
        self.sync.observe_time(took);
    }

    pub(super) fn written(&self, bytes: u64, entries: u64, took: Duration) {
        self.write.observe_time(took);
        self.records.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.entries.fetch_add(entries, Relaxed);
    }

    pub(super) fn read(&self) -> Metrics {
        let sync = self.sync.read();
        Metrics {
            syncs: sync.count,
            sync_time: Duration::try_from_secs_f64(sync.sum).unwrap_or_default(),
            bytes: self.bytes.load(Relaxed),
            records: self.records.load(Relaxed),
            entries: self.entries.load(Relaxed),
        }
    }

    pub(super) fn times(&self) -> Times {
        Times {
            sync: self.sync.read(),
            write: self.write.read(),
        }
    }
}
