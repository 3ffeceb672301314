//! Handing out a block, watch by watch.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::Stream;
use crate::block::{Lack, Ready};
use crate::history::{Commit, HistoryError};
use crate::notice::Notice;
use crate::payload::Payload;
use crate::watches::{Mode, WatchKey};

/// What a watch response has beside its events, at most: the header with four numbers, the watch id, a flag.
const RESPONSE_OVERHEAD: usize = 64;

/// What is left of a response that is being sent in fragments.
#[derive(Debug)]
pub(super) struct Fragments {
    pub(super) watch: WatchKey,
    watch_id: i64,
    revision: i64,
    rest: Payload,
}

impl Stream {
    /// The next notice of the block; `None` when all of it was handed out.
    pub(super) fn hand_out(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        if let Some(fragments) = self.fragments.take() {
            return Poll::Ready(Some(self.next_fragment(fragments)));
        }
        if let Some(reading) = &mut self.prevs {
            let Poll::Ready(read) = reading.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            self.prevs = None;
            if let (Err(error), Some(ready)) = (read, self.block.front()) {
                self.fail(ready.watch, &error);
            }
        }
        while let Some(ready) = self.block.front() {
            match self.payload(ready) {
                Ok(payload) => {
                    let pending = self.block.pop();
                    self.tally_pending(-(pending as i64));
                    if let Some(payload) = payload {
                        return Poll::Ready(self.events(ready.watch, payload));
                    }
                }
                Err(Lack::Commits(revision)) => {
                    let pending = self.block.pop();
                    self.tally_pending(-(pending as i64));
                    self.fall_behind(ready.watch, revision);
                }
                Err(Lack::Prevs(changes)) => return self.look_up_prevs(changes, cx),
            }
        }
        Poll::Ready(None)
    }

    fn payload(&mut self, ready: Ready) -> Result<Option<Payload>, Lack> {
        let Some(watch) = self.watches.get(ready.watch) else {
            return Ok(None);
        };
        if watch.mode == Mode::Compacted {
            return Ok(None);
        }
        if let Some(shared) = self.block.shared_payload(ready, watch) {
            return Ok(shared);
        }
        let no_prev_until = self.core.source.compact_revision();
        self.block
            .make_payload(ready, watch, no_prev_until, &self.core.ring())
    }

    fn look_up_prevs(
        &mut self,
        changes: Vec<(Arc<Commit>, u32)>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Notice>> {
        self.prevs = Some(self.core.look_up_prevs(changes));
        self.hand_out(cx)
    }

    fn events(&mut self, key: WatchKey, payload: Payload) -> Option<Notice> {
        let revision = self.block.through();
        self.progress.note_told(revision);
        let watch = self.watches.get_mut(key)?;
        if let Some(tell) = &mut watch.tell_progress {
            *tell = false;
        }
        let watch_id = watch.id;
        let limit = self
            .options
            .fragment_bytes
            .saturating_sub(RESPONSE_OVERHEAD);
        if watch.fragment && payload.encoded_len() >= limit {
            return Some(self.next_fragment(Fragments {
                watch: key,
                watch_id,
                revision,
                rest: payload,
            }));
        }
        self.tally_events(payload.count());
        Some(Notice::Events {
            watch_id,
            revision,
            events: payload,
            fragment: false,
        })
    }

    fn next_fragment(&mut self, fragments: Fragments) -> Notice {
        let limit = self
            .options
            .fragment_bytes
            .saturating_sub(RESPONSE_OVERHEAD);
        let (events, rest) = fragments.rest.split(limit);
        let (watch_id, revision) = (fragments.watch_id, fragments.revision);
        let fragment = rest.is_some();
        self.fragments = rest.map(|rest| Fragments { rest, ..fragments });
        self.tally_events(events.count());
        Notice::Events {
            watch_id,
            revision,
            events,
            fragment,
        }
    }

    /// The ring has forgotten what a watch needs from `revision` on: it goes its own way from there.
    fn fall_behind(&mut self, key: WatchKey, revision: i64) {
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        watch.next = revision;
        if watch.mode == Mode::Live {
            self.watches.set_mode(key, Mode::Lagging);
            self.lagging.push_back(key);
        }
    }

    /// Ends a watch since the store failed.
    pub(super) fn fail(&mut self, key: WatchKey, error: &HistoryError) {
        let Some(watch_id) = self.watches.get(key).map(|watch| watch.id) else {
            return;
        };
        let reason = match error {
            HistoryError::Failed(reason) => reason.clone(),
            HistoryError::Compacted(revision) => format!("compacted at revision {revision}"),
        };
        self.remove(key);
        self.verdicts.push_back(Notice::Cancelled {
            watch_id,
            revision: self.core.source.revision(),
            reason,
        });
    }
}
