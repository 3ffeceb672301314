//! What can go wrong with a request at a member. The door maps each to etcd's text and code.

use metastore_state_machine as state_machine;

/// Why a member did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No leader is known, or the leader has lost its quorum.
    #[error("no leader")]
    NoLeader,
    /// No leader was there to take the request before its deadline; it was not carried out.
    #[error("context deadline exceeded")]
    NotTaken,
    /// The request was not answered in time; its outcome is unknown.
    #[error("request timed out")]
    Timeout,
    /// As `Timeout`, and leadership changed while the request waited.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFailure,
    /// As `Timeout`, and this member cannot reach a quorum.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutDueToConnectionLost,
    /// Only the leader can do this, and this member is not the leader.
    #[error("not leader")]
    NotLeader,
    /// The leader changed while the request waited.
    #[error("leader changed")]
    LeaderChanged,
    /// The member is stopping.
    #[error("member stopped")]
    Stopped,
    /// More requests wait than the member is willing to hold.
    #[error("too many requests")]
    TooManyRequests,
    /// A disk of this member or of the leader is nearly full; nothing was written.
    #[error("no space left on device")]
    DiskFull,
    /// The request is larger than `--max-request-bytes`.
    #[error("request is too large")]
    RequestTooLarge,
    /// A learner does not serve this.
    #[error("rpc not supported for learner")]
    NotSupportedForLearner,
    /// The lease does not exist.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The command was applied and refused.
    #[error(transparent)]
    Apply(#[from] state_machine::Error),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] metastore_mvcc::Error),
    /// Disk trouble in the raft log or the engine.
    #[error("storage: {0}")]
    Storage(String),
}
