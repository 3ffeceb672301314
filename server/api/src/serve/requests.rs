//! The requests of one connection, carried out by the connection's own task.
//!
//! Promises that a batch of answers is woken up for once and goes out with one write, that long answers are written one
//! by one, and that a client that has gone takes its requests with it. Whatever takes long must go elsewhere by itself: it would hold up the connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;
use parking_lot::Mutex;

/// Answers that have so many bytes together are written before the next request is looked at: they are still in the
/// processor's cache then, and a hundred long ones need not lie beside each other.
const BATCH_BYTES: usize = 64 << 10;

type Running = Pin<Box<dyn Future<Output = Event> + Send>>;

/// What may happen beside the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A request was answered.
    Answered,
    /// No new requests are to be taken.
    Stop,
    /// The connection is to end at once.
    Kill,
}

/// Takes what hyper wants to have carried out, until the connection's task looks.
#[derive(Clone, Default)]
pub(super) struct Requests {
    new: Arc<Mutex<Vec<Running>>>,
    /// Bytes of the answers since the connection has written.
    answered: Arc<AtomicUsize>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Requests {
    fn execute(&self, request: F) {
        self.add(async {
            request.await;
            Event::Answered
        });
    }
}

impl Requests {
    /// Has `event` awaited beside the requests.
    pub(super) fn add(&self, event: impl Future<Output = Event> + Send + 'static) {
        self.new.lock().push(Box::pin(event));
    }

    /// Counts an answer of `bytes`, which the connection has not written yet.
    pub(super) fn answered(&self, bytes: usize) {
        self.answered.fetch_add(bytes, Relaxed);
    }

    /// Runs `connection`, which hands its requests to this executor, together with them. Calls `stop` at
    /// [`Event::Stop`], and `rest` when there is nothing to do for now; gives nothing when it was killed.
    pub(super) async fn run<C: Future>(
        self,
        mut connection: Pin<&mut C>,
        stop: impl Fn(Pin<&mut C>),
        rest: impl Fn(&mut Context<'_>),
    ) -> Option<C::Output> {
        let mut running = FuturesUnordered::new();
        let together = poll_fn(move |context| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Some(ended));
                }
                running.extend(self.new.lock().drain(..));
                self.answered.store(0, Relaxed);
                let mut happened = false;
                while self.answered.load(Relaxed) < BATCH_BYTES
                    && let Poll::Ready(Some(event)) = running.poll_next_unpin(context)
                {
                    happened = true;
                    match event {
                        Event::Answered => {}
                        Event::Stop => stop(connection.as_mut()),
                        Event::Kill => return Poll::Ready(None),
                    }
                }
                if !happened {
                    rest(context);
                    return Poll::Pending;
                }
            }
        });
        // A batch of answers is larger than the budget that tokio gives a task for one poll.
        tokio::task::unconstrained(together).await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// How often the connection was looked at until `count` answers of `bytes` were there.
    async fn looks(count: usize, bytes: usize) -> usize {
        let requests = Requests::default();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..count {
            let (answers, done) = (requests.clone(), done.clone());
            requests.execute(async move {
                answers.answered(bytes);
                done.fetch_add(1, Relaxed);
            });
        }
        let mut looks = 0;
        let connection = pin!(poll_fn(|_| {
            looks += 1;
            if done.load(Relaxed) == count {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        let ended = requests.run(connection, |_| (), |_| ()).await;
        assert!(ended.is_some());
        looks
    }

    #[tokio::test]
    async fn short_answers_are_written_together_and_long_ones_one_by_one() {
        assert_eq!(looks(100, 100).await, 2);
        assert_eq!(looks(100, BATCH_BYTES).await, 101);
        assert_eq!(looks(100, BATCH_BYTES / 2).await, 51);
    }
}
