//! How long requests take, by what they do.

use std::time::Instant;

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

/// The histogram per kind and outcome, looked up once.
pub struct Timing {
    kinds: Vec<[Histogram; 2]>,
}

impl Timing {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "etcd_server_request_duration_seconds",
            "Response latency distribution in seconds for each type.",
        );
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 14)?;
        let histograms = HistogramVec::new(options.buckets(buckets), &["type", "success"])?;
        registry.register(Box::new(histograms.clone()))?;
        let kinds = KINDS
            .iter()
            .map(|(_, name)| {
                ["false", "true"].map(|success| histograms.with_label_values(&[*name, success]))
            })
            .collect();
        Ok(Self { kinds })
    }

    /// A request of this kind that began at `since` has its answer.
    pub fn observe(&self, kind: RequestKind, success: bool, since: Instant) {
        self.kinds[kind as usize][usize::from(success)].observe(since.elapsed().as_secs_f64());
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
