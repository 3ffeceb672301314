//! What comes of a command: the answer for whoever waits, or the reason of a refusal.

use std::fmt;
use std::sync::Arc;

use metastore_mvcc::Store;
use metastore_proto::etcdserverpb::AlarmMember;

/// What came of one command.
pub type Outcome = Result<Applied, Error>;

/// A command that was carried out.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What the header of the answer says.
    pub revision: i64,
    /// The rest of the answer.
    pub response: Response,
}

/// The body of an answer, in the form nearest to the wire.
#[derive(Debug, Clone)]
pub enum Response {
    /// Of a put.
    Put {
        /// The encoded `mvccpb.KeyValue` that was replaced, if it was asked for and there was one.
        prev: Option<Arc<[u8]>>,
    },
    /// Of a range deletion.
    DeleteRange {
        /// How many keys are gone.
        deleted: i64,
        /// If asked for: what was there, encoded as field 3 of `DeleteRangeResponse`.
        prev_kvs: Vec<u8>,
    },
    /// Of a transaction.
    Txn {
        /// Whether the compares held.
        succeeded: bool,
        /// Fields 2 and 3 of `TxnResponse`, encoded; the header (field 1) is left to the caller.
        body: Vec<u8>,
    },
    /// Of a compaction, which is in force already; its space is given back later.
    Compaction {
        /// Tells when the space has been given back.
        done: CompactionHandle,
    },
    /// Of a lease that was granted.
    LeaseGrant {
        /// The lease.
        id: i64,
        /// Its time to live, in seconds.
        ttl: i64,
    },
    /// Of a lease that was revoked with its keys.
    LeaseRevoke,
    /// Of a checkpoint of leases.
    LeaseCheckpoint,
    /// Of an alarm that was read, raised or disarmed.
    Alarm {
        /// The alarms concerned, by kind and member.
        alarms: Vec<AlarmMember>,
    },
    /// Of a command whose success is all there is to say.
    Empty,
}

/// Why a command was refused. A refused command has changed nothing. etcd's texts and codes are the api's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The revision asked for is compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// No such lease.
    #[error("lease not found")]
    LeaseNotFound,
    /// A lease of this id lives already.
    #[error("lease already exists")]
    LeaseExists,
    /// The time to live is above [`crate::LEASE_TTL_MAX_SECONDS`].
    #[error("too large lease ttl")]
    LeaseTtlTooLarge,
    /// A key to be put has no bytes. The door lets no such request in.
    #[error("key is not provided")]
    EmptyKey,
    /// The value or lease of a key was to be kept that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The alarm NOSPACE is raised.
    #[error("no space")]
    NoSpace,
    /// The alarm CORRUPT is raised.
    #[error("corrupt cluster")]
    Corrupt,
    /// Not a version of the form `major.minor.patch`.
    #[error("malformed cluster version")]
    MalformedVersion,
    /// The command asks for nothing that this member knows.
    #[error("unknown command")]
    UnknownCommand,
}

/// Tells when a compaction has given its space back.
#[derive(Clone)]
pub struct CompactionHandle {
    pub(crate) store: Store,
    pub(crate) revision: i64,
}

impl CompactionHandle {
    /// The revision compacted to.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether the space has been given back.
    pub fn is_done(&self) -> bool {
        self.store.compaction_done(self.revision)
    }

    /// Calls `done` once the space has been given back, at once if it has; on a thread of the store.
    pub fn when_done(&self, done: Box<dyn FnOnce() + Send>) {
        self.store.when_compacted(self.revision, done);
    }
}

impl fmt::Debug for CompactionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactionHandle")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
