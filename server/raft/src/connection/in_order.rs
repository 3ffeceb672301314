//! Requests that one task hands over, and whose answers it takes, in the order in which they came.
//!
//! Promises that order as long as whoever takes them has room: openraft's queue has 65,536 places, far more than all
//! connections together may have questions under way. Must not know what is asked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{MaybeDone, maybe_done};
use tokio::task::coop::{Unconstrained, unconstrained};

/// Futures that do something in turn at their first poll, and end in any order.
///
/// Promises that a first poll is never put off: a task that has done much in its turn is told by tokio's channels to wait,
/// and what is pushed in its next turn would be sent ahead of what had to wait. Only the first of those that have not
/// ended is polled after that.
pub(super) struct InOrder<F: Future + Unpin> {
    all: VecDeque<MaybeDone<Unconstrained<F>>>,
}

impl<F: Future + Unpin> Default for InOrder<F> {
    fn default() -> Self {
        Self {
            all: VecDeque::new(),
        }
    }
}

impl<F: Future + Unpin> InOrder<F> {
    /// Polls `future` for the first time.
    pub(super) fn push(&mut self, future: F, context: &mut Context<'_>) {
        let mut future = maybe_done(unconstrained(future));
        // Its output is kept until it is its turn.
        let _ = Pin::new(&mut future).poll(context);
        self.all.push_back(future);
    }

    /// What the oldest one gives; pending while it has not ended, or there is none.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(first) = self.all.front_mut() else {
            return Poll::Pending;
        };
        if Pin::new(&mut *first).poll(context).is_pending() {
            return Poll::Pending;
        }
        let output = Pin::new(first).take_output();
        self.all.pop_front();
        output.map_or(Poll::Pending, Poll::Ready)
    }

    /// How many have not been taken.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::sync::{mpsc, oneshot};
    use tokio::task::coop::has_budget_remaining;

    use super::*;

    /// More than a task may do in one turn.
    const MANY: u32 = 1000;

    #[tokio::test]
    async fn what_a_tired_task_hands_over_is_not_overtaken() {
        let (queue, mut taken) = mpsc::channel(2 * MANY as usize);
        let send = |number| {
            let queue = queue.clone();
            Box::pin(async move { queue.send(number).await })
        };
        let mut in_order = InOrder::default();
        let mut turns = 0;
        poll_fn(|context| {
            turns += 1;
            while turns == 1 && has_budget_remaining() {
                // Uses up what the task may do in this turn.
                let _ = std::pin::pin!(queue.send(0)).poll(context);
            }
            for number in 0..10 {
                in_order.push(send(10 * turns + number), context);
            }
            context.waker().wake_by_ref();
            if turns < 2 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        while in_order.len() > 0 {
            let sent = poll_fn(|context| in_order.poll_next(context)).await;
            sent.expect("there is room");
        }
        let mut sent = Vec::new();
        while let Ok(number) = taken.try_recv() {
            sent.extend((number > 0).then_some(number));
        }
        assert_eq!(sent, (10..30).collect::<Vec<_>>());
    }

    #[test]
    fn answers_come_in_the_order_of_the_requests() {
        let mut context = Context::from_waker(Waker::noop());
        let (first, waiting) = oneshot::channel();
        let (second, ready) = oneshot::channel();
        second.send(2).expect("awaited");
        let mut in_order = InOrder::default();
        assert!(in_order.poll_next(&mut context).is_pending());
        in_order.push(waiting, &mut context);
        in_order.push(ready, &mut context);
        assert!(in_order.poll_next(&mut context).is_pending());
        assert_eq!(in_order.len(), 2);
        first.send(1).expect("awaited");
        assert_eq!(in_order.poll_next(&mut context), Poll::Ready(Ok(1)));
        assert_eq!(in_order.poll_next(&mut context), Poll::Ready(Ok(2)));
        assert_eq!(in_order.len(), 0);
    }
}
