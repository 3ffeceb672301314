//! What a member counts of the commands that it applies, of its leases and of defragmentation.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use metastore_histogram::{Histogram, Reading};
use metastore_proto::commandpb::{Command, command::Request};
use metastore_state_machine::{Error, Observer, Outcome, Response};

/// The kinds of commands, by etcd's names (`dispatch` in `server/etcdserver/apply/uber_applier.go`).
const OPERATIONS: [&str; 11] = [
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseCheckpoint",
    "Alarm",
    "ClusterMemberAttrSet",
    "ClusterVersionSet",
    "unknown",
];

fn operation(command: &Command) -> usize {
    match &command.request {
        Some(Request::Put(_)) => 0,
        Some(Request::DeleteRange(_)) => 1,
        Some(Request::Txn(_)) => 2,
        Some(Request::Compaction(_)) => 3,
        Some(Request::LeaseGrant(_)) => 4,
        Some(Request::LeaseRevoke(_)) => 5,
        Some(Request::LeaseCheckpoint(_)) => 6,
        Some(Request::Alarm(_)) => 7,
        Some(Request::MemberAttributes(_)) => 8,
        Some(Request::ClusterVersion(_)) => 9,
        None => 10,
    }
}

/// How long commands of one kind and one end took to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applying {
    /// The kind, by etcd's name.
    pub operation: &'static str,
    /// Whether they were carried out; one that came too late for a compaction counts as such, as in etcd.
    pub success: bool,
    /// Seconds.
    pub time: Reading,
}

/// What has been counted since the start.
#[derive(Debug)]
pub struct Measures {
    applying: [[OnceLock<Histogram>; 2]; OPERATIONS.len()],
    slow_applies: AtomicU64,
    leases_granted: AtomicU64,
    leases_revoked: AtomicU64,
    pub(crate) leases_renewed: AtomicU64,
    pub(crate) leases_expired: AtomicU64,
    lease_ttl: Histogram,
    defragmenting: AtomicBool,
    defragmentation: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            applying: Default::default(),
            slow_applies: AtomicU64::new(0),
            leases_granted: AtomicU64::new(0),
            leases_revoked: AtomicU64::new(0),
            leases_renewed: AtomicU64::new(0),
            leases_expired: AtomicU64::new(0),
            lease_ttl: Histogram::exponential(1.0, 2.0, 24),
            defragmenting: AtomicBool::new(false),
            defragmentation: Histogram::exponential(0.1, 2.0, 13),
        }
    }
}

impl Measures {
    /// Times of applying, of each kind and end that there was.
    pub fn applying(&self) -> Vec<Applying> {
        let mut all = Vec::new();
        for (operation, ends) in OPERATIONS.into_iter().zip(&self.applying) {
            for (success, histogram) in [false, true].into_iter().zip(ends) {
                all.extend(histogram.get().map(|histogram| Applying {
                    operation,
                    success,
                    time: histogram.read(),
                }));
            }
        }
        all
    }

    /// Commands that took longer to apply than is usual, and reads that were noted here.
    pub fn slow_applies(&self) -> u64 {
        self.slow_applies.load(Relaxed)
    }

    /// A read took longer than is usual.
    pub fn note_slow_read(&self) {
        self.slow_applies.fetch_add(1, Relaxed);
    }

    /// Leases granted.
    pub fn leases_granted(&self) -> u64 {
        self.leases_granted.load(Relaxed)
    }

    /// Leases revoked, those that had run out among them.
    pub fn leases_revoked(&self) -> u64 {
        self.leases_revoked.load(Relaxed)
    }

    /// Renewals of leases while this member led.
    pub fn leases_renewed(&self) -> u64 {
        self.leases_renewed.load(Relaxed)
    }

    /// Leases that this member, leading, revoked because they had run out.
    pub fn leases_expired(&self) -> u64 {
        self.leases_expired.load(Relaxed)
    }

    /// Times to live of the leases granted, in seconds.
    pub fn lease_ttl(&self) -> Reading {
        self.lease_ttl.read()
    }

    /// Whether a defragmentation goes on.
    pub fn is_defragmenting(&self) -> bool {
        self.defragmenting.load(Relaxed)
    }

    /// Seconds that defragmentations took.
    pub fn defragmentation(&self) -> Reading {
        self.defragmentation.read()
    }

    /// A defragmentation begins; it ends when what is returned is dropped.
    pub(crate) fn defragment(&self) -> Defragmenting<'_> {
        self.defragmenting.store(true, Relaxed);
        Defragmenting {
            measures: self,
            since: Instant::now(),
        }
    }

    fn applied(&self, command: &Command, outcome: &Outcome, took: Duration) {
        let success = matches!(outcome, Ok(_) | Err(Error::Compacted));
        let histogram = &self.applying[operation(command)][usize::from(success)];
        let histogram = histogram.get_or_init(|| Histogram::exponential(0.0001, 2.0, 20));
        histogram.observe_time(took);
        match outcome.as_ref().map(|applied| &applied.response) {
            Ok(Response::LeaseGrant { ttl, .. }) => {
                self.leases_granted.fetch_add(1, Relaxed);
                self.lease_ttl.observe(*ttl as f64);
            }
            Ok(Response::LeaseRevoke) => {
                self.leases_revoked.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}

/// A defragmentation that goes on.
pub(crate) struct Defragmenting<'a> {
    measures: &'a Measures,
    since: Instant,
}

impl Drop for Defragmenting<'_> {
    fn drop(&mut self) {
        self.measures.defragmenting.store(false, Relaxed);
        let took = self.since.elapsed();
        self.measures.defragmentation.observe_time(took);
    }
}

/// Measures the commands as they are applied: one look at the clock for each.
pub(crate) struct Stopwatch {
    measures: Arc<Measures>,
    slow: Duration,
    since: Instant,
}

impl Stopwatch {
    /// A command is slow that takes longer than `slow`.
    pub(crate) fn new(measures: Arc<Measures>, slow: Duration) -> Self {
        Self {
            measures,
            slow,
            since: Instant::now(),
        }
    }
}

impl Observer for Stopwatch {
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    fn applied(&mut self, command: &Command, outcome: &Outcome) {
        let now = Instant::now();
        let took = now - self.since;
        self.since = now;
        if took > self.slow {
            self.measures.slow_applies.fetch_add(1, Relaxed);
        }
        self.measures.applied(command, outcome, took);
    }
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
    use metastore_state_machine::Applied;

    use super::*;

    fn command(request: Request) -> Command {
        Command {
            caller: None,
            request: Some(request),
        }
    }

    #[test]
    fn commands_count_by_kind_and_end() {
        let measures = Arc::new(Measures::default());
        let mut stopwatch = Stopwatch::new(measures.clone(), Duration::from_secs(3600));
        let put = command(Request::Put(PutRequest::default()));
        stopwatch.begin();
        stopwatch.applied(&put, &Err(Error::NoSpace));
        stopwatch.applied(&put, &Err(Error::Compacted));
        stopwatch.applied(&Command::default(), &Err(Error::UnknownCommand));
        let shown: Vec<_> = measures
            .applying()
            .into_iter()
            .map(|applying| (applying.operation, applying.success, applying.time.count))
            .collect();
        let expected = [("Put", false, 1), ("Put", true, 1), ("unknown", false, 1)];
        assert_eq!(shown, expected);
        assert_eq!(measures.slow_applies(), 0);
    }

    #[test]
    fn a_granted_lease_counts_with_its_time_to_live() {
        let measures = Measures::default();
        let grant = command(Request::LeaseGrant(LeaseGrantRequest::default()));
        let response = Response::LeaseGrant { id: 1, ttl: 60 };
        let granted = Ok(Applied {
            revision: 1,
            response,
        });
        measures.applied(&grant, &granted, Duration::ZERO);
        measures.applied(&grant, &Err(Error::LeaseExists), Duration::ZERO);
        assert_eq!(measures.leases_granted(), 1);
        assert!((measures.lease_ttl().sum - 60.0).abs() < f64::EPSILON);
    }
}
