//! Finding the next thing to hand out: marked commits for the live watches, history for those behind.
//!
//! Promises: one bounded block at a time; live watches and lagging ones take turns; lagging ones whose positions are near
//! share what is read.

use std::sync::Arc;
use std::task::{Context, Poll};

use metastore_mvcc::EventLimits;

use super::Stream;
use crate::block::SPARE_CAPACITY;
use crate::history::{Commit, History, HistoryError};
use crate::hub::Reading;
use crate::inbox::{Next, Span};
use crate::notice::Notice;
use crate::watches::{Mode, WatchKey};

/// Changes that are read in one step.
const STEP_EVENTS: usize = 1000;
/// Changes that a block may have, counted once for each topic that they are for.
const BLOCK_PLACES: usize = 1 << 14;
/// Lagging watches that are looked at for one that can go on while history is being read for another.
const LAGGING_TRIED: usize = 16;

/// Who history is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Live,
    Lagging,
}

/// History on its way, or here and not yet used.
pub(super) struct Fetch {
    reader: Reader,
    from: i64,
    with_prev: bool,
    state: FetchState,
}

enum FetchState {
    Reading(Reading<History>),
    Read(Result<History, HistoryError>),
}

/// How an attempt to find something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Something changed; look again.
    Something,
    /// Nothing is there.
    Nothing,
    /// History must be read first; that will wake the task.
    Later,
}

impl Stream {
    /// Makes the next block, when the last was handed out.
    pub(super) fn find_work(&mut self, cx: &mut Context<'_>) -> Found {
        if !self.poll_fetch(cx) {
            self.use_fetched();
            return Found::Something;
        }
        self.lagging_turn = !self.lagging_turn;
        if self.lagging_turn && self.read_lagging() == Found::Something {
            return Found::Something;
        }
        let live = self.read_live();
        self.live_reads_later = live == Found::Later;
        if live == Found::Something || self.lagging_turn {
            return live;
        }
        self.read_lagging()
    }

    /// Lets a read of history go on; false when it has come. Otherwise it will wake the task.
    pub(super) fn poll_fetch(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(fetch) = &mut self.fetch else {
            return true;
        };
        if let FetchState::Reading(reading) = &mut fetch.state {
            let Poll::Ready(read) = reading.as_mut().poll(cx) else {
                return true;
            };
            fetch.state = FetchState::Read(read);
        }
        false
    }

    fn read_live(&mut self) -> Found {
        if self.watches.live() == 0 {
            let last = self.inbox.clear().or(self.taken.back().copied());
            self.taken.clear();
            self.consumed = self.consumed.max(last.unwrap_or(0));
            return Found::Nothing;
        }
        if self.taken.is_empty() {
            match self.inbox.next() {
                Next::Nothing => return Found::Nothing,
                Next::Mark(_) => self.inbox.take_marks(&mut self.taken),
                Next::Unlisted(span) => return self.read_span(span),
            }
        }
        self.read_marks()
    }

    /// A block of marked commits.
    fn read_marks(&mut self) -> Found {
        let mut commits = std::mem::take(&mut self.scratch);
        let mut bytes = 0;
        {
            let ring = self.core.ring();
            while let Some(commit) = self.taken.front().and_then(|mark| ring.get(*mark)) {
                bytes += commit.bytes;
                commits.push(commit.clone());
                self.taken.pop_front();
                if bytes >= self.options.response_bytes || commits.len() >= STEP_EVENTS {
                    break;
                }
            }
        }
        match (
            commits.last().map(|commit| commit.revision),
            self.taken.front(),
        ) {
            (Some(last), _) => {
                let through = self.make_block(Reader::Live, 0, last, &commits, false);
                let left = commits
                    .iter()
                    .rev()
                    .take_while(|commit| commit.revision > through);
                left.for_each(|commit| self.taken.push_front(commit.revision));
            }
            // The ring has gone on.
            (None, Some(&first)) => {
                self.inbox.unlist(first, &mut self.taken);
            }
            (None, None) => {}
        }
        self.give_back(commits);
        Found::Something
    }

    /// A block of everything in a span, for the live watches.
    fn read_span(&mut self, span: Span) -> Found {
        if let Some(through) = self.collect_from_ring(span.first, span.last) {
            let commits = std::mem::take(&mut self.scratch);
            let through = self.make_block(Reader::Live, span.first, through, &commits, false);
            self.inbox.looked_through(through);
            self.give_back(commits);
            return Found::Something;
        }
        self.start_fetch(Reader::Live, span.first);
        Found::Later
    }

    /// A block for the lagging watch whose turn it is, and those near it.
    fn read_lagging(&mut self) -> Found {
        let mut found = Found::Nothing;
        let mut tries = self.watches.lagging().min(LAGGING_TRIED);
        while tries > 0 {
            let Some(key) = self.lagging.pop_front() else {
                break;
            };
            let Some(watch) = self
                .watches
                .get(key)
                .filter(|watch| watch.mode == Mode::Lagging)
            else {
                continue;
            };
            tries -= 1;
            let next = watch.next;
            let compact_revision = self.core.source.compact_revision();
            if next < compact_revision {
                self.end_compacted(key, compact_revision);
                return Found::Something;
            }
            if next > self.core.matched().max(self.consumed) {
                self.watches.set_mode(key, Mode::Live);
                found = Found::Something;
                continue;
            }
            self.lagging.push_back(key);
            if let Some(through) = self.collect_from_ring(next, i64::MAX) {
                let commits = std::mem::take(&mut self.scratch);
                self.make_block(Reader::Lagging, next, through, &commits, false);
                self.give_back(commits);
                return Found::Something;
            }
            self.start_fetch(Reader::Lagging, next);
            if found == Found::Nothing {
                found = Found::Later;
            }
        }
        found
    }

    /// Puts commits of the ring from `from` to at most `to` into `scratch`; the last revision, `None` if the ring does not
    /// have the first.
    fn collect_from_ring(&mut self, from: i64, to: i64) -> Option<i64> {
        let ring = self.core.ring();
        let mut bytes = 0;
        let mut revision = from;
        while let Some(commit) = ring.get(revision).filter(|_| revision <= to) {
            bytes += commit.bytes;
            self.scratch.push(commit.clone());
            revision += 1;
            if bytes >= self.options.response_bytes || self.scratch.len() >= STEP_EVENTS {
                break;
            }
        }
        (revision > from).then_some(revision - 1)
    }

    /// Keeps the vector for the next block, unless it is so large that a stream should not keep it while it rests.
    fn give_back(&mut self, mut commits: Vec<Arc<Commit>>) {
        commits.clear();
        if commits.capacity() <= SPARE_CAPACITY {
            self.scratch = commits;
        }
    }

    /// Starts to read history, unless some is on its way.
    fn start_fetch(&mut self, reader: Reader, from: i64) {
        if self.fetch.is_none() {
            let limits = EventLimits {
                bytes: self.options.response_bytes,
                events: STEP_EVENTS,
                with_prev: self.watches.want_prev(),
            };
            self.fetch = Some(Fetch {
                reader,
                from,
                with_prev: limits.with_prev,
                state: FetchState::Reading(self.core.read_history(from, limits)),
            });
        }
    }

    /// Makes a block of history that has come.
    fn use_fetched(&mut self) {
        let Some(fetch) = self.fetch.take() else {
            return;
        };
        let FetchState::Read(read) = fetch.state else {
            return;
        };
        let (reader, from) = (fetch.reader, fetch.from);
        let mut to = i64::MAX;
        if reader == Reader::Live {
            match self.inbox.next() {
                Next::Unlisted(span) if span.first == from && self.taken.is_empty() => {
                    to = span.last
                }
                // Nobody waits for it any more.
                _ => return,
            }
        }
        match read {
            Ok(history) if self.watches.want_prev() && !fetch.with_prev => {
                // A watch came meanwhile that needs to see more. It is read again.
                drop(history);
            }
            Ok(mut history) => {
                history.commits.retain(|commit| commit.revision <= to);
                let through = history.through.min(to);
                let through = self.make_block(reader, from, through, &history.commits, true);
                if reader == Reader::Live {
                    self.inbox.looked_through(through);
                }
            }
            Err(HistoryError::Compacted(revision)) => self.skip_compacted(reader, revision),
            Err(error) => {
                for key in self.readers_at(reader, from) {
                    self.fail(key, &error);
                }
                if reader == Reader::Live {
                    self.consumed = self.consumed.max(to);
                    self.inbox.looked_through(to);
                }
            }
        }
    }

    /// The watches that cannot go on without the history from `from` on.
    fn readers_at(&self, reader: Reader, from: i64) -> Vec<WatchKey> {
        let wanted = |(key, watch): (WatchKey, &crate::watches::Watch)| {
            let waits = match reader {
                Reader::Live => watch.mode == Mode::Live,
                Reader::Lagging => watch.mode == Mode::Lagging && watch.next == from,
            };
            waits.then_some(key)
        };
        self.watches.iter().filter_map(wanted).collect()
    }

    /// The history that was asked for is compacted at `revision`.
    fn skip_compacted(&mut self, reader: Reader, revision: i64) {
        let mode = match reader {
            Reader::Live => Mode::Live,
            Reader::Lagging => Mode::Lagging,
        };
        let compacted: Vec<_> = self
            .watches
            .iter()
            .filter(|(_, watch)| watch.mode == mode && watch.next < revision)
            .map(|(key, _)| key)
            .collect();
        for key in compacted {
            self.end_compacted(key, revision);
        }
        if reader == Reader::Live {
            self.consumed = self.consumed.max(revision - 1);
            self.inbox.looked_through(revision - 1);
        }
    }

    fn end_compacted(&mut self, key: WatchKey, compact_revision: i64) {
        self.leave_topic(key);
        self.watches.set_mode(key, Mode::Compacted);
        if let Some(watch) = self.watches.get(key) {
            self.verdicts.push_back(Notice::Compacted {
                watch_id: watch.id,
                compact_revision,
            });
        }
    }

    /// Sorts commits out to the watches: all of the store's from `from` to `through` that the reader is interested in.
    /// Takes as many as a block may have, and returns up to where it goes.
    fn make_block(
        &mut self,
        reader: Reader,
        from: i64,
        mut through: i64,
        commits: &[Arc<Commit>],
        held: bool,
    ) -> i64 {
        let Self {
            block,
            topics,
            watches,
            ..
        } = self;
        block.begin(held);
        for commit in commits {
            block.add(commit, topics);
            if block.places() >= BLOCK_PLACES {
                through = commit.revision;
                break;
            }
        }
        let events = match reader {
            Reader::Live => block.seal(through, topics, |key| {
                let watch = watches.get(key)?;
                (watch.mode == Mode::Live && watch.next <= through).then_some(watch.next)
            }),
            Reader::Lagging => {
                let near = from..=through;
                let events = block.seal(through, topics, |key| {
                    let watch = watches.get(key)?;
                    (watch.mode == Mode::Lagging && near.contains(&watch.next))
                        .then_some(watch.next)
                });
                for key in &self.lagging {
                    if let Some(watch) = watches.get_mut(*key)
                        && watch.mode == Mode::Lagging
                        && near.contains(&watch.next)
                    {
                        watch.next = through + 1;
                    }
                }
                events
            }
        };
        self.tally_pending(events as i64);
        if reader == Reader::Live {
            self.consumed = self.consumed.max(through);
        }
        through
    }
}
