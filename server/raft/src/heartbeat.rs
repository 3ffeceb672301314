//! The way heartbeats take: one stream that stays open, one question at a time.
//!
//! openraft wants a new stream for each heartbeat, and a leader sends one for each round of linearizable
//! reads: opening a stream costs several times what the question does. A question that was given up
//! halfway takes the stream with it, so that an answer never meets another's question.

use metastore_proto::peerpb::{AppendRequest, AppendResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::peers::Client;

/// The open stream, if there is one.
#[derive(Default)]
pub(crate) struct Heartbeats {
    open: Option<Open>,
}

struct Open {
    questions: mpsc::Sender<AppendRequest>,
    answers: Streaming<AppendResponse>,
}

impl Heartbeats {
    /// Asks and waits for the answer; opens the stream where it is not open.
    ///
    /// # Errors
    /// The member cannot be reached, or has ended the stream.
    pub(crate) async fn ask(
        &mut self,
        client: &mut Client,
        question: AppendRequest,
    ) -> Result<AppendResponse, Status> {
        let mut open = match self.open.take() {
            Some(open) if open.questions.try_send(question.clone()).is_ok() => open,
            _ => Open::new(client, question).await?,
        };
        let answer = open.answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the stream has ended"))?;
        self.open = Some(open);
        Ok(answer)
    }
}

impl Open {
    async fn new(client: &mut Client, question: AppendRequest) -> Result<Self, Status> {
        let (questions, receiver) = mpsc::channel(1);
        // There is room for one.
        let _ = questions.try_send(question);
        let answers = client.append(ReceiverStream::new(receiver)).await?;
        Ok(Self {
            questions,
            answers: answers.into_inner(),
        })
    }
}
