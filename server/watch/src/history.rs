//! Where changes come from: the seam between this room and the store.
//!
//! Promises: commits in order of their revision, each whole, shared by all who read them. The one `Source` of a member
//! is `mvcc::Store`; tests have one of their own. Must not know watches.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use metastore_mvcc::{Event, EventKind, EventLimits, Prev, Revision, Store};

/// All changes of one main revision.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) revision: i64,
    /// What it costs to hold it, about, in bytes.
    pub(crate) bytes: usize,
    pub(crate) changes: Box<[Change]>,
}

/// One change of one key.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) kind: EventKind,
    /// The encoded `mvccpb.KeyValue`.
    pub(crate) kv: Arc<[u8]>,
    key: Range<u32>,
    prev: Prev,
    /// What a `prev` that had to be looked up turned out to be: one lookup for all watches.
    looked_up: OnceLock<Option<Arc<[u8]>>>,
}

/// A run of commits.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) commits: Vec<Arc<Commit>>,
    /// Every commit from the asked revision up to here is in `commits`.
    pub(crate) through: i64,
}

/// Why there is no history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HistoryError {
    /// Some of it has been compacted; at this revision.
    Compacted(i64),
    /// The store failed.
    Failed(String),
}

/// The store as watches need it.
pub(crate) trait Source: Send + Sync + 'static {
    /// The newest committed revision.
    fn revision(&self) -> i64;
    /// The compaction revision; -1 when never compacted.
    fn compact_revision(&self) -> i64;
    /// Commits from revision `from` on, at least one if there is one.
    fn history(&self, from: i64, limits: &EventLimits) -> Result<History, HistoryError>;
    /// The encoded key-value written at a revision.
    fn value_at(&self, revision: Revision) -> Result<Option<Arc<[u8]>>, HistoryError>;
    /// Whether `history` and `value_at` never wait for a disk.
    fn is_resident(&self) -> bool;
}

/// A previous value that is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAtHand;

impl Change {
    pub(crate) fn new(kind: EventKind, kv: Arc<[u8]>, key: Range<usize>, prev: Prev) -> Self {
        let place = |at: usize| u32::try_from(at).expect("a key-value is smaller than 4 GiB");
        Self {
            kind,
            kv,
            key: place(key.start)..place(key.end),
            prev,
            looked_up: OnceLock::new(),
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.kv[self.key.start as usize..self.key.end as usize]
    }

    /// The key-value before, unless it has to be looked up first.
    pub(crate) fn prev(&self) -> Result<Option<&Arc<[u8]>>, NotAtHand> {
        match &self.prev {
            Prev::None | Prev::Unresolved => Ok(None),
            Prev::Cached(kv) => Ok(Some(kv)),
            Prev::At(_) => self.looked_up.get().map(Option::as_ref).ok_or(NotAtHand),
        }
    }

    /// Looks the key-value before up, so that `prev` has it. May wait for a disk.
    pub(crate) fn look_up_prev(&self, source: &dyn Source) -> Result<(), HistoryError> {
        if let (Prev::At(revision), None) = (&self.prev, self.looked_up.get()) {
            let found = match source.value_at(*revision) {
                Err(HistoryError::Compacted(_)) => None,
                other => other?,
            };
            // Somebody else may have been faster; then it is the same value.
            let _ = self.looked_up.set(found);
        }
        Ok(())
    }

    fn cost(&self) -> usize {
        let prev = match &self.prev {
            Prev::Cached(kv) => kv.len(),
            // Likely to be looked up, and likely as large as its successor.
            Prev::At(_) => self.kv.len(),
            Prev::None | Prev::Unresolved => 0,
        };
        size_of::<Self>() + self.kv.len() + prev
    }
}

impl Commit {
    pub(crate) fn new(revision: i64, changes: Box<[Change]>) -> Self {
        Self {
            revision,
            bytes: changes.iter().map(Change::cost).sum(),
            changes,
        }
    }
}

/// Groups changes by their main revision.
fn commits_of(events: Vec<Event>) -> Vec<Arc<Commit>> {
    let mut commits = Vec::with_capacity(events.len());
    let mut events = events.into_iter().peekable();
    while let Some(first) = events.next() {
        let main = first.revision.main;
        let mut changes = vec![change_of(first)];
        while let Some(event) = events.next_if(|event| event.revision.main == main) {
            changes.push(change_of(event));
        }
        commits.push(Arc::new(Commit::new(main, changes.into())));
    }
    commits
}

fn change_of(event: Event) -> Change {
    let key = event.key_range();
    Change::new(event.kind, event.kv, key, event.prev)
}

impl From<metastore_mvcc::Error> for HistoryError {
    fn from(error: metastore_mvcc::Error) -> Self {
        match error {
            metastore_mvcc::Error::Compacted { compact_revision } => {
                Self::Compacted(compact_revision)
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Source for Store {
    fn revision(&self) -> i64 {
        Store::revision(self)
    }

    fn compact_revision(&self) -> i64 {
        Store::compact_revision(self)
    }

    fn history(&self, from: i64, limits: &EventLimits) -> Result<History, HistoryError> {
        let found = self.events(from, limits)?;
        Ok(History {
            through: (found.next - 1).min(found.revision),
            commits: commits_of(found.events),
        })
    }

    fn value_at(&self, revision: Revision) -> Result<Option<Arc<[u8]>>, HistoryError> {
        Ok(Store::value_at(self, revision)?)
    }

    fn is_resident(&self) -> bool {
        false
    }
}
