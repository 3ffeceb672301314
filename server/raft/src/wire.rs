//! openraft's messages as the members' own protocol, and back.
//!
//! openraft's types never go on the wire themselves: they change between its releases.

use metastore_proto::peerpb;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};

use crate::types::{self, Entry, LogId, TypeConfig, Vote};

/// Why a message of another member cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("malformed peer message: {0}")]
pub(crate) struct Malformed(pub(crate) String);

impl From<Malformed> for tonic::Status {
    fn from(error: Malformed) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

pub(crate) fn log_id(id: LogId) -> peerpb::LogId {
    peerpb::LogId {
        term: id.committed_leader_id().term,
        index: id.index,
    }
}

pub(crate) fn from_log_id(id: peerpb::LogId) -> LogId {
    types::log_id(id.term, id.index)
}

pub(crate) fn vote(vote: &Vote) -> peerpb::Vote {
    peerpb::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn from_vote(vote: Option<peerpb::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or_else(|| Malformed("no vote".into()))?;
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.node_id)
    } else {
        Vote::new(vote.term, vote.node_id)
    })
}

pub(crate) fn append_request(request: &AppendEntriesRequest<TypeConfig>) -> peerpb::AppendRequest {
    peerpb::AppendRequest {
        vote: Some(vote(&request.vote)),
        prev: request.prev_log_id.map(log_id),
        entries: request
            .entries
            .iter()
            .map(|entry| peerpb::LogEntry {
                id: Some(log_id(entry.log_id)),
                data: types::encode_entry(entry),
            })
            .collect(),
        leader_commit: request.leader_commit.map(log_id),
    }
}

pub(crate) fn from_append_request(
    request: peerpb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let entries: Result<Vec<Entry>, Malformed> = request
        .entries
        .into_iter()
        .map(|entry| {
            let id = from_log_id(
                entry
                    .id
                    .ok_or_else(|| Malformed("entry without id".into()))?,
            );
            types::decode_entry(id, entry.data).map_err(|error| Malformed(error.to_string()))
        })
        .collect();
    Ok(AppendEntriesRequest {
        vote: from_vote(request.vote)?,
        prev_log_id: request.prev.map(from_log_id),
        entries: entries?,
        leader_commit: request.leader_commit.map(from_log_id),
    })
}

pub(crate) fn append_response(result: StreamAppendResult<TypeConfig>) -> peerpb::AppendResponse {
    use peerpb::append_response::Result as Answer;
    let result = match result {
        Ok(matched) => Answer::Matched(peerpb::AppendMatched {
            id: matched.map(log_id),
        }),
        Err(StreamAppendError::Conflict(at)) => Answer::Conflict(log_id(at)),
        Err(StreamAppendError::HigherVote(higher)) => Answer::HigherVote(vote(&higher)),
    };
    peerpb::AppendResponse {
        result: Some(result),
    }
}

pub(crate) fn from_append_response(
    response: peerpb::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use peerpb::append_response::Result as Answer;
    Ok(
        match response
            .result
            .ok_or_else(|| Malformed("empty append response".into()))?
        {
            Answer::Matched(matched) => Ok(matched.id.map(from_log_id)),
            Answer::Conflict(at) => Err(StreamAppendError::Conflict(from_log_id(at))),
            Answer::HigherVote(higher) => {
                Err(StreamAppendError::HigherVote(from_vote(Some(higher))?))
            }
        },
    )
}

pub(crate) fn vote_request(
    request: &VoteRequest<TypeConfig>,
    pre_vote: bool,
) -> peerpb::VoteRequest {
    peerpb::VoteRequest {
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.map(log_id),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn from_vote_request(
    request: peerpb::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let mut vote = VoteRequest::new(from_vote(request.vote)?, request.last.map(from_log_id));
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

pub(crate) fn vote_response(response: &VoteResponse<TypeConfig>) -> peerpb::VoteResponse {
    peerpb::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id),
    }
}

pub(crate) fn from_vote_response(
    response: peerpb::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse::new(
        from_vote(response.vote)?,
        response.last.map(from_log_id),
        response.granted,
    ))
}
