//! What the index knows of a key: its newest version, and those that it superseded since the last compaction.
//!
//! Must not know the key itself, the engine, locks or transactions.

use std::sync::Arc;

use crate::event::Prev;
use crate::index::older::Older;
use crate::revision::Revision;

/// One version of a key. A deletion is a version with `version == 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Main revision that wrote it.
    pub(crate) main: i64,
    /// Main revision that created the key; 0 in a deletion.
    pub(crate) create: i64,
    /// Writes since creation; 0 in a deletion.
    pub(crate) version: i64,
    /// Sub revision that wrote it.
    pub(crate) sub: u32,
    /// Bytes of its record.
    pub(crate) record_len: u32,
}

impl Version {
    pub(crate) fn revision(&self) -> Revision {
        Revision {
            main: self.main,
            sub: self.sub,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.version != 0
    }

    /// The main revision since which the key has existed, or has not.
    pub(crate) fn turned(&self) -> i64 {
        if self.is_live() {
            self.create
        } else {
            self.main
        }
    }
}

/// The versions of a key. Its size counts: there may be tens of millions.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The encoded key-value of `current`: a cache, never of a deletion.
    pub(crate) value: Option<Arc<[u8]>>,
    /// What `current` superseded and compaction has not removed.
    pub(crate) older: Option<Box<Older>>,
    pub(crate) current: Version,
    /// The lease of `current`.
    pub(crate) lease: i64,
}

impl Entry {
    pub(crate) fn is_live(&self) -> bool {
        self.current.is_live()
    }

    /// The newest version written at or before main revision `at`, which may be a deletion.
    pub(crate) fn at(&self, at: i64) -> Option<&Version> {
        if self.current.main <= at {
            return Some(&self.current);
        }
        self.older.as_ref()?.at(at)
    }

    /// As [`Entry::at`], if the key then existed.
    pub(crate) fn live_at(&self, at: i64) -> Option<&Version> {
        self.at(at).filter(|version| version.is_live())
    }

    /// The version that was there just before `revision`.
    pub(crate) fn before(&self, revision: Revision) -> Option<&Version> {
        if self.current.revision() < revision {
            return Some(&self.current);
        }
        self.older.as_ref()?.before(revision)
    }

    /// What a watcher is told was there before the transaction with main revision `main`: nothing of what that wrote
    /// itself (etcd reads at the revision before).
    pub(crate) fn before_transaction(&self, main: i64) -> Prev {
        match self.before(Revision::start_of(main)) {
            Some(version) if version.is_live() => Prev::At(version.revision()),
            _ => Prev::None,
        }
    }

    /// Makes `version` the newest one.
    pub(crate) fn supersede(&mut self, version: Version, lease: i64) {
        debug_assert!(self.current.revision() < version.revision());
        let superseded = std::mem::replace(&mut self.current, version);
        self.lease = lease;
        match &mut self.older {
            Some(older) => older.push(superseded),
            None => self.older = Some(Box::new(Older::One(superseded))),
        }
    }

    /// Removes up to `max` of what a compaction at main revision `at` does not keep and what was written before `below`,
    /// oldest first, and returns whether that was all. When the entry itself is not kept either, it is left with `current` alone: see [`Entry::is_garbage`].
    ///
    /// Kept are the newest version at or before `at` and all later ones; a deletion only if written by `at` itself
    /// (etcd's `key_index.go`, which lets a watcher that starts at `at` see it).
    pub(crate) fn drain_garbage(
        &mut self,
        (at, below): (i64, Revision),
        max: usize,
        out: &mut Vec<Version>,
    ) -> bool {
        let Some(older) = &mut self.older else {
            return true;
        };
        let keep_from = if self.current.main <= at {
            self.current.revision()
        } else {
            match older.at(at) {
                None => return true,
                Some(version) if version.is_live() || version.main == at => version.revision(),
                Some(deletion) => Revision {
                    main: deletion.main,
                    sub: deletion.sub + 1,
                },
            }
        };
        let done = older.drain_before(keep_from.min(below), max, out);
        if older.is_empty() {
            self.older = None;
        }
        done
    }

    /// Whether a compaction at `at` removes the key altogether, its last change having been made before `below`.
    pub(crate) fn is_garbage(&self, (at, below): (i64, Revision)) -> bool {
        !self.is_live()
            && self.current.main < at
            && self.current.revision() < below
            && self.older.is_none()
    }
}
