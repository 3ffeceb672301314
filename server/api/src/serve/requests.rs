//! The requests of one connection, carried out by the connection's own task.
//!
//! Promises that a batch of answers is woken up for once and goes out with one write, and that a client that has gone
//! takes its requests with it. Whatever takes long must go elsewhere by itself: it would hold up the connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;
use parking_lot::Mutex;

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
                let mut happened = false;
                while let Poll::Ready(Some(event)) = running.poll_next_unpin(context) {
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
