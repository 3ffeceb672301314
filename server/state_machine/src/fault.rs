//! What stops a member, and how a command's way ends early.

use metastore_mvcc as mvcc;

use crate::Error;

/// A failure of this member, not of a command: it must stop before it does anything else, since its
/// state would part from the others'. Nothing after a fault is applied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The store failed.
    #[error(transparent)]
    Store(mvcc::Error),
    /// A newer version wrote the entry.
    #[error("log entry {index} has format {found}, this version knows up to {known}")]
    Format {
        /// The entry's log index.
        index: u64,
        /// Its format.
        found: u32,
        /// The newest format that can be applied.
        known: u32,
    },
    /// A row of the key space `System` is not what this version writes.
    #[error("stored row {row} is damaged")]
    Damaged {
        /// The row's name, with its unprintable bytes escaped.
        row: String,
    },
    /// The store belongs to another cluster.
    #[error("store belongs to cluster {found:x}, not to {expected:x}")]
    OtherCluster {
        /// The cluster in the store.
        found: u64,
        /// The cluster asked for.
        expected: u64,
    },
}

impl From<mvcc::Error> for Fault {
    fn from(error: mvcc::Error) -> Self {
        Self::Store(error)
    }
}

/// Why a command's way ends before its answer.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The command is refused and has changed nothing.
    Refused(Error),
    /// The member must stop.
    Fault(Fault),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<mvcc::Error> for Halt {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Compacted { .. } => Self::Refused(Error::Compacted),
            mvcc::Error::FutureRevision { .. } => Self::Refused(Error::FutureRevision),
            other => Self::Fault(Fault::Store(other)),
        }
    }
}
