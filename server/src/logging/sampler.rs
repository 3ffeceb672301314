//! Which of many equal lines are written: zap's sampler with etcd's figures (`DefaultZapLoggerConfig`).

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Level;

const FIRST: u64 = 100;
const THEREAFTER: u64 = 100;
const COUNTERS: usize = 1024;

/// Counts lines by level and message, second by second.
pub(super) struct Sampler {
    start: Instant,
    /// The second in the upper half, the count of lines in it in the lower.
    counters: Box<[AtomicU64]>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Sampler {
    /// Whether this line is one of those that are written. The last lines of a process always are.
    pub(super) fn admits(&self, level: Level, message: &str) -> bool {
        level >= Level::Panic || self.admits_in(self.start.elapsed().as_secs(), level, message)
    }

    fn admits_in(&self, second: u64, level: Level, message: &str) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((level, message));
        let counter = &self.counters[hash as usize % COUNTERS];
        let before = counter.load(Ordering::Relaxed);
        let count = if before >> 32 == second & 0xffff_ffff {
            (before & 0xffff_ffff) + 1
        } else {
            1
        };
        // Two threads may both count the same line; that writes one line more or less.
        counter.store((second << 32) | count, Ordering::Relaxed);
        count <= FIRST || (count - FIRST).is_multiple_of(THEREAFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_of_a_second_and_then_every_hundredth_are_written() {
        let sampler = Sampler::default();
        let written = (0..1000)
            .filter(|_| sampler.admits_in(1, Level::Warn, "x"))
            .count();
        assert_eq!(written, 100 + 9);
        assert!(sampler.admits_in(1, Level::Info, "x") && sampler.admits_in(2, Level::Warn, "x"));
    }
}
