//! Members and apiservers end and come back under work: nothing acknowledged is lost, informers go on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, config_map, items, name, version};
use metastore_apiserver_tests::{Address, Informer, Refused, Setup, World, check, eventually};
use metastore_harness::{Cluster, Member};
use serde_json::json;

const RECOVERY: Duration = Duration::from_secs(120);

/// What a writer was told.
#[derive(Default)]
struct Written {
    /// The newest acknowledged version of every object.
    acknowledged: BTreeMap<String, u64>,
    /// How many writes were answered with success.
    writes: usize,
    /// How many were not.
    failures: usize,
}

/// What writers and their disturber tell each other.
#[derive(Default)]
struct Work {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Work {
    /// Waits until `count` more writes have been acknowledged.
    async fn more(&self, count: usize) -> Result<()> {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        eventually(RECOVERY, async || {
            let acknowledged = self.acknowledged.load(Ordering::Relaxed);
            ensure!(acknowledged >= wanted, "{acknowledged} of {wanted} writes");
            Ok(())
        })
        .await
    }
}

/// Creates and changes objects, one at a time, until told to stop; goes on after failures.
async fn write(address: &Address, prefix: &str, work: &Work) -> Written {
    let mut written = Written::default();
    let mut client = None;
    let mut number = 0;
    while !work.stop.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("{prefix}{:02}", number % 40);
        let outcome = async {
            let client = match &client {
                Some(client) => client,
                None => client.insert(address.client().await?),
            };
            let object = config_map(&name, &number.to_string());
            let path = format!("{CONFIG_MAPS}/{name}");
            match client.create(CONFIG_MAPS, &object).await {
                Ok(created) => version(&created),
                Err(error) => match error.downcast_ref::<Refused>() {
                    Some(refused) if refused.reason() == "AlreadyExists" => {
                        let patch = json!({"data": {"datum": number.to_string()}});
                        version(&client.patch(&path, "merge", &patch).await?)
                    }
                    _ => bail!(error),
                },
            }
        };
        match outcome.await {
            Ok(version) => {
                written.writes += 1;
                work.acknowledged.fetch_add(1, Ordering::Relaxed);
                written.acknowledged.insert(name, version);
            }
            Err(_) => {
                written.failures += 1;
                client = None;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    written
}

/// Waits until a write through the apiserver succeeds and it calls itself ready.
async fn recovered(world: &World, probe: &str) -> Result<()> {
    eventually(RECOVERY, async || {
        let api = world.apiserver.client().await?;
        let (status, text) = api.text("/readyz").await?;
        ensure!(status == 200, "/readyz: {status} {text}");
        match api.create(CONFIG_MAPS, &config_map(probe, "x")).await {
            Ok(_) => Ok(()),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) if refused.reason() == "AlreadyExists" => Ok(()),
                _ => Err(error),
            },
        }
    })
    .await
}

/// Lets writers and an informer work while `disturb` does its worst, then compares what they know.
async fn nothing_is_lost(
    world: &mut World,
    disturb: impl AsyncFnOnce(&mut World, &Work) -> Result<()>,
) -> Result<()> {
    let address = world.apiserver.address();
    let informer = Informer::start(address.clone(), CONFIG_MAPS);
    informer.wait(RECOVERY, |seen| seen.watches > 0).await?;
    let work = Work::default();
    let (one, two, outcome) = tokio::join!(
        write(&address, "one", &work),
        write(&address, "two", &work),
        async {
            let outcome = disturb(world, &work).await;
            work.stop.store(true, Ordering::Relaxed);
            outcome
        }
    );
    outcome?;
    let (writes, failures) = (one.writes + two.writes, one.failures + two.failures);
    eprintln!("{writes} writes were acknowledged, {failures} were not");
    ensure!(
        one.writes > 20 && two.writes > 20,
        "the writers hardly wrote"
    );
    let api = world.apiserver.client().await?;
    let last = version(&api.create(CONFIG_MAPS, &config_map("last", "x")).await?)?;
    let now: BTreeMap<String, u64> = items(&api.get(CONFIG_MAPS).await?)?
        .iter()
        .map(|item| Ok((name(item).to_owned(), version(item)?)))
        .collect::<Result<_>>()?;
    for (name, acknowledged) in one.acknowledged.iter().chain(&two.acknowledged) {
        // A write that was not acknowledged may have come after the last one that was.
        let found = now.get(name).copied().unwrap_or_default();
        ensure!(
            found >= *acknowledged,
            "{name}: {found}, but {acknowledged} was acknowledged"
        );
    }
    let seen = informer
        .wait(RECOVERY, |seen| seen.objects.get("last") == Some(&last))
        .await?;
    ensure!(seen.objects == now, "the informer has another state");
    eprintln!(
        "the informer saw {} changes with {} lists and {} watches",
        seen.changes.len(),
        seen.lists,
        seen.watches
    );
    Ok(())
}

#[test]
fn a_member_is_killed_and_started_again() -> Result<()> {
    check(&Setup::single(), async |world| {
        nothing_is_lost(world, async |world, work| {
            for round in 0..3 {
                work.more(60).await?;
                world.cluster.member(0).kill()?;
                world.cluster.member(0).start().await?;
                recovered(world, &format!("kill{round}")).await?;
            }
            world.cluster.member(0).stop().await?;
            world.cluster.member(0).start().await?;
            recovered(world, "stop").await
        })
        .await
    })
}

#[test]
fn a_member_is_started_again_under_an_apiserver_without_a_cache() -> Result<()> {
    let setup = Setup::single().flags(&["--watch-cache=false"]);
    check(&setup, async |world| {
        nothing_is_lost(world, async |world, work| {
            work.more(60).await?;
            world.cluster.member(0).kill()?;
            world.cluster.member(0).start().await?;
            recovered(world, "kill").await
        })
        .await
    })
}

#[test]
fn the_leader_of_three_is_killed() -> Result<()> {
    check(&Setup::three(), async |world| {
        nothing_is_lost(world, async |world, work| {
            for round in 0..3 {
                work.more(60).await?;
                let leader = running_leader(&mut world.cluster).await?;
                world.cluster.member(leader).kill()?;
                recovered(world, &format!("kill{round}")).await?;
                world.cluster.member(leader).start().await?;
            }
            Ok(())
        })
        .await
    })
}

async fn running_leader(cluster: &mut Cluster) -> Result<usize> {
    eventually(RECOVERY, async || cluster.leader().await).await
}

#[test]
fn three_members_are_restarted_one_after_another() -> Result<()> {
    check(&Setup::three(), async |world| {
        nothing_is_lost(world, async |world, work| {
            for index in 0..3 {
                work.more(60).await?;
                let member: &mut Member = world.cluster.member(index);
                member.stop().await?;
                member.start().await?;
                recovered(world, &format!("restart{index}")).await?;
            }
            Ok(())
        })
        .await
    })
}

#[test]
fn the_apiserver_is_started_again() -> Result<()> {
    check(&Setup::single(), async |world| {
        nothing_is_lost(world, async |world, work| {
            work.more(60).await?;
            world.apiserver.process()?.kill()?;
            world.apiserver.launch()?;
            world.apiserver.ready().await?;
            recovered(world, "again").await
        })
        .await
    })
}
