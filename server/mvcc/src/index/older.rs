//! The superseded versions of one key, oldest first.
//!
//! Promises: appending is O(1) without ever copying many, finding one is O(log n), removing the oldest costs what is
//! removed. A key with a million of them is no slower than one with ten. Must not know the engine or the index.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::index::entry::Version;
use crate::revision::Revision;

/// Up to here one small vector is cheaper than chunks.
const FEW: usize = 64;
/// Versions in a chunk.
const CHUNK: usize = 256;

/// Versions in ascending order of their revision.
#[derive(Debug, Clone)]
pub(crate) enum Older {
    /// What most keys have: it needs no place elsewhere.
    One(Version),
    /// Some.
    Few(Vec<Version>),
    /// Many, in chunks that never move.
    Many(Chunks),
}

/// Chunks of versions; `skip` versions of the first are gone. A copy shares the chunks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunks {
    chunks: VecDeque<Arc<Vec<Version>>>,
    skip: usize,
}

impl Older {
    pub(crate) fn from_sorted(versions: Vec<Version>) -> Self {
        if let [version] = versions[..] {
            return Self::One(version);
        }
        if versions.len() <= FEW {
            return Self::Few(versions);
        }
        let chunks = versions.chunks(CHUNK).map(|some| Arc::new(some.to_vec()));
        let chunks = chunks.collect();
        Self::Many(Chunks { chunks, skip: 0 })
    }

    pub(crate) fn push(&mut self, version: Version) {
        match self {
            Self::One(first) => *self = Self::Few(vec![*first, version]),
            Self::Few(versions) if versions.len() < FEW => {
                if versions.len() == versions.capacity() {
                    versions.reserve_exact(versions.len().clamp(1, 8));
                }
                versions.push(version);
            }
            Self::Few(versions) => {
                let mut chunks = Chunks::default();
                chunks.chunks.push_back(Arc::new(std::mem::take(versions)));
                chunks.push(version);
                *self = Self::Many(chunks);
            }
            Self::Many(chunks) => chunks.push(version),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Few(versions) => versions.is_empty(),
            Self::Many(chunks) => chunks.chunks.is_empty(),
        }
    }

    /// The newest version written at or before main revision `at`.
    pub(crate) fn at(&self, at: i64) -> Option<&Version> {
        self.newest_where(|version| version.main <= at)
    }

    /// The newest version written before `revision`.
    pub(crate) fn before(&self, revision: Revision) -> Option<&Version> {
        self.newest_where(|version| version.revision() < revision)
    }

    /// Moves up to `max` versions written before `keep_from` to `out`, and returns whether none of them is left.
    pub(crate) fn drain_before(
        &mut self,
        keep_from: Revision,
        max: usize,
        out: &mut Vec<Version>,
    ) -> bool {
        match self {
            Self::One(version) => {
                if version.revision() >= keep_from {
                    return true;
                }
                if max == 0 {
                    return false;
                }
                out.push(*version);
                *self = Self::Few(Vec::new());
                true
            }
            Self::Few(versions) => {
                let garbage = versions.partition_point(|version| version.revision() < keep_from);
                out.extend(versions.drain(..garbage.min(max)));
                garbage <= max
            }
            Self::Many(chunks) => chunks.drain_before(keep_from, max, out),
        }
    }

    /// The newest version of those for which `is_before` holds, a prefix of all.
    fn newest_where(&self, is_before: impl Fn(&Version) -> bool) -> Option<&Version> {
        let last_of = |versions: &'_ [Version]| {
            versions
                .partition_point(|version| is_before(version))
                .checked_sub(1)
        };
        match self {
            Self::One(version) => is_before(version).then_some(version),
            Self::Few(versions) => versions.get(last_of(versions)?),
            Self::Many(Chunks { chunks, skip }) => {
                let chunk = chunks
                    .partition_point(|chunk| is_before(&chunk[0]))
                    .checked_sub(1)?;
                let versions = &chunks[chunk];
                let at = last_of(versions)?;
                (chunk > 0 || at >= *skip).then(|| &versions[at])
            }
        }
    }
}

impl Chunks {
    fn push(&mut self, version: Version) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(version),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(version);
                self.chunks.push_back(Arc::new(chunk));
            }
        }
    }

    fn drain_before(&mut self, keep_from: Revision, max: usize, out: &mut Vec<Version>) -> bool {
        let mut left = max;
        while let Some(chunk) = self.chunks.front() {
            let rest = &chunk[self.skip..];
            let garbage = rest.partition_point(|version| version.revision() < keep_from);
            let taken = garbage.min(left);
            out.extend_from_slice(&rest[..taken]);
            left -= taken;
            self.skip += taken;
            if self.skip < chunk.len() {
                return garbage == taken;
            }
            self.chunks.pop_front();
            self.skip = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(number: i64) -> Version {
        Version {
            main: number / 2,
            create: 1,
            version: number + 1,
            sub: (number % 2) as u32,
            record_len: 10,
        }
    }

    proptest! {
        #[test]
        fn it_answers_as_a_plain_vector_does(
            steps in proptest::collection::vec((prop_oneof![1..4usize, 1..600usize], 0..900usize, 0..700usize), 1..12),
            probes in proptest::collection::vec(0..4000i64, 20),
        ) {
            let mut older = Older::Few(Vec::new());
            let mut model: VecDeque<Version> = VecDeque::new();
            let mut next = 0;
            for (pushes, drains, max) in steps {
                for _ in 0..pushes {
                    if older.is_empty() {
                        older = Older::One(version(next));
                    } else {
                        older.push(version(next));
                    }
                    model.push_back(version(next));
                    next += 1;
                }
                let keep_from = model[drains.min(model.len() - 1)].revision();
                let mut drained = Vec::new();
                let done = older.drain_before(keep_from, max, &mut drained);
                let garbage = model.iter().filter(|v| v.revision() < keep_from).count();
                let expected: Vec<_> = model.drain(..garbage.min(max)).collect();
                prop_assert_eq!(drained, expected);
                prop_assert_eq!(done, garbage <= max);
                prop_assert_eq!(older.is_empty(), model.is_empty());
                for probe in &probes {
                    prop_assert_eq!(older.at(*probe), model.iter().rfind(|v| v.main <= *probe));
                    let revision = version(*probe).revision();
                    prop_assert_eq!(older.before(revision), model.iter().rfind(|v| v.revision() < revision));
                }
                if let Some(first) = model.front() {
                    let rebuilt = Older::from_sorted(model.iter().copied().collect());
                    prop_assert_eq!(rebuilt.at(first.main), older.at(first.main));
                }
            }
        }
    }
}
