//! Which streams are interested in which keys, and the step that tells them of commits.
//!
//! Promises: each change is matched once, whatever the number of streams and watches; a stream is told of a revision
//! once. Must not know watches: a stream sorts out by itself which of them a change is for.

use std::sync::Arc;
use std::task::Waker;

use crate::block::SPARE_CAPACITY;
use crate::history::Commit;
use crate::inbox::{Inbox, Span};
use crate::key_range::KeyRange;
use crate::topics::Topics;

/// A stream's place in the registry; reused after it left.
pub(crate) type StreamId = u32;

/// All streams of a hub and what they are interested in.
#[derive(Debug)]
pub(crate) struct Registry {
    topics: Topics<Interest>,
    streams: Vec<Option<Entry>>,
    free: Vec<StreamId>,
    /// Streams with marks not yet put into their inbox.
    touched: Vec<StreamId>,
    /// Streams that want to be woken when everything up to a revision was matched.
    waiting: Vec<(i64, Arc<Inbox>)>,
}

#[derive(Debug, Default)]
struct Interest {
    streams: Vec<StreamId>,
    /// The revision that they were marked with last.
    marked: i64,
}

#[derive(Debug)]
struct Entry {
    inbox: Arc<Inbox>,
    marks: Vec<i64>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            topics: Topics::new(),
            streams: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Whether nobody is interested in anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn join(&mut self, inbox: Arc<Inbox>) -> StreamId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.streams.push(None);
            u32::try_from(self.streams.len() - 1).expect("fewer streams than 2^32")
        });
        self.streams[id as usize] = Some(Entry {
            inbox,
            marks: Vec::new(),
        });
        id
    }

    /// Forgets a stream, whose interests have ended.
    pub(crate) fn leave(&mut self, id: StreamId) {
        self.streams[id as usize] = None;
        self.free.push(id);
    }

    /// Notes an interest that the stream has not had.
    pub(crate) fn subscribe(&mut self, id: StreamId, range: KeyRange) {
        let topic = match self.topics.find(&range) {
            Some(topic) => topic,
            None => self.topics.insert(range, Interest::default()),
        };
        if let Some(interest) = self.topics.get_mut(topic) {
            interest.streams.push(id);
        }
    }

    /// Ends an interest.
    pub(crate) fn unsubscribe(&mut self, id: StreamId, range: &KeyRange) {
        let Some(topic) = self.topics.find(range) else {
            return;
        };
        let Some(interest) = self.topics.get_mut(topic) else {
            return;
        };
        if let Some(at) = interest.streams.iter().position(|stream| *stream == id) {
            interest.streams.swap_remove(at);
        }
        if interest.streams.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// Notes which streams a commit is for.
    pub(crate) fn match_commit(&mut self, commit: &Commit) {
        let Self {
            topics,
            streams,
            touched,
            ..
        } = self;
        for change in &commit.changes {
            topics.hits(change.key(), |_, interest| {
                if interest.marked == commit.revision {
                    return;
                }
                interest.marked = commit.revision;
                for &id in &interest.streams {
                    let Some(entry) = &mut streams[id as usize] else {
                        continue;
                    };
                    if entry.marks.is_empty() {
                        touched.push(id);
                    }
                    if entry.marks.last() != Some(&commit.revision) {
                        entry.marks.push(commit.revision);
                    }
                }
            });
        }
    }

    /// Puts the marks into the inboxes; adds whom to wake to `wakers`.
    pub(crate) fn deliver(&mut self, wakers: &mut Vec<Waker>) {
        for id in self.touched.drain(..) {
            if let Some(entry) = &mut self.streams[id as usize] {
                wakers.extend(entry.inbox.mark(&entry.marks));
                entry.marks.clear();
                entry.marks.shrink_to(SPARE_CAPACITY);
            }
        }
    }

    /// Tells every stream to look through revisions that could not be matched.
    pub(crate) fn deliver_unmatched(&mut self, span: Span, wakers: &mut Vec<Waker>) {
        for entry in self.streams.iter().flatten() {
            wakers.extend(entry.inbox.mark_unmatched(span));
        }
    }

    /// Has a stream woken once `revision` is matched.
    pub(crate) fn wait_for(&mut self, revision: i64, inbox: Arc<Inbox>) {
        self.waiting.push((revision, inbox));
    }

    /// Adds those who waited for a revision up to `matched` to `wakers`.
    pub(crate) fn end_waits(&mut self, matched: i64, wakers: &mut Vec<Waker>) {
        self.waiting.retain(|(revision, inbox)| {
            let waits = *revision > matched;
            if !waits {
                wakers.extend(inbox.waker());
            }
            waits
        });
    }

    pub(crate) fn inboxes(&self) -> impl Iterator<Item = &Arc<Inbox>> {
        self.streams.iter().flatten().map(|entry| &entry.inbox)
    }
}
