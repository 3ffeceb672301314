//! The calls that other members make over HTTP/2: those that are rare, and those that take long.

use std::sync::Arc;

use metastore_proto::peerpb;
use metastore_proto::peerpb::peer_server::Peer;
use openraft::raft::TransferLeaderRequest;
use tonic::{Request, Response, Status, Streaming};

use crate::answers::NO_ROOM;
use crate::group::Group;
use crate::peers::FROM;
use crate::snapshot::Receiver;
use crate::wire;

/// Facts about this member that a peer may ask for before it knows it.
pub trait Identity: Send + Sync + 'static {
    /// The engine's name, `rocksdb` or `memory`.
    fn engine(&self) -> &str;
    /// The server's version.
    fn version(&self) -> &str;
    /// True when the member has been part of the running cluster before (it has published its
    /// client URLs), as etcd's isMemberBootstrapped (server/etcdserver/cluster_util.go).
    fn has_published(&self, member_id: u64) -> bool;
}

/// The peer port's service.
pub(crate) struct PeerService {
    pub(crate) group: Arc<Group>,
    pub(crate) cluster_id: u64,
    pub(crate) identity: Arc<dyn Identity>,
    pub(crate) receiver: Arc<Receiver>,
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(
        &self,
        request: Request<peerpb::HelloRequest>,
    ) -> Result<Response<peerpb::HelloResponse>, Status> {
        let asker = request.into_inner().member_id;
        let initialized = self.group.raft.is_initialized().await.unwrap_or(false);
        Ok(Response::new(peerpb::HelloResponse {
            cluster_id: self.cluster_id,
            member_id: self.group.shared.member_id,
            initialized,
            engine: self.identity.engine().to_owned(),
            version: self.identity.version().to_owned(),
            asker_known: self.identity.has_published(asker),
            knows_leader: self.group.shared.leadership().leader != 0,
            has_room: !self.group.room.is_full(),
        }))
    }

    async fn vote(
        &self,
        request: Request<peerpb::VoteRequest>,
    ) -> Result<Response<peerpb::VoteResponse>, Status> {
        let request = request.into_inner();
        let pre_vote = request.pre_vote;
        let request = wire::from_vote_request(request)?;
        let raft = &self.group.raft;
        let answer = if pre_vote {
            raft.pre_vote(request).await
        } else {
            raft.vote(request).await
        };
        let answer = answer.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<peerpb::TransferLeaderRequest>,
    ) -> Result<Response<peerpb::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let message = TransferLeaderRequest::new(
            wire::from_vote(request.from)?,
            request.to,
            request.last.map(wire::from_log_id),
        );
        let answer = self.group.raft.handle_transfer_leader(message).await;
        let answer = answer.map_err(|error| Status::unavailable(error.to_string()))?;
        let reason = answer
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        Ok(Response::new(peerpb::TransferLeaderResponse {
            accepted: answer.is_ok(),
            reason,
        }))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<peerpb::SnapshotChunk>>,
    ) -> Result<Response<peerpb::SnapshotResponse>, Status> {
        if self.group.room.is_full() {
            return Err(no_room());
        }
        let sender = request.metadata().get(FROM).and_then(|id| id.to_str().ok());
        let sender = sender.and_then(|id| id.parse().ok());
        let tally = sender.and_then(|id| self.group.peers.tally(id));
        let transfer = tally.as_ref().map(|tally| tally.states_received.begin());
        let vote = self
            .receiver
            .receive(&self.group, request.into_inner())
            .await?;
        if let Some(transfer) = transfer {
            transfer.arrived();
        }
        Ok(Response::new(peerpb::SnapshotResponse {
            vote: Some(wire::vote(&vote)),
        }))
    }

    async fn snapshot_progress(
        &self,
        request: Request<peerpb::SnapshotProgressRequest>,
    ) -> Result<Response<peerpb::SnapshotProgressResponse>, Status> {
        let chunks = self.receiver.progress(request.into_inner().snapshot_id);
        Ok(Response::new(peerpb::SnapshotProgressResponse { chunks }))
    }
}

fn no_room() -> Status {
    Status::resource_exhausted(NO_ROOM)
}
