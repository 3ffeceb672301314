//! From a command to a log entry: batching, and the way to the leader.
//!
//! Commands that arrive while entries are on their way gather into the next entry, so one entry, one
//! sync and one message carry as many commands as waited. A batch that was certainly not appended is
//! sent again, to whoever leads now; one whose fate is unknown is left to its deadline, never repeated.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metastore_proto::commandpb::{Command, Entry};
use metastore_proto::peerpb::{ProposeRequest, ProposeResponse, propose_response};
use metastore_state_machine::Outcome;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::oneshot;

use crate::connection::{CallError, Kind};
use crate::error::ProposeError;
use crate::group::Group;
use crate::queue::{Batch, Queue};
use crate::together::Together;
use crate::types::Proposal;

/// Entries on their way at once. More would make each smaller; fewer would leave the disk idle
/// while a batch crosses the network.
const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// Bytes of commands in one entry, unless one command alone has more.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// No command may have more bytes, whatever `--max-request-bytes` says: the members agree on what they send each
/// other, not on their flags. Six times what etcd recommends as the largest request.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;
/// What a member takes from another one at once: one command (in an entry, or as a row of a state), up to a MiB of
/// others that go along, and what is around them.
pub(crate) const MESSAGE_BYTES_MAX: usize = COMMAND_BYTES_MAX + (2 << 20);
/// How soon a batch without a leader looks again.
const RETRY: Duration = Duration::from_millis(20);
/// How much later than an entry's time is over it is answered by whoever does not know what became of it.
const GRACE: Duration = Duration::from_millis(100);

/// The way of a command into the log.
pub(crate) struct Proposer {
    queue: Arc<Queue>,
    group: Arc<Group>,
    sequence: u64,
}

impl Proposer {
    /// `first_sequence` must not be reached by any other run of this member.
    pub(crate) fn new(queue: Arc<Queue>, group: Arc<Group>, first_sequence: u64) -> Self {
        Self {
            queue,
            group,
            sequence: first_sequence,
        }
    }

    /// Runs until the group is stopped.
    pub(crate) async fn run(mut self) {
        let mut in_flight = Together::default();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.group.shared.is_stopped() {
            tokio::select! {
                biased;
                () = poll_fn(|context| in_flight.poll_next(context)) => {}
                () = self.queue.filled() => {}
                _ = tick.tick() => self.expire(),
            }
            while in_flight.len() < ENTRIES_IN_FLIGHT_MAX {
                let Some(batch) = self.queue.take(ENTRY_BYTES_MAX) else {
                    break;
                };
                let (sequence, proposal, since) = self.seal(batch);
                in_flight.push(deliver(self.group.clone(), sequence, proposal, since));
            }
        }
    }

    fn seal(&mut self, batch: Batch) -> (u64, Proposal, Instant) {
        self.sequence += 1;
        let entry = Entry {
            format: 1,
            origin: self.group.shared.member_id,
            sequence: self.sequence,
            commands: batch.commands,
        };
        self.group
            .shared
            .waiters
            .register(self.sequence, batch.since, batch.answers);
        (self.sequence, Proposal::from_entry(entry), batch.since)
    }

    fn expire(&self) {
        let now = Instant::now();
        let limit = self.group.options.request_timeout;
        let has_leader = self.group.shared.leadership().leader != 0;
        self.queue.expire(
            now,
            limit,
            if has_leader {
                ProposeError::Timeout
            } else {
                ProposeError::NoLeader
            },
        );
        let group = &self.group;
        // What no leader has taken in is answered where it was tried.
        let waiters = &group.shared.waiters;
        waiters.expire(now, limit + GRACE, |since| too_late(group, true, since));
    }
}

/// Brings one entry to the leader and sees it through.
async fn deliver(group: Arc<Group>, sequence: u64, proposal: Proposal, since: Instant) {
    let waiters = &group.shared.waiters;
    if group.room.refuses(&proposal) {
        return waiters.fail(sequence, ProposeError::Full);
    }
    let mut had_leader = false;
    loop {
        let leader = group.shared.leadership().leader;
        had_leader |= leader != 0;
        let verdict = match leader {
            0 => Verdict::TryAgain,
            leader if leader == group.shared.member_id => append(&group, proposal.clone()).await,
            leader => forward(&group, leader, proposal.encoded()).await,
        };
        match verdict {
            Verdict::Done => return,
            Verdict::Failed(error) => return waiters.fail(sequence, error),
            Verdict::TryAgain
                if since.elapsed() > group.options.request_timeout || group.shared.is_stopped() =>
            {
                return waiters.fail(sequence, too_late(&group, had_leader, since));
            }
            Verdict::TryAgain => tokio::time::sleep(RETRY).await,
        }
    }
}

/// What is said of an entry whose time is over. Like etcd, which says something else of what no leader ever took in
/// (parseProposeCtxErr of server/etcdserver/server.go).
fn too_late(group: &Group, had_leader: bool, since: Instant) -> ProposeError {
    match group.leader_changed_at() {
        _ if !had_leader => ProposeError::NoLeader,
        Some(changed) if changed > since => ProposeError::LeaderFailure,
        _ => ProposeError::Timeout,
    }
}

enum Verdict {
    /// Committed, or answered by its own deadline.
    Done,
    /// Not appended, and worth another try.
    TryAgain,
    Failed(ProposeError),
}

async fn append(group: &Group, proposal: Proposal) -> Verdict {
    match group.raft.client_write(proposal).await {
        Ok(_) => Verdict::Done,
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Verdict::TryAgain,
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
            Verdict::Failed(ProposeError::LeaderFailure)
        }
        Err(RaftError::APIError(_)) => Verdict::Failed(ProposeError::Timeout),
        Err(RaftError::Fatal(_)) => Verdict::Failed(ProposeError::Stopped),
    }
}

async fn forward(group: &Group, leader: u64, entry: Bytes) -> Verdict {
    use propose_response::Result as Answer;
    let Some(link) = group.link(leader) else {
        return Verdict::TryAgain;
    };
    let question = ProposeRequest { entry };
    let answer = link.control.call(Kind::Propose, &question).await;
    match answer.map(|answer: ProposeResponse| answer.result()) {
        Ok(Answer::Committed) => Verdict::Done,
        Ok(Answer::NotLeader) => Verdict::TryAgain,
        Ok(Answer::OutcomeUnknown) => Verdict::Failed(ProposeError::LeaderFailure),
        Ok(Answer::Full) => Verdict::Failed(ProposeError::Full),
        Ok(Answer::Overloaded) => Verdict::Failed(ProposeError::TooManyRequests),
        // Nobody was there to take the message.
        Err(CallError::NotSent(_)) => Verdict::TryAgain,
        // The message may have arrived; the deadline decides.
        Err(_) => Verdict::Done,
    }
}

/// Puts a command into the queue and waits for this member to apply it.
pub(crate) async fn propose(queue: &Queue, command: Command) -> Result<Outcome, ProposeError> {
    let (answer, outcome) = oneshot::channel();
    queue.push(command, answer, Instant::now())?;
    outcome.await.unwrap_or(Err(ProposeError::Stopped))
}
