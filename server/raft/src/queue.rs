//! Commands that wait to be put into a log entry.
//!
//! Bounded in number and in bytes; taken as a batch bounded in bytes. Whoever drains it is woken once for
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
/// Their bytes, encoded: a client that never waits for an answer must not fill the memory. Fifty thousand commands of
/// five KiB fit, and more than the disk takes in a second. One command is taken whatever its size.
pub(crate) const WAITING_BYTES_MAX: usize = 256 << 20;

#[derive(Default)]
struct State {
    commands: VecDeque<Waiting>,
    /// Of all of them.
    bytes: usize,
}

impl State {
    fn pop_front(&mut self) -> Option<Waiting> {
        let first = self.commands.pop_front()?;
        self.bytes -= first.bytes;
        Some(first)
    }
}

struct Waiting {
    command: Command,
    /// Its encoded length.
    bytes: usize,
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
    waiting: Mutex<State>,
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
        let bytes = command.encoded_len();
        let was_empty = {
            let mut waiting = self.waiting.lock();
            let was_empty = waiting.commands.is_empty();
            let full = waiting.commands.len() >= WAITING_COMMANDS_MAX
                || waiting.bytes + bytes > WAITING_BYTES_MAX;
            if full && !was_empty {
                return Err(ProposeError::TooManyRequests);
            }
            waiting.bytes += bytes;
            waiting.commands.push_back(Waiting {
                command,
                bytes,
                answer,
                since,
            });
            was_empty
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
        let since = waiting.commands.front()?.since;
        let count = waiting.commands.len().min(4096);
        let mut batch = Batch {
            commands: Vec::with_capacity(count),
            answers: Vec::with_capacity(count),
            since,
        };
        let mut bytes = 0;
        while let Some(next) = waiting.commands.front() {
            bytes += next.bytes;
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
            .commands
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
        self.waiting.lock().commands.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_proto::commandpb::command::Request;
    use metastore_proto::etcdserverpb::PutRequest;
    use tokio::sync::oneshot;

    fn put(value: &bytes::Bytes) -> Command {
        let put = PutRequest {
            value: value.clone(),
            ..Default::default()
        };
        Command {
            caller: None,
            request: Some(Request::Put(put)),
        }
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_never_empty() {
        let queue = Queue::default();
        let mut receivers = Vec::new();
        for _ in 0..3 {
            let (sender, receiver) = oneshot::channel();
            receivers.push(receiver);
            let command = put(&vec![0; 100].into());
            queue.push(command, sender, Instant::now()).expect("room");
        }
        assert_eq!(queue.take(10).expect("one").commands.len(), 1);
        assert_eq!(queue.take(1000).expect("two").commands.len(), 2);
        assert!(queue.take(1000).is_none());
        assert_eq!(receivers.len(), 3);
    }

    /// Pushes until the queue refuses; how many it took.
    fn fill(queue: &Queue, value: &bytes::Bytes, since: Instant) -> usize {
        for taken in 0.. {
            let (sender, _) = oneshot::channel();
            match queue.push(put(value), sender, since) {
                Ok(()) => {}
                Err(ProposeError::TooManyRequests) => return taken,
                Err(error) => panic!("{error:?}"),
            }
        }
        unreachable!("it takes without end")
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        assert_eq!(
            fill(&Queue::default(), &b"short"[..].into(), Instant::now()),
            WAITING_COMMANDS_MAX
        );
        // The commands share one value: the test needs no such memory.
        let value = vec![0; 1 << 20].into();
        let queue = Queue::default();
        let since = Instant::now();
        let fit = WAITING_BYTES_MAX / put(&value).encoded_len();
        assert_eq!(fill(&queue, &value, since), fit);
        // Whichever way it is emptied, it takes as much again.
        queue.expire(
            since + Duration::from_secs(2),
            Duration::from_secs(1),
            ProposeError::Timeout,
        );
        assert_eq!(fill(&queue, &value, since), fit);
        assert!(queue.take(1).is_none(), "nobody waits for any of them");
        assert_eq!(fill(&queue, &value, since), fit);
    }

    #[test]
    fn an_empty_queue_takes_a_command_of_any_size() {
        let huge = vec![0; WAITING_BYTES_MAX].into();
        assert_eq!(fill(&Queue::default(), &huge, Instant::now()), 1);
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
