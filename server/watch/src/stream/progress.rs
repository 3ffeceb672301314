//! Telling a client how far its watches are when nothing happens.
//!
//! Promises: a revision that is told is never ahead of an event still to be handed out, never 0, and a request is answered
//! as soon as every watch of the stream has got that far (several waiting requests by one answer); an answer is never below
//! what any watch of the stream was told before. Follows `progressIfSync`
//! of `server/storage/mvcc/watchable_store.go` and the ticker of `v3rpc/watch.go`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Stream;
use crate::inbox::Next;
use crate::notice::{ALL_WATCHES, Notice};
use crate::watches::{Mode, WatchKey};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What is asked of a stream and not answered.
#[derive(Debug)]
pub(super) struct Progress {
    requested: Option<Requested>,
    /// The greatest revision that the client was told of, whatever the watch.
    told: i64,
    /// The hub wakes the stream when this is matched.
    waiting_for: i64,
    /// Watches whose start revision was in the future when they were created.
    future: Vec<WatchKey>,
    /// Watches to be told their progress now.
    due: VecDeque<WatchKey>,
    ticker: Ticker,
}

/// The newest revision at the first request that waits, and at the last.
#[derive(Debug, Clone, Copy)]
struct Requested {
    first: i64,
    last: i64,
}

/// Ticks with one period from the birth of the stream on, for the watches that want it.
#[derive(Debug)]
struct Ticker {
    born: Instant,
    period: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    pub(super) fn new(interval: Duration) -> Self {
        let interval = interval.max(SHORTEST_INTERVAL);
        let jitter = rand::random_range(Duration::ZERO..interval / 10);
        Self {
            requested: None,
            told: 0,
            waiting_for: 0,
            future: Vec::new(),
            due: VecDeque::new(),
            ticker: Ticker {
                born: Instant::now(),
                period: interval + jitter,
                sleep: None,
            },
        }
    }

    /// A watch wants to be told now and then.
    pub(super) fn start_ticker(&mut self) {
        self.ticker.start();
    }

    /// A watch waits for a start revision that is still to come.
    pub(super) fn add_future(&mut self, key: WatchKey) {
        self.future.push(key);
    }

    /// The client was told of a revision; progress about all watches must not be below it.
    pub(super) fn note_told(&mut self, revision: i64) {
        self.told = self.told.max(revision);
    }

    pub(super) fn request(&mut self, revision: i64) {
        let first = self.requested.map_or(revision, |requested| requested.first);
        self.requested = Some(Requested {
            first,
            last: revision,
        });
    }
}

impl Ticker {
    fn start(&mut self) {
        if self.sleep.is_none() {
            let periods = self.born.elapsed().as_nanos() / self.period.as_nanos() + 1;
            let next = self.period * u32::try_from(periods).unwrap_or(u32::MAX);
            self.sleep = Some(Box::pin(tokio::time::sleep_until(self.born + next)));
        }
    }

    /// Whether a tick is due; otherwise the task is woken when it is.
    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ticked = false;
        while let Some(sleep) = &mut self.sleep {
            if sleep.as_mut().poll(cx) == Poll::Pending {
                break;
            }
            ticked = true;
            self.sleep = None;
            self.start();
        }
        ticked
    }
}

impl Stream {
    /// A progress notice, if one can be given. To be asked when everything matched was handed out.
    pub(super) fn report_progress(&mut self, cx: &mut Context<'_>) -> Option<Notice> {
        if self.progress.ticker.tick(cx) {
            self.note_due();
        }
        if self.progress.due.is_empty() && self.progress.requested.is_none() {
            return None;
        }
        let live = self.live_progress();
        while let Some(key) = self.progress.due.pop_front() {
            if let Some(watch) = self.watches.get(key)
                && watch.mode == Mode::Live
                && watch.future_start <= live
            {
                let watch_id = watch.id;
                // One that was lagging may be ahead of the others.
                let revision = live.max(watch.next - 1);
                self.progress.note_told(revision);
                return Some(Notice::Progress { watch_id, revision });
            }
        }
        self.answer_request(live)
    }

    /// At a tick: those that were not given anything since the last one are told their progress.
    fn note_due(&mut self) {
        let due = &mut self.progress.due;
        due.clear();
        for (key, watch) in self.watches.iter_mut() {
            if let Some(tell) = &mut watch.tell_progress {
                if *tell {
                    due.push_back(key);
                }
                *tell = true;
            }
        }
    }

    fn answer_request(&mut self, live: i64) -> Option<Notice> {
        let requested = self.progress.requested?;
        if self.watches.live() + self.watches.lagging() == 0 {
            // As in etcd a stream without watches says nothing.
            self.progress.requested = None;
            return None;
        }
        let mut revision = if self.watches.live() > 0 {
            live
        } else {
            i64::MAX
        };
        if self.watches.lagging() > 0 {
            for (_, watch) in self
                .watches
                .iter()
                .filter(|(_, watch)| watch.mode == Mode::Lagging)
            {
                revision = revision.min(watch.next - 1);
            }
        }
        if revision < requested.first.max(self.progress.told)
            || self.latest_future(revision).is_some()
        {
            return None;
        }
        self.progress.note_told(revision);
        self.progress.requested = (revision < requested.last).then_some(Requested {
            first: requested.last,
            last: requested.last,
        });
        Some(Notice::Progress {
            watch_id: ALL_WATCHES,
            revision,
        })
    }

    /// The greatest start revision above `revision` that a watch waits for.
    fn latest_future(&mut self, revision: i64) -> Option<i64> {
        let watches = &self.watches;
        let mut latest = 0;
        self.progress.future.retain(|key| {
            let watch = watches.get(*key);
            latest = latest.max(watch.map_or(0, |watch| watch.future_start));
            watch.is_some()
        });
        (latest > revision).then_some(latest)
    }

    /// Everything up to here was handed to the live watches. To be asked when everything matched was handed out.
    fn live_progress(&self) -> i64 {
        // To be read before the inbox, since what is matched comes into the inbox first.
        let matched = self.core.matched();
        if let Some(mark) = self.taken.front() {
            return mark - 1;
        }
        match self.inbox.next() {
            Next::Mark(mark) => mark - 1,
            Next::Unlisted(span) => span.first - 1,
            Next::Nothing => matched.max(self.consumed),
        }
    }

    /// Has the hub wake the stream when an open request may be answered; false when that is now.
    pub(super) fn wait_for_progress(&mut self) -> bool {
        let Some(requested) = self.progress.requested else {
            return true;
        };
        let matched = self.core.matched();
        let least = requested.first.max(self.progress.told);
        let goal = self.latest_future(matched).unwrap_or(0).max(least);
        if goal <= matched {
            // Either that has just become true, or history is being read, which will wake the stream.
            return self.fetch.is_some();
        }
        if goal == self.progress.waiting_for {
            return true;
        }
        self.progress.waiting_for = goal;
        self.core.wait_for(goal, &self.inbox)
    }
}
