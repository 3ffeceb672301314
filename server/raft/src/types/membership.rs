//! Members as raft sees them, and the bytes of a membership.
//!
//! Protobuf, so that fields can be added; written by hand so that openraft's types are not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prost::Message;

use super::{DecodeError, LogId, Membership, StoredMembership, log_id};

/// What every member knows of a member from the flags alone, so that all that bootstrap write the
/// same first entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerNode {
    /// The member's name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
}

impl fmt::Display for PeerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.peer_urls.join(","))
    }
}

#[derive(Clone, PartialEq, Message)]
struct MembershipBytes {
    /// One set of voters, or two while membership changes.
    #[prost(message, repeated, tag = "1")]
    configs: Vec<Voters>,
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<NodeBytes>,
    /// Where in the log the membership was set; only in stored memberships.
    #[prost(message, optional, tag = "3")]
    set_at: Option<LogIdBytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Voters {
    #[prost(fixed64, repeated, tag = "1")]
    ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeBytes {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct LogIdBytes {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

impl MembershipBytes {
    fn of(membership: &Membership, set_at: Option<LogId>) -> Self {
        let configs = membership.get_joint_config();
        Self {
            configs: configs
                .iter()
                .map(|ids| Voters {
                    ids: ids.iter().copied().collect(),
                })
                .collect(),
            nodes: membership
                .nodes()
                .map(|(id, node)| NodeBytes {
                    id: *id,
                    name: node.name.clone(),
                    peer_urls: node.peer_urls.clone(),
                })
                .collect(),
            set_at: set_at.map(|id| LogIdBytes {
                term: id.committed_leader_id().term,
                index: id.index,
            }),
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes).map_err(|error| malformed(error.to_string()))
    }

    fn membership(self) -> Result<Membership, DecodeError> {
        if self.configs.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        let configs: Vec<BTreeSet<u64>> = self
            .configs
            .into_iter()
            .map(|voters| voters.ids.into_iter().collect())
            .collect();
        let nodes: BTreeMap<u64, PeerNode> = self
            .nodes
            .into_iter()
            .map(|node| {
                (
                    node.id,
                    PeerNode {
                        name: node.name,
                        peer_urls: node.peer_urls,
                    },
                )
            })
            .collect();
        Membership::new(configs, nodes).map_err(|error| malformed(error.to_string()))
    }
}

fn malformed(reason: String) -> DecodeError {
    DecodeError::Malformed {
        what: "membership",
        reason,
    }
}

pub(super) fn encode_into(membership: &Membership, out: &mut Vec<u8>) {
    MembershipBytes::of(membership, None).encode_raw(out);
}

/// The bytes of a membership.
#[must_use]
pub fn encode_membership(membership: &Membership) -> Vec<u8> {
    MembershipBytes::of(membership, None).encode_to_vec()
}

/// Reads what [`encode_membership`] wrote.
///
/// # Errors
/// When the bytes are malformed, or name a voter that is no member.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership, DecodeError> {
    MembershipBytes::read(bytes)?.membership()
}

/// The bytes of a membership with the log id that set it, as snapshots and the applied state keep it.
#[must_use]
pub fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    MembershipBytes::of(stored.membership(), *stored.log_id()).encode_to_vec()
}

/// Reads what [`encode_stored_membership`] wrote; no bytes are the membership before the first.
///
/// # Errors
/// As [`decode_membership`].
pub fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, DecodeError> {
    let read = MembershipBytes::read(bytes)?;
    let set_at = read.set_at.as_ref().map(|id| log_id(id.term, id.index));
    Ok(StoredMembership::new(set_at, read.membership()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_membership_keeps_where_it_was_set() {
        let nodes = BTreeMap::from([(
            5,
            PeerNode {
                name: "five".into(),
                peer_urls: vec!["http://h:1".into()],
            },
        )]);
        let membership = Membership::new(vec![BTreeSet::from([5])], nodes).unwrap();
        for stored in [
            StoredMembership::new(Some(log_id(0, 0)), membership.clone()),
            StoredMembership::new(None, membership),
            StoredMembership::default(),
        ] {
            assert_eq!(
                decode_stored_membership(&encode_stored_membership(&stored)).unwrap(),
                stored
            );
        }
        assert_eq!(
            decode_stored_membership(&[]).unwrap(),
            StoredMembership::default()
        );
    }

    #[test]
    fn a_voter_that_is_no_member_is_refused() {
        let bytes = MembershipBytes {
            configs: vec![Voters { ids: vec![1] }],
            nodes: vec![],
            set_at: None,
        };
        assert!(decode_membership(&bytes.encode_to_vec()).is_err());
    }
}
