//! A member that was away for longer than the log is kept is sent the state, and both sides count it.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, bail};
use metastore_conformance::build::put;
use metastore_conformance::{Session, runtime, sizes, targets};
use metastore_harness::{Cluster, Spec, Target};
use tokio::sync::Mutex;

use super::load::eventually;
use super::page::Page;

/// More entries than a member keeps in any case for one that is a moment behind.
const WRITES: usize = 11_000;
/// Written at a time, until the log has been shortened.
const MORE: usize = 200;

/// What the sender shows, with the receiver's id; what the receiver shows, with the sender's.
const SENT: [&str; 3] = [
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_send_total_duration_seconds",
    "etcd_disk_backend_snapshot_duration_seconds",
];
const RECEIVED: [&str; 4] = [
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_receive_total_duration_seconds",
    "etcd_snap_db_fsync_duration_seconds",
    "etcd_snap_db_save_total_duration_seconds",
];

/// Keeps the log short.
fn flags(target: Target) -> Vec<&'static str> {
    match target {
        Target::Etcd => vec!["--snapshot-count=1000", "--snapshot-catchup-entries=100"],
        Target::MetaStore(_) => vec!["--raft-log-retention-bytes=4194304"],
    }
}

async fn write(t: &Session, count: usize) -> Result<()> {
    for number in 0..count {
        t.put(put(format!("k{}", number % 100), vec![b'x'; 1000]))
            .await?;
    }
    Ok(())
}

/// The families about states on their way, with their types and labels.
async fn send_one(target: Target) -> Result<BTreeSet<String>> {
    let spec = Spec::new(target, 3).with_flags(flags(target));
    let mut cluster = Cluster::start(&spec).await?;
    let leader = cluster.leader().await?;
    let away = (leader + 1) % 3;
    let id = |index: usize| format!("{:x}", cluster.members()[index].id());
    // Whoever leads by then sends it.
    let others = [leader, (leader + 2) % 3];
    let (away_id, other_ids) = (id(away), others.map(id));
    cluster.member(away).stop().await?;
    let t = Session::open(Arc::new(Mutex::new(cluster)), leader).await?;
    let (t, shortened) = (t.unrecorded(), "etcd_snap_fsync_duration_seconds");
    write(&t, WRITES).await?;
    let before = Page::get(&t).await?.value(shortened, "");
    eventually("the log should be shortened", async || {
        write(&t, MORE).await?;
        Ok(Page::get(&t).await?.value(shortened, "") > before)
    })
    .await?;
    t.cluster().await.member(away).start().await?;
    let receiver = t.at(away).await?.unrecorded();
    let other = t.at(others[1]).await?.unrecorded();
    let missing = async || -> Result<Vec<&str>> {
        let senders = [Page::get(&t).await?, Page::get(&other).await?];
        let received = Page::get(&receiver).await?;
        let shows = |page: &Page, name: &str, id: &str| {
            let of_peer = name.starts_with("etcd_network_");
            page.value(name, if of_peer { id } else { "" }) > 0.0
        };
        let sent = SENT
            .into_iter()
            .filter(|name| !senders.iter().any(|page| shows(page, name, &away_id)));
        let received = RECEIVED
            .into_iter()
            .filter(|name| !other_ids.iter().any(|id| shows(&received, name, id)));
        Ok(sent.chain(received).collect())
    };
    let counted = eventually("a state should be sent and received", async || {
        Ok(missing().await?.is_empty())
    });
    if let Err(error) = counted.await {
        bail!("{target}: {error}; not shown: {:?}", missing().await?);
    }
    let mut families = BTreeSet::new();
    for session in [&t, &other, &receiver] {
        let page = Page::get(session).await?;
        let all = page.families().into_iter();
        let of_states = all.filter(|(name, _)| name.starts_with("etcd_network_snapshot_"));
        families.extend(of_states.map(|(name, family)| format!("{name} {family}")));
    }
    // One that fails is tried again, on either program.
    families.retain(|family| !family.contains("_failures "));
    Ok(families)
}

#[test]
fn a_state_that_is_sent_to_a_member_is_counted_on_both_sides() -> Result<()> {
    if !sizes()?.contains(&3) {
        return Ok(());
    }
    runtime()?.block_on(async {
        let reference = send_one(Target::Etcd).await?;
        for target in targets()? {
            let families = send_one(target).await?;
            if families != reference {
                bail!("{target} shows {families:?}, etcd {reference:?}");
            }
        }
        Ok(())
    })
}
