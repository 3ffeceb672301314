//! A session of the log: questions that follow each other without waiting for answers, which come in order.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use metastore_proto::peerpb::{AppendRequest, AppendResponse};
use tokio::sync::mpsc;

use super::caller::{CallError, Caller, Open, decode};
use super::frame::Frame;

/// Questions on their way at once.
pub(super) const WINDOW: usize = 64;

/// The answers of a session, in the order of its questions; the last one may be an error. Whoever waits for answers
/// sends the questions as well.
pub(crate) struct Session<S> {
    open: Arc<Open>,
    number: u64,
    requests: Option<S>,
    answers: mpsc::Receiver<Frame>,
    unanswered: usize,
    ended: bool,
}

impl Caller {
    /// Begins a session; one that has begun before on the same connection ends.
    pub(crate) async fn session<S>(&self, requests: S) -> Result<Session<S>, CallError>
    where
        S: Stream<Item = AppendRequest> + Unpin,
    {
        let open = self.open().await?;
        let (number, answers) = open.begin(WINDOW);
        Ok(Session {
            open,
            number,
            requests: Some(requests),
            answers,
            unanswered: 0,
            ended: false,
        })
    }
}

impl<S: Stream<Item = AppendRequest> + Unpin> Session<S> {
    /// Sends what there is to send.
    fn poll_ask(&mut self, context: &mut Context<'_>) -> Result<(), CallError> {
        while self.unanswered < WINDOW
            && let Some(requests) = &mut self.requests
            && self.open.outbox().has_room(context)
        {
            match requests.poll_next_unpin(context) {
                Poll::Ready(Some(request)) => {
                    self.open.append(self.number, &request)?;
                    self.unanswered += 1;
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AppendResponse, CallError>>> {
        if let Err(error) = self.poll_ask(context) {
            return Poll::Ready(Some(Err(error)));
        }
        match self.answers.poll_recv(context) {
            Poll::Ready(Some(frame)) => {
                self.unanswered -= 1;
                Poll::Ready(Some(decode(frame)))
            }
            Poll::Ready(None) => Poll::Ready(Some(Err(CallError::Lost))),
            Poll::Pending if self.requests.is_none() && self.unanswered == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Stream<Item = AppendRequest> + Unpin> Stream for Session<S> {
    type Item = Result<AppendResponse, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = self.poll_answer(context);
        self.ended = matches!(answer, Poll::Ready(None | Some(Err(_))));
        answer
    }
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        self.open.end(self.number);
    }
}
