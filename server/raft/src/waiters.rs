//! Requests of this member that wait for their log entry to be applied here.
//!
//! Whoever led when the entry was appended, it is this member's own apply that answers: so a
//! client that was answered finds its write in a serializable read on the same endpoint.
//! Batches are known by their sequence number, which no other run of this member uses.
//! This module must not know what a command means.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metastore_state_machine::Outcome;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::ProposeError;

/// Where the answer to one command goes.
pub(crate) type Answer = oneshot::Sender<Result<Outcome, ProposeError>>;

struct Batch {
    sequence: u64,
    since: Instant,
    answers: Vec<Answer>,
}

/// The batches in flight, oldest first.
#[derive(Default)]
pub(crate) struct Waiters {
    batches: Mutex<VecDeque<Batch>>,
    waiting: AtomicUsize,
}

impl Waiters {
    /// Registers a batch before it is proposed. Sequences must be given in ascending order.
    pub(crate) fn register(&self, sequence: u64, since: Instant, answers: Vec<Answer>) {
        self.waiting.fetch_add(answers.len(), Ordering::Relaxed);
        self.batches.lock().push_back(Batch {
            sequence,
            since,
            answers,
        });
    }

    /// True when somebody here waits for this batch.
    pub(crate) fn contains(&self, sequence: u64) -> bool {
        let batches = self.batches.lock();
        batches
            .binary_search_by_key(&sequence, |batch| batch.sequence)
            .is_ok()
    }

    /// Answers a batch with the outcomes of its commands, in their order.
    pub(crate) fn complete(&self, sequence: u64, outcomes: Vec<Outcome>) {
        let Some(answers) = self.take(sequence) else {
            return;
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // A client that has gone away needs no answer.
            let _ = answer.send(Ok(outcome));
        }
    }

    /// Answers every command of a batch with the same error.
    pub(crate) fn fail(&self, sequence: u64, error: ProposeError) {
        let Some(answers) = self.take(sequence) else {
            return;
        };
        for answer in answers {
            let _ = answer.send(Err(error));
        }
    }

    /// Takes a batch back that was certainly not appended, to propose it elsewhere.
    pub(crate) fn take(&self, sequence: u64) -> Option<Vec<Answer>> {
        let mut batches = self.batches.lock();
        let at = batches
            .binary_search_by_key(&sequence, |batch| batch.sequence)
            .ok()?;
        let batch = batches.remove(at)?;
        self.waiting
            .fetch_sub(batch.answers.len(), Ordering::Relaxed);
        Some(batch.answers)
    }

    /// Fails the batches that have waited for longer than `limit`.
    pub(crate) fn expire(
        &self,
        now: Instant,
        limit: Duration,
        error: impl Fn(Instant) -> ProposeError,
    ) {
        loop {
            let expired = {
                let mut batches = self.batches.lock();
                match batches.front() {
                    Some(oldest) if now.saturating_duration_since(oldest.since) > limit => {
                        batches.pop_front()
                    }
                    _ => None,
                }
            };
            let Some(batch) = expired else { return };
            self.waiting
                .fetch_sub(batch.answers.len(), Ordering::Relaxed);
            let error = error(batch.since);
            for answer in batch.answers {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Commands in flight.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(
        waiters: &Waiters,
        sequence: u64,
        since: Instant,
    ) -> oneshot::Receiver<Result<Outcome, ProposeError>> {
        let (sender, receiver) = oneshot::channel();
        waiters.register(sequence, since, vec![sender]);
        receiver
    }

    #[test]
    fn an_unknown_batch_is_ignored() {
        let waiters = Waiters::default();
        waiters.complete(7, Vec::new());
        waiters.fail(7, ProposeError::Stopped);
        assert!(!waiters.contains(7));
    }

    #[test]
    fn a_failed_batch_tells_every_waiter_once() {
        let waiters = Waiters::default();
        let mut receiver = batch(&waiters, 1, Instant::now());
        assert!(waiters.contains(1));
        waiters.fail(1, ProposeError::Timeout);
        assert!(matches!(
            receiver.try_recv(),
            Ok(Err(ProposeError::Timeout))
        ));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn only_batches_past_the_limit_expire() {
        let waiters = Waiters::default();
        let start = Instant::now();
        let mut old = batch(&waiters, 1, start);
        let mut young = batch(&waiters, 2, start + Duration::from_secs(4));
        waiters.expire(
            start + Duration::from_secs(6),
            Duration::from_secs(5),
            |_| ProposeError::Timeout,
        );
        assert!(matches!(old.try_recv(), Ok(Err(ProposeError::Timeout))));
        assert!(young.try_recv().is_err());
        assert_eq!(waiters.len(), 1);
    }
}
