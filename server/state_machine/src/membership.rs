//! The members of the cluster as the log describes them (etcd: `server/etcdserver/api/membership`).
//!
//! Promises: members are known by id and listed by id; an id that was removed is remembered. Who votes is raft's business: what raft
//! decided arrives here by [`crate::StateMachine::apply_membership`].

pub mod identity;

use std::collections::{BTreeMap, BTreeSet};

use metastore_proto::commandpb::MemberAttributes;
use metastore_proto::etcdserverpb::Member;

/// The members, the removed ones, and what all members agree on about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    pub(crate) by_id: BTreeMap<u64, Member>,
    pub(crate) removed: BTreeSet<u64>,
    pub(crate) cluster_id: u64,
    pub(crate) cluster_version: Option<String>,
}

impl Members {
    /// All members, learners among them, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// How many members there are, learners among them.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no member is known yet.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// One member.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.by_id.get(&id)
    }

    /// The ids of members that have been removed, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// Whether this was the id of a member that has been removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The cluster's id; 0 when it is not known yet.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The version that all members can speak, `major.minor.patch`; none until the first leader has set it.
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// The members once raft has agreed on `raft`: those that are not in it are gone, new ones are as given, the others keep
    /// the name and client urls that they have published.
    pub(crate) fn with_raft_members(&self, raft: &[Member]) -> Self {
        let mut next = self.clone();
        next.by_id.clear();
        for member in raft {
            let mut member = member.clone();
            if let Some(known) = self.by_id.get(&member.id) {
                if !known.name.is_empty() {
                    member.name.clone_from(&known.name);
                }
                member.client_urls.clone_from(&known.client_urls);
            }
            next.removed.remove(&member.id);
            next.by_id.insert(member.id, member);
        }
        let gone = self.by_id.keys().filter(|id| !next.by_id.contains_key(id));
        next.removed.extend(gone);
        next
    }

    /// The member with the attributes it publishes; none when they are known already, or the member is not.
    pub(crate) fn with_attributes(&self, attributes: &MemberAttributes) -> Option<Member> {
        let known = self.by_id.get(&attributes.member_id)?;
        let published = Member {
            name: attributes.name.clone(),
            client_urls: attributes.client_urls.clone(),
            ..known.clone()
        };
        (published != *known).then_some(published)
    }
}

/// Whether `text` is a semantic version: three numbers, then perhaps `-` and a pre-release, `+` and metadata.
pub(crate) fn is_version(text: &str) -> bool {
    let release = text.split('+').next().unwrap_or(text);
    let numbers = release.split('-').next().unwrap_or(release);
    let mut parts = numbers.split('.');
    let mut number = || matches!(parts.next(), Some(part) if part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<i64>().is_ok());
    number() && number() && number() && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, learner: bool) -> Member {
        Member {
            id,
            name: name.into(),
            peer_urls: vec![format!("http://peer{id}:2380")],
            client_urls: Vec::new(),
            is_learner: learner,
        }
    }

    #[test]
    fn a_member_keeps_what_it_published_when_raft_promotes_it() {
        let members = Members::default().with_raft_members(&[member(1, "", true)]);
        let published = members
            .with_attributes(&MemberAttributes {
                member_id: 1,
                name: "one".into(),
                client_urls: vec!["http://one:2379".into()],
            })
            .unwrap();
        let mut members = members;
        members.by_id.insert(1, published);
        let promoted = members.with_raft_members(&[member(1, "", false)]);
        let one = promoted.get(1).unwrap();
        assert!(!one.is_learner);
        assert_eq!((one.name.as_str(), one.client_urls.len()), ("one", 1));
    }

    #[test]
    fn a_removed_id_is_remembered_and_its_attributes_are_ignored() {
        let members = Members::default()
            .with_raft_members(&[member(1, "a", false), member(2, "b", false)])
            .with_raft_members(&[member(1, "a", false)]);
        assert!(members.is_removed(2) && !members.is_removed(1));
        assert_eq!(members.len(), 1);
        let late = MemberAttributes {
            member_id: 2,
            ..Default::default()
        };
        assert_eq!(members.with_attributes(&late), None);
    }

    #[test]
    fn versions_have_three_numbers() {
        for good in ["3.7.0", "3.7.0-rc.1", "3.7.0+git", "0.0.0"] {
            assert!(is_version(good), "{good}");
        }
        for bad in [
            "",
            "3.7",
            "3.7.0.1",
            "3..0",
            "a.b.c",
            "3.7.-1",
            "3.7.99999999999999999999",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
