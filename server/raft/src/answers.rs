//! What this member answers to the questions that come over other members' connections.

use std::sync::Arc;

use bytes::Bytes;
use metastore_proto::peerpb::{self, Refusal, propose_response, refusal::Reason};
use openraft::EntryPayload;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::AppendEntriesRequest;
use prost::Message;

use crate::connection::Kind;
use crate::group::Group;
use crate::leases::{self, LeaseTimes};
use crate::peer_tally::PeerTally;
use crate::types::{Entry, Proposal, TypeConfig};
use crate::wire;

/// Answers for this member.
pub(crate) struct Answers {
    pub(crate) group: Arc<Group>,
    pub(crate) leases: Arc<dyn LeaseTimes>,
}

/// An answer to a question of a session of the log.
pub(crate) struct Appended {
    pub(crate) answer: peerpb::AppendResponse,
    /// The session's next question makes sense still.
    pub(crate) goes_on: bool,
}

impl Answers {
    /// Answers any question but those of a session of the log: the encoded response.
    pub(crate) async fn answer(&self, kind: Kind, question: Bytes) -> Result<Vec<u8>, Refusal> {
        Ok(match kind {
            Kind::Heartbeat => self.append(question).await?.answer.encode_to_vec(),
            Kind::Propose => self.propose(read(question)?).await?.encode_to_vec(),
            Kind::ReadIndex => self.read_index().await.encode_to_vec(),
            Kind::LeaseRenew => self.renew_lease(read(question)?).await.encode_to_vec(),
            Kind::LeaseRemaining => self.lease_remaining(read(question)?).await.encode_to_vec(),
            Kind::Ping => Vec::new(),
            Kind::Append | Kind::Answer | Kind::Refusal => {
                return Err(refusal(Reason::Malformed, "this is not a question"));
            }
        })
    }

    /// Takes over what a leader's log has. The first poll puts the request before openraft, unless tokio tells a tired
    /// task to wait; the connection's `InOrder` sees to that, and so to the order of requests.
    pub(crate) fn append(
        &self,
        question: Bytes,
    ) -> impl Future<Output = Result<Appended, Refusal>> + Send + use<> {
        let group = self.group.clone();
        async move {
            let request = wire::from_append_request(read(question)?).map_err(|error| {
                tracing::warn!(error = %error, "refused an append request");
                refusal(Reason::Malformed, error)
            })?;
            // One that was voted out may still believe that it leads.
            if request.vote >= group.vote() {
                group.shared.hear_leader();
            }
            if has_no_room(&group, &request) {
                return Err(refusal(Reason::NoRoom, NO_ROOM));
            }
            let prev = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(prev);
            let answer = group.raft.append_entries(request).await;
            let answer = answer.map_err(|fatal| refusal(Reason::Unavailable, fatal))?;
            let result = answer.into_stream_result(prev, last);
            Ok(Appended {
                goes_on: result.is_ok(),
                answer: wire::append_response(result),
            })
        }
    }

    async fn propose(
        &self,
        request: peerpb::ProposeRequest,
    ) -> Result<peerpb::ProposeResponse, Refusal> {
        use propose_response::Result as Answer;
        // In the log it would stop every member that applies it.
        let proposal = Proposal::checked(request.entry);
        let proposal = proposal.map_err(|error| refusal(Reason::Malformed, error))?;
        let (result, id) = if self.group.room.refuses(&proposal) {
            (Answer::Full, None)
        } else {
            match self.group.raft.client_write(proposal).await {
                Ok(written) => (Answer::Committed, Some(wire::log_id(written.log_id))),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    (Answer::NotLeader, None)
                }
                Err(_) => (Answer::OutcomeUnknown, None),
            }
        };
        Ok(peerpb::ProposeResponse {
            result: result as i32,
            id,
        })
    }

    async fn read_index(&self) -> peerpb::ReadIndexResponse {
        let index = self.group.read_index().await;
        let id = index.map(|index| peerpb::LogId { term: 0, index });
        peerpb::ReadIndexResponse {
            leader: id.is_some(),
            id,
        }
    }

    async fn renew_lease(&self, request: peerpb::LeaseRenewRequest) -> peerpb::LeaseRenewResponse {
        match leases::renew_here(&self.group, &*self.leases, request.id).await {
            None => peerpb::LeaseRenewResponse::default(),
            Some(answer) => peerpb::LeaseRenewResponse {
                leader: true,
                found: answer.is_some(),
                ttl: answer.map_or(0, |renewal| renewal.ttl),
                checkpointed: answer.is_some_and(|renewal| renewal.checkpointed),
            },
        }
    }

    async fn lease_remaining(
        &self,
        request: peerpb::LeaseRemainingRequest,
    ) -> peerpb::LeaseRemainingResponse {
        match leases::remaining_here(&self.group, &*self.leases, request.id).await {
            None => peerpb::LeaseRemainingResponse::default(),
            Some(answer) => peerpb::LeaseRemainingResponse {
                leader: true,
                found: answer.is_some(),
                remaining: answer.unwrap_or(0),
            },
        }
    }

    /// Where the traffic with a member is counted, if it is known here.
    pub(crate) fn tally(&self, member: u64) -> Option<Arc<PeerTally>> {
        self.group.peers.tally(member)
    }
}

/// Why nothing that grows is taken in.
pub(crate) const NO_ROOM: &str = "no space left on device";

/// Whether a request brings entries for which there is no room. Others are taken in: without a new leader's first
/// entry nobody could even read.
fn has_no_room(group: &Group, request: &AppendEntriesRequest<TypeConfig>) -> bool {
    let refuses = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(proposal) => group.room.refuses(proposal),
        _ => false,
    };
    group.room.is_full() && request.entries.iter().any(refuses)
}

fn read<Q: Message + Default>(question: Bytes) -> Result<Q, Refusal> {
    Q::decode(question).map_err(|error| refusal(Reason::Malformed, error))
}

fn refusal(reason: Reason, text: impl ToString) -> Refusal {
    Refusal {
        reason: reason as i32,
        text: text.to_string(),
    }
}
