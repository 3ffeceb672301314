//! What moves the metrics of one member: every kind of request at least once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{IntoOp, all, compare, delete, get, put, txn, watch};
use metastore_conformance::{Session, Watching};
use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use metastore_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, HashKvRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest,
};

/// Waits until `ready` says so, on a busy machine too.
pub(crate) async fn eventually(
    what: &str,
    mut ready: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !ready().await? {
        ensure!(start.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Sends the load; what is returned keeps a watch open, without which those metrics would go back.
pub(super) async fn run(t: &Session) -> Result<Watching> {
    let t = &t.unrecorded();
    keys(t).await?;
    let watching = watched(t).await?;
    leases(t).await?;
    maintenance(t).await?;
    for path in ["/health", "/livez", "/readyz"] {
        expect_ok(t, path).await?;
    }
    Ok(watching)
}

async fn keys(t: &Session) -> Result<()> {
    for number in 0..10 {
        t.put(put(format!("k{number}"), vec![b'x'; 2000])).await?;
    }
    t.range(all()).await?;
    let serializable = RangeRequest {
        serializable: true,
        ..get("k1")
    };
    t.range(serializable).await?;
    let future = RangeRequest {
        revision: 1_000_000,
        ..get("k1")
    };
    ensure!(t.range(future).await.is_err(), "a revision of the future");
    t.delete(delete("k1")).await?;
    t.txn(txn([], [], [])).await?;
    // A compare and a write: two transactions of one operation each.
    let exists = compare("k2", CompareResult::Greater, TargetUnion::Version(0));
    t.txn(txn([exists], [put("k2", "2").op()], [])).await?;
    let two = [put("k3", "3").op(), put("k4", "4").op()];
    t.txn(txn([], two, [])).await?;
    let two = [get("k3").op(), get("k4").op()];
    t.txn(txn([], two, [])).await?;
    let prev_kv = PutRequest {
        prev_kv: true,
        ..put("k5", "5")
    };
    t.put(prev_kv).await?;
    Ok(())
}

async fn watched(t: &Session) -> Result<Watching> {
    let mut watching = t.watch();
    watching.created(watch("k6")).await?;
    t.put(put("k6", "again")).await?;
    watching.events(1).await?;
    watching.progress().await?;
    Ok(watching)
}

async fn leases(t: &Session) -> Result<()> {
    t.lease_grant(600, 1).await?;
    t.lease_grant(600, 2).await?;
    t.keep_alive().renew(1).await?;
    t.lease_revoke(LeaseRevokeRequest { id: 2 }).await?;
    t.lease_grant(1, 3).await?;
    eventually("a lease should run out", async || {
        let leases = t.leases().await?.leases;
        Ok(leases.iter().all(|lease| lease.id != 3))
    })
    .await
}

async fn maintenance(t: &Session) -> Result<()> {
    t.hash_kv(HashKvRequest { revision: 0 }).await?;
    t.hash().await?;
    let revision = t
        .range(get("k2"))
        .await?
        .header
        .context("a header")?
        .revision;
    t.compact(CompactionRequest {
        revision,
        physical: true,
    })
    .await?;
    t.defragment().await?;
    t.status().await?;
    for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
        no_space(t, action).await?;
    }
    Ok(())
}

/// Raises or disarms the alarm NOSPACE of the member.
pub(super) async fn no_space(t: &Session, action: AlarmAction) -> Result<()> {
    t.alarm(AlarmRequest {
        action: action.into(),
        member_id: t.member_id(),
        alarm: AlarmType::Nospace.into(),
    })
    .await?;
    Ok(())
}

async fn expect_ok(t: &Session, path: &str) -> Result<()> {
    let answer = t.http_get(path).await?;
    ensure!(answer.status == 200, "{path}: {answer:?}");
    Ok(())
}
