//! Watches: nothing lost, doubled or out of order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, config_map, version};
use metastore_apiserver_tests::{
    Address, Change, Client, Refused, Setup, World, check, create_many, for_each,
};
use serde_json::json;

const LINE: Duration = Duration::from_secs(60);

/// 2 000 changes: 800 created, 800 changed, 400 deleted. Their versions, in order.
async fn two_thousand_changes(api: &Client) -> Result<Vec<u64>> {
    let objects = (0..800).map(|number| config_map(&format!("c{number:04}"), "first"));
    let mut versions = create_many(api, CONFIG_MAPS, objects).await?;
    versions.extend(
        for_each(0..800, 32, async |number| {
            let path = format!("{CONFIG_MAPS}/c{number:04}");
            let patch = json!({"data": {"datum": format!("second {number}")}});
            version(&api.patch(&path, "merge", &patch).await?)
        })
        .await?,
    );
    for_each(0..400, 32, async |number| {
        let path = format!("{CONFIG_MAPS}/c{number:04}");
        api.delete(&path).await.map(drop)
    })
    .await?;
    versions.sort_unstable();
    Ok(versions)
}

/// The versions of changes, which come in order and once each.
fn versions_in_order(changes: &[Change]) -> Result<Vec<u64>> {
    let versions = changes
        .iter()
        .map(Change::version)
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        versions.is_sorted_by(|left, right| left < right),
        "out of order or doubled: {versions:?}"
    );
    Ok(versions)
}

fn are_those(changes: &[Change], written: &[u64]) -> Result<()> {
    let versions = versions_in_order(changes)?;
    ensure!(
        versions[..1600] == *written,
        "the first 1600 changes are not those that were written"
    );
    for (index, (kind, datum)) in [("ADDED", "first"), ("MODIFIED", "second")]
        .into_iter()
        .enumerate()
    {
        let part = &changes[index * 800..(index + 1) * 800];
        ensure!(
            part.iter().all(|change| change.kind == kind
                && change.object["data"]["datum"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(datum))),
            "{kind} changes"
        );
    }
    // A deleted object comes with its last content: the store sends the previous value.
    ensure!(
        changes[1600..].iter().all(|change| change.kind == "DELETED"
            && change.object["data"]["datum"]
                .as_str()
                .is_some_and(|text| text.starts_with("second"))),
        "DELETED changes"
    );
    Ok(())
}

/// The next `count` changes after version `from`. An apiserver ends the watch of a reader that is slow, as on a
/// busy machine any is now and then: it goes on from the last version, like every informer.
async fn follow(address: Address, mut from: u64, count: usize) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    loop {
        let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}");
        let mut watching = address.client().await?.watch(&path).await?;
        while let Some(change) = watching.next(LINE).await? {
            ensure!(change.kind != "ERROR", "{change:?}");
            from = change.version()?;
            changes.push(change);
            if changes.len() == count {
                return Ok(changes);
            }
        }
    }
}

async fn nothing_is_lost(world: &World) -> Result<()> {
    let api = &world.api;
    let from = version(&api.get(CONFIG_MAPS).await?)?;
    let follower = || tokio::spawn(follow(world.apiserver.address(), from, 2_000));
    let mut followers = vec![follower(), follower(), follower()];
    let nobody =
        format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}&labelSelector=lab%3Dnone");
    let mut deaf = world.apiserver.client().await?.watch(&nobody).await?;
    let written = two_thousand_changes(api).await?;
    // One that begins at the same version after everything has happened.
    followers.push(follower());
    for follower in followers {
        are_those(&follower.await??, &written)?;
    }
    let quiet = deaf.next(Duration::from_secs(1)).await;
    ensure!(
        !matches!(quiet, Ok(Some(_))),
        "a selector let something through: {quiet:?}"
    );
    Ok(())
}

#[test]
fn two_thousand_changes_from_a_lists_version() -> Result<()> {
    check(&Setup::single(), async |world| nothing_is_lost(world).await)
}

#[test]
fn two_thousand_changes_straight_from_the_store() -> Result<()> {
    let setup = Setup::single().flags(&["--watch-cache=false"]);
    check(&setup, async |world| nothing_is_lost(world).await)
}

#[test]
fn two_thousand_changes_from_a_follower() -> Result<()> {
    check(&Setup::three(), async |world| nothing_is_lost(world).await)
}

async fn begins_with_a_list(world: &World) -> Result<()> {
    let api = &world.api;
    let objects = (0..1_500).map(|number| config_map(&format!("c{number:04}"), "first"));
    create_many(api, CONFIG_MAPS, objects).await?;
    // What this client has written must be among the initial events: they are a consistent list.
    let newest = version(&api.create(CONFIG_MAPS, &config_map("newest", "x")).await?)?;
    let mut watching = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
        ))
        .await?;
    let mut names = Vec::new();
    let end = loop {
        let change = watching.next(LINE).await?.context("the watch ended")?;
        if change.ends_initial_events() {
            break change.version()?;
        }
        ensure!(change.kind == "ADDED", "{change:?}");
        names.push(change.name().to_owned());
    };
    names.sort();
    names.dedup();
    ensure!(names.len() == 1_501, "{} objects", names.len());
    ensure!(end >= newest, "the list of {end} is older than {newest}");
    let after = version(&api.create(CONFIG_MAPS, &config_map("after", "x")).await?)?;
    let change = watching.changes(1, LINE).await?.remove(0);
    ensure!(
        change.kind == "ADDED" && change.version()? == after,
        "{change:?}"
    );
    Ok(())
}

#[test]
fn a_watch_that_begins_with_a_list() -> Result<()> {
    check(&Setup::single(), async |world| {
        begins_with_a_list(world).await
    })
}

#[test]
fn a_watch_that_begins_with_a_list_of_the_store() -> Result<()> {
    let setup = Setup::single().flags(&["--watch-cache=false"]);
    check(&setup, async |world| begins_with_a_list(world).await)
}

#[test]
fn a_hundred_watches_of_one_apiserver() -> Result<()> {
    let setup = Setup::single().flags(&["--watch-cache=false"]);
    check(&setup, async |world| {
        // Without a cache each is a watch of its own in the store, all of them on few streams.
        let from = version(&world.api.get(CONFIG_MAPS).await?)?;
        let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}");
        let mut watches = Vec::new();
        for _ in 0..5 {
            let client = world.apiserver.client().await?;
            for _ in 0..20 {
                watches.push(client.watch(&path).await?);
            }
        }
        let objects = (0..100).map(|number| config_map(&format!("c{number:04}"), "x"));
        let written = create_many(&world.api, CONFIG_MAPS, objects).await?;
        let (first, last) = (written.iter().min(), written.iter().max());
        for watching in &mut watches {
            let changes = watching.changes(100, LINE).await?;
            let versions = versions_in_order(&changes)?;
            ensure!(
                (versions.first(), versions.last()) == (first, last),
                "{versions:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_watch_of_a_version_to_come_is_refused() -> Result<()> {
    check(&Setup::single(), async |world| {
        let ahead = version(&world.api.get(CONFIG_MAPS).await?)? + 1_000_000;
        let path =
            format!("{CONFIG_MAPS}?resourceVersion={ahead}&resourceVersionMatch=NotOlderThan");
        let refused = Refused::of(world.api.get(&path).await)?;
        ensure!(refused.reason() == "Timeout", "{refused}");
        Ok(())
    })
}
