//! Key-values that are not in the index: from the recent changes, or else from the engine.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metastore_engine::Space;

use crate::event::{Event, EventKind, Prev};
use crate::revision::{REVISION_KEY_BYTES, Revision};
use crate::shared::Shared;
use crate::{Error, record};

/// An encoded key-value, wherever it came from.
#[derive(Debug, Clone)]
pub(crate) enum Fetched {
    /// From memory.
    Recent(Arc<[u8]>),
    /// From the engine.
    Stored(Vec<u8>),
}

impl Deref for Fetched {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Recent(kv) => kv,
            Self::Stored(kv) => kv,
        }
    }
}

impl From<Fetched> for Arc<[u8]> {
    fn from(fetched: Fetched) -> Self {
        match fetched {
            Fetched::Recent(kv) => kv,
            Fetched::Stored(kv) => kv.into(),
        }
    }
}

impl Fetched {
    fn of(event: &Event) -> Option<Self> {
        (event.kind == EventKind::Put).then(|| Self::Recent(Arc::clone(&event.kv)))
    }
}

impl Shared {
    /// The key-values written at some revisions, in the order asked for; `None` where nothing (or a deletion) is.
    pub(crate) fn fetch(&self, revisions: &[Revision]) -> Result<Vec<Option<Fetched>>, Error> {
        let mut found: Vec<Option<Fetched>> = vec![None; revisions.len()];
        let mut missing: Vec<usize> = Vec::new();
        {
            let recent = self.recent.read();
            for (at, revision) in revisions.iter().enumerate() {
                if revision.main < recent.covered_from() {
                    missing.push(at);
                } else if let Some(event) = recent.find(*revision) {
                    found[at] = Fetched::of(event);
                }
            }
        }
        self.fetch_open(revisions, &mut found);
        if missing.is_empty() {
            return Ok(found);
        }
        missing.sort_unstable_by_key(|at| revisions[*at]);
        self.engine_reads
            .fetch_add(missing.len() as u64, Ordering::Relaxed);
        let keys: Vec<[u8; REVISION_KEY_BYTES]> =
            missing.iter().map(|at| revisions[*at].to_key()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let stored = self.engine.get_many(Space::Record, &keys)?;
        for (at, stored) in missing.into_iter().zip(stored) {
            found[at] = stored
                .filter(|kv| !record::is_deletion(kv))
                .map(Fetched::Stored);
        }
        Ok(found)
    }

    /// Finds what the open transaction has written: only that transaction can ask for it.
    fn fetch_open(&self, revisions: &[Revision], found: &mut [Option<Fetched>]) {
        let committed = self.revision();
        if revisions.iter().all(|revision| revision.main <= committed) {
            return;
        }
        let index = self.index.read();
        for (revision, found) in revisions.iter().zip(found) {
            let event = index.open.get(revision.sub as usize);
            if let Some(event) = event.filter(|event| event.revision == *revision) {
                *found = Fetched::of(event);
            }
        }
    }

    /// The key-value written at `revision`.
    pub(crate) fn fetch_one(&self, revision: Revision) -> Result<Option<Fetched>, Error> {
        Ok(self.fetch(&[revision])?.pop().flatten())
    }

    /// The key-value written at `revision`, which must be there.
    pub(crate) fn must_fetch(&self, revision: Revision) -> Result<Arc<[u8]>, Error> {
        let fetched = self.fetch_one(revision)?;
        fetched.map(Arc::from).ok_or_else(|| self.lost(revision))
    }

    /// The key-value behind a [`Prev`].
    pub(crate) fn resolve(&self, prev: &Prev) -> Result<Option<Arc<[u8]>>, Error> {
        match prev {
            Prev::None | Prev::Unresolved => Ok(None),
            Prev::Cached(kv) => Ok(Some(Arc::clone(kv))),
            Prev::At(revision) => Ok(self.fetch_one(*revision)?.map(Arc::from)),
        }
    }

    /// What to say about a value that must exist and does not.
    pub(crate) fn lost(&self, revision: Revision) -> Error {
        Error::Corrupt(format!(
            "the record of revision {}.{} is missing",
            revision.main, revision.sub
        ))
    }
}
