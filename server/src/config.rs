//! The configuration of a member: typed and checked once, so that nobody parses a text later.
//!
//! Promises that a [`Config`] is one that etcd 3.7 would have started with, and that what etcd refuses is refused
//! with its text ([`Invalid`]). What only matters for an empty data folder (the initial cluster) is checked by
//! [`Config::members_of_new_cluster`], since etcd ignores it where there is data. Opens no files but the
//! configuration file.

mod advertise;
mod announce;
mod auth;
mod bootstrap;
mod build;
mod check;
mod compaction;
mod invalid;
mod load;
mod notes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use metastore_engine::Kind;
use metastore_node::AutoCompaction;

use crate::flag::feature_gates::FeatureGates;
use crate::tls::TlsOptions;
use crate::url::Url;

pub use invalid::Invalid;
pub use load::{LoadError, load};

/// Everything that a member is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where and how data is kept.
    pub data: Data,
    /// Raft's timing.
    pub raft: Raft,
    /// Where the member listens.
    pub listen: Listen,
    /// Where others reach it.
    pub advertise: Advertise,
    /// How the cluster began, and what may become of it.
    pub cluster: Cluster,
    /// TLS of the client port, and of metrics listeners.
    pub client_tls: TlsOptions,
    /// TLS of the peer port, both ways.
    pub peer_tls: TlsOptions,
    /// Bounds on requests and data.
    pub limits: Limits,
    /// gRPC on the client port.
    pub grpc: Grpc,
    /// HTTP on the client port.
    pub http: Http,
    /// Authentication.
    pub auth: Auth,
    /// Compaction of history.
    pub compaction: Compaction,
    /// Checks that members hold the same data.
    pub checks: Checks,
    /// Time between two notices of progress to a watch that asked for them (--watch-progress-notify-interval).
    pub watch_progress_interval: Duration,
    /// A request that takes longer to apply is logged (--warning-apply-duration).
    pub warning_apply: Duration,
    /// A unary request that takes longer is logged (--warning-unary-request-duration).
    pub warning_unary_request: Duration,
    /// The feature gates.
    pub features: FeatureGates,
    /// Keep all memory out of swap (--memory-mlock).
    pub lock_memory: bool,
}

/// Where and how data is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// --data-dir, or `<name>.etcd`.
    pub directory: PathBuf,
    /// --wal-dir: the log's own folder, where it has one.
    pub log_directory: Option<PathBuf>,
    /// --storage-engine.
    pub engine: Kind,
    /// --value-cache-bytes.
    pub value_cache_bytes: usize,
    /// --engine-memory-bytes.
    pub engine_memory_bytes: usize,
    /// --raft-log-retention-bytes.
    pub log_retention_bytes: u64,
    /// False with --unsafe-no-fsync.
    pub fsync: bool,
}

/// Raft's timing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// --heartbeat-interval.
    pub heartbeat: Duration,
    /// --election-timeout, a whole number of heartbeats as in etcd.
    pub election: Duration,
    /// --pre-vote.
    pub pre_vote: bool,
    /// --initial-election-tick-advance.
    pub early_election: bool,
    /// --raft-read-timeout, at least 5s.
    pub read_timeout: Duration,
    /// --raft-write-timeout, at least 5s.
    pub write_timeout: Duration,
    /// The address from which to connect to other members (gate SetMemberLocalAddr).
    pub local_address: Option<IpAddr>,
}

/// Where the member listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// --listen-peer-urls; not empty.
    pub peer: Vec<Url>,
    /// --listen-client-urls; not empty.
    pub client: Vec<Url>,
    /// --listen-client-http-urls: where it is not empty, HTTP is served here and not on `client`.
    pub client_http: Vec<Url>,
    /// --listen-metrics-urls.
    pub metrics: Vec<Url>,
    /// --socket-reuse-port.
    pub reuse_port: bool,
}

/// Where others reach the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// --initial-advertise-peer-urls.
    pub peer: Vec<Url>,
    /// --advertise-client-urls.
    pub client: Vec<Url>,
}

/// How the cluster began, and what may become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// --initial-cluster as it was given; [`Config::members_of_new_cluster`] reads it.
    pub initial: String,
    /// --initial-cluster-token.
    pub token: String,
    /// --initial-cluster-state.
    pub state: ClusterState,
    /// --force-new-cluster.
    pub force_new: bool,
    /// --strict-reconfig-check.
    pub strict_reconfig_check: bool,
    /// --max-learners.
    pub max_learners: usize,
}

/// --initial-cluster-state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// A new cluster is made.
    New,
    /// A running one is joined.
    Existing,
}

/// Name and peer URLs of each member of a new cluster.
pub type Members = BTreeMap<String, Vec<Url>>;

/// Bounds on requests and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// --max-request-bytes.
    pub max_request_bytes: usize,
    /// --max-txn-ops.
    pub max_txn_ops: usize,
    /// --max-concurrent-streams.
    pub max_concurrent_streams: u32,
    /// --quota-backend-bytes, the default resolved; `None` where there is no quota.
    pub quota_backend_bytes: Option<u64>,
}

/// gRPC on the client port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// --grpc-keepalive-min-time, where it is enforced.
    pub keepalive_min_time: Option<Duration>,
    /// --grpc-keepalive-interval and --grpc-keepalive-timeout, where the server pings.
    pub keepalive: Option<Keepalive>,
    /// --enable-grpc-gateway.
    pub gateway: bool,
}

/// The server's pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a ping.
    pub interval: Duration,
    /// How long its answer may take.
    pub timeout: Duration,
}

/// HTTP on the client port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// --cors.
    pub origins: Allowed,
    /// --host-whitelist.
    pub hosts: Allowed,
    /// --metrics=extensive.
    pub extensive_metrics: bool,
}

/// Who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Everybody.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Allowed {
    /// Whether `name` may.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// Authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// --auth-token.
    pub token: AuthToken,
    /// --bcrypt-cost, between 4 and 31.
    pub bcrypt_cost: u32,
    /// --auth-token-ttl.
    pub token_ttl: Duration,
    /// --client-cert-auth: the common name of a client's certificate is its user.
    pub client_cert: bool,
}

/// The type of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    /// Random texts that this member remembers.
    Simple,
    /// JSON web tokens; the options as they were given: `sign-method`, `pub-key`, `priv-key`, `ttl`.
    Jwt(BTreeMap<String, String>),
    /// None at all: users cannot log in.
    None,
}

/// Compaction of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// --auto-compaction-mode and --auto-compaction-retention, where it is on.
    pub auto: Option<AutoCompaction>,
    /// --compaction-batch-limit; `None` for the store's own.
    pub batch_limit: Option<usize>,
    /// --compaction-sleep-interval; `None` for the store's own.
    pub sleep_interval: Option<Duration>,
}

/// Checks that members hold the same data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// --corrupt-check-time, where it is on.
    pub corrupt_interval: Option<Duration>,
    /// --compact-hash-check-time, where the gate CompactHashCheck is on.
    pub compact_hash_interval: Option<Duration>,
    /// The gate InitialCorruptCheck.
    pub initial: bool,
}
