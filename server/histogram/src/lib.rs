//! A histogram that any room may fill and `/metrics` reads: numbers per bucket, and their sum.
//!
//! Promises: noting a value takes no lock and allocates nothing; it costs a few additions. Must not know what it
//! counts, nor the format in which it is shown.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Values by size.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds of the buckets, ascending; each belongs to its bucket.
    bounds: Box<[f64]>,
    /// One more than the bounds: what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

/// What a histogram held at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// For each bound how many values were not above it.
    pub buckets: Vec<(f64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    /// `buckets` buckets, the first one up to `start`, the bound of each next one `factor` times as high
    /// (Prometheus' `ExponentialBuckets`).
    #[must_use]
    pub fn exponential(start: f64, factor: f64, buckets: usize) -> Self {
        let bounds = std::iter::successors(Some(start), |bound| Some(bound * factor));
        Self {
            bounds: bounds.take(buckets).collect(),
            counts: (0..=buckets).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    /// Notes a value.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // Never refused, so there is no error.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    /// Notes a time in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Notes a time in milliseconds, whole ones as etcd does.
    pub fn observe_millis(&self, time: Duration) {
        self.observe(time.as_millis() as f64);
    }

    /// What is in it.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, number) in self.bounds.iter().zip(&self.counts) {
            count += number.load(Relaxed);
            buckets.push((*bound, count));
        }
        count += self.counts[self.bounds.len()].load(Relaxed);
        Reading {
            buckets,
            count,
            sum: f64::from_bits(self.sum.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_buckets_hold_those_below() {
        let histogram = Histogram::exponential(1.0, 2.0, 3);
        for value in [0.5, 1.0, 1.5, 4.0, 5.0] {
            histogram.observe(value);
        }
        let reading = histogram.read();
        assert_eq!(reading.buckets, [(1.0, 2), (2.0, 3), (4.0, 4)]);
        assert_eq!(reading.count, 5);
        assert!((reading.sum - 12.0).abs() < f64::EPSILON);
    }

    #[test]
    fn times_are_noted_in_seconds_or_in_whole_milliseconds() {
        let seconds = Histogram::exponential(0.001, 2.0, 14);
        seconds.observe_time(Duration::from_millis(3));
        assert_eq!(seconds.read().buckets[2], (0.004, 1));
        let millis = Histogram::exponential(1.0, 2.0, 13);
        millis.observe_millis(Duration::from_micros(2900));
        assert!((millis.read().sum - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn nothing_is_lost_among_threads() {
        let histogram = Histogram::exponential(1.0, 2.0, 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| histogram.observe(2.0)));
            }
        });
        let reading = histogram.read();
        assert_eq!((reading.count, reading.buckets[1].1), (4000, 4000));
        assert!((reading.sum - 8000.0).abs() < f64::EPSILON);
    }
}
