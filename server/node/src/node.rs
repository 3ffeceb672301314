//! A member's verbs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use metastore_mvcc::{HashKv, Store};
use metastore_proto::commandpb::{Command, command::Request};
use metastore_proto::etcdserverpb::{
    AlarmRequest, AlarmType, LeaseCheckpoint, LeaseCheckpointRequest, ResponseHeader,
    alarm_request::AlarmAction,
};
use metastore_raft::{Counters, ProposeError, Raft, ReadError, Routes};
use metastore_state_machine::{Applied, View};
use metastore_watch::Hub;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::Error;
use crate::lease_clock::LeaseClock;
use crate::measures::Measures;
use crate::options::Limits;
use crate::quota;
use crate::status::Status;
use crate::versions::Versions;

pub(crate) struct Inner {
    pub(crate) member_id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) raft: Raft,
    pub(crate) store: Store,
    pub(crate) view: View,
    pub(crate) hub: Hub,
    pub(crate) clock: Arc<LeaseClock>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) limits: Limits,
    pub(crate) versions: Versions,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) min_lease_ttl: i64,
    pub(crate) next_id: AtomicI64,
    pub(crate) stopped: AtomicBool,
    /// Held by one defragmentation at a time.
    pub(crate) defragmenting: tokio::sync::Mutex<()>,
    pub(crate) raft_runtime: parking_lot::Mutex<Option<tokio::runtime::Runtime>>,
}

impl Drop for Inner {
    /// The last handle may go in a task, where a runtime must not be waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.raft_runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// One member. A clone is another handle.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

impl Node {
    /// Puts a command into the log and waits for what comes of it on this member.
    pub async fn propose(&self, command: Command) -> Result<Applied, Error> {
        match self.inner.raft.propose(command).await {
            Ok(outcome) => Ok(outcome?),
            Err(error) => Err(error.into()),
        }
    }

    /// Resolves when this member has applied everything that was answered anywhere before the call.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        match self.inner.raft.read_barrier().await {
            // etcd has one answer for whatever a read index waits for.
            Err(ReadError::NoLeader) => Err(Error::Timeout),
            other => Ok(other?),
        }
    }

    /// Refuses what would exceed the quota, and raises the alarm NOSPACE for it.
    pub async fn check_quota(&self, request: &Request) -> Result<(), Error> {
        let cost = quota::cost(request);
        let limit = self.inner.limits.quota_backend_bytes;
        // etcd lets through what adds nothing: a transaction without puts (quota.go Available).
        if limit == 0 || cost == 0 || self.inner.store.logical_bytes() + (cost as u64) < limit {
            return Ok(());
        }
        let raise = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.inner.member_id,
            alarm: AlarmType::Nospace.into(),
        };
        self.propose(Command {
            caller: None,
            request: Some(Request::Alarm(raise)),
        })
        .await?;
        Err(Error::Apply(metastore_state_machine::Error::NoSpace))
    }

    /// The store, for reads.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Leases, alarms, members: what applied entries have made of them.
    pub fn view(&self) -> &View {
        &self.inner.view
    }

    /// Where watches are made.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// This member's standing now.
    pub fn status(&self) -> Status {
        let mut status = self.inner.status.borrow().clone();
        let position = self.inner.raft.position();
        status.committed_index = position.committed;
        status.applied_index = position.applied;
        status
    }

    /// Follows leadership; the indexes in it are not kept up to date.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }

    /// The header of an answer.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.inner.cluster_id,
            member_id: self.inner.member_id,
            revision,
            raft_term: self.inner.status.borrow().term,
        }
    }

    /// Bounds on requests.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The versions this member tells.
    pub fn versions(&self) -> &Versions {
        &self.inner.versions
    }

    /// Commands that wait for the log or for being applied.
    pub fn pending_proposals(&self) -> usize {
        self.inner.raft.pending()
    }

    /// A lease id that no member has chosen before: positive, as etcd's
    /// (server/etcdserver/v3_server.go LeaseGrant).
    pub fn new_lease_id(&self) -> i64 {
        self.inner.next_id.fetch_add(1, Ordering::Relaxed) & i64::MAX
    }

    /// The shortest TTL a lease gets, in seconds (etcd: minTTL from the election timeout).
    pub fn min_lease_ttl(&self) -> i64 {
        self.inner.min_lease_ttl
    }

    /// Starts a lease's time anew: its TTL in seconds. What was written down of its remainder is void before the answer
    /// (etcd: lessor.Renew, server/lease/lessor.go).
    pub async fn lease_renew(&self, id: i64) -> Result<i64, Error> {
        let renewed = self.inner.raft.renew_lease(id).await?;
        let renewal = renewed.ok_or(Error::LeaseNotFound)?;
        if renewal.checkpointed {
            let none_left = LeaseCheckpoint {
                id,
                remaining_ttl: 0,
            };
            let request = Request::LeaseCheckpoint(LeaseCheckpointRequest {
                checkpoints: vec![none_left],
            });
            self.propose(Command {
                caller: None,
                request: Some(request),
            })
            .await?;
        }
        Ok(renewal.ttl)
    }

    /// The ids of all leases: on the leader in the order in which they expire (etcd: lessor.Leases,
    /// server/lease/lessor.go), elsewhere by themselves.
    pub fn lease_ids(&self) -> Vec<i64> {
        let leases = self.view().leases();
        let known = leases.iter().map(|lease| (lease.id, lease.ttl));
        match self.clock().deadlines(Instant::now(), known) {
            Some(mut deadlines) => {
                deadlines.sort_unstable();
                deadlines.into_iter().map(|(_, id)| id).collect()
            }
            None => leases.iter().map(|lease| lease.id).collect(),
        }
    }

    /// Whole seconds until a lease expires.
    pub async fn lease_remaining(&self, id: i64) -> Result<i64, Error> {
        self.inner
            .raft
            .lease_remaining(id)
            .await?
            .ok_or(Error::LeaseNotFound)
    }

    /// Gives disk space of deleted rows back, while everything else goes on.
    pub async fn defragment(&self) -> Result<(), Error> {
        let _one = self.inner.defragmenting.lock().await;
        let _measured = self.inner.measures.defragment();
        let engine = self.inner.store.engine().clone();
        let reclaimed = tokio::task::spawn_blocking(move || {
            engine.reclaim(&|progress| {
                tracing::debug!(
                    done = progress.done,
                    total = progress.total,
                    "defragmenting"
                );
                std::ops::ControlFlow::Continue(())
            })
        });
        let reclaimed = reclaimed
            .await
            .map_err(|error| Error::Storage(error.to_string()))?;
        reclaimed.map_err(|error| Error::Storage(error.to_string()))
    }

    /// etcd's hash of the key space at a revision, 0 for the newest.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let store = self.inner.store.clone();
        let hashed = tokio::task::spawn_blocking(move || store.hash_kv(revision)).await;
        Ok(hashed.map_err(|error| Error::Storage(error.to_string()))??)
    }

    /// A hash of everything this member stores.
    pub async fn hash(&self) -> Result<u32, Error> {
        let store = self.inner.store.clone();
        let hashed = tokio::task::spawn_blocking(move || store.hash()).await;
        Ok(hashed.map_err(|error| Error::Storage(error.to_string()))??)
    }

    /// What the peer port serves.
    pub fn peer_routes(&self) -> Routes {
        self.inner.raft.peer_routes()
    }

    /// Where the peer port is to be served.
    pub fn peer_runtime(&self) -> &Handle {
        self.inner.raft.runtime()
    }

    /// What the raft group has counted, for the metrics.
    pub fn raft_counters(&self) -> Counters {
        self.inner.raft.counters()
    }

    /// What this member has counted, for the metrics.
    pub fn measures(&self) -> &Measures {
        &self.inner.measures
    }

    /// Resolves when the member cannot go on: why.
    pub async fn failed(&self) -> String {
        self.inner.raft.failed().await
    }

    /// Hands leadership to another member, if this one leads and another can.
    pub async fn resign(&self) {
        self.inner.raft.hand_over(Duration::from_millis(500)).await;
    }

    /// Stops; what was acknowledged is on disk.
    pub async fn stop(&self) {
        if self.inner.stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        // The store's writer goes with raft: what is applied after this is applied again by the next start.
        let store = self.inner.store.clone();
        let flushed = tokio::task::spawn_blocking(move || store.flush()).await;
        if !matches!(flushed, Ok(Ok(_))) {
            tracing::warn!("the state was not flushed; the next start replays the log");
        }
        self.inner.raft.stop().await;
        if let Some(runtime) = self.inner.raft_runtime.lock().take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn clock(&self) -> &LeaseClock {
        &self.inner.clock
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Relaxed)
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Self::NotTaken,
            ProposeError::Timeout => Self::Timeout,
            ProposeError::LeaderFailure => Self::TimeoutDueToLeaderFailure,
            ProposeError::TooManyRequests => Self::TooManyRequests,
            ProposeError::Full => Self::DiskFull,
            ProposeError::Stopped => Self::Stopped,
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader => Self::NoLeader,
            ReadError::Timeout => Self::Timeout,
            ReadError::LeaderChanged => Self::LeaderChanged,
            ReadError::Stopped => Self::Stopped,
        }
    }
}
