//! Room for the log: prepares the next segment before it is needed, removes those no longer needed, and
//! watches the disk.
//!
//! Promises that a log without a segment in reserve says so ([`Space::Full`]) while a whole segment of
//! room is left. Must not know what is in a segment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::{Directory, SegmentFile};
use super::{Error, OnSpace};

/// How often the disk is looked at, and something that failed is tried again.
const LOOK: Duration = Duration::from_secs(1);
/// A segment is this many times as long as the one before, up to the configured length.
const GROWTH: u64 = 4;

/// Whether the log can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// There is a segment in reserve and room on the disk.
    Enough,
    /// What is left of the current segment, and the reserve if there is one, is all there is. Nothing
    /// has been lost; new commands should be refused now.
    Full,
}

/// What the keeper is to do with the disk.
pub(super) struct Plan {
    pub(super) segment_bytes_max: u64,
    /// Bytes to be left free for others on the file system.
    pub(super) reserve_bytes: u64,
    pub(super) on_space: Option<OnSpace>,
}

/// The keeper's state, shared with its thread.
pub(super) struct Keeper {
    plan: Plan,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: Option<SegmentFile>,
    next_id: u64,
    next_bytes: u64,
    /// The writer waits for a segment of at least so many bytes.
    wanted: Option<u64>,
    /// Segments to be removed, oldest first.
    removals: VecDeque<Arc<SegmentFile>>,
    space: Space,
    /// Why the last preparation failed, for another reason than space.
    failed: Option<Error>,
    /// The log is being closed: nobody waits for room any more.
    closing: bool,
    stopping: bool,
}

impl Keeper {
    /// `current` is the segment in use.
    pub(super) fn new(plan: Plan, current: &SegmentFile) -> Self {
        let next_bytes = grow(current.bytes, &plan);
        let state = State {
            ready: None,
            next_id: current.id + 1,
            next_bytes,
            wanted: None,
            removals: VecDeque::new(),
            space: Space::Enough,
            failed: None,
            closing: false,
            stopping: false,
        };
        Self {
            plan,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(super) fn space(&self) -> Space {
        self.state.lock().space
    }

    /// The next segment, with room for `bytes`. Waits while the disk is full.
    pub(super) fn take(&self, bytes: u64) -> Result<SegmentFile, Error> {
        let mut state = self.state.lock();
        state.wanted = Some(bytes);
        self.changed.notify_all();
        loop {
            if let Some(file) = state.ready.take_if(|ready| ready.bytes >= bytes) {
                state.wanted = None;
                state.next_id = file.id + 1;
                state.next_bytes = grow(file.bytes, &self.plan);
                self.changed.notify_all();
                return Ok(file);
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.stopping || (state.closing && state.space == Space::Full) {
                return Err(Error::Closed);
            }
            self.changed.wait(&mut state);
        }
    }

    /// From now on [`Self::take`] fails while the disk is full.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// Has the files of `segments` removed, oldest first.
    pub(super) fn remove(&self, segments: impl IntoIterator<Item = Arc<SegmentFile>>) {
        self.state.lock().removals.extend(segments);
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// The thread.
    pub(super) fn run(&self, directory: &Directory) {
        loop {
            self.remove_next(directory);
            self.prepare(directory);
            let mut state = self.state.lock();
            if state.stopping {
                return;
            }
            let work = !state.removals.is_empty() || lacks_segment(&state);
            let failed = state.failed.is_some() || state.space == Space::Full;
            if !work || failed {
                self.changed.wait_for(&mut state, LOOK);
            }
        }
    }

    /// Removes all that is to be removed. After a failure nothing newer is removed: a log has no holes.
    fn remove_next(&self, directory: &Directory) {
        loop {
            let Some(file) = self.state.lock().removals.front().cloned() else {
                return;
            };
            if let Err(error) = directory.remove(file.id) {
                tracing::warn!(%error, "a segment of the raft log cannot be removed; trying again");
                return;
            }
            self.state.lock().removals.pop_front();
        }
    }

    fn prepare(&self, directory: &Directory) {
        let (id, bytes, lacks) = {
            let state = self.state.lock();
            (
                state.next_id,
                state.next_bytes.max(state.wanted.unwrap_or(0)),
                lacks_segment(&state),
            )
        };
        let needed = if lacks { bytes } else { 0 };
        match self.has_room(directory, needed) {
            Ok(true) if !lacks => self.report(Space::Enough, None),
            Ok(true) => match self.make(directory, id, bytes) {
                Ok(true) => self.report(Space::Enough, None),
                Ok(false) => {}
                Err(error) if error.is_full() => self.report(Space::Full, None),
                Err(error) => self.report(Space::Full, Some(error)),
            },
            Ok(false) => self.report(Space::Full, None),
            Err(error) => self.report(Space::Full, Some(error)),
        }
    }

    fn has_room(&self, directory: &Directory, bytes: u64) -> Result<bool, Error> {
        Ok(directory.free_bytes()? >= bytes.saturating_add(self.plan.reserve_bytes))
    }

    /// Makes the segment in reserve; false when told to stop.
    fn make(&self, directory: &Directory, id: u64, bytes: u64) -> Result<bool, Error> {
        // One that is too small for what the writer has.
        let unfit = self.state.lock().ready.take();
        if unfit.is_some() {
            directory.remove(id)?;
        }
        let mut before = Instant::now();
        let mut step = || {
            // Half of the disk's time is the log's.
            let pause = before.elapsed();
            let mut state = self.state.lock();
            if state.wanted.is_none() && !state.stopping {
                self.changed.wait_for(&mut state, pause.min(LOOK));
            }
            before = Instant::now();
            !state.stopping
        };
        let made = directory.create_segment(id, bytes, &[], &mut step)?;
        let mut state = self.state.lock();
        state.ready = made;
        self.changed.notify_all();
        Ok(state.ready.is_some())
    }

    fn report(&self, space: Space, failed: Option<Error>) {
        if let Some(error) = &failed {
            tracing::warn!(%error, "the raft log cannot prepare its next segment");
        }
        let mut state = self.state.lock();
        state.failed = failed;
        let changed = std::mem::replace(&mut state.space, space) != space;
        self.changed.notify_all();
        drop(state);
        if changed {
            match space {
                Space::Full => tracing::warn!("no room for the raft log to grow"),
                Space::Enough => tracing::info!("the raft log has room to grow again"),
            }
            if let Some(on_space) = &self.plan.on_space {
                on_space(space);
            }
        }
    }
}

fn lacks_segment(state: &State) -> bool {
    state
        .ready
        .as_ref()
        .is_none_or(|ready| state.wanted.is_some_and(|wanted| ready.bytes < wanted))
}

fn grow(bytes: u64, plan: &Plan) -> u64 {
    bytes.saturating_mul(GROWTH).min(plan.segment_bytes_max)
}
