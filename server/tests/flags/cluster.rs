//! What shows only among several members.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_harness::{Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::StatusRequest;

use crate::{put, run};

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

/// How long a put waits for a quorum that never comes.
async fn patience_of_a_put(flag: &str) -> Result<Duration> {
    let spec = Spec::new(Target::MetaStore(Engine::Memory), 3)
        .with_flags(["--heartbeat-interval=100", flag]);
    let mut cluster = Cluster::start(&spec).await?;
    let follower = (cluster.leader().await? + 1) % 3;
    let mut clients = cluster.clients(follower).await?;
    for index in (0..3).filter(|index| *index != follower) {
        cluster.member(index).kill()?;
    }
    let since = Instant::now();
    while clients
        .maintenance
        .status(StatusRequest {})
        .await?
        .into_inner()
        .leader
        != 0
    {
        ensure!(since.elapsed() < Duration::from_secs(30), "a leader stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let since = Instant::now();
    let refused = clients.kv.put(put("a", b"1".to_vec())).await;
    refused.err().context("a put without a quorum")?;
    Ok(since.elapsed())
}

/// etcd's `ReqTimeout`: five seconds and two elections.
#[test]
fn a_request_waits_for_two_elections_and_five_seconds() -> Result<()> {
    run(async {
        for (flag, least) in [
            ("--election-timeout=500", 6),
            ("--election-timeout=2000", 9),
        ] {
            let took = patience_of_a_put(flag).await?;
            let least = Duration::from_secs(least);
            let most = least + Duration::from_millis(2500);
            ensure!((least..most).contains(&took), "{flag}: {took:?}");
        }
        Ok(())
    })
}

/// How long a cluster that starts again has no leader.
async fn leaderless_after_a_restart(flag: &str) -> Result<Duration> {
    let spec = Spec::new(Target::MetaStore(Engine::Memory), 3).with_flags([
        "--heartbeat-interval=100",
        "--election-timeout=10000",
        flag,
    ]);
    let mut cluster = Cluster::start(&spec).await?;
    cluster.leader().await?;
    for index in 0..3 {
        cluster.member(index).kill()?;
    }
    let since = Instant::now();
    for index in 0..3 {
        cluster.member(index).launch()?;
    }
    // Members are ready when they have a leader.
    for index in 0..3 {
        cluster.member(index).ready().await?;
    }
    Ok(since.elapsed())
}

#[test]
fn a_cluster_that_starts_again_waits_for_an_election_only_without_the_advance() -> Result<()> {
    run(async {
        let timeout = Duration::from_secs(10);
        let advanced = leaderless_after_a_restart("--initial-election-tick-advance=true").await?;
        ensure!(advanced < timeout, "advanced: {advanced:?}");
        let waited = leaderless_after_a_restart("--initial-election-tick-advance=false").await?;
        ensure!(waited >= timeout, "not advanced: {waited:?}");
        Ok(())
    })
}

/// How long a leader keeps a connection to a member that does nothing any more.
async fn patience_with_a_silent_member(flag: &str) -> Result<Duration> {
    let spec =
        Spec::new(Target::MetaStore(Engine::Memory), 3).with_flags(["--log-level=debug", flag]);
    let mut cluster = Cluster::start(&spec).await?;
    let leader = cluster.leader().await?;
    cluster.member((leader + 1) % 3).pause()?;
    let since = Instant::now();
    let given_up = |line: &str| {
        line.contains("a connection to a member has ended") && line.contains("timed out")
    };
    let leader = cluster.member(leader).process()?;
    leader
        .wait_for_line(given_up, Duration::from_secs(30))
        .await?;
    Ok(since.elapsed())
}

#[test]
fn a_silent_member_is_given_up_after_raft_read_timeout() -> Result<()> {
    run(async {
        let (short, long) = tokio::join!(
            patience_with_a_silent_member("--raft-read-timeout=5s"),
            patience_with_a_silent_member("--raft-read-timeout=12s"),
        );
        let (short, long) = (short?.as_secs_f64(), long?.as_secs_f64());
        ensure!((3.5..8.0).contains(&short), "5s: {short}");
        ensure!((9.0..17.0).contains(&long), "12s: {long}");
        Ok(())
    })
}
