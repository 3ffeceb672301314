//! Events, which live on leases that many of them share.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{EVENTS, event, items, version};
use metastore_apiserver_tests::{Setup, World, check, create_many, eventually};
use metastore_proto::etcdserverpb::{LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeRequest};
use metastore_proto::mvccpb::KeyValue;

async fn stored(world: &World, prefix: &str) -> Result<Vec<KeyValue>> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().context("a prefix")? += 1;
    let request = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end.into(),
        ..RangeRequest::default()
    };
    let answer = world.cluster.clients(0).await?.kv.range(request).await?;
    Ok(answer.into_inner().kvs)
}

async fn granted(world: &World, id: i64) -> Result<i64> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let mut clients = world.cluster.clients(0).await?;
    Ok(clients
        .lease
        .lease_time_to_live(request)
        .await?
        .into_inner()
        .granted_ttl)
}

async fn vanish(world: &World) -> Result<()> {
    const COUNT: usize = 1_500;
    let api = &world.api;
    let from = version(&api.get(EVENTS).await?)?;
    let path = format!("{EVENTS}?watch=true&resourceVersion={from}");
    let mut watching = world.apiserver.client().await?.watch(&path).await?;
    create_many(
        api,
        EVENTS,
        (0..COUNT).map(|number| event(&format!("e{number:04}"))),
    )
    .await?;
    let kvs = stored(world, "/registry/events/").await?;
    let leases: BTreeSet<i64> = kvs.iter().map(|kv| kv.lease).collect();
    // No more than 1 000 objects share a lease.
    ensure!(
        leases.len() >= 2 && !leases.contains(&0),
        "{} events on the leases {leases:?}",
        kvs.len()
    );
    let newest = kvs.last().map_or(0, |kv| kv.lease);
    let ttl = granted(world, newest).await?;
    ensure!(ttl == 45, "a lease of {ttl} s");

    let changes = watching
        .changes(2 * COUNT, Duration::from_secs(150))
        .await?;
    // On a busy machine the first may be gone before the last is there.
    for kind in ["ADDED", "DELETED"] {
        let count = changes.iter().filter(|change| change.kind == kind).count();
        ensure!(count == COUNT, "{count} of {COUNT} {kind}");
    }
    let list = api.get(EVENTS).await?;
    ensure!(items(&list)?.is_empty(), "{} are left", items(&list)?.len());
    ensure!(
        stored(world, "/registry/events/").await?.is_empty(),
        "keys are left"
    );
    let mut clients = world.cluster.clients(0).await?;
    let left = clients.lease.lease_leases(LeaseLeasesRequest {}).await?;
    let left = left.into_inner().leases;
    ensure!(
        left.iter().all(|lease| !leases.contains(&lease.id)),
        "{left:?}"
    );
    Ok(())
}

#[test]
fn events_vanish_after_their_ttl() -> Result<()> {
    let setup = Setup::single().flags(&["--event-ttl=45s", "--lease-reuse-duration-seconds=0"]);
    check(&setup, async |world| vanish(world).await)
}

#[test]
fn events_vanish_from_three_members() -> Result<()> {
    let setup = Setup::three().flags(&["--event-ttl=45s", "--lease-reuse-duration-seconds=0"]);
    check(&setup, async |world| vanish(world).await)
}

#[test]
fn leases_are_shared_for_the_reuse_duration() -> Result<()> {
    let setup = Setup::single().flags(&["--event-ttl=200s", "--lease-reuse-duration-seconds=4"]);
    check(&setup, async |world| {
        let api = &world.api;
        let begun = Instant::now();
        api.create(EVENTS, &event("first")).await?;
        let lease = stored(world, "/registry/events/default/first").await?[0].lease;
        let ttl = granted(world, lease).await?;
        // The TTL and a twentieth of it, but no more than the flag says.
        ensure!(ttl == 204, "a lease of {ttl} s");
        let mut number = 0;
        eventually(Duration::from_secs(60), async || {
            number += 1;
            let name = format!("e{number}");
            api.create(EVENTS, &event(&name)).await?;
            let kvs = stored(world, &format!("/registry/events/default/{name}")).await?;
            ensure!(kvs[0].lease != lease, "still the first lease");
            Ok(())
        })
        .await?;
        let shared = begun.elapsed();
        ensure!(shared > Duration::from_secs(3), "only for {shared:?}");
        // The apiserver itself is written down under a lease that it renews.
        let own = stored(world, "/registry/masterleases/").await?;
        ensure!(own.len() == 1 && own[0].lease != 0, "{own:?}");
        Ok(())
    })
}
