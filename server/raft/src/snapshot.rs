//! The state of a member on its way to another one.
//!
//! A snapshot is every row of the engine at one batch boundary, read from a pinned view in key order and
//! cut into numbered, checksummed chunks. The receiver writes them into a staged engine as they come; a transfer
//! that breaks goes on behind the last chunk that arrived. Neither side stops serving.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use metastore_engine::{Batch, Space, View};
use metastore_proto::peerpb::{SnapshotChunk, SnapshotHeader, SnapshotProgressRequest};
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::group::Group;
use crate::peers::Client;
use crate::state_directory::{Staged, StateDirectory};
use crate::types::{self, SnapshotMeta, TypeConfig, Vote};
use crate::wire;

type C = TypeConfig;

const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;
const FORMAT: u32 = 1;
/// How long a pinned state is kept for a transfer to be resumed.
const PIN_KEPT: Duration = Duration::from_secs(300);

/// What openraft carries as a snapshot.
pub(crate) enum SnapshotData {
    /// Only a position: this member's durable state, for purging the log.
    Position,
    /// A state to be sent.
    Pinned(Arc<Pinned>),
    /// A state that has been received.
    Received(Staged),
}

/// A state held for sending.
pub(crate) struct Pinned {
    pub(crate) id: u64,
    pub(crate) since: Instant,
    pub(crate) meta: SnapshotMeta,
    pub(crate) engine: &'static str,
    pub(crate) view: Mutex<Box<dyn View>>,
}

impl Pinned {
    /// True while a broken transfer may still be resumed from it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.since.elapsed() < PIN_KEPT
    }
}

/// Sends a pinned state; resolves with the receiver's vote once it is installed there.
pub(crate) async fn send(
    mut client: Client,
    vote: Vote,
    snapshot: Snapshot<types::CommittedLeaderId, u64, types::PeerNode, SnapshotData>,
) -> Result<Vote, Status> {
    let SnapshotData::Pinned(pinned) = snapshot.snapshot else {
        return Err(Status::internal(
            "a snapshot without a state cannot be sent",
        ));
    };
    let question = SnapshotProgressRequest {
        snapshot_id: pinned.id,
    };
    let skip = client
        .snapshot_progress(question)
        .await?
        .into_inner()
        .chunks;
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let header = SnapshotHeader {
        format: FORMAT,
        vote: Some(wire::vote(&vote)),
        snapshot_id: pinned.id,
        last: pinned.meta.last_log_id.map(wire::log_id),
        membership: types::encode_stored_membership(&pinned.meta.last_membership).into(),
        engine: pinned.engine.to_owned(),
    };
    tokio::task::spawn_blocking(move || read_chunks(&pinned, header, skip, &sender));
    let response = client
        .snapshot(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    Ok(wire::from_vote(response.vote)?)
}

/// Cuts rows into chunks and hands on those behind `skip`.
struct Cutter<'a> {
    sender: &'a mpsc::Sender<SnapshotChunk>,
    rows: Vec<u8>,
    number: u64,
    skip: u64,
    header: Option<SnapshotHeader>,
}

impl Cutter<'_> {
    fn row(&mut self, space: Space, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        self.rows.push(space as u8);
        self.rows
            .extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.rows
            .extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.rows.extend_from_slice(key);
        self.rows.extend_from_slice(value);
        if self.rows.len() >= CHUNK_BYTES {
            self.cut(false)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn cut(&mut self, last: bool) -> ControlFlow<()> {
        let rows = Bytes::from(std::mem::take(&mut self.rows));
        let number = self.number;
        self.number += 1;
        if number < self.skip && !last {
            return ControlFlow::Continue(());
        }
        let checksum = crc32c::crc32c(&rows);
        let chunk = SnapshotChunk {
            header: self.header.take(),
            rows,
            checksum,
            number,
            last,
        };
        match self.sender.blocking_send(chunk) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

fn read_chunks(
    pinned: &Pinned,
    header: SnapshotHeader,
    skip: u64,
    sender: &mpsc::Sender<SnapshotChunk>,
) {
    let view = pinned.view.lock();
    let mut cutter = Cutter {
        sender,
        rows: Vec::with_capacity(CHUNK_BYTES),
        number: 0,
        skip,
        header: Some(header),
    };
    for space in Space::ALL {
        let mut broken = false;
        let scanned = view.scan(space, &[], None, &mut |key, value| {
            let flow = cutter.row(space, key, value);
            broken = flow.is_break();
            flow
        });
        if let Err(error) = scanned {
            tracing::error!(error = %error, "reading a snapshot failed");
            return;
        }
        if broken {
            return;
        }
    }
    let _ = cutter.cut(true);
}

/// A state that is arriving.
struct Arriving {
    snapshot_id: u64,
    staged: Staged,
    chunks: u64,
}

/// Takes states in from other members, one at a time.
pub(crate) struct Receiver {
    directory: Arc<StateDirectory>,
    arriving: Mutex<Option<Arriving>>,
    busy: tokio::sync::Mutex<()>,
}

impl Receiver {
    pub(crate) fn new(directory: Arc<StateDirectory>) -> Self {
        Self {
            directory,
            arriving: Mutex::default(),
            busy: tokio::sync::Mutex::default(),
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

    /// Takes a state in and installs it.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        group: &Group,
        chunks: impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
    ) -> Result<Vote, Status> {
        use futures::StreamExt;
        let _one = self
            .busy
            .try_lock()
            .map_err(|_| Status::aborted("another snapshot is being received"))?;
        let mut chunks = chunks;
        let first = chunks
            .next()
            .await
            .ok_or_else(|| Status::invalid_argument("empty snapshot"))??;
        let header = first
            .header
            .clone()
            .ok_or_else(|| Status::invalid_argument("snapshot without header"))?;
        self.begin(&header)?;
        let mut next = Some(first);
        while let Some(chunk) = next {
            let last = chunk.last;
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.store(&chunk))
                .await
                .map_err(|error| Status::internal(error.to_string()))??;
            if last {
                return self.install(group, header).await;
            }
            group.shared.hear_leader();
            next = chunks.next().await.transpose()?;
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
        });
        Ok(())
    }

    fn store(&self, chunk: &SnapshotChunk) -> Result<(), Status> {
        let mut arriving = self.arriving.lock();
        let arriving = arriving
            .as_mut()
            .ok_or_else(|| Status::aborted("no snapshot is arriving"))?;
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

    async fn install(&self, group: &Group, header: SnapshotHeader) -> Result<Vote, Status> {
        let arriving = self.arriving.lock().take();
        let Arriving { staged, .. } =
            arriving.ok_or_else(|| Status::aborted("no snapshot has arrived"))?;
        let engine = staged.engine.clone();
        tokio::task::spawn_blocking(move || engine.flush())
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
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

/// Space, key and value of the first row, and the rows behind it.
type Row<'r> = (Space, &'r [u8], &'r [u8], &'r [u8]);

fn row(rows: &[u8]) -> Option<Row<'_>> {
    let (&number, rows) = rows.split_first()?;
    let (key_length, rows) = rows.split_first_chunk::<4>()?;
    let (value_length, rows) = rows.split_first_chunk::<4>()?;
    let (key, rows) = rows.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let (value, rest) = rows.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some((*Space::ALL.get(number as usize)?, key, value, rest))
}

/// The answer type of openraft's snapshot calls, for short.
pub(crate) type SnapshotOf = openraft::type_config::alias::SnapshotOf<C, SnapshotData>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_way_and_a_cut_row_is_refused() {
        let (sender, mut receiver) = mpsc::channel(4);
        let mut cutter = Cutter {
            sender: &sender,
            rows: Vec::new(),
            number: 0,
            skip: 0,
            header: None,
        };
        assert!(cutter.row(Space::Meta, b"key", b"value").is_continue());
        assert!(cutter.row(Space::System, b"", b"").is_continue());
        assert!(cutter.cut(true).is_continue());
        let chunk = receiver.try_recv().expect("a chunk");
        let batch = rows_to_batch(&chunk.rows).expect("whole rows");
        assert_eq!(batch.len(), 2);
        for cut in 1..chunk.rows.len() {
            let partial = rows_to_batch(&chunk.rows[..cut]);
            assert!(partial.is_err() || cut == 1 + 4 + 4 + 3 + 5, "cut at {cut}");
        }
    }
}
