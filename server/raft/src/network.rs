//! openraft's outgoing messages: one `Network` per target and purpose, over the peer links.
//!
//! The log goes over a connection of its own, pipelined: many requests may be on their way, and answers come back in
//! order. Heartbeats must not wait behind a long append: they go where the short questions go.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use metastore_proto::peerpb::{self, refusal::Reason};
use openraft::anyerror::AnyError;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{OptionalSend, RaftNetworkFactory};

use crate::connection::{CallError, Kind};
use crate::peers::{Link, Peers};
use crate::shared::Shared;
use crate::snapshot::{self, SnapshotData};
use crate::tally::Lateness;
use crate::types::{PeerNode, TypeConfig};
use crate::wire::{self, Malformed};

type C = TypeConfig;

/// The pause after the log could not be sent to a member: one that restarts should be found within one election.
/// openraft pauses when it is asked for the first request of a session, and where there is no connection it is not
/// asked.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the links that openraft asks for.
pub(crate) struct NetworkFactory {
    peers: Arc<Peers>,
    shared: Arc<Shared>,
    heartbeat: Duration,
}

impl NetworkFactory {
    /// `heartbeat` is the time between heartbeats.
    pub(crate) fn new(peers: Arc<Peers>, shared: Arc<Shared>, heartbeat: Duration) -> Self {
        Self {
            peers,
            shared,
            heartbeat,
        }
    }

    fn network(&self, target: u64, node: &PeerNode) -> Network {
        let link = self.peers.link(target, &node.peer_urls);
        Network {
            target,
            link,
            peers: self.peers.clone(),
            shared: self.shared.clone(),
            heartbeats: None,
        }
    }
}

impl RaftNetworkFactory<C> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Network {
        self.network(target, node)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerNode) -> Network {
        let network = self.network(target, node);
        Network {
            heartbeats: Some(Lateness::new(self.heartbeat)),
            ..network
        }
    }
}

/// The way to one member.
pub(crate) struct Network {
    target: u64,
    /// Only of the way that heartbeats take.
    heartbeats: Option<Lateness>,
    link: Link,
    peers: Arc<Peers>,
    shared: Arc<Shared>,
}

impl Network {
    fn failed(&self, status: &tonic::Status) -> RPCError<C> {
        let error = AnyError::error(format!("member {:x}: {}", self.target, status.message()));
        match status.code() {
            tonic::Code::Unavailable
            | tonic::Code::FailedPrecondition
            | tonic::Code::ResourceExhausted => RPCError::Unreachable(Unreachable::new(&error)),
            _ => RPCError::Network(NetworkError::new(&error)),
        }
    }

    fn unanswered(&self, error: &CallError) -> RPCError<C> {
        let why = AnyError::error(format!("member {:x}: {error}", self.target));
        match error {
            CallError::NotSent(_) | CallError::Lost => {
                RPCError::Unreachable(Unreachable::new(&why))
            }
            CallError::Refused(refusal) if refusal.reason() != Reason::Malformed => {
                RPCError::Unreachable(Unreachable::new(&why))
            }
            CallError::Refused(_) | CallError::Malformed(_) => {
                RPCError::Network(NetworkError::new(&why))
            }
        }
    }

    /// Answers the one question that a heartbeat asks.
    async fn beat<S>(
        &mut self,
        mut input: S,
    ) -> Result<BoxStream<'_, Result<StreamAppendResult<C>, RPCError<C>>>, RPCError<C>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + Unpin,
    {
        let (Some(lateness), Some(request)) = (&mut self.heartbeats, input.next().await) else {
            return Ok(futures::stream::empty().boxed());
        };
        if lateness.beat(Instant::now()) {
            let late = &self.shared.tally.late_heartbeats;
            late.fetch_add(1, Ordering::Relaxed);
        }
        let question = wire::append_request(&request);
        let answer = self.link.control.call(Kind::Heartbeat, &question).await;
        let answer = self.appended(answer);
        Ok(futures::stream::iter([answer]).boxed())
    }

    fn appended(
        &self,
        answer: Result<peerpb::AppendResponse, CallError>,
    ) -> Result<StreamAppendResult<C>, RPCError<C>> {
        let answer = answer.map_err(|error| self.unanswered(&error))?;
        wire::from_append_response(answer).map_err(|error| malformed(&error))
    }
}

fn malformed(error: &Malformed) -> RPCError<C> {
    RPCError::Network(NetworkError::new(error))
}

fn timed_out(what: &str) -> RPCError<C> {
    RPCError::Network(NetworkError::new(&AnyError::error(format!(
        "{what} timed out"
    ))))
}

impl NetStreamAppend<C> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<C>, RPCError<C>>>, RPCError<C>>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats.is_some() {
            return Box::pin(self.beat(input));
        }
        Box::pin(async move {
            let requests = input.map(|request| wire::append_request(&request));
            let session = match self.link.log.session(requests).await {
                Ok(session) => session,
                Err(error) => {
                    tokio::time::sleep(PAUSE).await;
                    return Err(self.unanswered(&error));
                }
            };
            let this = &*self;
            let results = session.map(move |answer| this.appended(answer));
            Ok(results.boxed())
        })
    }
}

impl NetVote<C> for Network {
    async fn vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        self.ask_vote(&rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        self.ask_vote(&rpc, true, option).await
    }
}

impl Network {
    async fn ask_vote(
        &mut self,
        rpc: &VoteRequest<C>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = wire::vote_request(rpc, pre_vote);
        match tokio::time::timeout(option.hard_ttl(), self.link.calls.vote(request)).await {
            Ok(Ok(response)) => {
                wire::from_vote_response(response.into_inner()).map_err(|error| malformed(&error))
            }
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(timed_out("vote")),
        }
    }
}

impl NetSnapshot<C> for Network {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<C>,
        snapshot: SnapshotOf<C, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let tally = self.peers.tally(self.target);
        let transfer = tally.as_ref().map(|tally| tally.states_sent.begin());
        let since = Instant::now();
        let sending = snapshot::send(self.link.bulk.clone(), vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => {
                    self.shared.tally.state_sending.observe_time(since.elapsed());
                    if let Some(transfer) = transfer {
                        transfer.arrived();
                    }
                    Ok(SnapshotResponse::new(vote))
                }
                Err(error) => {
                    tracing::warn!(to = format!("{:x}", self.target), error = %error, "sending a snapshot failed");
                    Err(StreamingError::Unreachable(Unreachable::new(&AnyError::error(error))))
                }
            },
        }
    }
}

impl NetTransferLeader<C> for Network {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let message = peerpb::TransferLeaderRequest {
            from: Some(wire::vote(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(wire::log_id),
        };
        match tokio::time::timeout(option.hard_ttl(), self.link.calls.transfer_leader(message))
            .await
        {
            Ok(Ok(_)) => Ok(Ok(())),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(timed_out("leader transfer")),
        }
    }
}

impl NetBackoff<C> for Network {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(PAUSE)))
    }
}
