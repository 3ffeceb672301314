//! The raft group as this member sees it: openraft's handle, the peers, who leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::ReadPolicy;
use parking_lot::Mutex;

use metastore_proto::peerpb::{HelloRequest, HelloResponse, ReadIndexRequest, ReadIndexResponse};

use crate::adapter::Adapter;
use crate::connection::Kind;
use crate::error::ReadError;
use crate::peers::{Link, Peers};
use crate::room::Room;
use crate::shared::{Leadership, Shared};
use crate::types::{TypeConfig, Vote};

/// openraft's handle for our types.
pub(crate) type OpenRaft = openraft::Raft<TypeConfig, Adapter>;

/// How soon an unanswered read index question is asked again (etcd: readIndexRetryTime).
const READ_RETRY: Duration = Duration::from_millis(500);

/// Times that the group keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupOptions {
    /// How long a request may wait for the log (etcd: 5 s and two elections).
    pub(crate) request_timeout: Duration,
    /// Silence after which a leader counts as lost.
    pub(crate) election_timeout: Duration,
}

pub(crate) struct Group {
    pub(crate) raft: OpenRaft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) room: Arc<Room>,
    pub(crate) options: GroupOptions,
    leader_changed: Mutex<Option<Instant>>,
}

impl Group {
    pub(crate) fn new(
        raft: OpenRaft,
        peers: Arc<Peers>,
        shared: Arc<Shared>,
        room: Arc<Room>,
        options: GroupOptions,
    ) -> Self {
        Self {
            raft,
            peers,
            shared,
            room,
            options,
            leader_changed: Mutex::new(None),
        }
    }

    /// The links to a member of the current membership.
    pub(crate) fn link(&self, id: u64) -> Option<Link> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some(self.peers.link(id, &node.peer_urls))
    }

    /// True when this member leads, as far as it can tell.
    pub(crate) fn leads(&self) -> bool {
        self.shared.leadership().leader == self.shared.member_id
    }

    /// What this member has voted for last.
    pub(crate) fn vote(&self) -> Vote {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.vote
    }

    /// The index of the last entry that this member knows to be committed.
    pub(crate) fn committed(&self) -> Option<u64> {
        let metrics = self.raft.data_metrics();
        let committed = metrics.borrow_watched().local_committed;
        committed.map(|id| id.index)
    }

    /// When leadership last moved or was lost, if it ever did.
    pub(crate) fn leader_changed_at(&self) -> Option<Instant> {
        *self.leader_changed.lock()
    }

    /// Publishes who leads, as far as this member can tell.
    ///
    /// openraft remembers a leader until a newer one is voted for, even over a restart; a leader that has not been heard
    /// yet, or not for an election timeout, or one that cannot reach a quorum for as long, is none.
    pub(crate) fn refresh_leadership(&self) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut leader = metrics.current_leader.unwrap_or(0);
        let voters = metrics.membership_config.membership().voter_ids().count();
        self.shared.set_voters(voters);
        let limit = self.options.election_timeout;
        if leader == self.shared.member_id {
            let lost = metrics
                .last_quorum_acked
                .as_ref()
                .is_none_or(|acked| acked.elapsed() > limit);
            if voters > 1 && lost {
                leader = 0;
            }
        } else if !self.shared.has_heard_leader() || self.shared.leader_silence() > limit {
            leader = 0;
        }
        let membership = metrics.membership_config.membership();
        let is_learner = membership.get_node(&self.shared.member_id).is_some()
            && membership.voter_ids().all(|id| id != self.shared.member_id);
        let now = Leadership {
            leader,
            term: metrics.current_term,
            is_learner,
        };
        drop(metrics);
        let before = self.shared.leadership();
        if before.leader != now.leader && before.leader != 0 {
            *self.leader_changed.lock() = Some(Instant::now());
        }
        self.shared.set_leadership(now);
    }

    /// The voters that are not this member.
    pub(crate) fn other_voters(&self) -> Vec<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids();
        voters.filter(|id| *id != self.shared.member_id).collect()
    }

    /// Of the other voters that are `wanted`, the one whose log goes furthest; only a leader knows.
    pub(crate) fn most_advanced(&self, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let voters = metrics.membership_config.membership().voter_ids();
        voters
            .filter(|id| *id != self.shared.member_id && wanted(*id))
            .max_by_key(|id| replication.get(id).and_then(|matched| *matched))
    }

    /// What another member says of itself; none when it does not within `patience`.
    pub(crate) async fn hello(
        &self,
        cluster_id: u64,
        id: u64,
        patience: Duration,
    ) -> Option<HelloResponse> {
        let mut link = self.link(id)?;
        let question = HelloRequest {
            cluster_id,
            member_id: self.shared.member_id,
        };
        let asked = tokio::time::timeout(patience, link.calls.hello(question)).await;
        Some(asked.ok()?.ok()?.into_inner())
    }

    /// One ReadIndex round: resolves when this member has applied everything that was committed when
    /// the round began.
    pub(crate) async fn read_round(&self) -> Result<(), ReadError> {
        let deadline = Instant::now() + self.options.request_timeout;
        loop {
            let leader = self.shared.leadership().leader;
            let index = match leader {
                0 => None,
                id if id == self.shared.member_id => self.read_index().await,
                id => self.ask_read_index(id).await,
            };
            if let Some(index) = index {
                let wait = self.shared.wait_applied(index);
                let left = deadline.saturating_duration_since(Instant::now());
                return tokio::time::timeout(left, wait)
                    .await
                    .map_err(|_| ReadError::Timeout);
            }
            if self.shared.is_stopped() {
                return Err(ReadError::Stopped);
            }
            let tally = &self.shared.tally;
            if leader != 0 {
                tally.failed_read_indexes.fetch_add(1, Ordering::Relaxed);
            }
            if Instant::now() >= deadline {
                tally.slow_read_indexes.fetch_add(1, Ordering::Relaxed);
                return Err(if leader == 0 {
                    ReadError::NoLeader
                } else {
                    ReadError::Timeout
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The log index that a read must wait for; none when this member does not lead (any more).
    pub(crate) async fn read_index(&self) -> Option<u64> {
        let question = self.raft.get_read_log_id(ReadPolicy::ReadIndex);
        let (read, _) = tokio::time::timeout(READ_RETRY, question)
            .await
            .ok()?
            .ok()?;
        Some(read.log_id().index)
    }

    async fn ask_read_index(&self, leader: u64) -> Option<u64> {
        let control = self.link(leader)?.control;
        let question = control.call(Kind::ReadIndex, &ReadIndexRequest {});
        let answer = tokio::time::timeout(READ_RETRY, question).await.ok()?;
        let answer: ReadIndexResponse = answer.ok()?;
        answer.leader.then_some(answer.id?.index)
    }
}
