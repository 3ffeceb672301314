//! Many leases at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use metastore_conformance::build::{IntoOp, all, put, txn, watch_prefix};
use metastore_conformance::{Session, Setup, check_with, expect};
use metastore_proto::etcdserverpb::{LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest};

const AT_ONCE: usize = 256;
const MANY: i64 = 100_000;

async fn grant(t: &Session, ids: impl Iterator<Item = i64>, ttl: i64) -> Result<()> {
    let quiet = &t.unrecorded();
    let grants = futures::stream::iter(ids).map(|id| async move {
        let answer = quiet.lease_grant(ttl, id).await?;
        ensure!(answer.id == id && answer.ttl == ttl, "{answer:?}");
        Ok(())
    });
    grants
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
}

async fn listed(t: &Session) -> Result<usize> {
    Ok(t.unrecorded().leases().await?.leases.len())
}

#[test]
fn a_hundred_thousand_leases_live_side_by_side() -> Result<()> {
    let setup = Setup::single().within(Duration::from_secs(500));
    check_with(&setup, async |t| {
        grant(t, 1..=MANY, 100_000).await?;
        expect("listed", listed(t).await?, MANY as usize)?;
        for id in (1..=MANY).step_by(10_000) {
            t.put(PutRequest {
                lease: id,
                ..put(format!("k{id:06}"), "v")
            })
            .await?;
        }
        let mut renewals = t.keep_alive();
        for id in (1..=MANY).step_by(10_000) {
            expect("renewed", renewals.renew(id).await?.ttl, 100_000)?;
            let request = LeaseTimeToLiveRequest { id, keys: true };
            expect("keys", t.lease_time_to_live(request).await?.keys.len(), 1)?;
        }
        t.lease_revoke(LeaseRevokeRequest { id: 10_001 }).await?;
        t.cluster().await.member(0).kill()?;
        t.cluster().await.member(0).start().await?;
        let t = &t.again().await?;
        expect("after a restart", listed(t).await?, MANY as usize - 1)?;
        let request = LeaseTimeToLiveRequest {
            id: 20_001,
            keys: true,
        };
        expect("keys", t.lease_time_to_live(request).await?.keys.len(), 1)?;
        t.lease_revoke(LeaseRevokeRequest { id: 20_001 }).await?;
        expect("left", t.range(all()).await?.count, 8)
    })
}

#[test]
fn two_thousand_leases_run_out_together() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let quiet = &t.unrecorded();
        let start = Instant::now();
        grant(t, 1..=2000, 10).await?;
        for from in (1..=2000).step_by(100) {
            let puts = (from..from + 100).map(|id| {
                PutRequest {
                    lease: id,
                    ..put(format!("k{id:04}"), "v")
                }
                .op()
            });
            quiet.txn(txn([], puts, [])).await?;
        }
        let granted = start.elapsed();
        ensure!(
            granted < Duration::from_secs(9),
            "granting and attaching took {granted:?}, longer than the leases live"
        );
        let mut watching = quiet.watch();
        watching.created(watch_prefix("k")).await?;
        let mut keys = Vec::new();
        while keys.len() < 2000 {
            for event in watching.next_unrecorded().await?.events {
                keys.extend(event.kv.map(|kv| kv.key));
            }
        }
        let took = start.elapsed();
        ensure!(took >= Duration::from_secs(10), "gone after {took:?}");
        keys.sort_unstable();
        keys.dedup();
        expect("each key once", keys.len(), 2000)?;
        let page = quiet.range(all()).await?;
        t.record(
            "revision after one deletion for each lease",
            page.header.unwrap_or_default().revision.to_string(),
        );
        expect("left", page.count, 0)
    })
}
