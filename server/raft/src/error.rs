//! What can go wrong between a member and its raft group.

/// Why a command has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader was found before the deadline; the command was not appended.
    #[error("no leader")]
    NoLeader,
    /// The deadline passed; the command may or may not be applied later.
    #[error("request timed out")]
    Timeout,
    /// As `Timeout`; the leader changed while the command waited.
    #[error("request timed out, possibly due to previous leader failure")]
    LeaderFailure,
    /// More commands wait than this member holds.
    #[error("too many requests")]
    TooManyRequests,
    /// The log has no room; nothing was appended.
    #[error("no space left for the log")]
    Full,
    /// Raft has stopped.
    #[error("raft stopped")]
    Stopped,
}

/// Why a linearizable read cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// The leader did not confirm in time.
    #[error("read index timed out")]
    Timeout,
    /// As `Timeout`; the leader changed meanwhile.
    #[error("leader changed")]
    LeaderChanged,
    /// Raft has stopped.
    #[error("raft stopped")]
    Stopped,
}

/// Why raft could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error("open raft log: {0}")]
    Log(#[from] crate::wal::Error),
    /// This member was part of the cluster before and has lost its data.
    #[error("member {0:x} has already been bootstrapped")]
    AlreadyBootstrapped(u64),
    /// A cluster's members send each other states as rows of their engine, so all have the same.
    #[error(
        "member {member:x} has --storage-engine={theirs} and this one --storage-engine={ours}: all members of a cluster need the same"
    )]
    OtherEngine {
        /// The other member.
        member: u64,
        /// Its engine.
        theirs: String,
        /// This member's engine.
        ours: String,
    },
    /// Any other trouble, in words.
    #[error("{0}")]
    Other(String),
}
