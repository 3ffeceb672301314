//! The one list of response fields that may differ between etcd and MetaStore, each with its reason.
//!
//! `revision`, `count`, `more`, versions, errors and the order of events are not in it, and never may be.

/// How a field is written down instead of by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Only whether it is zero is compared.
    NonZero,
    /// Not compared at all.
    Ignored,
    /// `cluster` when it is the id computed from this cluster's URLs, else the number.
    ClusterId,
    /// `self` or `other` when it is a member of this cluster (ids computed from its URLs), else the number.
    MemberId,
    /// `m1`, `m2`, ... when it is a member of this cluster, else the number.
    MemberName,
    /// `m1`, `m2`, ... when it is a URL of this cluster, else the text.
    Url,
    /// Texts, whatever their order, in which ids and URLs of this cluster are replaced by names.
    Text,
    /// `lease#1`, ... in order of appearance when the server chose it, else the number.
    LeaseId,
    /// The items of a list, whatever their order.
    Unordered,
    /// A time that runs down: `-1`, `0`, or `running` (checked to be at most the granted time by the case).
    Remaining,
}

/// A masked field and why.
#[derive(Clone, Copy, Debug)]
pub struct Masked {
    /// The message's full name.
    pub message: &'static str,
    /// The field's name in etcd's `.proto`.
    pub field: &'static str,
    /// What is compared instead.
    pub rule: Rule,
    /// Why it may differ.
    pub reason: &'static str,
}

const fn masked(
    message: &'static str,
    field: &'static str,
    rule: Rule,
    reason: &'static str,
) -> Masked {
    Masked {
        message,
        field,
        rule,
        reason,
    }
}

const PORTS: &str =
    "computed from URLs, which hold the test's ports; compared with the computed id";
const ELECTIONS: &str = "how many elections there were depends on time";
const CHOSEN: &str = "the server chooses it at random; compared by order of appearance";
const SIZE: &str = "bytes of another storage engine";
const RAFT_LOG: &str =
    "the log also holds entries of the members' own, and several writes may share one";

/// All masked fields.
pub const MASK: &[Masked] = &[
    masked(
        "etcdserverpb.ResponseHeader",
        "cluster_id",
        Rule::ClusterId,
        PORTS,
    ),
    masked(
        "etcdserverpb.ResponseHeader",
        "member_id",
        Rule::MemberId,
        PORTS,
    ),
    masked(
        "etcdserverpb.ResponseHeader",
        "raft_term",
        Rule::NonZero,
        ELECTIONS,
    ),
    masked(
        "etcdserverpb.StatusResponse",
        "raftTerm",
        Rule::NonZero,
        ELECTIONS,
    ),
    masked(
        "etcdserverpb.StatusResponse",
        "raftIndex",
        Rule::NonZero,
        RAFT_LOG,
    ),
    masked(
        "etcdserverpb.StatusResponse",
        "raftAppliedIndex",
        Rule::NonZero,
        RAFT_LOG,
    ),
    masked("etcdserverpb.StatusResponse", "dbSize", Rule::NonZero, SIZE),
    masked(
        "etcdserverpb.StatusResponse",
        "dbSizeInUse",
        Rule::NonZero,
        SIZE,
    ),
    masked(
        "etcdserverpb.StatusResponse",
        "leader",
        Rule::MemberId,
        PORTS,
    ),
    masked(
        "etcdserverpb.StatusResponse",
        "storageVersion",
        Rule::Ignored,
        "etcd writes it some seconds after the start; a case of its own waits for it",
    ),
    masked(
        "etcdserverpb.StatusResponse",
        "errors",
        Rule::Text,
        "an alarm's text holds the member's id, computed from ports; their order is a map's",
    ),
    masked(
        "etcdserverpb.AlarmMember",
        "memberID",
        Rule::MemberId,
        PORTS,
    ),
    masked(
        "etcdserverpb.AlarmRequest",
        "memberID",
        Rule::MemberId,
        PORTS,
    ),
    masked("etcdserverpb.Member", "ID", Rule::MemberName, PORTS),
    masked(
        "etcdserverpb.MemberListResponse",
        "members",
        Rule::Unordered,
        "sorted by ids, which follow the ports; that they are sorted is a case",
    ),
    masked(
        "etcdserverpb.AlarmResponse",
        "alarms",
        Rule::Unordered,
        "etcd gives them in no order (a map's)",
    ),
    masked(
        "etcdserverpb.Member",
        "peer_urls",
        Rule::Url,
        "holds the test's ports",
    ),
    masked(
        "etcdserverpb.Member",
        "client_urls",
        Rule::Url,
        "holds the test's ports",
    ),
    masked(
        "etcdserverpb.HashResponse",
        "hash",
        Rule::NonZero,
        "covers etcd's bbolt file, its own buckets included",
    ),
    masked("mvccpb.KeyValue", "lease", Rule::LeaseId, CHOSEN),
    masked("etcdserverpb.PutRequest", "lease", Rule::LeaseId, CHOSEN),
    masked("etcdserverpb.Compare", "lease", Rule::LeaseId, CHOSEN),
    masked(
        "etcdserverpb.LeaseGrantResponse",
        "ID",
        Rule::LeaseId,
        CHOSEN,
    ),
    masked(
        "etcdserverpb.LeaseRevokeRequest",
        "ID",
        Rule::LeaseId,
        CHOSEN,
    ),
    masked(
        "etcdserverpb.LeaseKeepAliveRequest",
        "ID",
        Rule::LeaseId,
        CHOSEN,
    ),
    masked(
        "etcdserverpb.LeaseKeepAliveResponse",
        "ID",
        Rule::LeaseId,
        CHOSEN,
    ),
    masked(
        "etcdserverpb.LeaseTimeToLiveRequest",
        "ID",
        Rule::LeaseId,
        CHOSEN,
    ),
    masked(
        "etcdserverpb.LeaseTimeToLiveResponse",
        "ID",
        Rule::LeaseId,
        CHOSEN,
    ),
    masked("etcdserverpb.LeaseStatus", "ID", Rule::LeaseId, CHOSEN),
    masked(
        "etcdserverpb.LeaseTimeToLiveResponse",
        "keys",
        Rule::Unordered,
        "etcd gives them in no order (a map's)",
    ),
    masked(
        "etcdserverpb.LeaseLeasesResponse",
        "leases",
        Rule::Unordered,
        "a follower of etcd gives them in no order; that the leader sorts them by expiry is a case",
    ),
    masked(
        "etcdserverpb.LeaseTimeToLiveResponse",
        "TTL",
        Rule::Remaining,
        "it runs down while the test runs",
    ),
];

/// The rule for a field, if it is masked.
pub fn rule(message: &str, field: &str) -> Option<Rule> {
    MASK.iter()
        .find(|masked| masked.message == message && masked.field == field)
        .map(|masked| masked.rule)
}

#[cfg(test)]
mod tests {
    use super::MASK;
    use crate::wire::message;

    #[test]
    fn every_masked_field_exists_and_has_a_reason() {
        for masked in MASK {
            let descriptor = message(masked.message);
            assert!(
                descriptor.get_field_by_name(masked.field).is_some(),
                "{masked:?}"
            );
            assert!(!masked.reason.is_empty(), "{masked:?}");
        }
    }

    #[test]
    fn what_must_never_be_masked_is_not() {
        let never = [
            "revision",
            "count",
            "more",
            "version",
            "create_revision",
            "mod_revision",
            "events",
            "kvs",
        ];
        assert!(MASK.iter().all(|masked| !never.contains(&masked.field)));
    }
}
