//! Commands that wait to be put into a log entry.
//!
//! Bounded in number; taken as a batch bounded in bytes. Whoever drains it is woken once for
//! many pushes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use metastore_proto::commandpb::Command;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;

use crate::error::ProposeError;
use crate::waiters::Answer;

/// Commands that may wait on a member before it refuses more.
pub(crate) const WAITING_COMMANDS_MAX: usize = 50_000;

struct Waiting {
    command: Command,
    answer: Answer,
    since: Instant,
}

/// What was taken from the queue for one entry.
pub(crate) struct Batch {
    pub(crate) commands: Vec<Command>,
    pub(crate) answers: Vec<Answer>,
    /// When the oldest of them began to wait.
    pub(crate) since: Instant,
}

/// The queue before the log.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    filled: Notify,
}

impl Queue {
    /// Adds a command; refuses when too many wait.
    pub(crate) fn push(
        &self,
        command: Command,
        answer: Answer,
        since: Instant,
    ) -> Result<(), ProposeError> {
        let was_empty = {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= WAITING_COMMANDS_MAX {
                return Err(ProposeError::TooManyRequests);
            }
            waiting.push_back(Waiting {
                command,
                answer,
                since,
            });
            waiting.len() == 1
        };
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Resolves when something was pushed into an empty queue.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes up to `bytes_max` bytes of commands, at least one if any waits.
    pub(crate) fn take(&self, bytes_max: usize) -> Option<Batch> {
        let mut waiting = self.waiting.lock();
        let since = waiting.front()?.since;
        let count = waiting.len().min(4096);
        let mut batch = Batch {
            commands: Vec::with_capacity(count),
            answers: Vec::with_capacity(count),
            since,
        };
        let mut bytes = 0;
        while let Some(next) = waiting.front() {
            bytes += next.command.encoded_len();
            if !batch.commands.is_empty() && (bytes > bytes_max || batch.commands.len() == count) {
                break;
            }
            let Some(next) = waiting.pop_front() else {
                break;
            };
            // Nobody waits any more and nothing was promised: the command is not worth an entry.
            if next.answer.is_closed() {
                continue;
            }
            batch.commands.push(next.command);
            batch.answers.push(next.answer);
        }
        (!batch.commands.is_empty()).then_some(batch)
    }

    /// Fails what has waited for longer than `limit`.
    pub(crate) fn expire(&self, now: Instant, limit: Duration, error: ProposeError) {
        let mut waiting = self.waiting.lock();
        while waiting
            .front()
            .is_some_and(|oldest| now.saturating_duration_since(oldest.since) > limit)
        {
            if let Some(expired) = waiting.pop_front() {
                let _ = expired.answer.send(Err(error));
            }
        }
    }

    /// Commands that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn a_batch_is_bounded_in_bytes_but_never_empty() {
        let queue = Queue::default();
        let mut receivers = Vec::new();
        for _ in 0..3 {
            let (sender, receiver) = oneshot::channel();
            receivers.push(receiver);
            let put = metastore_proto::etcdserverpb::PutRequest {
                value: vec![0; 100].into(),
                ..Default::default()
            };
            let command = Command {
                caller: None,
                request: Some(metastore_proto::commandpb::command::Request::Put(put)),
            };
            queue.push(command, sender, Instant::now()).expect("room");
        }
        assert_eq!(queue.take(10).expect("one").commands.len(), 1);
        assert_eq!(queue.take(1000).expect("two").commands.len(), 2);
        assert!(queue.take(1000).is_none());
        assert_eq!(receivers.len(), 3);
    }

    #[test]
    fn a_command_nobody_waits_for_is_dropped() {
        let queue = Queue::default();
        let (sender, receiver) = oneshot::channel();
        drop(receiver);
        queue
            .push(Command::default(), sender, Instant::now())
            .expect("room");
        assert!(queue.take(1000).is_none());
        assert_eq!(queue.len(), 0);
    }
}
