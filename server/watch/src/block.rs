//! A bounded run of commits, sorted out to the watches of one stream, while it is being handed out.
//!
//! Promises: each watch comes once, with all that it gets of the run. While the hub's ring has the commits the block
//! holds none of them, so that a stream that does not read costs no memory; at most it holds one payload that several
//! watches share. Must not know where the commits come from.

use std::collections::VecDeque;
use std::sync::Arc;

use metastore_mvcc::EventKind;

use crate::history::{Commit, NotAtHand};
use crate::payload::{Item, Payload};
use crate::ring::Ring;
use crate::topics::{TopicId, Topics};
use crate::watches::{VIEWS, Watch, WatchKey};

/// Vectors with more room than this are not kept for the next block.
pub(crate) const SPARE_CAPACITY: usize = 64;

/// The watches of a topic in one stream.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) watches: Vec<WatchKey>,
    /// The changes of the block being made that are for them.
    found: Vec<Place>,
}

/// A change's place in a block: which of its commits, and which change of that.
#[derive(Debug, Clone, Copy)]
struct Place {
    commit: u32,
    change: u32,
}

/// What is handed out next: the watch, and where to find its changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) watch: WatchKey,
    list: u32,
    /// Revisions below this are not for this watch.
    from: i64,
}

/// Why there is no payload.
#[derive(Debug)]
pub(crate) enum Lack {
    /// The ring has no longer what the watch needs from this revision on.
    Commits(i64),
    /// Some key-values before the changes have to be looked up first.
    Prevs(Vec<(Arc<Commit>, u32)>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The revisions of its commits; only those with something for the stream.
    revisions: Vec<i64>,
    /// The commits, in the same order, if they did not come from the ring.
    held: Option<Vec<Arc<Commit>>>,
    /// The topics that something was found for, while the block is being made.
    hit: Vec<TopicId>,
    lists: Vec<Vec<Place>>,
    spare: Vec<Vec<Place>>,
    ready: VecDeque<Ready>,
    /// Each watch in it has everything up to here once it was handed its part.
    through: i64,
    places: usize,
    /// Payloads of the list that is being handed out.
    shared: Shared,
}

#[derive(Debug, Default)]
struct Shared {
    list: u32,
    payloads: [Option<Option<Payload>>; VIEWS],
}

impl Block {
    /// Each watch in it has everything up to here once it was handed its part.
    pub(crate) fn through(&self) -> i64 {
        self.through
    }

    /// How many changes were found so far for topics.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// Begins a new block. With `held` it holds its commits.
    pub(crate) fn begin(&mut self, held: bool) {
        debug_assert!(
            self.ready.is_empty(),
            "a block is begun when the last one was handed out"
        );
        self.revisions.clear();
        self.held = held.then(Vec::new);
        self.places = 0;
        let small = self
            .lists
            .drain(..)
            .filter(|list| list.capacity() <= SPARE_CAPACITY);
        self.spare.extend(small.map(|mut list| {
            list.clear();
            list
        }));
        self.spare.truncate(SPARE_CAPACITY);
        self.shared = Shared::default();
    }

    /// Finds the topics of a commit. Commits come in order.
    pub(crate) fn add(&mut self, commit: &Arc<Commit>, topics: &mut Topics<Members>) {
        let index = u32::try_from(self.revisions.len()).expect("a block is bounded");
        let places = self.places;
        for (change, at) in commit.changes.iter().zip(0..) {
            topics.hits(change.key(), |topic, members| {
                if members.found.is_empty() {
                    self.hit.push(topic);
                    members.found = self.spare.pop().unwrap_or_default();
                }
                members.found.push(Place {
                    commit: index,
                    change: at,
                });
                self.places += 1;
            });
        }
        if self.places > places {
            self.revisions.push(commit.revision);
            if let Some(held) = &mut self.held {
                held.push(commit.clone());
            }
        }
    }

    /// The block is made and goes up to `through`. `from` says from which revision on a watch takes part, or that it does
    /// not. Returns how many events are for watches, before filters.
    pub(crate) fn seal(
        &mut self,
        through: i64,
        topics: &mut Topics<Members>,
        mut from: impl FnMut(WatchKey) -> Option<i64>,
    ) -> usize {
        self.through = through;
        let mut events = 0;
        for topic in self.hit.drain(..) {
            let Some(members) = topics.get_mut(topic) else {
                continue;
            };
            let found = std::mem::take(&mut members.found);
            let list = u32::try_from(self.lists.len()).expect("a block is bounded");
            for &watch in &members.watches {
                if let Some(from) = from(watch) {
                    self.ready.push_back(Ready { watch, list, from });
                    events += found.len();
                }
            }
            self.lists.push(found);
        }
        events
    }

    /// What is to be handed out next.
    pub(crate) fn front(&self) -> Option<Ready> {
        self.ready.front().copied()
    }

    /// The front was handed out, or is not wanted; returns how many events it had.
    pub(crate) fn pop(&mut self) -> usize {
        let Some(done) = self.ready.pop_front() else {
            return 0;
        };
        if self.ready.front().is_none_or(|next| next.list != done.list) {
            // Nobody else gets this payload; a stream that does not read must not keep it.
            self.shared = Shared::default();
        }
        if self.ready.is_empty() {
            self.held = None;
        }
        self.lists[done.list as usize].len()
    }

    /// What the watch gets, if another watch of its topic with the same wishes got that already. `Some(None)` is nothing,
    /// because of the filters.
    pub(crate) fn shared_payload(&self, ready: Ready, watch: &Watch) -> Option<Option<Payload>> {
        if self.shared.list != ready.list || self.first_revision(ready) < ready.from {
            return None;
        }
        self.shared.payloads[watch.view()].clone()
    }

    /// What the watch gets; `None` when its filters leave nothing. Of revisions up to `no_prev_until` the key-value before
    /// is compacted.
    pub(crate) fn make_payload(
        &mut self,
        ready: Ready,
        watch: &Watch,
        no_prev_until: i64,
        ring: &Ring,
    ) -> Result<Option<Payload>, Lack> {
        let payload = self.build(ready, watch, no_prev_until, ring)?;
        if self.first_revision(ready) >= ready.from {
            if self.shared.list != ready.list {
                self.shared = Shared {
                    list: ready.list,
                    ..Shared::default()
                };
            }
            self.shared.payloads[watch.view()] = Some(payload.clone());
        }
        Ok(payload)
    }

    fn first_revision(&self, ready: Ready) -> i64 {
        self.lists[ready.list as usize]
            .first()
            .map_or(self.through, |place| self.revisions[place.commit as usize])
    }

    fn build(
        &self,
        ready: Ready,
        watch: &Watch,
        no_prev_until: i64,
        ring: &Ring,
    ) -> Result<Option<Payload>, Lack> {
        let list = &self.lists[ready.list as usize];
        let mut items = Vec::with_capacity(list.len());
        let mut missing = Vec::new();
        for place in list {
            let revision = self.revisions[place.commit as usize];
            if revision < ready.from {
                continue;
            }
            let commit = match &self.held {
                Some(held) => held.get(place.commit as usize),
                None => ring.get(revision),
            };
            let Some(commit) = commit else {
                return Err(Lack::Commits(revision));
            };
            let change = &commit.changes[place.change as usize];
            let filtered = match change.kind {
                EventKind::Put => watch.filters.no_put,
                EventKind::Delete => watch.filters.no_delete,
            };
            if filtered {
                continue;
            }
            let mut prev = None;
            if watch.prev_kv && revision > no_prev_until {
                match change.prev() {
                    Ok(found) => prev = found.cloned(),
                    Err(NotAtHand) => missing.push((commit.clone(), place.change)),
                }
            }
            items.push(Item {
                commit: commit.clone(),
                change: place.change,
                prev,
            });
        }
        if missing.is_empty() {
            Ok(Payload::new(items))
        } else {
            Err(Lack::Prevs(missing))
        }
    }
}
