//! Counters of one gRPC method.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::grpc::Code;

/// Upper bounds of the handling time's buckets: the Prometheus library's default ones.
pub(super) const SECONDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What happened to the requests of one method.
#[derive(Debug, Default)]
pub struct MethodCounters {
    started: AtomicU64,
    handled: [AtomicU64; Code::COUNT],
    received: AtomicU64,
    sent: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// One more than the bounds: what took longer than all of them.
    handling: [AtomicU64; SECONDS.len() + 1],
    handling_nanos: AtomicU64,
}

impl MethodCounters {
    /// Counts a message from a client.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a message to a client.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Requests that ended with this code.
    pub fn handled(&self, code: Code) -> u64 {
        self.handled[code as usize].load(Ordering::Relaxed)
    }

    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    pub(super) fn messages(&self) -> (u64, u64) {
        (
            self.received.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }

    pub(super) fn bytes(&self) -> (u64, u64) {
        (
            self.received_bytes.load(Ordering::Relaxed),
            self.sent_bytes.load(Ordering::Relaxed),
        )
    }

    /// Requests per bucket, and their time in seconds altogether.
    pub(super) fn handling(&self) -> ([u64; SECONDS.len() + 1], f64) {
        let buckets = std::array::from_fn(|bucket| self.handling[bucket].load(Ordering::Relaxed));
        let total = Duration::from_nanos(self.handling_nanos.load(Ordering::Relaxed));
        (buckets, total.as_secs_f64())
    }

    fn finished(&self, code: Code, took: Duration) {
        self.handled[code as usize].fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = SECONDS
            .iter()
            .position(|&bound| seconds <= bound)
            .unwrap_or(SECONDS.len());
        self.handling[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.handling_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A request that is being handled; dropped before it is finished it counts as cancelled.
pub struct Tally {
    counters: Option<Arc<MethodCounters>>,
    since: Instant,
}

impl Tally {
    /// A request has come in.
    pub fn start(counters: &Arc<MethodCounters>) -> Self {
        counters.started.fetch_add(1, Ordering::Relaxed);
        Self {
            counters: Some(counters.clone()),
            since: Instant::now(),
        }
    }

    /// The request has its answer; returns how long it took.
    pub fn finish(&mut self, code: Code) -> Duration {
        let took = self.since.elapsed();
        if let Some(counters) = self.counters.take() {
            counters.finished(code, took);
        }
        took
    }

    /// When the request came in.
    pub const fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.counters.is_some() {
            self.finish(Code::Canceled);
        }
    }
}
