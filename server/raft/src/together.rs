//! Futures that one task carries out together, each polled when it is woken.

use std::future::{Pending, pending};
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;

/// Any number of futures, ready in any order.
///
/// `FuturesUnordered` wakes its task once more whenever it has polled all it holds, so a lone future is polled twice
/// each time, and the task's second turn may wake a thread. Here one that never ends is among them.
pub(crate) struct Together<F: Future> {
    all: FuturesUnordered<Either<F, Pending<F::Output>>>,
}

impl<F: Future> Default for Together<F> {
    fn default() -> Self {
        let all = FuturesUnordered::new();
        all.push(Either::Right(pending()));
        Self { all }
    }
}

impl<F: Future> Together<F> {
    pub(crate) fn push(&self, future: F) {
        self.all.push(Either::Left(future));
    }

    /// How many have not ended.
    pub(crate) fn len(&self) -> usize {
        self.all.len() - 1
    }

    /// What the next one to end gives; pending while there is none.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        // It is never empty.
        match self.all.poll_next_unpin(context) {
            Poll::Ready(Some(output)) => Poll::Ready(output),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Wake, Waker};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn its_task_is_woken_by_what_has_happened_alone() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut together = Together::default();
        assert!(together.poll_next(&mut context).is_pending());
        let (first, future) = oneshot::channel();
        together.push(future);
        assert_eq!(together.len(), 1);
        let before = woken.0.load(SeqCst);
        assert!(together.poll_next(&mut context).is_pending());
        assert_eq!(woken.0.load(SeqCst), before);
        first.send(7).expect("awaited");
        assert_eq!(woken.0.load(SeqCst), before + 1);
        assert_eq!(together.poll_next(&mut context), Poll::Ready(Ok(7)));
        assert_eq!(together.len(), 0);
    }
}
