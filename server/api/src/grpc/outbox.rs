//! A stream of answers, written by one future as if it were a plain function that sends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::encoded::{Chunks, Encoded};
use crate::metrics::MethodCounters;
use crate::status::Refusal;

/// Where a streaming method puts its answers.
///
/// There is room for one message: [`Outbox::send`] returns when the connection has taken it, so a slow
/// client slows the method down and nothing piles up.
pub struct Outbox {
    slot: Arc<Slot>,
    counters: Arc<MethodCounters>,
}

#[derive(Default)]
struct Slot(Mutex<Option<Encoded>>);

impl Outbox {
    /// Sends one message; waits until the connection has taken it.
    pub async fn send(&mut self, message: Encoded) {
        self.counters.sent(message.len());
        *self.slot.0.lock() = Some(message);
        // The body that takes the message polls this future again: no waker is needed.
        std::future::poll_fn(|_| match *self.slot.0.lock() {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        })
        .await;
    }
}

/// The future that writes a stream, and what it has written.
pub(super) struct StreamBody {
    future: Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>,
    slot: Arc<Slot>,
    chunks: Chunks,
    ended: Option<Result<(), Refusal>>,
}

impl StreamBody {
    pub(super) fn new<F, W>(counters: Arc<MethodCounters>, write: W) -> Self
    where
        W: FnOnce(Outbox) -> F,
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let slot = Arc::new(Slot::default());
        let outbox = Outbox {
            slot: slot.clone(),
            counters,
        };
        Self {
            future: Box::pin(write(outbox)),
            slot,
            chunks: Chunks::default(),
            ended: None,
        }
    }

    /// The next piece of a message, or how the stream ended.
    pub(super) fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Result<(), Refusal>>> {
        loop {
            if let Some(chunk) = self.chunks.next() {
                return Poll::Ready(Ok(chunk));
            }
            if let Some(result) = self.ended.take() {
                return Poll::Ready(Err(result));
            }
            if let Poll::Ready(result) = self.future.as_mut().poll(context) {
                self.ended = Some(result);
            }
            match self.slot.0.lock().take() {
                Some(message) => self.chunks = message.into_chunks(),
                None if self.ended.is_some() => {}
                None => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;
    use futures::future::poll_fn;

    async fn collect(mut body: StreamBody) -> (Vec<Bytes>, Result<(), Refusal>) {
        let mut chunks = Vec::new();
        loop {
            match poll_fn(|context| body.poll_chunk(context)).await {
                Ok(chunk) => chunks.push(chunk),
                Err(result) => return (chunks, result),
            }
        }
    }

    /// The body does not look into a message; five bytes of it count as its prefix.
    fn message(content: &'static str) -> Encoded {
        Encoded::raw(Bytes::from(content))
    }

    #[tokio::test]
    async fn messages_leave_in_order_and_the_result_comes_last() {
        let body = StreamBody::new(Arc::default(), |mut outbox| async move {
            outbox.send(message("message one")).await;
            tokio::task::yield_now().await;
            outbox.send(message("message two")).await;
            Err(status::NO_LEADER)
        });
        let (chunks, result) = collect(body).await;
        assert_eq!(
            chunks,
            [Bytes::from("message one"), Bytes::from("message two")]
        );
        assert_eq!(result, Err(status::NO_LEADER));
    }

    #[tokio::test]
    async fn the_writer_waits_until_its_message_is_taken() {
        let written = Arc::new(Mutex::new(0));
        let count = written.clone();
        let mut body = StreamBody::new(Arc::default(), |mut outbox| async move {
            for _ in 0..3 {
                outbox.send(message("message")).await;
                *count.lock() += 1;
            }
            Ok(())
        });
        assert!(poll_fn(|context| body.poll_chunk(context)).await.is_ok());
        assert_eq!(*written.lock(), 0);
        assert!(poll_fn(|context| body.poll_chunk(context)).await.is_ok());
        assert_eq!(*written.lock(), 1);
        let (rest, result) = collect(body).await;
        assert_eq!((rest.len(), result), (1, Ok(())));
    }
}
