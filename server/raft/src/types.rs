//! openraft's types as MetaStore uses them, and the bytes they become.
//!
//! Promises one encoding for what the log and the peers keep of an entry: openraft's own types are never
//! derived onto disk or wire, because they change between its releases. Must not know files, sockets or
//! what a command means.

mod membership;
mod proposal;

use std::io;

use bytes::Bytes;
use metastore_state_machine::Bookkeeping;
use openraft::EntryPayload;
use openraft::impls::leader_id_std;
use openraft::type_config::alias::{LogIdOf, StoredMembershipOf, VoteOf};

pub use membership::{
    PeerNode, decode_membership, decode_stored_membership, encode_membership,
    encode_stored_membership,
};
pub use proposal::Proposal;

openraft::declare_raft_types!(
    /// The types of MetaStore's raft group: one leader per term, so that a log id is etcd's
    /// (term, index).
    pub TypeConfig:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = PeerNode,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// The id of a log entry: term and index.
pub type LogId = LogIdOf<TypeConfig>;
/// A vote: term, the member it is for, and whether a quorum granted it.
pub type Vote = VoteOf<TypeConfig>;
/// An entry of the log. Spelled out rather than `EntryOf<TypeConfig>`: a trait of ours implemented for
/// that would count as implemented for every type another crate has.
pub type Entry = openraft::Entry<CommittedLeaderId, EntryPayload<Proposal, u64, PeerNode>>;
/// Who votes and who learns.
pub type Membership = openraft::Membership<u64, PeerNode>;
/// A membership and the log id that set it.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;
/// Where a snapshot ends and who votes there.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
/// The committed part of a leader id: the term.
pub type CommittedLeaderId = openraft::vote::leader_id_std::CommittedLeaderId<u64>;

/// The log id of `term` and `index`.
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// Why bytes cannot be read as part of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is not even a tag.
    #[error("empty entry")]
    Empty,
    /// A newer version wrote it.
    #[error("entry of unknown kind {0}, written by a newer version")]
    UnknownKind(u8),
    /// The bytes are not what the tag says.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// First byte of an entry's bytes: what follows. Numbers are never reused.
pub(crate) mod kind {
    /// Nothing follows: the first entry of a new leader.
    pub(crate) const BLANK: u8 = 1;
    /// An encoded `commandpb.Entry` follows.
    pub(crate) const PROPOSAL: u8 = 2;
    /// An encoded membership follows.
    pub(crate) const MEMBERSHIP: u8 = 3;
}

/// The bytes of an entry without its id, as the log stores and the peers send them: a kind byte,
/// then its content. Costs no copy for a proposal.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Bytes {
    match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[kind::BLANK]),
        EntryPayload::Normal(proposal) => proposal.tagged().clone(),
        EntryPayload::Membership(membership) => {
            let mut out = vec![kind::MEMBERSHIP];
            membership::encode_into(membership, &mut out);
            out.into()
        }
    }
}

/// What a state's bookkeeping says to openraft: how far the log is in it, and who votes.
///
/// # Errors
/// When the membership is damaged.
pub(crate) fn position_of(bookkeeping: &Bookkeeping) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: bookkeeping.applied.map(|at| log_id(at.term, at.index)),
        last_membership: stored_membership_of(bookkeeping.raft_membership.as_deref())?,
    })
}

/// The membership that a state keeps; the one before the first where it keeps none.
///
/// # Errors
/// When the bytes are damaged.
pub(crate) fn stored_membership_of(bytes: Option<&[u8]>) -> io::Result<StoredMembership> {
    match bytes {
        Some(bytes) => decode_stored_membership(bytes).map_err(io::Error::other),
        None => Ok(StoredMembership::default()),
    }
}

/// Reads what [`encode_entry`] wrote. A proposal keeps `data` and is decoded when it is first
/// looked into.
///
/// # Errors
/// When `data` is malformed or of a kind this version does not know.
pub fn decode_entry(log_id: LogId, data: Bytes) -> Result<Entry, DecodeError> {
    let payload = match data.first() {
        None => return Err(DecodeError::Empty),
        Some(&kind::BLANK) if data.len() == 1 => EntryPayload::Blank,
        Some(&kind::BLANK) => {
            return Err(DecodeError::Malformed {
                what: "blank entry",
                reason: format!("{} bytes", data.len()),
            });
        }
        Some(&kind::PROPOSAL) => EntryPayload::Normal(Proposal::from_tagged(data)),
        Some(&kind::MEMBERSHIP) => EntryPayload::Membership(decode_membership(&data[1..])?),
        Some(&other) => return Err(DecodeError::UnknownKind(other)),
    };
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use metastore_proto::commandpb;

    use super::*;

    fn round_trip(entry: Entry) {
        let read = decode_entry(entry.log_id, encode_entry(&entry)).unwrap();
        assert_eq!(read.log_id, entry.log_id);
        assert_eq!(read.payload, entry.payload);
    }

    #[test]
    fn every_kind_of_entry_is_read_as_it_was_written() {
        let node = |name: &str| PeerNode {
            name: name.into(),
            peer_urls: vec![format!("http://{name}:2380")],
        };
        let nodes = BTreeMap::from([(1, node("a")), (2, node("b")), (u64::MAX, node("c"))]);
        let joint =
            Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap();
        let command = commandpb::Entry {
            format: 1,
            origin: 7,
            sequence: 9,
            commands: vec![],
        };
        round_trip(Entry {
            log_id: log_id(0, 0),
            payload: EntryPayload::Membership(joint),
        });
        round_trip(Entry {
            log_id: log_id(1, 1),
            payload: EntryPayload::Blank,
        });
        round_trip(Entry {
            log_id: log_id(3, 2),
            payload: EntryPayload::Normal(Proposal::from_entry(command)),
        });
    }

    #[test]
    fn an_entry_of_a_newer_version_is_refused_by_its_kind() {
        let read = decode_entry(log_id(1, 1), Bytes::from_static(&[9, 1, 2]));
        assert_eq!(read.unwrap_err(), DecodeError::UnknownKind(9));
        assert_eq!(
            decode_entry(log_id(1, 1), Bytes::new()).unwrap_err(),
            DecodeError::Empty
        );
        assert!(decode_entry(log_id(1, 1), Bytes::from_static(&[kind::BLANK, 0])).is_err());
        assert!(decode_entry(log_id(1, 1), Bytes::from_static(&[kind::MEMBERSHIP, 0xff])).is_err());
    }

    #[test]
    fn ids_order_by_term_and_then_index() {
        assert!(log_id(1, 9) < log_id(2, 3));
        assert!(log_id(2, 3) < log_id(2, 4));
        assert_eq!(log_id(4, 5).committed_leader_id().term, 4);
    }
}
