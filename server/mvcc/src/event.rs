//! One change of one key, as watchers and the engine need it.

use std::ops::Range;
use std::sync::Arc;

use crate::revision::Revision;

/// What happened to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// The key-value before the revision of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prev {
    /// There was none, or it has been compacted, or the revision created the key.
    None,
    /// Here it is: an encoded `mvccpb.KeyValue`.
    Cached(Arc<[u8]>),
    /// It is to be had by [`crate::Store::value_at`].
    At(Revision),
    /// Not looked for, since [`EventLimits::with_prev`] was false.
    Unresolved,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When it happened.
    pub revision: Revision,
    /// The encoded `mvccpb.KeyValue` as a watcher gets it; of a deletion it has the key and the mod revision only.
    pub kv: Arc<[u8]>,
    /// Where the key is inside `kv`.
    pub(crate) key: Range<u32>,
    /// What was there before the whole transaction.
    pub prev: Prev,
    /// The lease that the key now hangs on; 0 is none.
    pub lease: i64,
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &[u8] {
        &self.kv[self.key.start as usize..self.key.end as usize]
    }

    /// The row of `Record`: of a deletion that is the key alone.
    pub(crate) fn record(&self) -> &[u8] {
        match self.kind {
            EventKind::Put => &self.kv,
            EventKind::Delete => &self.kv[..self.key.end as usize],
        }
    }

    /// Where the key lies inside `kv`, for those who keep `kv` and not the event.
    pub fn key_range(&self) -> Range<usize> {
        self.key.start as usize..self.key.end as usize
    }
}

/// How much one call of [`crate::Store::events`] may return. A revision is never cut: the first one is always whole.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// Stop after the revision that reaches so many bytes of `kv`.
    pub bytes: usize,
    /// Stop after the revision that reaches so many events.
    pub events: usize,
    /// Whether history read from the engine should say where the previous value is. Recent events always say it.
    pub with_prev: bool,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            events: 1000,
            with_prev: true,
        }
    }
}

/// Whole revisions in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// The changes, in order of their revision.
    pub events: Vec<Event>,
    /// The `from` of the next call. When it is above `revision` everything committed has been returned.
    pub next: i64,
    /// The newest committed revision when the answer was made.
    pub revision: i64,
}
