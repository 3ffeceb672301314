//! The state of a member on its way to another one.
//!
//! A snapshot is every row of the engine at one batch boundary, read from a pinned view in key order and
//! cut into numbered, checksummed chunks. The receiver writes them into a staged engine as they come; a transfer
//! that breaks goes on behind the last chunk that arrived. Neither side stops serving.

mod cutter;
mod pins;
mod receiver;

use std::sync::Arc;

use metastore_proto::peerpb::{SnapshotHeader, SnapshotProgressRequest};
use openraft::storage::Snapshot;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::peers::Client;
use crate::state_directory::Staged;
use crate::types::{self, TypeConfig, Vote};
use crate::wire;

pub(crate) use pins::{Pinned, Pins};
pub(crate) use receiver::Receiver;

use cutter::read_chunks;
use pins::Transfer;

type C = TypeConfig;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;
const FORMAT: u32 = 1;

/// What openraft carries as a snapshot.
pub(crate) enum SnapshotData {
    /// Only a position: this member's durable state, for purging the log.
    Position,
    /// A state to be sent.
    Pinned(Arc<Pinned>),
    /// A state that has been received.
    Received(Staged),
}

/// The answer type of openraft's snapshot calls, for short.
pub(crate) type SnapshotOf = openraft::type_config::alias::SnapshotOf<C, SnapshotData>;

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
    // From the receiver's first answer until it is installed there: the log behind it is kept as long.
    let _transfer = Transfer::begin(pinned.clone());
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let header = SnapshotHeader {
        format: FORMAT,
        vote: Some(wire::vote(&vote)),
        snapshot_id: pinned.id,
        last: pinned.meta.last_log_id.map(wire::log_id),
        membership: types::encode_stored_membership(&pinned.meta.last_membership).into(),
        engine: pinned.engine.to_owned(),
    };
    tracing::info!(
        snapshot = format!("{:x}", pinned.id),
        last = ?pinned.meta.last_log_id,
        skip,
        "sending a snapshot"
    );
    tokio::task::spawn_blocking(move || read_chunks(&pinned, header, skip, &sender));
    let response = client
        .snapshot(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    Ok(wire::from_vote(response.vote)?)
}
