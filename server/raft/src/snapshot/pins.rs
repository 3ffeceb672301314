//! States that are held for sending.
//!
//! A pin costs the engine what has been replaced since, and the log what was written since, so it is held no longer
//! than a transfer may still need it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metastore_engine::{Space, View};
use parking_lot::Mutex;

use crate::types::SnapshotMeta;

/// How long a state is held for a broken transfer to go on.
const PIN_KEPT: Duration = Duration::from_secs(300);
/// How long a state that nobody has asked to go on with is good enough: a member that is away is tried all the time.
const FRESH: Duration = Duration::from_secs(10);
/// How long the log behind a state is kept after its last transfer, until the follower's progress is known.
const LOG_KEPT: Duration = Duration::from_secs(30);

/// Where a chunk of a state begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) space: Space,
    pub(super) key: Vec<u8>,
}

/// A state held for sending, to one member or to several.
pub(crate) struct Pinned {
    pub(crate) id: u64,
    pub(crate) meta: SnapshotMeta,
    pub(crate) engine: &'static str,
    since: Instant,
    view: Mutex<Box<dyn View>>,
    use_of: Mutex<Use>,
    /// Where the chunks begin, as far as they have been cut: a transfer goes on at one of these.
    pub(super) places: Mutex<Vec<Place>>,
}

#[derive(Default)]
struct Use {
    transfers: usize,
    last: Option<Instant>,
}

impl Pinned {
    pub(crate) fn new(meta: SnapshotMeta, engine: &'static str, view: Box<dyn View>) -> Arc<Self> {
        Arc::new(Self {
            id: rand::random(),
            meta,
            engine,
            since: Instant::now(),
            view: Mutex::new(view),
            use_of: Mutex::default(),
            places: Mutex::default(),
        })
    }

    /// The state; to be held for one chunk at a time, since others may be reading it too.
    pub(super) fn view(&self) -> parking_lot::MutexGuard<'_, Box<dyn View>> {
        self.view.lock()
    }

    /// Whether a transfer reads it, or did within `within`.
    fn is_used(&self, within: Duration) -> bool {
        let used = self.use_of.lock();
        used.transfers > 0 || used.last.is_some_and(|last| last.elapsed() < within)
    }

    fn index(&self) -> Option<u64> {
        self.meta.last_log_id.map(|id| id.index)
    }
}

/// A transfer under way; when it is dropped, the state is held a while for it to go on.
pub(super) struct Transfer(Arc<Pinned>);

impl Transfer {
    pub(super) fn begin(pinned: Arc<Pinned>) -> Self {
        pinned.use_of.lock().transfers += 1;
        Self(pinned)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut used = self.0.use_of.lock();
        used.transfers -= 1;
        used.last = Some(Instant::now());
    }
}

/// The index of the last entry that the log has forgotten.
type Purged = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The state that is held, if there is one.
pub(crate) struct Pins {
    current: Mutex<Option<Arc<Pinned>>>,
    purged: Purged,
}

impl Pins {
    /// `purged` tells how far the log has been purged.
    pub(crate) fn new(purged: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self {
            current: Mutex::default(),
            purged: Box::new(purged),
        }
    }

    /// The state that is held, if a transfer may begin with it or go on: with the log it leads up to the present.
    pub(crate) fn usable(&self) -> Option<Arc<Pinned>> {
        let current = self.current.lock().clone()?;
        let leads_on = (self.purged)() <= current.index();
        let wanted = current.is_used(PIN_KEPT) || current.since.elapsed() < FRESH;
        (leads_on && wanted).then_some(current)
    }

    /// Holds a state. One that no transfer comes for goes with the next [`Self::expire`].
    pub(crate) fn hold(&self, pinned: Arc<Pinned>) {
        *self.current.lock() = Some(pinned);
    }

    /// Holds nothing any more.
    pub(crate) fn clear(&self) {
        *self.current.lock() = None;
    }

    /// Lets go of a state that no transfer needs. To be called now and then.
    pub(crate) fn expire(&self) {
        self.current
            .lock()
            .take_if(|pinned| !pinned.is_used(PIN_KEPT) && pinned.since.elapsed() > FRESH);
    }

    /// The first entry of the log that a transfer's receiver will need.
    pub(crate) fn needs_log_from(&self) -> Option<u64> {
        let current = self.current.lock();
        let pinned = current.as_ref().filter(|pinned| pinned.is_used(LOG_KEPT))?;
        Some(pinned.index().map_or(0, |index| index + 1))
    }
}

#[cfg(test)]
mod tests {
    use metastore_engine::{Kind, Options};

    use super::*;
    use crate::types::log_id;

    fn pinned() -> Arc<Pinned> {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = metastore_engine::open(Kind::Memory, folder.path(), Options::default());
        let view = engine.expect("an engine").view().expect("a view");
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(1, 7)),
            ..SnapshotMeta::default()
        };
        Pinned::new(meta, "memory", view)
    }

    #[test]
    fn a_state_that_no_transfer_has_begun_keeps_no_log() {
        let pins = Pins::new(|| None);
        assert!(pins.usable().is_none());
        pins.hold(pinned());
        assert!(pins.usable().is_some());
        assert_eq!(pins.needs_log_from(), None);
    }

    #[test]
    fn a_state_is_held_for_a_transfer_and_for_one_that_broke() {
        let pins = Pins::new(|| Some(7));
        let state = pinned();
        pins.hold(state.clone());
        let transfer = Transfer::begin(state);
        assert_eq!(pins.needs_log_from(), Some(8));
        drop(transfer);
        pins.expire();
        assert!(pins.usable().is_some());
        assert_eq!(pins.needs_log_from(), Some(8));
    }

    #[test]
    fn a_state_whose_log_is_gone_is_of_no_use() {
        let pins = Pins::new(|| Some(8));
        let state = pinned();
        pins.hold(state.clone());
        let _transfer = Transfer::begin(state);
        assert!(pins.usable().is_none());
    }
}
