//! What other members ask of this one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt};
use metastore_proto::peerpb::peer_server::Peer;
use metastore_proto::peerpb::{self, propose_response};
use openraft::EntryPayload;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use tonic::{Request, Response, Status, Streaming};

use crate::group::Group;
use crate::leases::{self, LeaseTimes};
use crate::peers::FROM;
use crate::snapshot::Receiver;
use crate::types::{Entry, Proposal, TypeConfig};
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
    pub(crate) leases: Arc<dyn LeaseTimes>,
    pub(crate) receiver: Arc<Receiver>,
}

type AppendAnswers = Pin<Box<dyn Stream<Item = Result<peerpb::AppendResponse, Status>> + Send>>;

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
        }))
    }

    type AppendStream = AppendAnswers;

    async fn append(
        &self,
        request: Request<Streaming<peerpb::AppendRequest>>,
    ) -> Result<Response<AppendAnswers>, Status> {
        let group = self.group.clone();
        let full = Arc::new(AtomicBool::new(false));
        let (shared, refused) = (group.shared.clone(), full.clone());
        // A broken or malformed request ends the stream; the leader opens a new one.
        let requests = tokio_stream::StreamExt::map_while(request.into_inner(), move |request| {
            shared.hear_leader();
            match request.map(wire::from_append_request) {
                Ok(Ok(request)) if has_no_room(&group, &request) => {
                    refused.store(true, Ordering::Relaxed);
                    None
                }
                Ok(Ok(request)) => Some(request),
                Ok(Err(error)) => {
                    tracing::warn!(error = %error, "refused an append request");
                    None
                }
                Err(_) => None,
            }
        });
        let answers = self
            .group
            .raft
            .stream_append(requests)
            .map(|result| match result {
                Ok(result) => Ok(wire::append_response(result)),
                Err(fatal) => Err(Status::unavailable(fatal.to_string())),
            });
        let refusal = futures::stream::once(async move { full.load(Ordering::Relaxed) });
        let refusal = refusal.filter_map(async |full| full.then(|| Err(no_room())));
        Ok(Response::new(Box::pin(answers.chain(refusal))))
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

    async fn propose(
        &self,
        request: Request<peerpb::ProposeRequest>,
    ) -> Result<Response<peerpb::ProposeResponse>, Status> {
        use propose_response::Result as Answer;
        let proposal = Proposal::new(request.into_inner().entry);
        if self.group.room.refuses(&proposal) {
            return Ok(Response::new(peerpb::ProposeResponse {
                result: Answer::Full as i32,
                id: None,
            }));
        }
        let (result, id) = match self.group.raft.client_write(proposal).await {
            Ok(written) => (Answer::Committed, Some(wire::log_id(written.log_id))),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                (Answer::NotLeader, None)
            }
            Err(_) => (Answer::OutcomeUnknown, None),
        };
        Ok(Response::new(peerpb::ProposeResponse {
            result: result as i32,
            id,
        }))
    }

    async fn read_index(
        &self,
        _request: Request<peerpb::ReadIndexRequest>,
    ) -> Result<Response<peerpb::ReadIndexResponse>, Status> {
        let index = self.group.read_index().await;
        let id = index.map(|index| peerpb::LogId { term: 0, index });
        Ok(Response::new(peerpb::ReadIndexResponse {
            leader: id.is_some(),
            id,
        }))
    }

    async fn lease_renew(
        &self,
        request: Request<peerpb::LeaseRenewRequest>,
    ) -> Result<Response<peerpb::LeaseRenewResponse>, Status> {
        let id = request.into_inner().id;
        let Some(answer) = leases::renew_here(&self.group, &*self.leases, id).await else {
            return Ok(Response::new(peerpb::LeaseRenewResponse::default()));
        };
        Ok(Response::new(peerpb::LeaseRenewResponse {
            leader: true,
            found: answer.is_some(),
            ttl: answer.map_or(0, |renewal| renewal.ttl),
            checkpointed: answer.is_some_and(|renewal| renewal.checkpointed),
        }))
    }

    async fn lease_remaining(
        &self,
        request: Request<peerpb::LeaseRemainingRequest>,
    ) -> Result<Response<peerpb::LeaseRemainingResponse>, Status> {
        let id = request.into_inner().id;
        let Some(answer) = leases::remaining_here(&self.group, &*self.leases, id).await else {
            return Ok(Response::new(peerpb::LeaseRemainingResponse::default()));
        };
        Ok(Response::new(peerpb::LeaseRemainingResponse {
            leader: true,
            found: answer.is_some(),
            remaining: answer.unwrap_or(0),
        }))
    }
}

/// Whether a request brings entries for which there is no room. Others are taken in: without a new leader's first
/// entry nobody could even read.
fn has_no_room(group: &Group, request: &AppendEntriesRequest<TypeConfig>) -> bool {
    let refuses = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(proposal) => group.room.refuses(proposal),
        _ => false,
    };
    group.room.is_full() && request.entries.iter().any(refuses)
}

fn no_room() -> Status {
    Status::resource_exhausted("no space left on device")
}
