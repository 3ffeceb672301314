//! Takes states in from other members.
//!
//! One at a time: a transfer that begins ends the one before, which may be waiting on a connection that is dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use metastore_engine::Batch;
use metastore_proto::peerpb::{SnapshotChunk, SnapshotHeader};
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;

use super::cutter::row;
use super::{FORMAT, SnapshotData};
use crate::group::Group;
use crate::state_directory::{Staged, StateDirectory};
use crate::types::{self, SnapshotMeta, Vote};
use crate::wire;

/// How long the next chunk may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(60);
/// How long what has arrived is kept for a broken transfer to go on.
const ARRIVED_KEPT: Duration = Duration::from_secs(600);

/// A state that is arriving.
struct Arriving {
    snapshot_id: u64,
    staged: Staged,
    chunks: u64,
    heard: Instant,
}

/// Takes states in from other members, one at a time.
pub(crate) struct Receiver {
    directory: Arc<StateDirectory>,
    arriving: Mutex<Option<Arriving>>,
    busy: tokio::sync::Mutex<()>,
    /// The number of the newest transfer; older ones end.
    newest: watch::Sender<u64>,
}

impl Receiver {
    pub(crate) fn new(directory: Arc<StateDirectory>) -> Self {
        Self {
            directory,
            arriving: Mutex::default(),
            busy: tokio::sync::Mutex::default(),
            newest: watch::Sender::default(),
        }
    }

    /// Chunks of this snapshot that are here already.
    pub(crate) fn progress(&self, snapshot_id: u64) -> u64 {
        match &*self.arriving.lock() {
            Some(arriving) if arriving.snapshot_id == snapshot_id => arriving.chunks,
            _ => 0,
        }
    }

    /// True while a state is arriving or being installed.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.try_lock().is_err()
    }

    /// Forgets a state of which nothing has been heard for long. To be called now and then; may block on the disk.
    pub(crate) fn expire(&self) {
        if !self.is_busy() {
            self.arriving
                .lock()
                .take_if(|arriving| arriving.heard.elapsed() > ARRIVED_KEPT);
        }
    }

    /// Takes a state in and installs it.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        group: &Group,
        mut chunks: impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
    ) -> Result<Vote, Status> {
        let mut newest = self.newest.subscribe();
        self.newest.send_modify(|number| *number += 1);
        let mine = *newest.borrow_and_update();
        let _one = self.busy.lock().await;
        if *newest.borrow() != mine {
            return Err(superseded());
        }
        let since = Instant::now();
        let first = next_chunk(&mut chunks, &mut newest).await?;
        let first = first.ok_or_else(|| Status::invalid_argument("empty snapshot"))?;
        let header = first
            .header
            .clone()
            .ok_or_else(|| Status::invalid_argument("snapshot without header"))?;
        let (this, begun) = (self.clone(), header.clone());
        blocking(move || this.begin(&begun)).await?;
        let mut next = Some(first);
        while let Some(chunk) = next {
            let last = chunk.last;
            let this = self.clone();
            blocking(move || this.store(&chunk)).await?;
            if last {
                return self.install(group, header, since).await;
            }
            group.shared.hear_leader();
            next = next_chunk(&mut chunks, &mut newest).await?;
        }
        Err(Status::aborted("the snapshot ended before its last chunk"))
    }

    fn begin(&self, header: &SnapshotHeader) -> Result<(), Status> {
        if header.format != FORMAT {
            return Err(Status::failed_precondition(format!(
                "snapshot format {} is not {FORMAT}",
                header.format
            )));
        }
        let kind = self.directory.kind().name();
        if header.engine != kind {
            return Err(Status::failed_precondition(format!(
                "snapshot of engine {} is not {kind}",
                header.engine
            )));
        }
        let mut arriving = self.arriving.lock();
        if arriving
            .as_ref()
            .is_some_and(|arriving| arriving.snapshot_id == header.snapshot_id)
        {
            return Ok(());
        }
        *arriving = None;
        let staged = self
            .directory
            .stage()
            .map_err(|error| Status::internal(error.to_string()))?;
        *arriving = Some(Arriving {
            snapshot_id: header.snapshot_id,
            staged,
            chunks: 0,
            heard: Instant::now(),
        });
        Ok(())
    }

    fn store(&self, chunk: &SnapshotChunk) -> Result<(), Status> {
        let mut arriving = self.arriving.lock();
        let arriving = arriving
            .as_mut()
            .ok_or_else(|| Status::aborted("no snapshot is arriving"))?;
        arriving.heard = Instant::now();
        if chunk.number < arriving.chunks {
            return Ok(());
        }
        if chunk.number > arriving.chunks {
            return Err(Status::data_loss(format!(
                "chunk {} after {}",
                chunk.number, arriving.chunks
            )));
        }
        if crc32c::crc32c(&chunk.rows) != chunk.checksum {
            return Err(Status::data_loss(format!(
                "chunk {} is damaged",
                chunk.number
            )));
        }
        let batch = rows_to_batch(&chunk.rows)?;
        arriving
            .staged
            .engine
            .write(&batch)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        arriving.chunks += 1;
        Ok(())
    }

    async fn install(
        &self,
        group: &Group,
        header: SnapshotHeader,
        since: Instant,
    ) -> Result<Vote, Status> {
        let arriving = self.arriving.lock().take();
        let Arriving { staged, .. } =
            arriving.ok_or_else(|| Status::aborted("no snapshot has arrived"))?;
        let engine = staged.engine.clone();
        let before = Instant::now();
        blocking(move || {
            let flushed = engine.flush();
            flushed.map_err(|error| Status::resource_exhausted(error.to_string()))
        })
        .await?;
        let tally = &group.shared.tally;
        tally.state_sync.observe_time(before.elapsed());
        tally.state_saving.observe_time(since.elapsed());
        let _installing = tally.install();
        let membership = types::decode_stored_membership(&header.membership)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let meta = SnapshotMeta {
            last_log_id: header.last.map(wire::from_log_id),
            last_membership: membership,
        };
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotData::Received(staged),
        };
        let vote = wire::from_vote(header.vote)?;
        let response = group.raft.install_full_snapshot(vote, snapshot).await;
        Ok(response
            .map_err(|error| Status::unavailable(error.to_string()))?
            .vote)
    }
}

/// The next chunk, unless it takes too long or another transfer has begun.
async fn next_chunk(
    chunks: &mut (impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin),
    newest: &mut watch::Receiver<u64>,
) -> Result<Option<SnapshotChunk>, Status> {
    tokio::select! {
        chunk = chunks.next() => chunk.transpose(),
        _ = newest.changed() => Err(superseded()),
        () = tokio::time::sleep(CHUNK_PATIENCE) => Err(Status::aborted("the next chunk did not come")),
    }
}

fn superseded() -> Status {
    Status::aborted("another transfer has begun")
}

/// Runs what may block on the disk where it may.
async fn blocking(
    work: impl FnOnce() -> Result<(), Status> + Send + 'static,
) -> Result<(), Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
}

fn rows_to_batch(mut rows: &[u8]) -> Result<Batch, Status> {
    let mut batch = Batch::with_capacity(rows.len() + rows.len() / 8);
    while !rows.is_empty() {
        let (space, key, value, rest) =
            row(rows).ok_or_else(|| Status::data_loss("a row is cut short"))?;
        batch.put(space, key, value);
        rows = rest;
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_cut_short_is_refused() {
        let mut rows = vec![1];
        rows.extend_from_slice(&3_u32.to_le_bytes());
        rows.extend_from_slice(&5_u32.to_le_bytes());
        rows.extend_from_slice(b"keyvalue");
        assert_eq!(rows_to_batch(&rows).expect("a whole row").len(), 1);
        for cut in 1..rows.len() {
            assert!(rows_to_batch(&rows[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_transfer_that_begins_ends_the_one_before() {
        let newest = watch::Sender::new(1_u64);
        let mut follow = newest.subscribe();
        let mut silent = futures::stream::pending();
        let waiting = next_chunk(&mut silent, &mut follow);
        newest.send_modify(|number| *number += 1);
        assert_eq!(
            waiting.await.expect_err("ended").code(),
            tonic::Code::Aborted
        );
    }
}
