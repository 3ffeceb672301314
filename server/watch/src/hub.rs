//! The hub: follows the store's commits and tells the streams that have something to read.
//!
//! Promises: costs the apply path one atomic load per commit, and one wake when somebody watches; matches each change
//! once; keeps the newest commits for all streams to share. Must not know the watches of a stream.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::Waker;

use metastore_mvcc::{EventLimits, Store};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::history::{Change, Commit, History, HistoryError, Source};
use crate::inbox::{Inbox, Span};
use crate::key_range::KeyRange;
use crate::options::{Options, StreamOptions};
use crate::registry::{Registry, StreamId};
use crate::ring::Ring;
use crate::stream::Stream;

/// The most that is matched before other tasks get a turn.
const PUMP: EventLimits = EventLimits {
    bytes: 1 << 20,
    events: 1000,
    with_prev: true,
};

/// All watches of a member. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    core: Arc<Core>,
}

/// Numbers for the metrics, by their names in etcd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `etcd_debugging_mvcc_watch_stream_total`: streams now.
    pub streams: i64,
    /// `etcd_debugging_mvcc_watcher_total`: watches now.
    pub watchers: i64,
    /// `etcd_debugging_mvcc_slow_watcher_total`: watches that are behind now.
    pub slow_watchers: i64,
    /// `etcd_debugging_mvcc_events_total`: events handed out since the start.
    pub events: u64,
    /// `etcd_debugging_mvcc_pending_events_total`: events matched with a watch and not handed out now.
    pub pending_events: i64,
}

/// A read of history on its way.
pub(crate) type Reading<T> = Pin<Box<dyn Future<Output = Result<T, HistoryError>> + Send>>;

/// What streams see of the hub.
pub(crate) struct Core {
    pub(crate) source: Arc<dyn Source>,
    ring: RwLock<Ring>,
    /// Every commit up to here is in the inboxes of those interested.
    matched: AtomicI64,
    registry: Mutex<Registry>,
    /// Held by whoever matches.
    pumping: Mutex<()>,
    bell: Arc<Bell>,
    readers: Arc<Semaphore>,
    /// Events handed out by streams that are gone.
    retired_events: AtomicU64,
}

/// Rung by the apply path.
#[derive(Default)]
struct Bell {
    notify: Notify,
    /// Whether anybody watches.
    wanted: AtomicBool,
}

impl Hub {
    /// A hub over a store, with default bounds. Must be called inside a tokio runtime; the hub's task ends with the last
    /// hub and stream.
    pub fn new(store: Store) -> Self {
        Self::with_options(store, Options::default())
    }

    /// As [`Hub::new`], with other bounds.
    pub fn with_options(store: Store, options: Options) -> Self {
        let hub = Self::over(Arc::new(store.clone()), options);
        store.on_commit(hub.ringer());
        hub.start();
        hub
    }

    /// A hub that matches when it is told to.
    pub(crate) fn over(source: Arc<dyn Source>, options: Options) -> Self {
        let revision = source.revision();
        let core = Core {
            ring: RwLock::new(Ring::new(revision + 1, options.ring_bytes)),
            matched: AtomicI64::new(revision),
            registry: Mutex::new(Registry::new()),
            pumping: Mutex::new(()),
            bell: Arc::default(),
            readers: Arc::new(Semaphore::new(options.history_readers.max(1))),
            retired_events: AtomicU64::new(0),
            source,
        };
        Self {
            core: Arc::new(core),
        }
    }

    /// What the apply path calls after each commit.
    pub(crate) fn ringer(&self) -> Arc<dyn Fn(i64) + Send + Sync> {
        let bell = self.core.bell.clone();
        Arc::new(move |_| {
            // Pairs with the fence in `subscribe`: either we see that it is wanted, or it sees our revision.
            fence(Ordering::SeqCst);
            if bell.wanted.load(Ordering::Relaxed) {
                bell.notify.notify_one();
            }
        })
    }

    /// Starts the task that matches after each ring of the bell.
    pub(crate) fn start(&self) {
        let core = Arc::downgrade(&self.core);
        let bell = self.core.bell.clone();
        tokio::spawn(async move {
            loop {
                bell.notify.notified().await;
                if !pump_all(&core).await {
                    return;
                }
            }
        });
    }

    /// A stream of watches, empty at first: one for each call of `Watch`.
    pub fn stream(&self, options: StreamOptions) -> Stream {
        Stream::new(self.core.clone(), options)
    }

    /// The newest revision, for headers.
    pub fn revision(&self) -> i64 {
        self.core.source.revision()
    }

    /// Numbers for the metrics. Takes time with the number of streams.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            events: self.core.retired_events.load(Ordering::Relaxed),
            ..Counts::default()
        };
        for inbox in self.core.registry.lock().inboxes() {
            let tally = &inbox.tally;
            counts.streams += 1;
            counts.watchers += tally.watchers.load(Ordering::Relaxed);
            counts.slow_watchers += tally.lagging.load(Ordering::Relaxed);
            // Asked here, since a stream whose client does not read is not at work.
            if inbox.is_behind() {
                counts.slow_watchers += tally.live.load(Ordering::Relaxed);
            }
            counts.events += tally.events.load(Ordering::Relaxed);
            counts.pending_events += tally.pending.load(Ordering::Relaxed);
        }
        counts
    }

    /// Matches everything committed.
    #[cfg(test)]
    pub(crate) fn pump(&self) {
        while self.core.pump() {}
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

/// Matches everything committed, in steps; false when the hub is gone.
async fn pump_all(core: &Weak<Core>) -> bool {
    loop {
        let Some(core) = core.upgrade() else {
            return false;
        };
        if !core.pump() {
            return true;
        }
        drop(core);
        tokio::task::yield_now().await;
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // So that the task sees that it has no work any more.
        self.bell.notify.notify_one();
    }
}

impl Core {
    /// Every commit up to here is in the inboxes of those interested.
    pub(crate) fn matched(&self) -> i64 {
        self.matched.load(Ordering::Acquire)
    }

    /// The newest commits. Not to be held for long: the hub waits for it.
    pub(crate) fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read()
    }

    pub(crate) fn join(&self, inbox: Arc<Inbox>) -> StreamId {
        self.registry.lock().join(inbox)
    }

    /// Forgets a stream with all its interests.
    pub(crate) fn leave<'a>(
        &self,
        id: StreamId,
        ranges: impl Iterator<Item = &'a KeyRange>,
        events: u64,
    ) {
        let mut registry = self.registry.lock();
        for range in ranges {
            registry.unsubscribe(id, range);
        }
        registry.leave(id);
        self.retired_events.fetch_add(events, Ordering::Relaxed);
        self.rest_if_idle(&registry);
    }

    /// From now on the stream is told of commits in this range: of all after those matched when this returns, at least.
    pub(crate) fn subscribe(&self, id: StreamId, range: KeyRange) {
        let mut wakers = Vec::new();
        let mut registry = self.registry.lock();
        if registry.is_idle() {
            self.bell.wanted.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.skip_to(self.source.revision(), &mut registry, &mut wakers);
        }
        registry.subscribe(id, range);
        drop(registry);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn unsubscribe(&self, id: StreamId, range: &KeyRange) {
        let mut registry = self.registry.lock();
        registry.unsubscribe(id, range);
        self.rest_if_idle(&registry);
    }

    /// Has the owner of `inbox` woken once `revision` is matched; false when it is.
    pub(crate) fn wait_for(&self, revision: i64, inbox: &Arc<Inbox>) -> bool {
        let mut registry = self.registry.lock();
        let waits = self.matched() < revision;
        if waits {
            registry.wait_for(revision, inbox.clone());
        }
        waits
    }

    /// One step of matching; whether there is more to do.
    pub(crate) fn pump(&self) -> bool {
        let _pumping = self.pumping.lock();
        let mut wakers = Vec::new();
        let target = self.source.revision();
        let matched = {
            let mut registry = self.registry.lock();
            let matched = self.matched();
            if matched >= target {
                return false;
            }
            if registry.is_idle() {
                self.skip_to(target, &mut registry, &mut wakers);
            }
            matched
        };
        if self.matched() < target {
            let found = self.find(matched, target);
            self.publish(matched, found, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
        self.matched() < self.source.revision()
    }

    /// The commits after `matched`, or the revision up to which they are not to be had one by one.
    fn find(&self, matched: i64, target: i64) -> Result<History, i64> {
        match self.source.history(matched + 1, &PUMP) {
            Ok(history) if history.through > matched => Ok(history),
            Err(HistoryError::Compacted(revision)) if revision > matched + 1 => Err(revision - 1),
            Ok(_) | Err(_) => Err(target),
        }
    }

    /// Tells the streams of what was found after `matched`.
    fn publish(&self, matched: i64, found: Result<History, i64>, wakers: &mut Vec<Waker>) {
        let mut registry = self.registry.lock();
        if self.matched() != matched {
            // Meanwhile nobody watched, and then somebody did: the beginning has moved.
            return;
        }
        let through = match found {
            Ok(History { commits, through }) => {
                for commit in &commits {
                    registry.match_commit(commit);
                }
                self.keep(commits);
                registry.deliver(wakers);
                through
            }
            Err(last) => {
                self.ring.write().reset(last + 1);
                let span = Span {
                    first: matched + 1,
                    last,
                };
                registry.deliver_unmatched(span, wakers);
                last
            }
        };
        self.matched.store(through, Ordering::Release);
        registry.end_waits(through, wakers);
    }

    fn keep(&self, commits: Vec<Arc<Commit>>) {
        let mut ring = self.ring.write();
        for commit in commits {
            ring.push(commit);
        }
    }

    /// Nobody is interested in what was committed up to `revision`.
    fn skip_to(&self, revision: i64, registry: &mut Registry, wakers: &mut Vec<Waker>) {
        if revision > self.matched() {
            self.ring.write().reset(revision + 1);
            self.matched.store(revision, Ordering::Release);
            registry.end_waits(revision, wakers);
        }
    }

    fn rest_if_idle(&self, registry: &Registry) {
        if registry.is_idle() {
            self.bell.wanted.store(false, Ordering::Relaxed);
        }
    }

    /// Reads history for a stream that is behind, off the runtime's threads.
    pub(crate) fn read_history(&self, from: i64, limits: EventLimits) -> Reading<History> {
        self.read(move |source| {
            let history = source.history(from, &limits)?;
            // A compaction that came meanwhile may have torn holes into it.
            let compact_revision = source.compact_revision();
            if from < compact_revision {
                return Err(HistoryError::Compacted(compact_revision));
            }
            if history.through < from {
                return Err(HistoryError::Failed(format!(
                    "no history from revision {from} on"
                )));
            }
            Ok(history)
        })
    }

    /// Looks up what was there before these changes.
    pub(crate) fn look_up_prevs(&self, changes: Vec<(Arc<Commit>, u32)>) -> Reading<()> {
        self.read(move |source| {
            let change = |(commit, at): &(Arc<Commit>, u32)| -> Result<(), HistoryError> {
                Change::look_up_prev(&commit.changes[*at as usize], source)
            };
            changes.iter().try_for_each(change)
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Source) -> Result<T, HistoryError> + Send + 'static,
    ) -> Reading<T> {
        let source = self.source.clone();
        if source.is_resident() {
            return Box::pin(std::future::ready(read(&*source)));
        }
        let readers = self.readers.clone();
        // A task of its own, since a stream may not be polled for long: it must not be given a turn that it does not use.
        let task = tokio::spawn(async move {
            let permit = readers
                .acquire_owned()
                .await
                .map_err(|error| failed(&error))?;
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                read(&*source)
            });
            task.await.map_err(|error| failed(&error))?
        });
        let mut task = AbortOnDrop(task);
        Box::pin(async move { (&mut task.0).await.map_err(|error| failed(&error))? })
    }
}

/// A read that ends when its stream does, if it has not begun.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn failed(error: &dyn fmt::Display) -> HistoryError {
    HistoryError::Failed(error.to_string())
}
