//! What a member is started with.

use std::path::PathBuf;
use std::time::Duration;

use metastore_engine::Kind;
use metastore_raft::Connect;

use crate::versions::Versions;

/// One member of a new cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, computed as etcd does.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
}

/// Bounds on requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one request (etcd: --max-request-bytes).
    pub max_request_bytes: usize,
    /// Operations in one transaction (etcd: --max-txn-ops).
    pub max_txn_ops: usize,
    /// The quota in bytes, the default resolved; 0 when there is none (etcd: --quota-backend-bytes < 0).
    pub quota_backend_bytes: u64,
}

/// What automatic compaction keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// History of this length (etcd: --auto-compaction-mode=periodic).
    Periodic(Duration),
    /// This many revisions (etcd: --auto-compaction-mode=revision).
    Revision(i64),
}

/// What a member needs to start.
pub struct Options {
    /// This member's id.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's name.
    pub name: String,
    /// Where clients reach this member.
    pub client_urls: Vec<String>,
    /// The members of a new cluster, this one among them; empty when it joins a running one.
    pub initial_members: Vec<Member>,
    /// Where the state is kept.
    pub state_directory: PathBuf,
    /// Where the log is kept.
    pub log_directory: PathBuf,
    /// The engine.
    pub engine: Kind,
    /// The engine's bounds.
    pub engine_options: metastore_engine::Options,
    /// The store's bounds.
    pub store_options: metastore_mvcc::Options,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a follower stands for election.
    pub election: Duration,
    /// Ask before an election (etcd: --pre-vote).
    pub pre_vote: bool,
    /// After a start, stand as soon as it is clear that nobody leads (etcd: --initial-election-tick-advance).
    pub early_election: bool,
    /// Bytes of log kept for followers that are behind.
    pub log_retention_bytes: u64,
    /// Wait for the disk before anything is acknowledged (etcd: false with --unsafe-no-fsync).
    pub fsync: bool,
    /// Silence after which a connection to another member is given up (etcd: --raft-read-timeout).
    pub peer_silence: Duration,
    /// A log entry that takes longer to apply is logged (etcd: --warning-apply-duration).
    pub slow_apply: Duration,
    /// What automatic compaction keeps, where it is on.
    pub auto_compaction: Option<AutoCompaction>,
    /// Bounds on requests.
    pub limits: Limits,
    /// How often a watch with progress_notify hears of progress.
    pub watch_progress_interval: Duration,
    /// How often the remainders of leases are written down, if at all (feature LeaseCheckpoint).
    pub lease_checkpoint_interval: Option<Duration>,
    /// The versions this member tells.
    pub versions: Versions,
    /// Opens streams to other members.
    pub connect: Connect,
}
