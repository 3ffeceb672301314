//! The state machine as openraft sees it: committed entries in, answers out, states for others.
//!
//! Order within a run of entries: apply all, publish (`finish_batch`), tell how far this member has
//! applied, answer. So a client that was answered cannot meet a read or a watch that knows less.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use metastore_mvcc::Store;
use metastore_proto::commandpb::{Command, Entry};
use metastore_proto::etcdserverpb::Member;
use metastore_state_machine::{Bookkeeping, LogPosition, Outcome, StateMachine};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};
use prost::Message;

use crate::flush::Flush;
use crate::shared::Shared;
use crate::snapshot::{Pinned, Pins, SnapshotData, SnapshotOf};
use crate::state_directory::StateDirectory;
use crate::types::{self, LogId, SnapshotMeta, StoredMembership, TypeConfig};

type C = TypeConfig;

/// Entries applied before the others see anything of them: bounds how long a reader waits
/// for news while a long log is replayed.
const ENTRIES_PER_RUN_MAX: usize = 64;

/// With more commands an entry takes long.
const COMMANDS_IN_PLACE_MAX: usize = 512;
/// Raft has one thread, and heartbeats may not wait: after this time of applying, others come first.
const TURN: Duration = Duration::from_millis(2);

/// Whether a command may take long to apply.
pub type TakesLong = fn(&Command) -> bool;

/// openraft's way to the state machine.
pub(crate) struct Adapter {
    pub(crate) machine: StateMachine,
    pub(crate) store: Store,
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Arc<StateDirectory>,
    /// Entries that take longer to apply are logged.
    pub(crate) slow_apply: Duration,
    pub(crate) takes_long: TakesLong,
    pub(crate) flush: Arc<Flush>,
    pub(crate) pins: Arc<Pins>,
}

/// Batches that wait for an answer: sequence and outcomes.
type Answers = Vec<(u64, Vec<Outcome>)>;

impl Adapter {
    fn apply_entry(&mut self, entry: &types::Entry, answers: &mut Answers) -> io::Result<()> {
        let position = position(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => self.machine.advance(position),
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
                let members = members_of(membership);
                self.machine.apply_membership(
                    position,
                    &types::encode_stored_membership(&stored),
                    &members,
                );
            }
            EntryPayload::Normal(proposal) => {
                let batch = proposal.take_entry().map_err(io::Error::other)?;
                let waited = batch.origin == self.shared.member_id
                    && self.shared.waiters.contains(batch.sequence);
                let since = Instant::now();
                let takes_long = batch.commands.len() > COMMANDS_IN_PLACE_MAX
                    || batch.commands.iter().any(self.takes_long);
                let mut apply = || self.machine.apply(position, &batch, waited);
                let outcomes = match takes_long {
                    true => tokio::task::block_in_place(&mut apply),
                    false => apply(),
                };
                let outcomes = outcomes.map_err(io::Error::other)?;
                let took = since.elapsed();
                if took > self.slow_apply {
                    log_slow(took, self.slow_apply, position, &batch);
                }
                if waited {
                    answers.push((batch.sequence, outcomes));
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, index: u64, answers: &mut Answers) {
        self.machine.finish_batch();
        self.shared.set_applied(index + 1);
        for (sequence, outcomes) in answers.drain(..) {
            self.shared.waiters.complete(sequence, outcomes);
        }
    }

    /// Pins the present state, or hands out the one that a transfer is reading.
    fn pin(&mut self) -> io::Result<Arc<Pinned>> {
        if let Some(pinned) = self.pins.usable() {
            return Ok(pinned);
        }
        // An engine that has no room is behind, but what it holds is a state too; an error would be raft's end.
        let snapshot = self.store.snapshot();
        let snapshot = snapshot.or_else(|_| self.store.written_snapshot());
        let snapshot = snapshot.map_err(io::Error::other)?;
        let bookkeeping = Bookkeeping::of(&snapshot).map_err(io::Error::other)?;
        let meta = types::position_of(&bookkeeping)?;
        let pinned = Pinned::new(meta, self.directory.kind().name(), snapshot.view);
        self.pins.hold(pinned.clone());
        Ok(pinned)
    }
}

/// etcd warns of each request (`WarnOfExpensiveRequest`); here an entry carries many.
#[cold]
fn log_slow(took: Duration, expected: Duration, position: LogPosition, entry: &Entry) {
    tracing::warn!(
        ?took,
        expected_duration = ?expected,
        prefix = "",
        request = format_args!(
            "{} commands of {} bytes, term {}, index {}",
            entry.commands.len(),
            entry.encoded_len(),
            position.term,
            position.index
        ),
        "apply request took too long"
    );
}

/// All members as the state machine keeps them.
fn members_of(membership: &types::Membership) -> Vec<Member> {
    let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
    membership
        .nodes()
        .map(|(id, node)| Member {
            id: *id,
            name: node.name.clone(),
            peer_urls: node.peer_urls.clone(),
            client_urls: Vec::new(),
            is_learner: !voters.contains(id),
        })
        .collect()
}

fn position(id: LogId) -> LogPosition {
    LogPosition {
        term: id.committed_leader_id().term,
        index: id.index,
    }
}

impl RaftStateMachine<C> for Adapter {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self
            .machine
            .applied()
            .map(|at| types::log_id(at.term, at.index));
        Ok((
            applied,
            types::stored_membership_of(self.machine.raft_membership())?,
        ))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<C>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Answers::new();
        let mut responders = Vec::new();
        let mut unpublished = None;
        let mut turn = Instant::now();
        while let Some(item) = entries.next().await {
            if turn.elapsed() > TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
            let (entry, responder) = item?;
            let behind = self.store.is_behind();
            let mut apply = || self.apply_entry(&entry, &mut answers);
            // What may wait for the engine may not hold up raft's thread.
            match behind {
                true => tokio::task::block_in_place(&mut apply)?,
                false => apply()?,
            }
            unpublished = Some(entry.log_id().index);
            responders.extend(responder);
            if answers.len() + responders.len() >= ENTRIES_PER_RUN_MAX {
                self.publish(entry.log_id().index, &mut answers);
                unpublished = None;
                responders
                    .drain(..)
                    .for_each(|responder| responder.send(()));
            }
        }
        if let Some(index) = unpublished {
            self.publish(index, &mut answers);
        }
        responders
            .drain(..)
            .for_each(|responder| responder.send(()));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            flush: self.flush.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let SnapshotData::Received(staged) = snapshot else {
            return Err(io::Error::other(
                "a snapshot without a state cannot be installed",
            ));
        };
        tracing::info!(last = ?meta.last_log_id, "installing a received snapshot");
        self.pins.clear();
        tokio::task::block_in_place(|| {
            self.directory.promote(&staged).map_err(io::Error::other)?;
            let (store, writer) = self
                .store
                .replace(staged.engine.clone())
                .map_err(io::Error::other)?;
            self.machine
                .replace_store(store, writer)
                .map_err(io::Error::other)?;
            self.directory.sweep()
        })?;
        self.flush.advance(meta.clone());
        self.shared
            .set_applied(meta.last_log_id.map_or(0, |id| id.index + 1));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        let pinned = tokio::task::block_in_place(|| self.pin())?;
        Ok(Some(Snapshot {
            meta: pinned.meta.clone(),
            snapshot: SnapshotData::Pinned(pinned),
        }))
    }
}

/// Tells how far the state is durable: what openraft calls building a snapshot. The flush itself has been before.
pub(crate) struct Builder {
    flush: Arc<Flush>,
}

impl RaftSnapshotBuilder<C> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        Ok(Snapshot {
            meta: self.flush.durable(),
            snapshot: SnapshotData::Position,
        })
    }
}
