//! What can go wrong in the store.

use std::sync::Arc;

/// Why the store said no. etcd's own texts and codes are the api's business.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The asked revision is below the compaction revision.
    #[error("required revision has been compacted (compaction revision {compact_revision})")]
    Compacted {
        /// The compaction revision in force when the answer was given.
        compact_revision: i64,
    },
    /// The asked revision has not been written yet.
    #[error("required revision is a future revision (newest is {revision})")]
    FutureRevision {
        /// The newest committed revision when the answer was given.
        revision: i64,
    },
    /// The engine failed; shared since every waiter gets the same answer.
    #[error("engine: {0}")]
    Engine(Arc<metastore_engine::Error>),
    /// What the engine holds contradicts itself.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// A thread of the store could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(String),
    /// The writer, and with it the threads of the store, is gone.
    #[error("store is stopped")]
    Stopped,
}

impl From<metastore_engine::Error> for Error {
    fn from(error: metastore_engine::Error) -> Self {
        Self::Engine(Arc::new(error))
    }
}
