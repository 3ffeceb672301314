//! Requests of which a part has arrived.
//!
//! Promises that they are bounded in bytes over all connections: a client may begin as many as it likes and end none.
//! What fits in one frame of HTTP/2 is not counted, and costs nothing here.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Of all requests of this process. More than a hundred of the largest size may be on their way at once; what has
/// arrived as a whole is bounded by those who take it.
pub(super) static UNFINISHED: Budget = Budget::new(256 << 20);

/// Bytes that may be held.
pub(super) struct Budget {
    held: AtomicUsize,
    max: usize,
}

/// Bytes that are held until this is dropped.
pub(super) struct Held {
    budget: &'static Budget,
    bytes: usize,
}

impl Budget {
    const fn new(max: usize) -> Self {
        let held = AtomicUsize::new(0);
        Self { held, max }
    }

    /// Holds so many bytes; none when too many are held. The first may be of any size.
    pub(super) fn hold(&'static self, bytes: usize) -> Option<Held> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let held = Held {
            budget: self,
            bytes,
        };
        (before == 0 || before.saturating_add(bytes) <= self.max).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_held_again() {
        static BUDGET: Budget = Budget::new(100);
        let whole = BUDGET.hold(1_000).expect("the first may be of any size");
        assert!(BUDGET.hold(1).is_none());
        drop(whole);
        let part = BUDGET.hold(60).expect("room");
        assert!(BUDGET.hold(41).is_none());
        let rest = BUDGET.hold(40).expect("a refusal holds nothing");
        drop((part, rest));
        assert_eq!(BUDGET.held.load(Ordering::Relaxed), 0);
    }
}
