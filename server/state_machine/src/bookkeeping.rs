//! What raft keeps beside the state: read from a pinned view of the engine, which may be another member's.

use metastore_engine::Space;
use metastore_mvcc::Snapshot;

use crate::{Fault, LogPosition, system};

/// How far a state had applied the log, and who voted then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bookkeeping {
    /// The last entry in it.
    pub applied: Option<LogPosition>,
    /// What raft last gave to [`crate::StateMachine::apply_membership`].
    pub raft_membership: Option<Vec<u8>>,
}

impl Bookkeeping {
    /// Reads it from a pinned state.
    ///
    /// # Errors
    /// When the rows cannot be read or are damaged.
    pub fn of(snapshot: &Snapshot) -> Result<Self, Fault> {
        let applied = snapshot
            .applied
            .as_deref()
            .map(system::read_position)
            .transpose()?;
        let membership = snapshot.view.get(Space::System, system::RAFT_MEMBERSHIP);
        let raft_membership = membership.map_err(|error| Fault::Store(error.into()))?;
        Ok(Self {
            applied,
            raft_membership,
        })
    }
}
