//! What the log counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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

#[derive(Debug, Default)]
pub(super) struct Counters {
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    bytes: AtomicU64,
    records: AtomicU64,
    entries: AtomicU64,
}

impl Counters {
    pub(super) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Relaxed);
        self.sync_nanos
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn written(&self, bytes: u64, entries: u64) {
        self.records.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.entries.fetch_add(entries, Relaxed);
    }

    pub(super) fn read(&self) -> Metrics {
        Metrics {
            syncs: self.syncs.load(Relaxed),
            sync_time: Duration::from_nanos(self.sync_nanos.load(Relaxed)),
            bytes: self.bytes.load(Relaxed),
            records: self.records.load(Relaxed),
            entries: self.entries.load(Relaxed),
        }
    }
}
