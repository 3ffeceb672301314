//! kube-apiserver's flags about its store.

use std::time::Duration;

use anyhow::{Result, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, EVENTS, config_map, event, items};
use metastore_apiserver_tests::{ApiServer, Refused, Setup, check, create_many, eventually};
use metastore_harness::{Cluster, Ending, Spec};
use metastore_proto::etcdserverpb::RangeRequest;

async fn holds(cluster: &Cluster, key: &str) -> Result<bool> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = cluster.clients(0).await?.kv.range(request).await?;
    Ok(answer.into_inner().count == 1)
}

#[test]
fn events_live_in_a_store_of_their_own() -> Result<()> {
    check(&Setup::single(), async |world| {
        let events = Cluster::start(&Spec::new(world.cluster.target(), 1)).await?;
        let mut options = world.options();
        options.flags.push(format!(
            "--etcd-servers-overrides=/events#{}",
            events.members()[0].client_url()
        ));
        let second = ApiServer::start(options).await?;
        let api = second.client().await?;
        api.create(EVENTS, &event("apart")).await?;
        api.create(CONFIG_MAPS, &config_map("here", "x")).await?;
        let (event, object) = (
            "/registry/events/default/apart",
            "/registry/configmaps/default/here",
        );
        ensure!(
            holds(&events, event).await? && !holds(&world.cluster, event).await?,
            "events"
        );
        ensure!(
            holds(&world.cluster, object).await? && !holds(&events, object).await?,
            "the rest"
        );
        ensure!(items(&api.get(EVENTS).await?)?.len() == 1, "it is listed");
        // The first apiserver, which knows one store, sees the ConfigMap alone.
        world.api.get(&format!("{CONFIG_MAPS}/here")).await?;
        let gone = Refused::of(world.api.get(&format!("{EVENTS}/apart")).await)?;
        ensure!(gone.reason() == "NotFound", "{gone}");
        Ok(())
    })
}

#[test]
fn two_prefixes_share_a_store() -> Result<()> {
    check(&Setup::single(), async |world| {
        let mut options = world.options();
        options.flags.push("--etcd-prefix=/tenants/two".to_owned());
        let second = ApiServer::start(options).await?;
        let api = second.client().await?;
        world
            .api
            .create(CONFIG_MAPS, &config_map("a", "one"))
            .await?;
        api.create(CONFIG_MAPS, &config_map("a", "two")).await?;
        for (api, datum) in [(&world.api, "one"), (&api, "two")] {
            let object = api.get(&format!("{CONFIG_MAPS}/a")).await?;
            ensure!(object["data"]["datum"] == datum, "{object}");
        }
        ensure!(
            holds(&world.cluster, "/tenants/two/configmaps/default/a").await?,
            "its key"
        );
        api.delete(&format!("{CONFIG_MAPS}/a")).await?;
        world.api.get(&format!("{CONFIG_MAPS}/a")).await?;
        Ok(())
    })
}

#[test]
fn client_certificates_open_the_store() -> Result<()> {
    check(&Setup::single().tls(), async |world| {
        let objects = (0..200).map(|number| config_map(&format!("c{number:04}"), "x"));
        create_many(&world.api, CONFIG_MAPS, objects).await?;
        let list = world.api.get(&format!("{CONFIG_MAPS}?limit=50")).await?;
        ensure!(items(&list)?.len() == 50, "a page");
        // Without a certificate the store stays closed, and the apiserver gives up.
        let mut options = world.options();
        if let Some(tls) = &mut options.tls {
            tls.identity = None;
        }
        let mut stranger = ApiServer::prepare(options)?;
        stranger.launch()?;
        let ending = stranger.process()?.wait(Duration::from_secs(180)).await?;
        // 1 or 255, as its version has it.
        ensure!(
            matches!(ending, Ending::Code(code) if code != 0),
            "{ending:?}"
        );
        Ok(())
    })
}

#[test]
fn three_members_over_tls() -> Result<()> {
    check(&Setup::three().tls(), async |world| {
        let objects = (0..200).map(|number| config_map(&format!("c{number:04}"), "x"));
        create_many(&world.api, CONFIG_MAPS, objects).await?;
        let leader = world.cluster.leader().await?;
        world.cluster.member(leader).stop().await?;
        eventually(Duration::from_secs(60), async || {
            let list = world.api.get(CONFIG_MAPS).await?;
            ensure!(
                items(&list)?.len() >= 200,
                "{} objects",
                items(&list)?.len()
            );
            world
                .api
                .create(CONFIG_MAPS, &config_map("after", "x"))
                .await
        })
        .await
        .map(drop)
    })
}
