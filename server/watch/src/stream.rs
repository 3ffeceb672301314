//! One client's stream of watches.
//!
//! Promises: a watch gets every event of its range once, in order, a revision never cut except into fragments; nothing is
//! read before it is asked for, so that a client that does not read holds up nobody and keeps no events in memory beyond
//! one bounded response. A watch is a cursor: there are no groups and no queues of events.
//!
//! A watch is live or lagging. The live ones of a stream move together: the hub marks the revisions that have something
//! for the stream, and the stream sorts their events out to the watches. A lagging one reads commits from where it is,
//! from the hub's ring or from the store, until it has caught up. Must not know gRPC.

mod handing_out;
mod progress;
mod reading;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use self::handing_out::Fragments;
use self::progress::Progress;
use self::reading::{Fetch, Found};
use crate::block::{Block, Members};
use crate::history::Commit;
use crate::hub::{Core, Reading};
use crate::inbox::{Inbox, Next};
use crate::key_range::KeyRange;
use crate::notice::{Cancelled, CreateError, Created, Notice, Subscription};
use crate::options::StreamOptions;
use crate::registry::StreamId;
use crate::topics::{TopicId, Topics};
use crate::watches::{Mode, Watch, WatchKey, Watches};

/// Blocks without a notice for the client that are made before other tasks get a turn.
const STEPS: usize = 32;

/// The watches of one client, and what is to be told about them. Dropping it ends them all.
pub struct Stream {
    core: Arc<Core>,
    id: StreamId,
    inbox: Arc<Inbox>,
    options: StreamOptions,
    watches: Watches,
    topics: Topics<Members>,
    /// Marks taken out of the inbox, not yet in a block.
    taken: VecDeque<i64>,
    /// The live watches have been given everything that was marked up to here.
    consumed: i64,
    /// The lagging watches, in the order of their turns, and some that are so no more.
    lagging: VecDeque<WatchKey>,
    /// Whether the lagging watches had the last first try.
    lagging_turn: bool,
    /// Whether the live watches wait for history.
    live_reads_later: bool,
    block: Block,
    fragments: Option<Fragments>,
    /// Key-values before the changes of the block's front, on their way.
    prevs: Option<Reading<()>>,
    fetch: Option<Fetch>,
    /// Watches that ended, to be told.
    verdicts: VecDeque<Notice>,
    progress: Progress,
    scratch: Vec<Arc<Commit>>,
}

impl Stream {
    pub(crate) fn new(core: Arc<Core>, options: StreamOptions) -> Self {
        let inbox = Arc::<Inbox>::default();
        Self {
            id: core.join(inbox.clone()),
            progress: Progress::new(options.progress_interval),
            core,
            inbox,
            options,
            watches: Watches::default(),
            topics: Topics::new(),
            taken: VecDeque::new(),
            consumed: 0,
            lagging: VecDeque::new(),
            lagging_turn: false,
            live_reads_later: false,
            block: Block::default(),
            fragments: None,
            prevs: None,
            fetch: None,
            verdicts: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// Creates a watch. The answer is to be sent before any later notice.
    ///
    /// # Errors
    /// See [`CreateError`]; the stream is as before.
    pub fn create(&mut self, subscription: Subscription) -> Result<Created, CreateError> {
        let start = subscription.start_revision;
        if start < 0 {
            return Err(CreateError::Compacted);
        }
        let range = KeyRange::of_request(&subscription.key, &subscription.end)
            .ok_or(CreateError::EmptyRange)?;
        let id = self.watches.assign_id(subscription.id)?;
        let topic = self.topic(range);
        // After the subscription: what is committed from here on will be marked.
        let revision = self.core.source.revision();
        let (mode, next) = match start {
            0 => (Mode::Live, revision + 1),
            start if start > revision => (Mode::Live, start),
            start => (Mode::Lagging, start),
        };
        let future_start = if start > revision { start } else { 0 };
        let key = self.watches.insert(Watch {
            id,
            topic,
            place: 0,
            mode,
            next,
            future_start,
            prev_kv: subscription.prev_kv,
            filters: subscription.filters,
            fragment: subscription.fragment,
            tell_progress: subscription.progress_notify.then_some(true),
        });
        self.enter_topic(key, topic);
        if mode == Mode::Lagging {
            self.lagging.push_back(key);
        }
        if future_start > 0 {
            self.progress.add_future(key);
        }
        if subscription.progress_notify {
            self.progress.start_ticker();
        }
        self.progress.note_told(revision);
        self.account();
        Ok(Created {
            watch_id: id,
            revision,
        })
    }

    /// Ends a watch; `None` when there is no such watch, about which etcd says nothing. Nothing more comes of it.
    pub fn cancel(&mut self, watch_id: i64) -> Option<Cancelled> {
        let key = self.watches.find(watch_id)?;
        self.remove(key);
        self.verdicts
            .retain(|verdict| verdict.watch_id() != watch_id);
        self.account();
        Some(Cancelled {
            watch_id,
            revision: self.core.source.revision(),
        })
    }

    /// Asks for a progress notice about all watches, which comes when each has been told everything up to the revision that
    /// is the newest now. Requests that are not answered yet are answered together. Without watches it never comes.
    pub fn request_progress(&mut self) {
        if self.watches.live() + self.watches.lagging() > 0 {
            self.progress.request(self.core.source.revision());
        }
    }

    /// The newest revision, for headers.
    pub fn revision(&self) -> i64 {
        self.core.source.revision()
    }

    /// How many watches there are.
    pub fn watches(&self) -> usize {
        self.watches.len()
    }

    /// What is to be told next. Not calling it costs nobody anything, and dropping the future loses nothing. Must be
    /// awaited inside a tokio runtime.
    pub async fn next(&mut self) -> Notice {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Stream::next`]: when it is pending, the task is woken once there may be something.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Notice> {
        for _ in 0..STEPS {
            if let Some(verdict) = self.verdicts.pop_front() {
                return Poll::Ready(verdict);
            }
            match self.hand_out(cx) {
                Poll::Ready(Some(notice)) => return Poll::Ready(notice),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
            if let Some(notice) = self.report_progress(cx) {
                return Poll::Ready(notice);
            }
            let found = self.find_work(cx);
            self.account();
            if found != Found::Something && self.park(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Has the task woken by news; false when there are some.
    fn park(&mut self, cx: &mut Context<'_>) -> bool {
        if self.watches.live() > 0 {
            let next = self.inbox.register(cx.waker());
            if next != Next::Nothing && !self.live_reads_later {
                return false;
            }
        }
        self.poll_fetch(cx) && self.wait_for_progress()
    }

    fn topic(&mut self, range: KeyRange) -> TopicId {
        self.topics.find(&range).unwrap_or_else(|| {
            self.core.subscribe(self.id, range.clone());
            self.topics.insert(range, Members::default())
        })
    }

    fn enter_topic(&mut self, key: WatchKey, topic: TopicId) {
        let Some(members) = self.topics.get_mut(topic) else {
            return;
        };
        if let Some(watch) = self.watches.get_mut(key) {
            watch.place = u32::try_from(members.watches.len()).expect("fewer watches than 2^32");
            members.watches.push(key);
        }
    }

    fn leave_topic(&mut self, key: WatchKey) {
        let Some(&Watch { topic, place, .. }) = self.watches.get(key) else {
            return;
        };
        let Some(members) = self.topics.get_mut(topic) else {
            return;
        };
        members.watches.swap_remove(place as usize);
        if let Some(moved) = members.watches.get(place as usize)
            && let Some(moved) = self.watches.get_mut(*moved)
        {
            moved.place = place;
        }
        if members.watches.is_empty()
            && let Some(range) = self.topics.remove(topic)
        {
            self.core.unsubscribe(self.id, &range);
        }
    }

    fn remove(&mut self, key: WatchKey) {
        let Some(mode) = self.watches.get(key).map(|watch| watch.mode) else {
            return;
        };
        if mode != Mode::Compacted {
            self.leave_topic(key);
        }
        if self
            .fragments
            .as_ref()
            .is_some_and(|fragments| fragments.watch == key)
        {
            self.fragments = None;
        }
        self.watches.remove(key);
    }

    fn account(&self) {
        let (tally, watches) = (&self.inbox.tally, &self.watches);
        for (count, number) in [
            (&tally.watchers, watches.len()),
            (&tally.live, watches.live()),
            (&tally.lagging, watches.lagging()),
        ] {
            count.store(number as i64, Ordering::Relaxed);
        }
    }

    fn tally_pending(&self, events: i64) {
        let pending = &self.inbox.tally.pending;
        pending.store(pending.load(Ordering::Relaxed) + events, Ordering::Relaxed);
    }

    fn tally_events(&self, events: usize) {
        let told = &self.inbox.tally.events;
        told.store(
            told.load(Ordering::Relaxed) + events as u64,
            Ordering::Relaxed,
        );
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let events = self.inbox.tally.events.load(Ordering::Relaxed);
        self.core.leave(self.id, self.topics.ranges(), events);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("watches", &self.watches.len())
            .field("lagging", &self.watches.lagging())
            .finish_non_exhaustive()
    }
}
