//! What a client asks of a stream, and what the stream tells it.

use bytes::Bytes;

use crate::payload::Payload;

/// A create request, in etcd's encoding of ranges.
#[derive(Debug, Clone, Default)]
pub struct Subscription {
    /// The id that the client wants; `None` and 0 let the stream choose.
    pub id: Option<i64>,
    /// The first key; empty is the smallest key, one zero byte.
    pub key: Bytes,
    /// Empty: only `key`. `"\0"`: everything from `key` on. Otherwise the first key beyond the range.
    pub end: Bytes,
    /// The first revision wanted; 0 is whatever comes next. May be in the past or in the future.
    pub start_revision: i64,
    /// What is left out.
    pub filters: Filters,
    /// Whether events carry the key-value before.
    pub prev_kv: bool,
    /// Whether a large response may be cut.
    pub fragment: bool,
    /// Whether an idle watch is told its progress now and then.
    pub progress_notify: bool,
}

/// Kinds of events that are left out (`WatchCreateRequest.FilterType`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filters {
    /// `NOPUT`.
    pub no_put: bool,
    /// `NODELETE`.
    pub no_delete: bool,
}

/// The watch exists. To be told to the client before any notice of this watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub watch_id: i64,
    /// The newest revision, for the header. A watch from "now" gets everything after it.
    pub revision: i64,
}

/// Why a watch was not created: told with `created` and `canceled` set, watch id -1, and the text of this error as
/// the reason; the header has [`crate::Stream::revision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The start revision is negative.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The range has no keys.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The stream has a watch with this id.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// The watch is gone, as the client wished: told with `canceled` set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    /// Its id.
    pub watch_id: i64,
    /// The newest revision, for the header.
    pub revision: i64,
}

/// The watch id of a progress notice that is about all watches of a stream.
pub const ALL_WATCHES: i64 = -1;

/// One watch response, without its header.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Something happened.
    Events {
        /// To which watch.
        watch_id: i64,
        /// For the header: with this response the watch has everything up to here.
        revision: i64,
        /// What happened, in order. A revision is never cut except into fragments.
        events: Payload,
        /// Whether more fragments of this response follow.
        fragment: bool,
    },
    /// Nothing happened beyond what was told.
    Progress {
        /// The watch, or [`ALL_WATCHES`].
        watch_id: i64,
        /// For the header: everything up to here was told.
        revision: i64,
    },
    /// The watch cannot go on, since what it wants is compacted: told with `canceled` set and revision 0 in the header,
    /// as etcd does. The id stays taken until the client cancels it.
    Compacted {
        /// Which watch.
        watch_id: i64,
        /// The compaction revision.
        compact_revision: i64,
    },
    /// The watch is gone since the store failed.
    Cancelled {
        /// Which watch.
        watch_id: i64,
        /// The newest revision, for the header.
        revision: i64,
        /// Why.
        reason: String,
    },
}

impl Notice {
    /// The watch that it is about, or [`ALL_WATCHES`].
    pub fn watch_id(&self) -> i64 {
        match self {
            Self::Events { watch_id, .. }
            | Self::Progress { watch_id, .. }
            | Self::Compacted { watch_id, .. }
            | Self::Cancelled { watch_id, .. } => *watch_id,
        }
    }
}
