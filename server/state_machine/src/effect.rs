//! What the leader's duties have to hear of: a bounded queue from apply to the node.
//!
//! Promises: effects come in the order of the log, after the state they speak of can be read. A reader
//! that falls behind, or never comes, costs a bounded amount of memory: the queue is then emptied
//! and the reader is told that it must look at the [`crate::View`] instead.

use std::sync::Arc;

use parking_lot::Mutex;

/// Effects that wait for their reader at most.
const WAITING_MAX: usize = 1 << 16;

/// A change that somebody may have to act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A lease was granted.
    LeaseGranted {
        /// The lease.
        id: i64,
        /// Its time to live, in seconds.
        ttl: i64,
    },
    /// A lease is gone.
    LeaseRevoked {
        /// The lease.
        id: i64,
    },
    /// The remaining time of a lease was written down.
    LeaseCheckpointed {
        /// The lease.
        id: i64,
        /// What remained of it, in seconds; 0 means all of its time to live.
        remaining: i64,
    },
    /// An alarm was raised or disarmed.
    AlarmsChanged,
    /// Members came, went, were promoted or changed their urls or name.
    MembersChanged,
    /// The cluster's version is another one.
    ClusterVersionChanged,
}

/// What [`Effects::take`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// The effects since the last call, oldest first.
    pub effects: Vec<Effect>,
    /// True when effects were dropped before those: whatever may have changed must be read from the view.
    pub lost: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Drained,
    waker: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// The reading end; clones share one queue.
#[derive(Clone, Default)]
pub struct Effects {
    queue: Arc<Mutex<Queue>>,
}

impl Effects {
    /// Takes what has gathered.
    pub fn take(&self) -> Drained {
        std::mem::take(&mut self.queue.lock().waiting)
    }

    /// Calls `waker`, instead of any earlier one, whenever effects begin to wait, and now if some wait already. It must not
    /// block.
    pub fn on_effect(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.waker = Some(waker.clone());
            queue.waiting.lost || !queue.waiting.effects.is_empty()
        };
        if waiting {
            waker();
        }
    }

    /// Adds `effects` and leaves it empty.
    pub(crate) fn publish(&self, effects: &mut Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let waker = {
            let mut queue = self.queue.lock();
            let was_empty = queue.waiting.effects.is_empty() && !queue.waiting.lost;
            if queue.waiting.effects.len() + effects.len() > WAITING_MAX {
                queue.waiting = Drained {
                    effects: Vec::new(),
                    lost: true,
                };
            } else if !(queue.waiting.lost && queue.waiting.effects.is_empty()) {
                queue.waiting.effects.append(effects);
            }
            was_empty.then(|| queue.waker.clone()).flatten()
        };
        effects.clear();
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Drops what waits and tells the reader to look at the view.
    pub(crate) fn lose(&self) {
        let waker = {
            let mut queue = self.queue.lock();
            queue.waiting = Drained {
                effects: Vec::new(),
                lost: true,
            };
            queue.waker.clone()
        };
        if let Some(waker) = waker {
            waker();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn effects_come_in_order_and_wake_the_reader_once_until_it_has_read() {
        let effects = Effects::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        effects.on_effect(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        effects.publish(&mut Vec::new());
        effects.publish(&mut vec![Effect::LeaseGranted { id: 1, ttl: 5 }]);
        effects.publish(&mut vec![Effect::LeaseRevoked { id: 1 }]);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        let drained = effects.take();
        assert_eq!(
            drained.effects,
            [
                Effect::LeaseGranted { id: 1, ttl: 5 },
                Effect::LeaseRevoked { id: 1 }
            ]
        );
        assert!(!drained.lost);
        effects.publish(&mut vec![Effect::AlarmsChanged]);
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_reader_that_never_comes_costs_bounded_memory_and_is_told_so() {
        let effects = Effects::default();
        for id in 0..(2 * WAITING_MAX as i64) {
            effects.publish(&mut vec![Effect::LeaseRevoked { id }]);
        }
        let drained = effects.take();
        assert!(drained.lost);
        assert!(drained.effects.is_empty());
        effects.publish(&mut vec![Effect::AlarmsChanged]);
        assert_eq!(effects.take().effects, [Effect::AlarmsChanged]);
    }

    #[test]
    fn a_reader_that_comes_late_hears_of_what_waits() {
        let effects = Effects::default();
        effects.publish(&mut vec![Effect::MembersChanged]);
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        effects.on_effect(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
}
