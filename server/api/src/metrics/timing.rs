//! How long requests take, by what they do.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

/// What a request does (the label `type` of `etcd_server_request_duration_seconds`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum RequestKind {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    Alarm,
}

const KINDS: [(RequestKind, &str); 9] = [
    (RequestKind::Range, "Range"),
    (RequestKind::ReadonlyTxn, "ReadonlyTxn"),
    (RequestKind::Put, "Put"),
    (RequestKind::DeleteRange, "DeleteRange"),
    (RequestKind::Txn, "Txn"),
    (RequestKind::Compaction, "Compaction"),
    (RequestKind::LeaseGrant, "LeaseGrant"),
    (RequestKind::LeaseRevoke, "LeaseRevoke"),
    (RequestKind::Alarm, "Alarm"),
];

/// The value of the label `success`, by whether there was any.
const SUCCESS: [&str; 2] = ["false", "true"];

/// Histograms of time, each shown from its first use on as in etcd, and looked up once.
pub struct Timing {
    requests: HistogramVec,
    known_requests: [[OnceLock<Histogram>; 2]; KINDS.len()],
    ranges: HistogramVec,
    known_ranges: [OnceLock<Histogram>; 2],
}

impl Timing {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = HistogramOpts::new(
            "etcd_server_request_duration_seconds",
            "Response latency distribution in seconds for each type.",
        );
        let requests = requests.buckets(prometheus::exponential_buckets(0.001, 2.0, 14)?);
        let ranges = HistogramOpts::new(
            "etcd_server_range_duration_seconds",
            "The latency distributions of txn.Range",
        );
        let ranges = ranges.buckets(prometheus::exponential_buckets(0.0001, 2.0, 20)?);
        let timing = Self {
            requests: HistogramVec::new(requests, &["type", "success"])?,
            known_requests: Default::default(),
            ranges: HistogramVec::new(ranges, &["success"])?,
            known_ranges: Default::default(),
        };
        registry.register(Box::new(timing.requests.clone()))?;
        registry.register(Box::new(timing.ranges.clone()))?;
        Ok(timing)
    }

    /// A request of this kind that began at `since` has its answer; returns how long that took.
    pub fn request(&self, kind: RequestKind, success: bool, since: Instant) -> Duration {
        let labels = || [KINDS[kind as usize].1, SUCCESS[usize::from(success)]];
        let known = &self.known_requests[kind as usize][usize::from(success)];
        let histogram = known.get_or_init(|| self.requests.with_label_values(&labels()));
        let took = since.elapsed();
        histogram.observe(took.as_secs_f64());
        took
    }

    /// The store was asked for a range at `since` and has answered.
    pub fn range(&self, success: bool, since: Instant) {
        let label = SUCCESS[usize::from(success)];
        let known = &self.known_ranges[usize::from(success)];
        let histogram = known.get_or_init(|| self.ranges.with_label_values(&[label]));
        histogram.observe(since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_stands_at_its_number() {
        for (number, (kind, _)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, number);
        }
    }
}
