//! What is counted only when something goes wrong, or is slow.

use anyhow::{Result, ensure};
use metastore_conformance::build::{get, put, watch_prefix};
use metastore_conformance::{Session, Setup, check_with};

use super::load::eventually;
use super::page::Page;
use crate::flags::restart_with;

/// What a member that has lost its quorum counts.
const WITHOUT_QUORUM: [&str; 3] = [
    "etcd_server_proposals_failed_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_server_health_failures",
];
const FAILED_READS: &str = "etcd_server_read_indexes_failed_total";
const SLOW_WATCHERS: &str = "etcd_debugging_mvcc_slow_watcher_total";
const SLOW_APPLIES: &str = "etcd_server_slow_apply_total";

async fn value(t: &Session, name: &str) -> Result<f64> {
    Ok(Page::get(t).await?.value(name, ""))
}

/// Lets every other member's clock stand still, or go on.
async fn pause_others(t: &Session, paused: bool) -> Result<()> {
    let mut cluster = t.cluster().await;
    for index in (0..t.size()).filter(|index| *index != t.index()) {
        match paused {
            true => cluster.member(index).pause()?,
            false => cluster.member(index).resume()?,
        }
    }
    Ok(())
}

#[test]
fn what_fails_without_a_quorum_is_counted() -> Result<()> {
    check_with(&Setup::three().leader(), async |t| {
        let quiet = t.unrecorded();
        quiet.put(put("a", "1")).await?;
        let before = Page::get(t).await?;
        pause_others(t, true).await?;
        let (written, read) = tokio::join!(quiet.put(put("a", "2")), quiet.range(get("a")));
        ensure!(written.is_err(), "written without a quorum");
        ensure!(read.is_err(), "read without a quorum");
        let health = quiet.http_get("/health").await?;
        ensure!(health.status == 503, "{health:?}");
        let after = Page::get(t).await?;
        for name in WITHOUT_QUORUM {
            let by = after.value(name, "") - before.value(name, "");
            ensure!(by >= 1.0, "{name} has moved by {by}");
        }
        // A read that waits while a leader is elected.
        let waiting = {
            let quiet = quiet.clone();
            tokio::spawn(async move { quiet.range(get("a")).await.is_ok() })
        };
        pause_others(t, false).await?;
        // Whether it is answered in the end is another matter.
        let _ = waiting.await?;
        eventually("a read that failed should be counted", async || {
            Ok(value(t, FAILED_READS).await? > before.value(FAILED_READS, ""))
        })
        .await?;
        eventually("the cluster should work again", async || {
            Ok(quiet.put(put("a", "3")).await.is_ok())
        })
        .await
    })
}

#[test]
fn a_watcher_that_does_not_read_is_slow_until_it_has_read() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let quiet = t.unrecorded();
        let mut watching = quiet.watch();
        watching.created(watch_prefix("slow/")).await?;
        ensure!(value(t, SLOW_WATCHERS).await? == 0.0, "slow at once");
        let mut written = 0;
        eventually("the watcher should be slow", async || {
            for _ in 0..50 {
                let key = format!("slow/{}", written % 10);
                quiet.put(put(key, vec![b'x'; 10_000])).await?;
                written += 1;
            }
            Ok(value(t, SLOW_WATCHERS).await? == 1.0)
        })
        .await?;
        let mut read = 0;
        while read < written {
            read += watching.next_unrecorded().await?.events.len();
        }
        ensure!(read == written, "{read} events of {written}");
        eventually("the watcher should be slow no more", async || {
            Ok(value(t, SLOW_WATCHERS).await? == 0.0)
        })
        .await
    })
}

#[test]
fn what_takes_longer_to_apply_than_it_may_is_counted() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for (flag, counts) in [
            ("--warning-apply-duration=1h", false),
            ("--warning-apply-duration=1ns", true),
        ] {
            let t = restart_with(t, &[flag.to_owned()]).await?;
            let quiet = t.unrecorded();
            quiet.put(put("a", "1")).await?;
            quiet.range(get("a")).await?;
            let slow = value(&t, SLOW_APPLIES).await?;
            ensure!((slow > 0.0) == counts, "{flag}: {slow} slow ones");
        }
        Ok(())
    })
}
