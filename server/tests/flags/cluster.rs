//! What shows only among several members.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metastore_harness::{Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::StatusRequest;

use crate::run;

/// The term of a follower that has lost both others, after a while.
async fn terms_of_a_lonely_follower(flag: &str) -> Result<(u64, u64)> {
    let spec = Spec::new(Target::MetaStore(Engine::Memory), 3).with_flags([
        flag,
        "--heartbeat-interval=50",
        "--election-timeout=300",
    ]);
    let mut cluster = Cluster::start(&spec).await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let mut maintenance = cluster.clients(follower).await?.maintenance;
    let before = maintenance
        .status(StatusRequest {})
        .await?
        .into_inner()
        .raft_term;
    for index in (0..3).filter(|index| *index != follower) {
        cluster.member(index).kill()?;
    }
    let since = Instant::now();
    let mut after = before;
    while after == before && since.elapsed() < Duration::from_secs(8) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = maintenance
            .status(StatusRequest {})
            .await?
            .into_inner()
            .raft_term;
    }
    Ok((before, after))
}

#[test]
fn a_follower_that_is_cut_off_raises_its_term_only_without_pre_vote() -> Result<()> {
    run(async {
        let (before, after) = terms_of_a_lonely_follower("--pre-vote=true").await?;
        ensure!(before == after, "term {before} became {after}");
        let (before, after) = terms_of_a_lonely_follower("--pre-vote=false").await?;
        ensure!(before < after, "term {before} stayed {after}");
        Ok(())
    })
}
