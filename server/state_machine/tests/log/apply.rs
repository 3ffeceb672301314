//! What single commands do, and what is left of them after a restart.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::member::{Member, entry};
use metastore_proto::commandpb::command::Request;
use metastore_proto::commandpb::{ClusterVersion, Command, Entry, MemberAttributes};
use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, Member as ClusterMember,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use metastore_proto::mvccpb::KeyValue;
use metastore_state_machine::{
    Applied, Bookkeeping, Effect, Error, Fault, LEASE_TTL_MAX_SECONDS, Lease, LogPosition, Outcome,
    Response,
};
use prost::Message;

fn put(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(put_request(key, value, lease))
}

fn put_request(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    }
}

fn delete(key: &str, range_end: &str) -> Request {
    Request::DeleteRange(DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        prev_kv: false,
    })
}

fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(LeaseGrantRequest { id, ttl })
}

fn revoke(id: i64) -> Request {
    Request::LeaseRevoke(LeaseRevokeRequest { id })
}

fn checkpoint(checkpoints: &[(i64, i64)]) -> Request {
    let checkpoints = checkpoints
        .iter()
        .map(|&(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
    Request::LeaseCheckpoint(LeaseCheckpointRequest {
        checkpoints: checkpoints.collect(),
    })
}

fn alarm(action: AlarmAction, kind: AlarmType) -> Request {
    Request::Alarm(AlarmRequest {
        action: action.into(),
        member_id: 5,
        alarm: kind.into(),
    })
}

fn txn(success: Vec<Operation>) -> Request {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    Request::Txn(TxnRequest {
        success: success.into_iter().map(operation).collect(),
        ..Default::default()
    })
}

fn keys_of(member: &Member, lease: i64) -> Vec<String> {
    let keys = member.view().lease_keys(lease).unwrap();
    let text = |key: Box<[u8]>| String::from_utf8(key.into()).unwrap();
    keys.into_iter().map(text).collect()
}

fn value_of(member: &Member, key: &str) -> Option<KeyValue> {
    let query = metastore_mvcc::Query::one(key.to_owned());
    let page = member.store().range(&query).unwrap();
    let mut kvs = page.kvs.get(1..)?;
    Some(KeyValue::decode_length_delimited(&mut kvs).unwrap())
}

fn refused(outcome: Outcome) -> Error {
    outcome.expect_err("the command should be refused")
}

#[test]
fn a_key_moves_with_its_puts_from_lease_to_lease() {
    let mut member = Member::new();
    for id in [1, 2] {
        member.apply(grant(id, 60)).unwrap();
    }
    member.apply(put("a", "", 1)).unwrap();
    member.apply(put("b", "", 1)).unwrap();
    member.apply(put("a", "", 2)).unwrap();
    assert_eq!(keys_of(&member, 1), ["b"]);
    assert_eq!(keys_of(&member, 2), ["a"]);
    member.apply(put("b", "", 0)).unwrap();
    assert!(keys_of(&member, 1).is_empty());
    member.apply(delete("a", "\0")).unwrap();
    assert!(keys_of(&member, 2).is_empty());
    assert_eq!(refused(member.apply(put("c", "", 3))), Error::LeaseNotFound);
}

#[test]
fn an_ignored_lease_or_value_is_kept_and_needs_a_key() {
    let mut member = Member::new();
    member.apply(grant(1, 60)).unwrap();
    let keep_lease = |key: &str| PutRequest {
        ignore_lease: true,
        ..put_request(key, "new", 0)
    };
    let keep_value = |key: &str| PutRequest {
        ignore_value: true,
        prev_kv: true,
        ..put_request(key, "", 0)
    };
    assert_eq!(
        refused(member.apply(Request::Put(keep_lease("a")))),
        Error::KeyNotFound
    );
    member.apply(put("a", "old", 1)).unwrap();
    member.apply(Request::Put(keep_lease("a"))).unwrap();
    assert_eq!(keys_of(&member, 1), ["a"]);
    let applied = member.apply(Request::Put(keep_value("a"))).unwrap();
    let Response::Put { prev: Some(prev) } = applied.response else {
        panic!("the previous key-value was asked for");
    };
    assert_eq!(KeyValue::decode(&*prev).unwrap().lease, 1);
    let kv = value_of(&member, "a").unwrap();
    assert_eq!((&*kv.value, kv.lease, kv.version), (&b"new"[..], 0, 3));
    assert!(keys_of(&member, 1).is_empty());
}

#[test]
fn revoking_a_lease_deletes_its_keys_at_one_revision_in_ascending_order() {
    let mut member = Member::new();
    member.apply(grant(1, 60)).unwrap();
    for key in ["c", "a", "b"] {
        member.apply(put(key, "", 1)).unwrap();
    }
    let revoked = member.apply(revoke(1)).unwrap();
    assert_eq!(revoked.revision, 5);
    let events = member
        .store()
        .events(5, &metastore_mvcc::EventLimits::default())
        .unwrap();
    let keys: Vec<&[u8]> = events.events.iter().map(|event| event.key()).collect();
    assert_eq!(keys, [b"a", b"b", b"c"]);
    assert_eq!(member.view().lease(1), None);
    assert_eq!(refused(member.apply(revoke(1))), Error::LeaseNotFound);
    member.apply(grant(1, 60)).unwrap();
    assert!(keys_of(&member, 1).is_empty());
}

#[test]
fn leases_are_refused_as_etcd_refuses_them() {
    let mut member = Member::new();
    assert_eq!(refused(member.apply(grant(0, 5))), Error::LeaseNotFound);
    let too_long = LEASE_TTL_MAX_SECONDS + 1;
    assert_eq!(
        refused(member.apply(grant(1, too_long))),
        Error::LeaseTtlTooLarge
    );
    member.apply(grant(1, LEASE_TTL_MAX_SECONDS)).unwrap();
    assert_eq!(refused(member.apply(grant(1, 5))), Error::LeaseExists);
    member.apply(grant(-1, -5)).unwrap();
    assert_eq!(member.view().lease_count(), 2);
}

#[test]
fn leases_alarms_members_and_bookkeeping_survive_a_restart() {
    let mut member = Member::new();
    let one = ClusterMember {
        id: 1,
        name: "one".into(),
        peer_urls: vec!["http://one:2380".into()],
        ..Default::default()
    };
    let two = ClusterMember {
        id: 2,
        is_learner: true,
        ..Default::default()
    };
    let position = member.position();
    member
        .machine
        .apply_membership(position, b"raft", &[one.clone(), two]);
    let position = member.position();
    member.machine.apply_membership(position, b"raft2", &[one]);
    member.apply(grant(1, 60)).unwrap();
    member.apply(grant(2, 70)).unwrap();
    member.apply(grant(3, 80)).unwrap();
    member.apply(put("a", "", 1)).unwrap();
    member.apply(put("b", "", 1)).unwrap();
    member.apply(checkpoint(&[(2, 33), (9, 1)])).unwrap();
    member.apply(revoke(3)).unwrap();
    member
        .apply(alarm(AlarmAction::Activate, AlarmType::Nospace))
        .unwrap();
    let attributes = MemberAttributes {
        member_id: 1,
        name: "one".into(),
        client_urls: vec!["http://one:2379".into()],
    };
    member.apply(Request::MemberAttributes(attributes)).unwrap();
    let version = ClusterVersion {
        version: "3.7.0".into(),
    };
    member.apply(Request::ClusterVersion(version)).unwrap();
    member.flush();
    let (before, position) = (member.view(), member.machine.applied());
    let (leases, members) = (before.leases(), before.members());
    let snapshot = member.store().snapshot().unwrap();
    let bookkeeping = Bookkeeping {
        applied: position,
        raft_membership: Some(b"raft2".to_vec()),
    };
    assert_eq!(Bookkeeping::of(&snapshot).unwrap(), bookkeeping);

    let mut member = member.restart();
    let after = member.view();
    assert_eq!(after.leases(), leases);
    assert_eq!(
        after.lease(2),
        Some(Lease {
            id: 2,
            ttl: 70,
            remaining: 33
        })
    );
    assert_eq!(keys_of(&member, 1), ["a", "b"]);
    assert_eq!(after.members(), members);
    assert!(members.is_removed(2));
    assert_eq!(members.cluster_version(), Some("3.7.0"));
    assert_eq!(members.cluster_id(), 7);
    assert_eq!(after.this_member().unwrap().client_urls.len(), 1);
    assert_eq!(member.machine.raft_membership(), Some(&b"raft2"[..]));
    assert_eq!(member.machine.applied(), position);
    assert!(after.has_alarm(AlarmType::Nospace));
    assert_eq!(refused(member.apply(put("a", "", 0))), Error::NoSpace);
}

#[test]
fn an_entry_is_carried_out_once() {
    let mut member = Member::new();
    let entry = entry(vec![put("a", "1", 0), put("a", "2", 0)]);
    let position = LogPosition { term: 3, index: 9 };
    assert_eq!(
        member.machine.apply(position, &entry, true).unwrap().len(),
        2
    );
    assert!(
        member
            .machine
            .apply(position, &entry, true)
            .unwrap()
            .is_empty()
    );
    member.machine.advance(LogPosition { term: 3, index: 8 });
    assert_eq!(member.machine.applied(), Some(position));
    assert_eq!(member.store().revision(), 3);
}

#[test]
fn an_entry_of_a_newer_format_stops_the_member() {
    let mut member = Member::new();
    let newer = Entry {
        format: 2,
        ..entry(vec![put("a", "1", 0)])
    };
    let fault = member.apply_entry(&newer, true).unwrap_err();
    assert!(matches!(fault, Fault::Format { found: 2, .. }), "{fault}");
    let fault = member.apply_entry(&entry(Vec::new()), true).unwrap_err();
    assert!(matches!(fault, Fault::Format { found: 2, .. }), "{fault}");
    let position = member.position();
    member.machine.advance(position);
    member.machine.apply_membership(position, b"raft", &[]);
    assert_eq!(member.machine.applied(), None);
    assert_eq!(member.store().revision(), 1);
}

#[test]
fn odd_commands_get_an_outcome_and_change_nothing() {
    let mut member = Member::new();
    let empty = Entry {
        commands: vec![Command::default()],
        ..entry(Vec::new())
    };
    let outcomes = member.apply_entry(&empty, true).unwrap();
    assert_eq!(outcomes[0].clone().unwrap_err(), Error::UnknownCommand);
    let version = ClusterVersion {
        version: "three".into(),
    };
    let outcome = member.apply(Request::ClusterVersion(version));
    assert_eq!(refused(outcome), Error::MalformedVersion);
    let action = AlarmRequest {
        action: 99,
        member_id: 1,
        alarm: 1,
    };
    member.apply(Request::Alarm(action)).unwrap();
    member
        .apply(alarm(AlarmAction::Activate, AlarmType::None))
        .unwrap();
    assert!(member.view().alarms(AlarmType::None).is_empty());
    let unknown = MemberAttributes {
        member_id: 3,
        ..Default::default()
    };
    member.apply(Request::MemberAttributes(unknown)).unwrap();
    assert!(member.view().members().is_empty());
    member.apply(txn(Vec::new())).unwrap();
    assert_eq!(member.store().revision(), 1);
}

#[test]
fn a_compare_of_an_unknown_kind_counts_as_equal() {
    let mut member = Member::new();
    let odd = |target: i32, result: i32| {
        Request::Txn(TxnRequest {
            compare: vec![Compare {
                target,
                result,
                key: "a".into(),
                ..Default::default()
            }],
            ..Default::default()
        })
    };
    let succeeded = |outcome: Outcome| match outcome.unwrap().response {
        Response::Txn { succeeded, .. } => succeeded,
        other => panic!("{other:?}"),
    };
    assert!(succeeded(
        member.apply(odd(99, CompareResult::Equal as i32))
    ));
    assert!(!succeeded(
        member.apply(odd(99, CompareResult::Less as i32))
    ));
    assert!(succeeded(member.apply(odd(CompareTarget::Mod as i32, 99))));
}

#[test]
fn a_refused_transaction_has_changed_nothing() {
    let mut member = Member::new();
    member.apply(put("a", "1", 0)).unwrap();
    let late = |last: Operation| {
        txn(vec![
            Operation::RequestPut(put_request("a", "2", 0)),
            Operation::RequestDeleteRange(DeleteRangeRequest {
                key: "a".into(),
                ..Default::default()
            }),
            last,
        ])
    };
    let no_lease = late(Operation::RequestPut(put_request("b", "", 77)));
    assert_eq!(refused(member.apply(no_lease)), Error::LeaseNotFound);
    let future = late(Operation::RequestRange(RangeRequest {
        key: "a".into(),
        revision: 3,
        ..Default::default()
    }));
    assert_eq!(refused(member.apply(future)), Error::FutureRevision);
    let no_key = late(Operation::RequestPut(PutRequest {
        ignore_value: true,
        ..put_request("b", "", 0)
    }));
    assert_eq!(refused(member.apply(no_key)), Error::KeyNotFound);
    assert_eq!(member.store().revision(), 2);
    assert_eq!(&*value_of(&member, "a").unwrap().value, b"1");
}

#[test]
fn a_value_that_the_transaction_deletes_before_cannot_be_kept() {
    let mut member = Member::new();
    for key in ["a", "b", "c"] {
        member.apply(put(key, "1", 0)).unwrap();
    }
    let deletion = |key: &str, range_end: &str| {
        Operation::RequestDeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            prev_kv: false,
        })
    };
    let keep = || {
        Operation::RequestPut(PutRequest {
            ignore_value: true,
            ..put_request("b", "", 0)
        })
    };
    let nested = |operation| {
        Operation::RequestTxn(TxnRequest {
            success: vec![RequestOp {
                request: Some(operation),
            }],
            ..Default::default()
        })
    };
    for (key, range_end) in [("b", ""), ("a", "c"), ("b", "\0")] {
        let operations = vec![nested(deletion(key, range_end)), nested(keep())];
        assert_eq!(refused(member.apply(txn(operations))), Error::KeyNotFound);
    }
    assert_eq!(member.store().revision(), 4);
    let written = Operation::RequestPut(put_request("b", "2", 0));
    let operations = vec![deletion("b", ""), written, keep(), deletion("a", "")];
    member.apply(txn(operations)).unwrap();
    assert_eq!(&*value_of(&member, "b").unwrap().value, b"2");
    let operations = vec![
        deletion("a", "b"),
        deletion("c", ""),
        keep(),
        deletion("b", ""),
    ];
    member.apply(txn(operations)).unwrap();
}

#[test]
fn a_sort_that_does_not_exist_is_none() {
    let mut member = Member::new();
    member.apply(put("a", "1", 0)).unwrap();
    let range = |sort_order, sort_target| {
        let range = RangeRequest {
            key: "a".into(),
            range_end: "\0".into(),
            sort_order,
            sort_target,
            limit: -4,
            ..Default::default()
        };
        txn(vec![Operation::RequestRange(range)])
    };
    let body = |outcome: Outcome| match outcome.unwrap().response {
        Response::Txn { body, .. } => body,
        other => panic!("{other:?}"),
    };
    let unsorted = body(member.apply(range(0, 0)));
    assert_eq!(body(member.apply(range(9, 3))), unsorted);
    assert_eq!(body(member.apply(range(1, 9))), unsorted);
}

#[test]
fn nested_compares_do_not_see_the_writes_before_them() {
    let mut member = Member::new();
    let absent = Compare {
        target: CompareTarget::Version as i32,
        result: CompareResult::Equal as i32,
        key: "a".into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let nested = TxnRequest {
        compare: vec![absent],
        success: vec![RequestOp {
            request: Some(Operation::RequestPut(put_request("b", "seen", 0))),
        }],
        ..Default::default()
    };
    member
        .apply(txn(vec![
            Operation::RequestPut(put_request("a", "", 0)),
            Operation::RequestTxn(nested),
        ]))
        .unwrap();
    assert_eq!(&*value_of(&member, "b").unwrap().value, b"seen");
}

#[test]
fn the_alarm_of_space_lets_deletions_through_and_is_disarmed_by_a_command() {
    let mut member = Member::new();
    member.apply(grant(1, 60)).unwrap();
    member.apply(put("a", "1", 0)).unwrap();
    member
        .apply(alarm(AlarmAction::Activate, AlarmType::Nospace))
        .unwrap();
    let nested_put = TxnRequest {
        failure: vec![RequestOp {
            request: Some(Operation::RequestPut(put_request("a", "", 0))),
        }],
        ..Default::default()
    };
    for request in [
        put("a", "2", 0),
        grant(2, 60),
        txn(vec![Operation::RequestTxn(nested_put)]),
    ] {
        assert_eq!(refused(member.apply(request)), Error::NoSpace);
    }
    member.apply(delete("a", "")).unwrap();
    member.apply(txn(Vec::new())).unwrap();
    member.apply(revoke(1)).unwrap();
    let compaction = CompactionRequest {
        revision: 2,
        physical: false,
    };
    member.apply(Request::Compaction(compaction)).unwrap();
    member
        .apply(alarm(AlarmAction::Deactivate, AlarmType::Nospace))
        .unwrap();
    member.apply(put("a", "2", 0)).unwrap();
}

#[test]
fn the_alarm_of_corruption_comes_before_that_of_space() {
    let mut member = Member::new();
    member.apply(grant(1, 60)).unwrap();
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        member.apply(alarm(AlarmAction::Activate, kind)).unwrap();
    }
    let compaction = CompactionRequest {
        revision: 1,
        physical: false,
    };
    for request in [
        put("a", "", 0),
        delete("a", ""),
        txn(Vec::new()),
        grant(2, 60),
        revoke(1),
        Request::Compaction(compaction),
    ] {
        assert_eq!(refused(member.apply(request)), Error::Corrupt);
    }
    member.apply(checkpoint(&[(1, 5)])).unwrap();
    let alarms = member.apply(alarm(AlarmAction::Get, AlarmType::None));
    let Response::Alarm { alarms } = alarms.unwrap().response else {
        panic!("an alarm request is answered with alarms");
    };
    assert_eq!(alarms.len(), 2);
}

#[test]
fn effects_tell_what_the_leader_has_to_do() {
    let mut member = Member::new();
    let effects = member.machine.effects();
    let (sender, woken) = mpsc::channel();
    effects.on_effect(Arc::new(move || {
        let _ = sender.send(());
    }));
    let requests = vec![grant(1, 60), checkpoint(&[(1, 5)]), revoke(1), revoke(1)];
    member.apply_entry(&entry(requests), false).unwrap();
    woken.try_recv().unwrap();
    let drained = effects.take();
    assert_eq!(
        drained.effects,
        [
            Effect::LeaseGranted { id: 1, ttl: 60 },
            Effect::LeaseCheckpointed {
                id: 1,
                remaining: 5
            },
            Effect::LeaseRevoked { id: 1 },
        ]
    );
    member
        .apply(alarm(AlarmAction::Activate, AlarmType::Nospace))
        .unwrap();
    member
        .apply(alarm(AlarmAction::Activate, AlarmType::Nospace))
        .unwrap();
    assert_eq!(effects.take().effects, [Effect::AlarmsChanged]);
}

#[test]
fn a_compaction_is_in_force_at_once_and_tells_when_its_space_is_back() {
    let mut member = Member::new();
    for value in ["1", "2", "3"] {
        member.apply(put("a", value, 0)).unwrap();
    }
    let compaction = |revision| {
        Request::Compaction(CompactionRequest {
            revision,
            physical: true,
        })
    };
    let Applied { revision, response } = member.apply(compaction(3)).unwrap();
    let Response::Compaction { done } = response else {
        panic!("a compaction is answered with its handle");
    };
    assert_eq!((revision, done.revision()), (4, 3));
    assert_eq!(refused(member.apply(compaction(3))), Error::Compacted);
    assert_eq!(refused(member.apply(compaction(5))), Error::FutureRevision);
    let old = RangeRequest {
        key: "a".into(),
        revision: 2,
        ..Default::default()
    };
    let read = txn(vec![Operation::RequestRange(old)]);
    assert_eq!(refused(member.apply(read)), Error::Compacted);
    let (sender, told) = mpsc::channel();
    done.when_done(Box::new(move || {
        let _ = sender.send(());
    }));
    told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(done.is_done());
}

#[test]
fn another_store_takes_over_under_the_same_views() {
    let mut from = Member::new();
    from.apply(grant(4, 60)).unwrap();
    from.apply(put("a", "", 4)).unwrap();
    from.flush();
    let mut to = Member::new();
    to.apply(grant(1, 60)).unwrap();
    let (view, effects) = (to.view(), to.machine.effects());
    effects.take();
    let directory = tempfile::TempDir::new().unwrap();
    let engine = metastore_engine::open(
        metastore_engine::Kind::Memory,
        directory.path(),
        metastore_engine::Options::default(),
    )
    .unwrap();
    let mut batch = metastore_engine::Batch::new();
    for space in metastore_engine::Space::ALL {
        let mut copy = |key: &[u8], value: &[u8]| {
            batch.put(space, key, value);
            std::ops::ControlFlow::Continue(())
        };
        let engine = from.store().engine();
        engine.scan(space, b"", None, &mut copy).unwrap();
    }
    engine.write(&batch).unwrap();
    let (store, writer) =
        metastore_mvcc::Store::open(engine, metastore_mvcc::Options::default()).unwrap();
    to.machine.replace_store(store, writer).unwrap();
    assert_eq!(view.lease(1), None);
    assert_eq!(view.lease_keys(4).unwrap().len(), 1);
    assert!(effects.take().lost);
    assert_eq!(to.machine.applied(), from.machine.applied());
    assert_eq!(to.hash(0), from.hash(0));
}
