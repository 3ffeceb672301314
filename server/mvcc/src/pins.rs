//! Readers at older revisions, so that compaction does not pull the ground from under them.
//!
//! Promises: while a pin at revision R lives, nothing that a read at R needs is removed, for at most the patience of
//! the compaction; after that the pin says so. Must not know what readers read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// All pins of a store.
#[derive(Debug)]
pub(crate) struct Pins {
    pinned: Mutex<BTreeMap<i64, usize>>,
    released: Condvar,
    /// Pins below this revision have been overridden.
    revoked_below: AtomicI64,
}

/// One reader's claim. Take it under the index lock, where the compaction revision cannot move.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    at: i64,
}

impl Default for Pins {
    fn default() -> Self {
        Self {
            pinned: Mutex::default(),
            released: Condvar::new(),
            revoked_below: AtomicI64::new(i64::MIN),
        }
    }
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Self>, at: i64) -> Pin {
        *self.pinned.lock().entry(at).or_default() += 1;
        Pin {
            pins: Arc::clone(self),
            at,
        }
    }

    /// How many pins there are now.
    pub(crate) fn count(&self) -> usize {
        self.pinned.lock().values().sum()
    }

    /// Waits until no pin below `revision` is left, at most `patience`; then overrides those that are. No new ones can
    /// come since the compaction revision is already there. Returns early when `stopped` says so.
    pub(crate) fn clear_below(
        &self,
        revision: i64,
        patience: Duration,
        stopped: impl Fn() -> bool,
    ) {
        let deadline = Instant::now() + patience;
        let mut pinned = self.pinned.lock();
        while pinned.range(..revision).next().is_some() && !stopped() {
            let tick = deadline.min(Instant::now() + Duration::from_millis(100));
            self.released.wait_until(&mut pinned, tick);
            if Instant::now() >= deadline {
                break;
            }
        }
        self.revoked_below.fetch_max(revision, Ordering::SeqCst);
    }
}

impl Pin {
    /// Whether the claim still holds.
    pub(crate) fn holds(&self) -> bool {
        self.at >= self.pins.revoked_below.load(Ordering::SeqCst)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pinned = self.pins.pinned.lock();
        if let Some(count) = pinned.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.at);
                self.pins.released.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_below_is_overridden_after_the_patience_and_others_are_not() {
        let pins = Arc::new(Pins::default());
        let old = pins.pin(5);
        let new = pins.pin(10);
        pins.clear_below(10, Duration::ZERO, || false);
        assert!(!old.holds());
        assert!(new.holds());
    }

    #[test]
    fn clearing_waits_for_the_release() {
        let pins = Arc::new(Pins::default());
        let pin = pins.pin(5);
        let waiting = {
            let pins = Arc::clone(&pins);
            std::thread::spawn(move || {
                pins.clear_below(6, Duration::from_secs(60), || false);
            })
        };
        assert!(pin.holds());
        drop(pin);
        waiting.join().unwrap();
    }
}
