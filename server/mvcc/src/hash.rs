//! Hashes of the store.
//!
//! Promises: `hash_kv` is etcd's (`server/storage/mvcc/hash.go`) for the same history at every revision that is not
//! compacted, however far a compaction has come.

use std::ops::ControlFlow;

use metastore_engine::{Space, View};

use crate::Error;
use crate::event::Event;
use crate::persister::APPLIED;
use crate::read::scan::{Direction, Next, Scan};
use crate::read::span::Span;
use crate::record;
use crate::revision::Revision;
use crate::shared::Shared;

/// The name of etcd's bucket of revisions, with which its hash begins.
const BUCKET: &[u8] = b"key";
/// Records checked against the index per lock.
const STEP: usize = 128;

/// etcd's hash of the key space, with what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The crc32c of `server/storage/mvcc/hash.go`.
    pub hash: u32,
    /// The compaction revision that it was computed with; -1 when never compacted.
    pub compact_revision: i64,
    /// The revision up to which it was computed.
    pub hash_revision: i64,
    /// The newest revision when it was asked for.
    pub current_revision: i64,
}

/// What a finished compaction knows of etcd's hash at its own revision. etcd computes that hash while it compacts, over
/// what was there before, and answers with it from then on until it is restarted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompactionHash {
    /// The compaction revision.
    pub(crate) revision: i64,
    /// The compaction revision before.
    pub(crate) previous: i64,
    pub(crate) part: Part,
}

/// How much of the hash is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// All of it.
    Whole(u32),
    /// The revisions after the previous compaction, and how many bytes that is. What was kept from before is still
    /// there, and is hashed when somebody asks.
    Tail(u32, usize),
}

/// A hash being computed.
struct Hasher<'s> {
    shared: &'s Shared,
    hash: u32,
    compact_revision: i64,
    revision: i64,
    /// Whether any key exists at the revision. If none does, etcd leaves out nothing but what is deleted.
    keeps: bool,
    /// Records at or before the compaction revision that wait for a look into the index.
    doubtful: Vec<(Revision, Vec<u8>)>,
}

impl Shared {
    pub(crate) fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        if revision < 0 {
            return Ok(self.hash_of_nothing(revision));
        }
        if let Some(hash) = self.compaction.hash_at(revision) {
            return self.hash_of_compaction(hash);
        }
        let (pin, compact_pin, compact_revision, current) = {
            let _index = self.index.read();
            let moment = self.moment(revision, None)?;
            let compact_revision = self.compact_revision();
            (
                self.pins.pin(moment.at),
                self.pins.pin(compact_revision),
                compact_revision,
                moment.current,
            )
        };
        let revision = if revision == 0 { current } else { revision };
        let everything = Span::decode(b"\0", b"\0");
        let keeps = self.count_at(everything, revision, &pin)? > 0;
        let mut hasher = Hasher::new(self, compact_revision, revision, keeps);
        let tail = self.unwritten(revision);
        let view = self.engine.view()?;
        let view_end = tail
            .first()
            .map_or(Revision::start_of(revision + 1), |event| event.revision);
        // From now on a later compaction may delete what is in the view.
        let compact_pin = (!hasher.keeps).then_some(compact_pin);
        hasher.take_view(&*view, view_end)?;
        for event in &tail {
            hasher.take(event.revision, event.record())?;
        }
        hasher.settle()?;
        if !pin.holds() || compact_pin.is_some_and(|pin| !pin.holds()) {
            return Err(self.compacted());
        }
        Ok(HashKv {
            hash: hasher.hash,
            compact_revision,
            hash_revision: revision,
            current_revision: current,
        })
    }

    /// etcd takes a negative revision literally: nothing was written by then.
    fn hash_of_nothing(&self, revision: i64) -> HashKv {
        let _index = self.index.read();
        HashKv {
            hash: crc32c::crc32c(BUCKET),
            compact_revision: self.compact_revision(),
            hash_revision: revision,
            current_revision: self.revision(),
        }
    }

    fn hash_of_compaction(&self, known: CompactionHash) -> Result<HashKv, Error> {
        let (pin, current_revision) = {
            let _index = self.index.read();
            let moment = self.moment(known.revision, None)?;
            (self.pins.pin(known.revision), moment.current)
        };
        let hash = match known.part {
            Part::Whole(hash) => hash,
            Part::Tail(tail, bytes) => {
                let mut hasher = Hasher::new(self, known.previous, known.revision, true);
                let end = Revision::start_of(known.previous + 1);
                hasher.take_view(&*self.engine.view()?, end)?;
                hasher.settle()?;
                crc32c::crc32c_combine(hasher.hash, tail, bytes)
            }
        };
        if !pin.holds() {
            return Err(self.compacted());
        }
        Ok(HashKv {
            hash,
            compact_revision: known.previous,
            hash_revision: known.revision,
            current_revision,
        })
    }

    /// What a compaction at `revision` must hash before it removes anything, given the one before it: `None` when it
    /// may do with the revisions in between. For if nothing is kept at all, etcd leaves nothing out.
    pub(crate) fn hash_before_compaction(
        &self,
        previous: i64,
        revision: i64,
    ) -> Result<Option<u32>, Error> {
        if self.any_live(revision)? || self.any_deletion_of(revision)? {
            return Ok(None);
        }
        let mut hasher = Hasher::new(self, previous, revision, false);
        hasher.take_view(&*self.engine.view()?, Revision::start_of(revision + 1))?;
        hasher.settle()?;
        Ok(Some(hasher.hash))
    }

    fn any_live(&self, at: i64) -> Result<bool, Error> {
        let mut any = false;
        let mut scan = Scan::new(Span::decode(b"\0", b"\0"), at, Direction::Up);
        while !scan.is_done() {
            scan.step(self, 1, &mut |_| {
                any = true;
                Next::Stop
            })?;
        }
        Ok(any)
    }

    fn any_deletion_of(&self, main: i64) -> Result<bool, Error> {
        let mut any = false;
        let from = Revision::start_of(main).to_key();
        let to = Revision::start_of(main + 1).to_key();
        self.engine
            .scan(Space::Record, &from, Some(&to), &mut |_, row| {
                any |= record::is_deletion(row);
                ControlFlow::Continue(())
            })?;
        Ok(any)
    }

    /// The changes up to main revision `revision` that the engine may lack. A view taken after the call has the rest.
    fn unwritten(&self, revision: i64) -> Vec<Event> {
        let recent = self.recent.read();
        (recent.written()..recent.next())
            .map_while(|sequence| recent.get(sequence))
            .take_while(|event| event.revision.main <= revision)
            .cloned()
            .collect()
    }

    /// The hash of all that is stored. As etcd leaves out its consistent index, it leaves out how far the log has been
    /// applied.
    pub(crate) fn hash(&self) -> Result<u32, Error> {
        self.persister.drain()?;
        let view = self.engine.view()?;
        let mut hash = 0;
        for space in Space::ALL {
            hash = crc32c::crc32c_append(hash, &[space as u8]);
            view.scan(space, &[], None, &mut |key, row| {
                if key != APPLIED {
                    hash = crc32c::crc32c_append(hash, key);
                    hash = crc32c::crc32c_append(hash, row);
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(hash)
    }
}

impl<'s> Hasher<'s> {
    fn new(shared: &'s Shared, compact_revision: i64, revision: i64, keeps: bool) -> Self {
        Self {
            shared,
            hash: crc32c::crc32c(BUCKET),
            compact_revision,
            revision,
            keeps,
            doubtful: Vec::new(),
        }
    }

    fn take_view(&mut self, view: &dyn View, end: Revision) -> Result<(), Error> {
        let mut failed = Ok(());
        view.scan(Space::Record, &[], Some(&end.to_key()), &mut |key, row| {
            failed = match Revision::from_key(key) {
                Some(revision) => self.take(revision, row),
                None => Err(Error::Corrupt("a record's key is unreadable".to_owned())),
            };
            match failed {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        failed
    }

    /// Takes the next record in order.
    fn take(&mut self, revision: Revision, row: &[u8]) -> Result<(), Error> {
        if revision.main > self.compact_revision {
            self.settle()?;
            self.add(revision, row);
            return Ok(());
        }
        // What a compaction keeps is never a deletion, except one at the compaction revision, which etcd leaves out.
        if !record::is_deletion(row) {
            self.doubtful.push((revision, row.to_vec()));
            if self.doubtful.len() == STEP {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Adds those of the waiting records that the compaction keeps.
    fn settle(&mut self) -> Result<(), Error> {
        if self.doubtful.is_empty() {
            return Ok(());
        }
        let doubtful = std::mem::take(&mut self.doubtful);
        let at = if self.keeps {
            self.revision
        } else {
            self.compact_revision
        };
        let mut kept = Vec::with_capacity(doubtful.len());
        {
            let index = self.shared.index.read();
            for (revision, row) in &doubtful {
                let key = record::key_range(row)
                    .ok_or_else(|| Error::Corrupt("a record is unreadable".to_owned()))?;
                let entry = index.tree.get(&row[key.start as usize..key.end as usize]);
                let version = entry.and_then(|entry| entry.at(at));
                kept.push(version.is_some_and(|version| version.revision() == *revision));
            }
        }
        for ((revision, row), kept) in doubtful.iter().zip(kept) {
            if kept {
                self.add(*revision, row);
            }
        }
        Ok(())
    }

    fn add(&mut self, revision: Revision, row: &[u8]) {
        self.hash = hash_record(self.hash, revision, row).0;
    }
}

/// Adds a record to a hash as etcd stores it; returns the bytes added as well.
pub(crate) fn hash_record(hash: u32, revision: Revision, row: &[u8]) -> (u32, usize) {
    let mut key = [b'_'; 18];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[9..17].copy_from_slice(&u64::from(revision.sub).to_be_bytes());
    key[17] = b't';
    let len = if record::is_deletion(row) { 18 } else { 17 };
    let hash = crc32c::crc32c_append(hash, &key[..len]);
    (crc32c::crc32c_append(hash, row), len + row.len())
}
