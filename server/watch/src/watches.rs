//! The watches of one stream.
//!
//! Promises: ids are given as etcd gives them (`server/storage/mvcc/watcher.go`); a key of a watch that is gone finds
//! nothing, even when its place is used again. Must not know how watches get their events.

use std::collections::HashMap;

use crate::notice::{CreateError, Filters};
use crate::topics::TopicId;

/// A watch of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) id: i64,
    pub(crate) topic: TopicId,
    /// Its place among those of the topic.
    pub(crate) place: u32,
    pub(crate) mode: Mode,
    /// The first revision that it has not been given. Of a live watch: below this it has been given everything, and above
    /// as far as its stream has got.
    pub(crate) next: i64,
    /// The start revision, if that was in the future.
    pub(crate) future_start: i64,
    pub(crate) prev_kv: bool,
    pub(crate) filters: Filters,
    pub(crate) fragment: bool,
    /// Whether the next tick tells it its progress; `None` when it does not want that.
    pub(crate) tell_progress: Option<bool>,
}

/// How a watch gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Together with all other live ones, as commits are marked.
    Live,
    /// It is behind those, and reads its own way up.
    Lagging,
    /// Not any more: what it wants is compacted. Its id is taken until it is cancelled.
    Compacted,
}

impl Watch {
    /// A number for what a watch wants to see of an event, to share payloads by.
    pub(crate) fn view(&self) -> usize {
        usize::from(self.prev_kv) << 2
            | usize::from(self.filters.no_put) << 1
            | usize::from(self.filters.no_delete)
    }
}

/// How many views there are.
pub(crate) const VIEWS: usize = 8;

/// Finds a watch as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WatchKey {
    slot: u32,
    serial: u32,
}

/// All watches of a stream.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<i64, WatchKey>,
    next_id: i64,
    /// How many there are, by mode.
    modes: [usize; 3],
    with_prev: usize,
}

#[derive(Debug, Default)]
struct Slot {
    serial: u32,
    watch: Option<Watch>,
}

impl Watches {
    /// The id for a new watch.
    pub(crate) fn assign_id(&mut self, wanted: Option<i64>) -> Result<i64, CreateError> {
        match wanted {
            None | Some(0) => {
                while self.by_id.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                Ok(self.next_id - 1)
            }
            Some(id) if self.by_id.contains_key(&id) => Err(CreateError::DuplicateId),
            Some(id) => Ok(id),
        }
    }

    pub(crate) fn insert(&mut self, watch: Watch) -> WatchKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer watches than 2^32")
        });
        let place = &mut self.slots[slot as usize];
        let key = WatchKey {
            slot,
            serial: place.serial,
        };
        self.by_id.insert(watch.id, key);
        self.modes[watch.mode as usize] += 1;
        self.with_prev += usize::from(watch.prev_kv);
        place.watch = Some(watch);
        key
    }

    pub(crate) fn remove(&mut self, key: WatchKey) -> Option<Watch> {
        self.get(key)?;
        let slot = &mut self.slots[key.slot as usize];
        let watch = slot.watch.take()?;
        slot.serial = slot.serial.wrapping_add(1);
        self.free.push(key.slot);
        self.by_id.remove(&watch.id);
        self.modes[watch.mode as usize] -= 1;
        self.with_prev -= usize::from(watch.prev_kv);
        Some(watch)
    }

    pub(crate) fn set_mode(&mut self, key: WatchKey, mode: Mode) {
        let Some(watch) = self.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut watch.mode, mode);
        self.modes[before as usize] -= 1;
        self.modes[mode as usize] += 1;
    }

    pub(crate) fn find(&self, id: i64) -> Option<WatchKey> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, key: WatchKey) -> Option<&Watch> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.watch.as_ref().filter(|_| slot.serial == key.serial)
    }

    /// To change anything but the mode.
    pub(crate) fn get_mut(&mut self, key: WatchKey) -> Option<&mut Watch> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        slot.watch.as_mut().filter(|_| slot.serial == key.serial)
    }

    /// All watches, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (WatchKey, &Watch)> {
        self.slots
            .iter()
            .zip(0..)
            .filter_map(|(Slot { serial, watch }, slot)| {
                let key = WatchKey {
                    slot,
                    serial: *serial,
                };
                watch.as_ref().map(|watch| (key, watch))
            })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (WatchKey, &mut Watch)> {
        self.slots
            .iter_mut()
            .zip(0..)
            .filter_map(|(Slot { serial, watch }, slot)| {
                let key = WatchKey {
                    slot,
                    serial: *serial,
                };
                watch.as_mut().map(|watch| (key, watch))
            })
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn live(&self) -> usize {
        self.modes[Mode::Live as usize]
    }

    pub(crate) fn lagging(&self) -> usize {
        self.modes[Mode::Lagging as usize]
    }

    /// Whether any watch wants to see the key-value before.
    pub(crate) fn want_prev(&self) -> bool {
        self.with_prev > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(watches: &mut Watches, wanted: Option<i64>) -> Result<i64, CreateError> {
        let id = watches.assign_id(wanted)?;
        watches.insert(Watch {
            id,
            topic: 0,
            place: 0,
            mode: Mode::Live,
            next: 1,
            future_start: 0,
            prev_kv: false,
            filters: Filters::default(),
            fragment: false,
            tell_progress: None,
        });
        Ok(id)
    }

    /// The table of etcd's `TestWatcherRequestsCustomID`.
    #[test]
    fn chosen_ids_are_kept_and_given_ids_step_round_them() {
        let mut watches = Watches::default();
        assert_eq!(add(&mut watches, Some(1)), Ok(1));
        assert_eq!(add(&mut watches, Some(1)), Err(CreateError::DuplicateId));
        assert_eq!(add(&mut watches, None), Ok(0));
        assert_eq!(add(&mut watches, Some(0)), Ok(2));
        assert_eq!(add(&mut watches, Some(-7)), Ok(-7));
    }

    #[test]
    fn given_ids_are_not_given_again() {
        let mut watches = Watches::default();
        assert_eq!(add(&mut watches, None), Ok(0));
        let key = watches.find(0).unwrap();
        assert!(watches.remove(key).is_some());
        assert_eq!(add(&mut watches, None), Ok(1));
        assert!(
            watches.get(key).is_none(),
            "the place is used by another watch"
        );
        assert!(watches.remove(key).is_none());
        assert_eq!(
            (watches.len(), watches.live(), watches.lagging()),
            (1, 1, 0)
        );
    }
}
