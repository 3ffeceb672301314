//! What the store counts for the metrics. It goes on when the store's content is replaced.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use metastore_histogram::Histogram;

/// How long the work of the store takes, in the units and buckets of etcd's metrics.
#[derive(Debug)]
pub struct Times {
    /// Seconds to write one batch of committed transactions to the engine (etcd: a commit of its backend).
    pub commit: Histogram,
    /// Seconds to make everything in the engine durable.
    pub flush: Histogram,
    /// Seconds of [`crate::Store::hash`].
    pub hash: Histogram,
    /// Seconds of [`crate::Store::hash_kv`].
    pub hash_kv: Histogram,
    /// Milliseconds for which one compaction held up those who use the key index.
    pub index_pause: Histogram,
    /// Milliseconds of one step of a compaction.
    pub compaction_step: Histogram,
    /// Milliseconds of one compaction.
    pub compaction: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            commit: Histogram::exponential(0.001, 2.0, 14),
            flush: Histogram::exponential(0.001, 2.0, 14),
            hash: Histogram::exponential(0.01, 2.0, 15),
            hash_kv: Histogram::exponential(0.01, 2.0, 15),
            index_pause: Histogram::exponential(0.5, 2.0, 14),
            compaction_step: Histogram::exponential(1.0, 2.0, 13),
            compaction: Histogram::exponential(100.0, 2.0, 14),
        }
    }
}

/// The numbers of one store.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ranges: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) put_bytes: AtomicU64,
    pub(crate) deletions: AtomicU64,
    pub(crate) transactions: AtomicU64,
    /// Seconds since 1970; 0 when there was none since the start.
    pub(crate) last_compaction: AtomicI64,
    pub(crate) times: Arc<Times>,
}

/// What one transaction did.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    pub(crate) ranges: Cell<u64>,
    pub(crate) puts: u64,
    pub(crate) put_bytes: u64,
    pub(crate) deletions: u64,
}

impl Tally {
    /// Counts what a transaction did. As in etcd, only one of several operations counts as such
    /// (`server/storage/mvcc/metrics_txn.go`).
    pub(crate) fn note(&self, done: &Operations) {
        let numbers = [
            (&self.ranges, done.ranges.get()),
            (&self.puts, done.puts),
            (&self.put_bytes, done.put_bytes),
            (&self.deletions, done.deletions),
        ];
        for (counter, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            counter.fetch_add(number, Relaxed);
        }
        if done.ranges.get() + done.puts + done.deletions > 1 {
            self.transactions.fetch_add(1, Relaxed);
        }
    }

    /// A compaction has ended now.
    pub(crate) fn compacted(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs() as i64);
        self.last_compaction.store(seconds, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_operation_is_no_transaction() {
        let tally = Tally::default();
        tally.note(&Operations {
            puts: 1,
            put_bytes: 10,
            ..Operations::default()
        });
        assert_eq!(tally.transactions.load(Relaxed), 0);
        tally.note(&Operations {
            ranges: Cell::new(1),
            puts: 1,
            ..Operations::default()
        });
        assert_eq!(tally.transactions.load(Relaxed), 1);
        assert_eq!(tally.puts.load(Relaxed), 2);
        assert_eq!(tally.put_bytes.load(Relaxed), 10);
    }
}
