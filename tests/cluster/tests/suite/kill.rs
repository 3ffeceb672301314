//! kill -9 under load.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metastore_cluster_tests::load::{Load, Shape};
use metastore_cluster_tests::soak;
use metastore_cluster_tests::trouble::{Victim, kill, revive};
use metastore_cluster_tests::verify::{nothing_is_lost, urls};
use metastore_cluster_tests::witness::Witnesses;
use metastore_harness::{Cluster, Engine, Spec, Target};
use rand::Rng;

const RECOVERY: Duration = Duration::from_secs(60);

/// What a loop of kills has seen.
struct Seen {
    kills: usize,
    acknowledged: usize,
    unknown: usize,
    answers: u64,
}

/// Kills `victims` in turn under load until `enough`, then looks at everything.
async fn kill_again_and_again(
    engine: Engine,
    size: usize,
    victims: &[Victim],
    enough: impl Fn(usize) -> bool,
) -> Result<Seen> {
    let mut cluster = Cluster::start(&Spec::new(Target::MetaStore(engine), size)).await?;
    let urls = urls(&cluster);
    let shape = Shape::default();
    let load = Load::start("kill", &urls, &shape)?;
    let witnesses = Witnesses::start(&urls, &load.told())?;
    let mut kills = 0;
    for victim in victims.iter().cycle() {
        load.progress(200, RECOVERY).await?;
        // Not always in the same phase of whatever the members do in the background.
        let rest = rand::rng().random_range(0..400);
        tokio::time::sleep(Duration::from_millis(rest)).await;
        let hit = kill(&mut cluster, *victim).await?;
        kills += 1;
        if *victim != Victim::All && size > 1 {
            // The others go on without it.
            load.progress(50, RECOVERY).await?;
        }
        revive(&mut cluster, &hit, &witnesses).await?;
        if enough(kills) {
            break;
        }
    }
    load.progress(100, RECOVERY).await?;
    let writes = load.finish().await?;
    let answers = witnesses.finish().await?;
    ensure!(answers > 0, "nobody ever answered a witness");
    nothing_is_lost(&urls, &writes, shape.value_bytes).await?;
    Ok(Seen {
        kills,
        acknowledged: writes.acknowledged.len(),
        unknown: writes.unknown.len(),
        answers,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_on_rocksdb_loses_nothing() -> Result<()> {
    kill_again_and_again(Engine::RocksDb, 1, &[Victim::All], |kills| kills == 5).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_in_memory_loses_nothing() -> Result<()> {
    kill_again_and_again(Engine::Memory, 1, &[Victim::All], |kills| kills == 5).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_lose_nothing_whoever_is_killed() -> Result<()> {
    let victims = [
        Victim::Leader,
        Victim::Follower,
        Victim::All,
        Victim::Leader,
    ];
    let all = victims.len();
    kill_again_and_again(Engine::RocksDb, 3, &victims, |kills| kills == all).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_lose_nothing_and_go_on_when_two_are_killed_at_once() -> Result<()> {
    let victims = [Victim::Minority, Victim::All, Victim::Minority];
    let all = victims.len();
    kill_again_and_again(Engine::RocksDb, 5, &victims, |kills| kills == all).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_kills_one_member() -> Result<()> {
    soak(1, &[Victim::All]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_kills_three_members() -> Result<()> {
    soak(3, &[Victim::Leader, Victim::Follower, Victim::All]).await
}

async fn soak(size: usize, victims: &[Victim]) -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let end = Instant::now() + soak::duration() / 2;
        let seen = kill_again_and_again(engine, size, victims, |_| Instant::now() > end).await?;
        soak::report(&format!(
            "{engine:?}: {} kills, {} writes acknowledged and found, {} without an answer, {} revisions witnessed",
            seen.kills, seen.acknowledged, seen.unknown, seen.answers
        ));
    }
    Ok(())
}
