//! What a member says about itself.

/// A snapshot of a member's standing in its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// The leader this member knows, 0 when none.
    pub leader: u64,
    /// The current raft term.
    pub term: u64,
    /// Index of the last log entry known to be committed, counted as etcd does (from 1).
    pub committed_index: u64,
    /// Index of the last applied log entry, counted as etcd does (from 1).
    pub applied_index: u64,
    /// True when this member has no vote.
    pub is_learner: bool,
}

impl Status {
    /// True when this member is the leader.
    pub fn is_leader(&self) -> bool {
        self.leader != 0 && self.leader == self.member_id
    }

    /// True when some member leads.
    pub fn has_leader(&self) -> bool {
        self.leader != 0
    }
}
