//! Entries of the log one after the other, read in portions.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{io, vec};

use futures::Stream;
use openraft::errors::LeaderChanged;
use openraft::storage::{LeaderBoundedStreamError, LeaderBoundedStreamResult};
use openraft::type_config::alias::LeaderIdOf;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::types::{Entry, TypeConfig};
use crate::wal::{self, Wal};

use super::{READ_BYTES_MAX, raft_vote};

/// Entries copied while the log is locked.
const COPY_MAX: u64 = 256;

/// The entries of a range, as far as the log has them. What is not in memory is read where it may
/// block.
pub(super) struct Entries {
    wal: Wal<Entry>,
    left: Range<u64>,
    portion: vec::IntoIter<Entry>,
    reading: Option<JoinHandle<Result<Vec<Entry>, wal::Error>>>,
}

impl Entries {
    pub(super) fn new(wal: Wal<Entry>, range: Range<u64>) -> Self {
        let first = wal.first_index().unwrap_or(u64::MAX);
        let left = range.start.max(first)..range.end;
        Self {
            wal,
            left,
            portion: Vec::new().into_iter(),
            reading: None,
        }
    }

    /// Ends with an error as soon as the vote is no longer the granted one of `leader`.
    pub(super) fn bounded(self, leader: LeaderIdOf<TypeConfig>) -> Bounded {
        Bounded {
            entries: self,
            leader,
            ended: false,
        }
    }

    fn portion(&mut self, read: Result<Vec<Entry>, wal::Error>) -> io::Result<bool> {
        let entries = read.inspect_err(|_| self.left = 0..0)?;
        self.left.start += entries.len() as u64;
        self.portion = entries.into_iter();
        Ok(self.portion.len() > 0)
    }
}

impl Stream for Entries {
    type Item = Result<Entry, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(entry) = this.portion.next() {
                return Poll::Ready(Some(Ok(entry)));
            }
            if this.left.is_empty() {
                return Poll::Ready(None);
            }
            let read = if let Some(reading) = &mut this.reading {
                let read = ready!(Pin::new(reading).poll(context));
                this.reading = None;
                match read {
                    Ok(read) => read,
                    Err(panicked) => {
                        this.left = 0..0;
                        return Poll::Ready(Some(Err(io::Error::other(panicked))));
                    }
                }
            } else if this.left.start >= this.wal.cached_from() {
                let next =
                    this.left.start..this.left.end.min(this.left.start.saturating_add(COPY_MAX));
                this.wal.read_some(next, READ_BYTES_MAX)
            } else {
                let (wal, left) = (this.wal.clone(), this.left.clone());
                this.reading = Some(spawn_blocking(move || wal.read_some(left, READ_BYTES_MAX)));
                continue;
            };
            match this.portion(read) {
                Ok(true) => {}
                // The log ends before the range does.
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// [`Entries`] for as long as one leader leads.
pub(super) struct Bounded {
    entries: Entries,
    leader: LeaderIdOf<TypeConfig>,
    ended: bool,
}

impl Stream for Bounded {
    type Item = LeaderBoundedStreamResult<TypeConfig>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut self.entries).poll_next(context));
        // After the reading: entries of the log before it was truncated are not the leader's.
        let vote = self.entries.wal.vote().map(raft_vote);
        if vote.is_none_or(|vote| vote.leader_id != self.leader || !vote.committed) {
            self.ended = true;
            let changed = LeaderChanged::new(self.leader, vote);
            return Poll::Ready(Some(Err(LeaderBoundedStreamError::LeaderChanged(changed))));
        }
        Poll::Ready(next.map(|entry| entry.map_err(LeaderBoundedStreamError::IoError)))
    }
}
