//! What the raft room counts for the metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use metastore_histogram::{Histogram, Reading};

use crate::error::ProposeError;
use crate::peer_tally::PeerCounters;
use crate::wal;

/// What has been counted since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters {
    /// How often a leader was found: another one, or one after there was none.
    pub leader_changes: u64,
    /// Commands without an outcome.
    pub failed_proposals: u64,
    /// Rounds of linearizable reads that were not answered in time.
    pub slow_read_indexes: u64,
    /// Questions for the read index that whoever led would not or could not answer.
    pub failed_read_indexes: u64,
    /// Heartbeats that this member, leading, sent too late.
    pub late_heartbeats: u64,
    /// Whether a state of another member is being installed.
    pub installing: bool,
    /// Seconds to send a state to another member.
    pub state_sending: Reading,
    /// Seconds to make a received state durable.
    pub state_sync: Reading,
    /// Seconds to receive a state and to make it durable.
    pub state_saving: Reading,
    /// The log's numbers.
    pub log: wal::Metrics,
    /// The log's times.
    pub log_times: wal::Times,
    /// Bytes of log that are kept.
    pub log_bytes_kept: u64,
    /// The other members that this one has talked with, by ascending id.
    pub peers: Vec<PeerCounters>,
}

#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) leader_changes: AtomicU64,
    pub(crate) failed_proposals: AtomicU64,
    pub(crate) slow_read_indexes: AtomicU64,
    pub(crate) failed_read_indexes: AtomicU64,
    pub(crate) late_heartbeats: AtomicU64,
    pub(crate) installing: AtomicBool,
    pub(crate) state_sending: Histogram,
    pub(crate) state_sync: Histogram,
    pub(crate) state_saving: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            leader_changes: AtomicU64::new(0),
            failed_proposals: AtomicU64::new(0),
            slow_read_indexes: AtomicU64::new(0),
            failed_read_indexes: AtomicU64::new(0),
            late_heartbeats: AtomicU64::new(0),
            installing: AtomicBool::new(false),
            state_sending: Histogram::exponential(0.01, 2.0, 17),
            state_sync: Histogram::exponential(0.001, 2.0, 14),
            state_saving: Histogram::exponential(0.1, 2.0, 10),
        }
    }
}

impl Tally {
    /// A received state is being installed, until what is returned is dropped.
    pub(crate) fn install(&self) -> Installing<'_> {
        self.installing.store(true, Relaxed);
        Installing(self)
    }

    /// A command waits for its outcome; given up before it is settled it counts as failed.
    pub(crate) fn propose(&self) -> Proposing<'_> {
        Proposing {
            tally: self,
            settled: false,
        }
    }
}

/// A received state that is being installed.
pub(crate) struct Installing<'a>(&'a Tally);

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        self.0.installing.store(false, Relaxed);
    }
}

/// A command that waits.
pub(crate) struct Proposing<'a> {
    tally: &'a Tally,
    settled: bool,
}

impl Proposing<'_> {
    /// The command has an outcome, or none. One that was never taken, or that the end of raft has overtaken, has
    /// not failed (etcd: `processInternalRaftRequestOnce` in `server/etcdserver/v3_server.go`).
    pub(crate) fn settle<T>(mut self, outcome: &Result<T, ProposeError>) {
        self.settled = matches!(
            outcome,
            Ok(_) | Err(ProposeError::TooManyRequests | ProposeError::Stopped)
        );
    }
}

impl Drop for Proposing<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.tally.failed_proposals.fetch_add(1, Relaxed);
        }
    }
}

/// Follows the heartbeats of one leader to one member (etcd: `TimeoutDetector` of `pkg/contention`).
#[derive(Debug)]
pub(crate) struct Lateness {
    limit: Duration,
    last: Option<Instant>,
}

impl Lateness {
    /// Two heartbeats are `interval` apart, and too late when it is twice as much.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            limit: interval * 2,
            last: None,
        }
    }

    /// A heartbeat is sent; whether it is too late.
    pub(crate) fn beat(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_some_and(|last| now.saturating_duration_since(last) > self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_nobody_waited_for_to_the_end_has_failed() {
        let tally = Tally::default();
        tally.propose().settle(&Ok(()));
        tally
            .propose()
            .settle::<()>(&Err(ProposeError::TooManyRequests));
        assert_eq!(tally.failed_proposals.load(Relaxed), 0);
        tally.propose().settle::<()>(&Err(ProposeError::Timeout));
        drop(tally.propose());
        assert_eq!(tally.failed_proposals.load(Relaxed), 2);
    }

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let mut lateness = Lateness::new(Duration::from_millis(100));
        let start = Instant::now();
        let beats = [0, 150, 350, 551].map(|at| lateness.beat(start + Duration::from_millis(at)));
        assert_eq!(beats, [false, false, false, true]);
    }
}
