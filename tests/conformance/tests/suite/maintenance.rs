//! Maintenance: Status, Alarm, Hash, Defragment.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metastore_conformance::build::{IntoOp, all, delete, delete_range, get, put, txn};
use metastore_conformance::{Session, Setup, check, check_with, expect, fails};
use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, HashKvRequest, LeaseRevokeRequest,
    RangeRequest,
};
use tonic::Code;

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const CORRUPT: &str = "etcdserver: corrupt cluster";

fn alarm(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    }
}

async fn alarms(t: &Session) -> Result<AlarmResponse> {
    Ok(t.alarm(alarm(AlarmAction::Get, 0, AlarmType::None)).await?)
}

#[test]
fn status_tells_version_leader_and_sizes() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        let status = t.status().await?;
        expect("version", status.version.as_str(), "3.7.3")?;
        expect("quota", status.db_size_quota, 2 << 30)?;
        expect("learner", status.is_learner, false)?;
        expect("errors", status.errors.len(), 0)?;
        ensure!(status.leader != 0, "no leader");
        ensure!(
            status.raft_applied_index <= status.raft_index && status.raft_applied_index > 0,
            "{status:?}"
        );
        ensure!(
            status.db_size >= status.db_size_in_use && status.db_size_in_use > 0,
            "{status:?}"
        );
        expect("revision", status.header.unwrap_or_default().revision, 2)
    })
}

#[test]
fn status_tells_the_quota_of_the_flag() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--quota-backend-bytes=104857600"]),
        async |t| expect("quota", t.status().await?.db_size_quota, 104_857_600),
    )
}

#[test]
fn the_storage_version_is_that_of_the_cluster() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let quiet = t.unrecorded();
        let start = Instant::now();
        let version = loop {
            let version = quiet.status().await?.storage_version;
            // etcd goes through older ones.
            if version == "3.7.0" {
                break version;
            }
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "the storage version stays {version:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        t.record("Status.storageVersion once it is there", version);
        Ok(())
    })
}

#[test]
fn raft_indexes_and_sizes_grow() -> Result<()> {
    check(async |t| {
        let before = t.status().await?;
        for number in 0..50 {
            t.put(put(format!("k{number}"), vec![b'x'; 10_000])).await?;
        }
        // etcd counts its bytes anew every 100 ms.
        let quiet = t.unrecorded();
        let start = Instant::now();
        let after = loop {
            let after = quiet.status().await?;
            if after.db_size_in_use > before.db_size_in_use + 100_000 {
                break after;
            }
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "{before:?} {after:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        ensure!(
            after.raft_applied_index > before.raft_applied_index,
            "{before:?} {after:?}"
        );
        ensure!(after.raft_term >= before.raft_term, "{before:?} {after:?}");
        t.status().await?;
        Ok(())
    })
}

#[test]
fn alarms_are_raised_listed_and_disarmed() -> Result<()> {
    check(async |t| {
        let this = t.member_id();
        expect("none", alarms(t).await?.alarms.len(), 0)?;
        t.alarm(alarm(AlarmAction::Activate, this, AlarmType::None))
            .await?;
        expect("still none", alarms(t).await?.alarms.len(), 0)?;
        t.alarm(alarm(AlarmAction::Activate, this, AlarmType::Nospace))
            .await?;
        expect("one", alarms(t).await?.alarms.len(), 1)?;
        t.alarm(alarm(AlarmAction::Activate, this, AlarmType::Nospace))
            .await?;
        expect("raised twice", alarms(t).await?.alarms.len(), 1)?;
        t.alarm(alarm(AlarmAction::Activate, 77, AlarmType::Nospace))
            .await?;
        expect(
            "a member that does not exist",
            alarms(t).await?.alarms.len(),
            2,
        )?;
        t.alarm(alarm(AlarmAction::Get, 0, AlarmType::Corrupt))
            .await?;
        t.alarm(alarm(AlarmAction::Get, this, AlarmType::Nospace))
            .await?;
        t.status().await?;
        t.alarm(alarm(AlarmAction::Deactivate, 0, AlarmType::Nospace))
            .await?;
        t.alarm(alarm(AlarmAction::Deactivate, 77, AlarmType::Nospace))
            .await?;
        t.alarm(alarm(AlarmAction::Deactivate, 77, AlarmType::Nospace))
            .await?;
        t.alarm(alarm(AlarmAction::Deactivate, this, AlarmType::None))
            .await?;
        t.alarm(alarm(AlarmAction::Deactivate, this, AlarmType::Nospace))
            .await?;
        expect("none left", alarms(t).await?.alarms.len(), 0)?;
        t.status().await?;
        t.put(put("a", "1")).await?;
        Ok(())
    })
}

#[test]
fn under_nospace_what_grows_is_refused_and_what_shrinks_is_not() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        t.put(put("a", "1")).await?;
        t.put(put("b", "1")).await?;
        t.alarm(alarm(
            AlarmAction::Activate,
            t.member_id(),
            AlarmType::Nospace,
        ))
        .await?;
        fails(
            t.put(put("a", "2")).await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        fails(t.put(put("a", "")).await, Code::ResourceExhausted, NO_SPACE)?;
        fails(
            t.lease_grant(600, 8).await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        fails(
            t.txn(txn([], [put("c", "1").op()], [])).await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        let _ = t.txn(txn([], [], [put("c", "1").op()])).await;
        let _ = t.txn(txn([], [delete("c").op()], [])).await;
        let _ = t
            .txn(txn([], [txn([], [put("c", "1").op()], []).op()], []))
            .await;
        let _ = t.txn(txn([], [get("a").op()], [])).await;
        t.range(all()).await?;
        t.delete(delete("b")).await?;
        t.compact(CompactionRequest {
            revision: 4,
            physical: true,
        })
        .await?;
        t.keep_alive().renew(7).await?;
        t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        t.defragment().await?;
        fails(
            t.put(put("a", "2")).await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        fails(
            t.put(put("", "2")).await,
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        )?;
        t.alarm(alarm(
            AlarmAction::Deactivate,
            t.member_id(),
            AlarmType::Nospace,
        ))
        .await?;
        t.put(put("a", "2")).await?;
        Ok(())
    })
}

#[test]
fn under_a_corrupt_alarm_nothing_is_written() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        t.put(put("a", "1")).await?;
        t.alarm(alarm(
            AlarmAction::Activate,
            t.member_id(),
            AlarmType::Corrupt,
        ))
        .await?;
        fails(t.put(put("a", "2")).await, Code::DataLoss, CORRUPT)?;
        fails(t.delete(delete("a")).await, Code::DataLoss, CORRUPT)?;
        fails(
            t.txn(txn([], [put("a", "2").op()], [])).await,
            Code::DataLoss,
            CORRUPT,
        )?;
        fails(t.lease_grant(600, 8).await, Code::DataLoss, CORRUPT)?;
        fails(
            t.lease_revoke(LeaseRevokeRequest { id: 7 }).await,
            Code::DataLoss,
            CORRUPT,
        )?;
        fails(
            t.compact(CompactionRequest {
                revision: 2,
                physical: false,
            })
            .await,
            Code::DataLoss,
            CORRUPT,
        )?;
        let _ = t.range(get("a")).await;
        let _ = t
            .range(RangeRequest {
                serializable: true,
                ..get("a")
            })
            .await;
        let _ = t.txn(txn([], [get("a").op()], [])).await;
        t.status().await?;
        t.http_get("/health").await?;
        t.http_get("/livez").await?;
        t.http_get("/readyz").await?;
        t.http_get("/readyz?verbose").await?;
        t.alarm(alarm(
            AlarmAction::Deactivate,
            t.member_id(),
            AlarmType::Corrupt,
        ))
        .await?;
        t.put(put("a", "2")).await?;
        t.http_get("/readyz").await?;
        Ok(())
    })
}

#[test]
fn an_alarm_survives_a_restart() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.alarm(alarm(
            AlarmAction::Activate,
            t.member_id(),
            AlarmType::Nospace,
        ))
        .await?;
        t.cluster().await.member(0).stop().await?;
        t.cluster().await.member(0).start().await?;
        let t = &t.again().await?;
        expect("one", alarms(t).await?.alarms.len(), 1)?;
        fails(
            t.put(put("a", "2")).await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        t.alarm(alarm(
            AlarmAction::Deactivate,
            t.member_id(),
            AlarmType::Nospace,
        ))
        .await?;
        t.put(put("a", "2")).await?;
        Ok(())
    })
}

#[test]
fn hash_answers_with_the_revision() -> Result<()> {
    check(async |t| {
        let empty = t.hash().await?;
        t.put(put("a", "1")).await?;
        let one = t.hash().await?;
        ensure!(empty.hash != one.hash, "a put changes the hash");
        expect("revision", one.header.unwrap_or_default().revision, 2)?;
        // What etcd writes by itself soon after its start changes the hash as well.
        let quiet = t.unrecorded();
        let start = Instant::now();
        while quiet.hash().await?.hash != quiet.hash().await?.hash {
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "the hash changes and changes"
            );
        }
        Ok(())
    })
}

#[test]
fn defragment_changes_nothing_that_can_be_read() -> Result<()> {
    check(async |t| {
        for number in 0..100 {
            t.put(put(format!("k{:02}", number % 20), vec![b'x'; 5000]))
                .await?;
        }
        t.delete(delete_range("k1", "k2")).await?;
        t.compact(CompactionRequest {
            revision: 100,
            physical: true,
        })
        .await?;
        let before = t.hash_kv(HashKvRequest { revision: 0 }).await?;
        let answer = t.defragment().await?;
        expect("header", answer.header, None)?;
        let after = t.hash_kv(HashKvRequest { revision: 0 }).await?;
        expect("hash", after.hash, before.hash)?;
        t.range(RangeRequest {
            keys_only: true,
            ..all()
        })
        .await?;
        t.put(put("a", "1")).await?;
        Ok(())
    })
}
