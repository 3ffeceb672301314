//! The log as openraft wants it: an adapter over [`crate::wal`].
//!
//! Promises that openraft's core never waits for the disk here, but for a vote and when more is queued
//! than the log takes. Must not know how the log keeps its files.

mod stream;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};

use bytes::Bytes;
use futures::Stream;
use openraft::storage::LeaderBoundedStreamResult;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::alias::LeaderIdOf;
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::types::{self, Entry, LogId, TypeConfig, Vote};
use crate::wal::{self, Position, Wal};

use stream::Entries;

/// Bytes of entries that go into one message to a follower, and are read from files at once.
const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes of entries that may wait for the disk before openraft waits too.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// The raft log of a member; clones are the same log.
#[derive(Debug, Clone)]
pub struct LogStore {
    wal: Wal<Entry>,
}

impl LogStore {
    /// Opens the log, or begins one in an empty directory.
    ///
    /// # Errors
    /// As [`Wal::open`]: a damaged log is refused and left as it is.
    pub fn open(options: wal::Options) -> Result<Self, wal::Error> {
        Ok(Self {
            wal: Wal::open(options)?,
        })
    }

    /// Whether the log has room to go on. When it is [`wal::Space::Full`], new commands must be refused.
    #[must_use]
    pub fn space(&self) -> wal::Space {
        self.wal.space()
    }

    /// Bytes written since the log was opened.
    #[must_use]
    pub fn bytes_appended(&self) -> u64 {
        self.wal.metrics().bytes
    }

    /// Bytes of log that are kept.
    #[must_use]
    pub fn bytes_kept(&self) -> u64 {
        self.wal.kept_bytes()
    }

    /// The index up to which the log may be purged so that about `bytes` of it are kept; none when it is
    /// not longer.
    #[must_use]
    pub fn purge_point(&self, bytes: u64) -> Option<u64> {
        self.wal.purge_point(bytes)
    }

    /// The index of the last entry that has been purged, if any has.
    pub(crate) fn purged(&self) -> Option<u64> {
        self.wal.history().purged.map(|at| at.index)
    }

    /// Counters since the log was opened.
    #[must_use]
    pub fn metrics(&self) -> wal::Metrics {
        self.wal.metrics()
    }

    /// How long records took since the log was opened.
    #[must_use]
    pub fn times(&self) -> wal::Times {
        self.wal.times()
    }

    /// Waits until everything queued before is durable.
    async fn settle(&self) -> io::Result<()> {
        let (sender, done) = oneshot::channel();
        self.wal
            .barrier(Box::new(|result| drop(sender.send(result))))?;
        Ok(done.await.map_err(|_| wal::Error::Closed)??)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let history = self.wal.history();
        Ok(LogState {
            last_purged_log_id: history.purged.map(log_id),
            last_log_id: history.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader {
            wal: self.wal.clone(),
        }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = wal::Vote {
            term: vote.leader_id.term,
            member: vote.leader_id.voted_for,
            granted: vote.committed,
        };
        let (sender, done) = oneshot::channel();
        self.wal
            .save_vote(vote, Box::new(|result| drop(sender.send(result))))?;
        Ok(done.await.map_err(|_| wal::Error::Closed)??)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(at) => Ok(self.wal.save_committed(position(at))?),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.wal.history().committed.map(log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if self.wal.pending_bytes() > PENDING_BYTES_MAX {
            self.settle().await?;
        }
        let done = Box::new(|result: Result<(), wal::Error>| {
            callback.io_completed(result.map_err(Into::into))
        });
        Ok(self.wal.append(entries, done)?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.wal.truncate_after(last_log_id.map(position))?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        Ok(self.wal.purge(position(log_id))?)
    }
}

/// Reads the log of a [`LogStore`].
#[derive(Debug, Clone)]
pub struct LogReader {
    wal: Wal<Entry>,
}

impl LogReader {
    /// Runs `read` here when it does no I/O, otherwise where it may block.
    async fn read(
        &self,
        from: u64,
        read: impl FnOnce(&Wal<Entry>) -> Result<Vec<Entry>, wal::Error> + Send + 'static,
    ) -> Result<Vec<Entry>, io::Error> {
        if from >= self.wal.cached_from() {
            return Ok(read(&self.wal)?);
        }
        let wal = self.wal.clone();
        let entries = tokio::task::spawn_blocking(move || read(&wal)).await;
        Ok(entries.map_err(io::Error::other)??)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Entries::new(self.wal.clone(), indexes(&range)).bounded(leader)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Entries::new(self.wal.clone(), indexes(&range))
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = indexes(&range);
        self.read(range.start, move |wal| wal.read(range)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.wal.vote().map(raft_vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, move |wal| wal.read_some(start..end, READ_BYTES_MAX))
            .await
    }

    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogId>,
    ) -> Result<Vec<LogId>, io::Error> {
        let (first, last) = (range.start().index, range.end().index);
        let history = self.wal.history();
        let ends = history.last_of_terms().scan(false, |ended, at| {
            let within = !*ended;
            *ended = at.index >= last;
            within.then(|| Position {
                index: at.index.min(last),
                ..at
            })
        });
        Ok(ends.filter(|at| at.index >= first).map(log_id).collect())
    }
}

impl wal::Entry for Entry {
    fn position(&self) -> Position {
        position(self.log_id)
    }

    fn byte_len(&self) -> usize {
        match &self.payload {
            EntryPayload::Normal(proposal) => proposal.byte_len(),
            _ => types::encode_entry(self).len(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&types::encode_entry(self));
    }

    fn decode(position: Position, bytes: Bytes) -> Result<Self, String> {
        types::decode_entry(log_id(position), bytes).map_err(|error| error.to_string())
    }
}

fn position(id: LogId) -> Position {
    Position {
        term: id.committed_leader_id().term,
        index: id.index,
    }
}

fn log_id(at: Position) -> LogId {
    types::log_id(at.term, at.index)
}

fn raft_vote(vote: wal::Vote) -> Vote {
    let wal::Vote {
        term,
        member,
        granted,
    } = vote;
    if granted {
        Vote::new_committed(term, member)
    } else {
        Vote::new(term, member)
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
