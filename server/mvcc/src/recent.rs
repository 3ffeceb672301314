//! The newest committed changes, in order of their revision: what watchers follow, what serves values that the engine
//! has not got yet, and what the persister writes.
//!
//! Promises: holds every change that the engine lacks, and beyond that the newest ones within a budget; nothing moves
//! when it grows. Must not know the engine or the index.

use std::collections::VecDeque;

use crate::event::{Event, Prev};
use crate::revision::Revision;

/// Changes in a chunk; only whole chunks are evicted.
const CHUNK: usize = 256;

/// Changes in order. Each has a sequence number that never changes.
#[derive(Debug)]
pub(crate) struct Recent {
    /// All but the last are full.
    chunks: VecDeque<Chunk>,
    /// The sequence number of the first change of the first chunk.
    first: u64,
    /// The sequence number that the next change gets.
    next: u64,
    /// Changes below this sequence number are in the engine.
    written: u64,
    /// Changes of this main revision and of all later ones are here.
    covered_from: i64,
    bytes: usize,
}

/// A piece that was evicted, to be dropped where nobody waits.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    events: Vec<Event>,
    bytes: usize,
}

/// What one change costs in memory. Its previous value counts as well, as nobody else may hold it.
pub(crate) fn memory_cost(event: &Event) -> usize {
    let prev = match &event.prev {
        Prev::Cached(kv) => kv.len(),
        _ => 0,
    };
    size_of::<Event>() + event.kv.len() + prev
}

impl Recent {
    /// Nothing yet; the engine holds everything up to main revision `revision`.
    pub(crate) fn after(revision: i64) -> Self {
        Self {
            chunks: VecDeque::new(),
            first: 0,
            next: 0,
            written: 0,
            covered_from: revision + 1,
            bytes: 0,
        }
    }

    /// Adds the changes of a transaction, and leaves the vector empty.
    pub(crate) fn append(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            if self
                .chunks
                .back()
                .is_none_or(|chunk| chunk.events.len() == CHUNK)
            {
                self.chunks.push_back(Chunk {
                    events: Vec::with_capacity(CHUNK),
                    bytes: 0,
                });
            }
            let chunk = self.chunks.back_mut().expect("a chunk was just made");
            let bytes = memory_cost(&event);
            chunk.bytes += bytes;
            chunk.events.push(event);
            self.bytes += bytes;
            self.next += 1;
        }
    }

    /// The sequence number that the next change gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The main revision from which on everything committed is here.
    pub(crate) fn covered_from(&self) -> i64 {
        self.covered_from
    }

    /// The sequence number from which on the engine may lack changes.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Event> {
        let offset = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.chunks.get(offset / CHUNK)?.events.get(offset % CHUNK)
    }

    /// The sequence number of the first change at or after `revision`.
    pub(crate) fn position(&self, revision: Revision) -> u64 {
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.events[0].revision < revision)
            .saturating_sub(1);
        let inside = self.chunks.get(chunk).map_or(0, |chunk| {
            chunk
                .events
                .partition_point(|event| event.revision < revision)
        });
        self.first + (chunk * CHUNK + inside) as u64
    }

    /// The change made at `revision`.
    pub(crate) fn find(&self, revision: Revision) -> Option<&Event> {
        self.get(self.position(revision))
            .filter(|event| event.revision == revision)
    }

    /// Notes that the engine has every change below `sequence`.
    pub(crate) fn set_written(&mut self, sequence: u64) {
        debug_assert!(self.written <= sequence && sequence <= self.next);
        self.written = sequence;
    }

    /// Gives out the oldest chunk if the budget is exceeded and the engine has all of it.
    pub(crate) fn evict(&mut self, budget: usize) -> Option<Chunk> {
        if self.bytes <= budget || self.first + CHUNK as u64 > self.written {
            return None;
        }
        let chunk = self.chunks.pop_front()?;
        let last = chunk.events.last().expect("chunks are never empty");
        // A transaction may go on in the next chunk; it is no longer here as a whole.
        self.covered_from = last.revision.main + 1;
        self.first += CHUNK as u64;
        self.bytes -= chunk.bytes;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn event(main: i64, sub: u32) -> Event {
        Event {
            kind: EventKind::Put,
            revision: Revision { main, sub },
            kv: vec![0; 20].into(),
            key: 0..0,
            prev: Prev::None,
            lease: 0,
        }
    }

    #[test]
    fn positions_follow_revisions_and_eviction_keeps_what_is_unwritten() {
        let mut recent = Recent::after(1);
        for main in 2..502 {
            recent.append(&mut vec![event(main, 0), event(main, 1)]);
        }
        assert_eq!(recent.next(), 1000);
        assert_eq!(recent.position(Revision::start_of(0)), 0);
        assert_eq!(recent.position(Revision::start_of(2)), 0);
        assert_eq!(recent.position(Revision { main: 2, sub: 1 }), 1);
        assert_eq!(recent.position(Revision::start_of(130)), 256);
        assert_eq!(recent.position(Revision::start_of(502)), 1000);
        assert!(recent.find(Revision { main: 501, sub: 1 }).is_some());
        assert!(recent.find(Revision { main: 501, sub: 2 }).is_none());
        assert!(recent.evict(0).is_none(), "nothing is written yet");
        recent.set_written(511);
        assert!(recent.evict(0).is_some());
        assert!(recent.evict(0).is_none(), "the next chunk is not written");
        assert_eq!(recent.covered_from(), 130);
        assert_eq!(recent.get(255), None);
        assert_eq!(recent.position(Revision::start_of(2)), 256);
        assert_eq!(
            recent
                .find(Revision::start_of(130))
                .map(|e| e.revision.main),
            Some(130)
        );
        recent.set_written(1000);
        while recent.evict(0).is_some() {}
        assert_eq!(recent.next(), 1000);
        assert_eq!(recent.get(999).map(|e| e.revision.main), Some(501));
    }

    #[test]
    fn a_transaction_cut_by_eviction_is_not_covered() {
        let mut recent = Recent::after(1);
        let mut events: Vec<_> = (0..300).map(|sub| event(2, sub)).collect();
        recent.append(&mut events);
        recent.append(&mut vec![event(3, 0)]);
        recent.set_written(301);
        assert!(recent.evict(0).is_some());
        assert_eq!(recent.covered_from(), 3);
    }
}
