//! The same log gives the same state: with and without answers, and over a restart.

use crate::member::{Member, entry};
use metastore_proto::commandpb::command::Request;
use metastore_proto::commandpb::{ClusterVersion, Entry, MemberAttributes};
use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::compare::TargetUnion;
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, Member as ClusterMember,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use metastore_state_machine::Outcome;
use proptest::collection::vec;
use proptest::prelude::*;

/// One entry of the raft log.
#[derive(Debug, Clone)]
enum Logged {
    Commands(Vec<Request>),
    Members(Vec<u64>),
    Blank,
}

fn key() -> impl Strategy<Value = bytes::Bytes> {
    prop_oneof![
        8 => "[a-d]{1,2}".prop_map(Into::into),
        1 => Just(bytes::Bytes::new()),
        1 => Just(bytes::Bytes::from_static(b"\0")),
    ]
}

fn lease_id() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1..4_i64, 1 => Just(0), 1 => Just(i64::MIN)]
}

prop_compose! {
    fn put()(
        key in key(),
        value in vec(any::<u8>(), 0..20),
        lease in prop_oneof![Just(0), lease_id()],
        prev_kv: bool,
        ignore_value in prop::bool::weighted(0.2),
        ignore_lease in prop::bool::weighted(0.2),
    ) -> PutRequest {
        PutRequest { key, value: value.into(), lease, prev_kv, ignore_value, ignore_lease }
    }
}

prop_compose! {
    fn delete_range()(key in key(), range_end in key(), prev_kv: bool) -> DeleteRangeRequest {
        DeleteRangeRequest { key, range_end, prev_kv }
    }
}

prop_compose! {
    fn range()(
        key in key(),
        range_end in key(),
        limit in -1..4_i64,
        revision in prop_oneof![3 => Just(0), 1 => -1..60_i64],
        sort_order in 0..4,
        sort_target in 0..6,
        keys_only: bool,
        count_only: bool,
        min_mod_revision in prop_oneof![3 => Just(0), 1 => 0..30_i64],
    ) -> RangeRequest {
        RangeRequest {
            key, range_end, limit, revision, sort_order, sort_target, keys_only, count_only, min_mod_revision,
            ..Default::default()
        }
    }
}

prop_compose! {
    fn compare()(
        key in key(),
        range_end in prop_oneof![Just(bytes::Bytes::new()), key()],
        target in 0..6,
        result in 0..5,
        target_union in prop_oneof![
            Just(None),
            (0..3_i64).prop_map(|version| Some(TargetUnion::Version(version))),
            (0..30_i64).prop_map(|revision| Some(TargetUnion::ModRevision(revision))),
            (0..30_i64).prop_map(|revision| Some(TargetUnion::CreateRevision(revision))),
            lease_id().prop_map(|lease| Some(TargetUnion::Lease(lease))),
            key().prop_map(|value| Some(TargetUnion::Value(value))),
        ],
    ) -> Compare {
        Compare { key, range_end, target, result, target_union }
    }
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let of = |operation: BoxedStrategy<Option<Operation>>| {
        let branch = vec(operation.prop_map(|request| RequestOp { request }), 0..4);
        let compares = vec(compare(), 0..2);
        (compares, branch.clone(), branch).prop_map(|(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        })
    };
    let leaf = prop_oneof![
        1 => Just(None),
        6 => put().prop_map(|put| Some(Operation::RequestPut(put))),
        3 => delete_range().prop_map(|delete| Some(Operation::RequestDeleteRange(delete))),
        4 => range().prop_map(|range| Some(Operation::RequestRange(range))),
    ]
    .boxed();
    let nested = of(leaf.clone()).prop_map(|txn| Some(Operation::RequestTxn(txn)));
    of(prop_oneof![4 => leaf, 1 => nested].boxed())
}

fn request() -> impl Strategy<Value = Request> {
    let checkpoint = (lease_id(), -1..50_i64)
        .prop_map(|(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
    let alarm = (0..4, 0..2_u64, 0..4).prop_map(|(action, member_id, alarm)| AlarmRequest {
        action,
        member_id,
        alarm,
    });
    prop_oneof![
        8 => put().prop_map(Request::Put),
        3 => delete_range().prop_map(Request::DeleteRange),
        8 => txn().prop_map(Request::Txn),
        1 => (-2..40_i64, any::<bool>())
            .prop_map(|(revision, physical)| CompactionRequest { revision, physical })
            .prop_map(Request::Compaction),
        3 => (lease_id(), prop_oneof![-1..50_i64, Just(9_000_000_001)])
            .prop_map(|(id, ttl)| Request::LeaseGrant(LeaseGrantRequest { id, ttl })),
        1 => lease_id().prop_map(|id| Request::LeaseRevoke(LeaseRevokeRequest { id })),
        1 => vec(checkpoint, 0..3)
            .prop_map(|checkpoints| Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })),
        1 => alarm.prop_map(Request::Alarm),
        1 => (0..4_u64, "[a-c]?").prop_map(|(member_id, name)| {
            Request::MemberAttributes(MemberAttributes { member_id, name, client_urls: Vec::new() })
        }),
        1 => "3\\.[67](\\.0)?".prop_map(|version| Request::ClusterVersion(ClusterVersion { version })),
    ]
}

fn log() -> impl Strategy<Value = Vec<Logged>> {
    let logged = prop_oneof![
        8 => vec(request(), 1..8).prop_map(Logged::Commands),
        1 => vec(0..4_u64, 1..4).prop_map(Logged::Members),
        1 => Just(Logged::Blank),
    ];
    vec(logged, 1..30)
}

/// Applies one logged entry as its log's next.
fn apply(member: &mut Member, logged: &Logged, answers: bool) -> Vec<Outcome> {
    match logged {
        Logged::Commands(requests) => {
            let entry: Entry = entry(requests.clone());
            return member.apply_entry(&entry, answers).unwrap();
        }
        Logged::Members(ids) => {
            let members: Vec<ClusterMember> = ids
                .iter()
                .map(|&id| ClusterMember {
                    id,
                    is_learner: id % 2 == 0,
                    ..Default::default()
                })
                .collect();
            let position = member.position();
            member
                .machine
                .apply_membership(position, &position.index.to_be_bytes(), &members);
        }
        Logged::Blank => {
            let position = member.position();
            member.machine.advance(position);
        }
    }
    Vec::new()
}

/// What can be compared of outcomes: all but the handles of compactions.
fn told(outcomes: &[Outcome]) -> Vec<String> {
    outcomes
        .iter()
        .map(|outcome| format!("{outcome:?}"))
        .collect()
}

/// Disarms all alarms and writes a key. Afterwards the newest revision is none that was compacted to: of such a
/// revision etcd has another hash once the compaction has finished, which is a matter of time.
fn write_once_more(member: &mut Member) {
    let alarms = member.view().alarms(AlarmType::None);
    let disarm = alarms.iter().map(|alarm| {
        Request::Alarm(AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        })
    });
    let put = Request::Put(PutRequest {
        key: "last".into(),
        ..Default::default()
    });
    let requests = disarm.chain([put]).collect();
    let outcomes = member.apply_entry(&entry(requests), true).unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
}

fn assert_same(left: &Member, right: &Member) {
    assert_eq!(left.machine.applied(), right.machine.applied());
    let revision = left.store().revision();
    assert_eq!(left.hash(revision), right.hash(revision));
    assert_eq!(left.system_rows(), right.system_rows());
    let (left, right) = (left.view(), right.view());
    assert_eq!(left.leases(), right.leases());
    for lease in left.leases() {
        assert_eq!(left.lease_keys(lease.id), right.lease_keys(lease.id));
    }
    assert_eq!(left.members(), right.members());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_same_log_gives_the_same_state(log in log(), flush_at: prop::sample::Index, crash_at: prop::sample::Index) {
        let mut answering = Member::new();
        let mut silent = Member::new();
        let mut crashing = Member::new();
        let (flush_at, crash_at) = (flush_at.index(log.len()), crash_at.index(log.len()));
        let mut outcomes = Vec::new();
        for (at, logged) in log.iter().enumerate() {
            outcomes.push(told(&apply(&mut answering, logged, true)));
            prop_assert!(apply(&mut silent, logged, false).is_empty());
            if at <= crash_at {
                apply(&mut crashing, logged, true);
            }
            if at == flush_at.min(crash_at) {
                crashing.flush();
            }
        }
        let mut restarted = crashing.restart();
        let redone = restarted.next_index as usize;
        prop_assert!(redone > flush_at.min(crash_at));
        restarted.next_index = 0;
        for (at, logged) in log.iter().enumerate() {
            let again = told(&apply(&mut restarted, logged, true));
            if at < redone {
                prop_assert!(again.is_empty());
            } else {
                prop_assert_eq!(&again, &outcomes[at]);
            }
        }
        assert_eq!(answering.view().alarms(AlarmType::None), silent.view().alarms(AlarmType::None));
        assert_eq!(answering.view().alarms(AlarmType::None), restarted.view().alarms(AlarmType::None));
        for member in [&mut answering, &mut silent, &mut restarted] {
            write_once_more(member);
        }
        assert_same(&answering, &silent);
        assert_same(&answering, &restarted);
    }

    #[test]
    fn a_transaction_that_reads_is_answered_the_same_without_the_log(log in log(), request in txn()) {
        let mut member = Member::new();
        for logged in &log {
            apply(&mut member, logged, false);
        }
        let reads = |operations: Vec<RequestOp>| {
            let is_range = |op: &RequestOp| matches!(op.request, Some(Operation::RequestRange(_)));
            operations.into_iter().filter(is_range).collect::<Vec<_>>()
        };
        let request = TxnRequest {
            compare: request.compare,
            success: reads(request.success),
            failure: reads(request.failure),
        };
        let read = metastore_state_machine::read_txn(member.store(), &request).unwrap();
        let applied = member.apply(Request::Txn(request));
        if member.view().alarms(AlarmType::Corrupt).is_empty() {
            prop_assert_eq!(told(&[read]), told(&[applied]));
        }
    }
}
