//! The changes since a revision: from memory, or from the engine when they are older.
//!
//! Promises: whole revisions in order, nothing left out, nothing above the committed revision.

use std::ops::ControlFlow;
use std::sync::Arc;

use metastore_engine::Space;

use crate::event::{Event, EventKind, EventLimits, Events, Prev};
use crate::record::{self, KeyValue};
use crate::revision::Revision;
use crate::shared::Shared;
use crate::{Error, record::put_number};

/// Changes copied, or keys looked up, per lock.
const STEP: usize = 128;

/// Whole revisions, up to a limit.
struct Collected {
    events: Vec<Event>,
    limits: EventLimits,
    bytes: usize,
    /// The main revision being collected.
    main: i64,
}

/// How collecting from memory ended.
enum Ended {
    /// Everything asked for is there, or the limit is reached before this revision.
    At(i64),
    /// What is next has been evicted meanwhile.
    Evicted,
}

impl Shared {
    pub(crate) fn events(&self, from: i64, limits: &EventLimits) -> Result<Events, Error> {
        let revision = self.revision();
        let from = from.max(1);
        if from < self.compact_revision() {
            return Err(self.compacted());
        }
        let mut found = Collected {
            events: Vec::new(),
            limits: *limits,
            bytes: 0,
            main: from,
        };
        let mut next = from;
        while next <= revision {
            let covered_from = self.recent.read().covered_from();
            if next >= covered_from {
                match self.collect_recent_events(next, revision, &mut found) {
                    Ended::At(end) => {
                        next = end;
                        break;
                    }
                    Ended::Evicted => next = found.drop_last_revision(),
                }
            } else {
                let to = covered_from.min(revision + 1);
                next = self.collect_history(next, to, &mut found)?;
                if next < to {
                    break;
                }
            }
        }
        Ok(Events {
            events: found.events,
            next,
            revision,
        })
    }

    fn collect_recent_events(&self, from: i64, revision: i64, found: &mut Collected) -> Ended {
        let mut at: Option<u64> = None;
        loop {
            let recent = self.recent.read();
            if recent.covered_from() > found.main.max(from) {
                return Ended::Evicted;
            }
            let start = at.unwrap_or_else(|| recent.position(Revision::start_of(from)));
            for sequence in start..start + STEP as u64 {
                let event = match recent.get(sequence) {
                    Some(event) if event.revision.main <= revision => event,
                    _ => return Ended::At(revision + 1),
                };
                if found.is_full_before(event.revision.main) {
                    return Ended::At(event.revision.main);
                }
                found.push(event.clone());
            }
            at = Some(start + STEP as u64);
        }
    }

    /// Collects `[from, to)` from the engine and returns where it stopped.
    fn collect_history(&self, from: i64, to: i64, found: &mut Collected) -> Result<i64, Error> {
        let first = found.events.len();
        let mut next = to;
        let mut corrupt = None;
        let start = Revision::start_of(from).to_key();
        let end = Revision::start_of(to).to_key();
        self.engine
            .scan(Space::Record, &start, Some(&end), &mut |key, row| {
                let Some(event) = Revision::from_key(key).and_then(|at| stored_event(at, row))
                else {
                    corrupt = Some(key.to_vec());
                    return ControlFlow::Break(());
                };
                if found.is_full_before(event.revision.main) {
                    next = event.revision.main;
                    return ControlFlow::Break(());
                }
                found.push(event);
                ControlFlow::Continue(())
            })?;
        if let Some(key) = corrupt {
            return Err(Error::Corrupt(format!("record {key:02x?} is unreadable")));
        }
        // What was read is whole unless a compaction came in between.
        if from < self.compact_revision() {
            return Err(self.compacted());
        }
        if found.limits.with_prev {
            self.find_previous(&mut found.events[first..]);
        }
        Ok(next)
    }

    /// Says of events from the engine where the previous value is.
    fn find_previous(&self, events: &mut [Event]) {
        for some in events.chunks_mut(STEP) {
            let index = self.index.read();
            for event in some {
                if event.prev == Prev::Unresolved {
                    let entry = index.tree.get(event.key());
                    event.prev = entry.map_or(Prev::None, |entry| {
                        entry.before_transaction(event.revision.main)
                    });
                }
            }
        }
    }
}

impl Collected {
    /// Whether the limit forbids to begin the revision `main`.
    fn is_full_before(&self, main: i64) -> bool {
        !self.events.is_empty()
            && main != self.main
            && (self.events.len() >= self.limits.events || self.bytes >= self.limits.bytes)
    }

    fn push(&mut self, event: Event) {
        self.main = event.revision.main;
        self.bytes += event.kv.len();
        self.events.push(event);
    }

    /// Takes back the revision that may not be whole, and returns it.
    fn drop_last_revision(&mut self) -> i64 {
        let main = self.main;
        while self
            .events
            .last()
            .is_some_and(|event| event.revision.main == main)
        {
            let dropped = self.events.pop();
            self.bytes -= dropped.map_or(0, |event| event.kv.len());
        }
        main
    }
}

/// The event that a record tells of; its previous value is not known yet unless there can be none.
fn stored_event(revision: Revision, row: &[u8]) -> Option<Event> {
    let key = record::key_range(row)?;
    if record::is_deletion(row) {
        return Some(Event {
            kind: EventKind::Delete,
            revision,
            kv: deletion_kv(row, revision.main),
            key,
            prev: Prev::Unresolved,
            lease: 0,
        });
    }
    let decoded = KeyValue::decode(row)?;
    let created = decoded.create_revision == revision.main;
    Some(Event {
        kind: EventKind::Put,
        revision,
        lease: decoded.lease,
        kv: row.into(),
        key,
        prev: if created {
            Prev::None
        } else {
            Prev::Unresolved
        },
    })
}

/// What a watcher gets of a deletion: its record, and the revision of the deletion.
pub(crate) fn deletion_kv(record: &[u8], main: i64) -> Arc<[u8]> {
    let mut kv = Vec::with_capacity(record.len() + 11);
    kv.extend_from_slice(record);
    put_number(&mut kv, record::TAG_MOD_REVISION, main);
    kv.into()
}
