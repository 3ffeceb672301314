//! What is counted of the traffic with one other member.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use metastore_histogram::{Histogram, Reading};

/// The numbers of one other member. Everybody who talks with it counts here.
#[derive(Debug)]
pub(crate) struct PeerTally {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    send_failures: AtomicU64,
    receive_failures: AtomicU64,
    active: AtomicBool,
    disconnections: AtomicU64,
    round_trip: Histogram,
    pub(crate) states_sent: Transfers,
    pub(crate) states_received: Transfers,
}

/// States that went one way between this member and another one.
#[derive(Debug)]
pub(crate) struct Transfers {
    successes: AtomicU64,
    failures: AtomicU64,
    under_way: AtomicI64,
    time: Histogram,
}

/// What has been counted of one other member since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerCounters {
    /// The member.
    pub id: u64,
    /// Bytes of messages to it.
    pub sent_bytes: u64,
    /// Bytes of messages from it.
    pub received_bytes: u64,
    /// Messages that could not be sent to it.
    pub send_failures: u64,
    /// Messages or answers of it that broke off.
    pub receive_failures: u64,
    /// Whether it answered when it was last called.
    pub active: bool,
    /// How often it ceased to answer.
    pub disconnections: u64,
    /// Seconds until it answers.
    pub round_trip: Reading,
    /// States sent to it.
    pub states_sent: TransferCounters,
    /// States received from it.
    pub states_received: TransferCounters,
}

/// What has been counted of the states that went one way.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferCounters {
    /// Those that arrived.
    pub successes: u64,
    /// Those that did not.
    pub failures: u64,
    /// Those that are on their way.
    pub under_way: i64,
    /// Seconds that those which arrived took.
    pub time: Reading,
}

impl Default for PeerTally {
    fn default() -> Self {
        Self {
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            send_failures: AtomicU64::new(0),
            receive_failures: AtomicU64::new(0),
            active: AtomicBool::new(false),
            disconnections: AtomicU64::new(0),
            round_trip: Histogram::exponential(0.0001, 2.0, 16),
            states_sent: Transfers::default(),
            states_received: Transfers::default(),
        }
    }
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            under_way: AtomicI64::new(0),
            time: Histogram::exponential(0.1, 2.0, 10),
        }
    }
}

impl PeerTally {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The member has answered.
    pub(crate) fn reached(&self) {
        if !self.active.load(Relaxed) {
            self.active.store(true, Relaxed);
        }
    }

    /// The member could not be called.
    pub(crate) fn unreachable(&self) {
        self.send_failures.fetch_add(1, Relaxed);
        self.lost();
    }

    /// What the member was sending broke off.
    pub(crate) fn broken_off(&self) {
        self.receive_failures.fetch_add(1, Relaxed);
        self.lost();
    }

    /// The member does not answer.
    pub(crate) fn lost(&self) {
        if self.active.swap(false, Relaxed) {
            self.disconnections.fetch_add(1, Relaxed);
        }
    }

    /// The member has answered after this time.
    pub(crate) fn answered(&self, after: Duration) {
        self.round_trip.observe_time(after);
        self.reached();
    }

    pub(crate) fn read(&self, id: u64) -> PeerCounters {
        PeerCounters {
            id,
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            send_failures: self.send_failures.load(Relaxed),
            receive_failures: self.receive_failures.load(Relaxed),
            active: self.active.load(Relaxed),
            disconnections: self.disconnections.load(Relaxed),
            round_trip: self.round_trip.read(),
            states_sent: self.states_sent.read(),
            states_received: self.states_received.read(),
        }
    }
}

impl Transfers {
    /// A state is on its way; it has failed unless it is told to have arrived.
    pub(crate) fn begin(&self) -> Transfer<'_> {
        self.under_way.fetch_add(1, Relaxed);
        Transfer {
            transfers: self,
            since: Instant::now(),
            arrived: false,
        }
    }

    fn read(&self) -> TransferCounters {
        TransferCounters {
            successes: self.successes.load(Relaxed),
            failures: self.failures.load(Relaxed),
            under_way: self.under_way.load(Relaxed),
            time: self.time.read(),
        }
    }
}

/// One state on its way.
pub(crate) struct Transfer<'a> {
    transfers: &'a Transfers,
    since: Instant,
    arrived: bool,
}

impl Transfer<'_> {
    pub(crate) fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.transfers.under_way.fetch_sub(1, Relaxed);
        if self.arrived {
            self.transfers.successes.fetch_add(1, Relaxed);
            self.transfers.time.observe_time(self.since.elapsed());
        } else {
            self.transfers.failures.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_gone_counts_as_disconnected_once() {
        let tally = PeerTally::default();
        tally.unreachable();
        assert_eq!(tally.read(7).disconnections, 0, "it was never there");
        tally.reached();
        tally.broken_off();
        tally.unreachable();
        let counters = tally.read(7);
        assert_eq!((counters.id, counters.disconnections), (7, 1));
        assert_eq!((counters.send_failures, counters.receive_failures), (2, 1));
        assert!(!counters.active);
    }

    #[test]
    fn a_transfer_fails_unless_it_arrives() {
        let transfers = Transfers::default();
        let (first, second) = (transfers.begin(), transfers.begin());
        assert_eq!(transfers.read().under_way, 2);
        first.arrived();
        drop(second);
        let read = transfers.read();
        assert_eq!((read.successes, read.failures, read.under_way), (1, 1, 0));
        assert_eq!(read.time.count, 1);
    }
}
