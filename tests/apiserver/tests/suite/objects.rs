//! Objects are created, read, changed and deleted, one by one.

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{
    CONFIG_MAPS, DEFINITIONS, PODS, WIDGETS, config_map, definition, items, pod, version, widget,
};
use metastore_apiserver_tests::{Client, Refused, Setup, World, check, eventually, for_each};
use metastore_proto::etcdserverpb::RangeRequest;
use metastore_proto::mvccpb::KeyValue;
use serde_json::json;
use std::time::Duration;

/// What the store itself holds at this key.
async fn stored(world: &World, key: &str) -> Result<Option<KeyValue>> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    let answer = world.cluster.clients(0).await?.kv.range(request).await?;
    Ok(answer.into_inner().kvs.into_iter().next())
}

#[test]
fn config_maps() -> Result<()> {
    check(&Setup::single(), async |world| {
        let api = &world.api;
        let path = format!("{CONFIG_MAPS}/a");
        let created = api.create(CONFIG_MAPS, &config_map("a", "1")).await?;
        let first = version(&created)?;
        let kv = stored(world, "/registry/configmaps/default/a")
            .await?
            .context("the object is in the store")?;
        ensure!(kv.mod_revision as u64 == first && kv.version == 1, "{kv:?}");

        let twice = Refused::of(api.create(CONFIG_MAPS, &config_map("a", "2")).await)?;
        ensure!(twice.reason() == "AlreadyExists", "{twice}");

        let mut changed = created.clone();
        changed["data"]["datum"] = json!("2");
        let second = version(&api.replace(&path, &changed).await?)?;
        ensure!(second > first, "{second} after {first}");
        let stale = Refused::of(api.replace(&path, &changed).await)?;
        ensure!(stale.reason() == "Conflict", "{stale}");

        for (kind, value) in [("merge", "3"), ("strategic-merge", "4")] {
            let patched = api
                .patch(&path, kind, &json!({"data": {"datum": value}}))
                .await?;
            ensure!(patched["data"]["datum"] == value, "{patched}");
        }
        let operations = json!([{"op": "replace", "path": "/data/datum", "value": "5"}]);
        api.patch(&path, "json", &operations).await?;
        let mut wanted = config_map("a", "6");
        wanted["metadata"]["labels"]["lab"] = json!("applied");
        let applied = api
            .patch(
                &format!("{path}?fieldManager=lab&force=true"),
                "apply",
                &wanted,
            )
            .await?;
        ensure!(applied["data"]["datum"] == "6", "{applied}");

        // An update that changes nothing writes nothing.
        let again = api.replace(&path, &applied).await?;
        ensure!(version(&again)? == version(&applied)?, "{again}");

        let guarded = json!({"preconditions": {"resourceVersion": first.to_string()}});
        let refused = api
            .send(
                "DELETE",
                &path,
                "application/json",
                guarded.to_string().into(),
            )
            .await?;
        ensure!(refused.status == 409, "{refused:?}");
        api.delete(&path).await?;
        let gone = Refused::of(api.get(&path).await)?;
        ensure!(gone.reason() == "NotFound", "{gone}");
        let gone = Refused::of(api.delete(&path).await)?;
        ensure!(gone.reason() == "NotFound", "{gone}");
        ensure!(
            stored(world, "/registry/configmaps/default/a")
                .await?
                .is_none(),
            "the object is still in the store"
        );
        let anew = api.create(CONFIG_MAPS, &config_map("a", "7")).await?;
        ensure!(version(&anew)? > version(&applied)?, "{anew}");
        Ok(())
    })
}

#[test]
fn pods() -> Result<()> {
    check(&Setup::single(), async |world| {
        let api = &world.api;
        let mut held = pod("held");
        held["metadata"]["finalizers"] = json!(["lab.metastore.io/hold"]);
        api.create(PODS, &pod("free")).await?;
        api.create(PODS, &held).await?;
        let status = json!({"status": {"phase": "Running", "podIP": "192.0.2.7"}});
        let path = format!("{PODS}/held");
        let patched = api
            .patch(&format!("{path}/status"), "merge", &status)
            .await?;
        ensure!(patched["status"]["phase"] == "Running", "{patched}");
        let list = api
            .get(&format!("{PODS}?fieldSelector=status.phase%3DRunning"))
            .await?;
        ensure!(items(&list)?.len() == 1, "{list}");
        let bound = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "free"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
        });
        api.create(&format!("{PODS}/free/binding"), &bound).await?;

        // A finalizer keeps a deleted object until it is taken off.
        api.delete(&format!("{path}?gracePeriodSeconds=0")).await?;
        let terminating = api.get(&path).await?;
        ensure!(
            terminating["metadata"]["deletionTimestamp"].is_string(),
            "{terminating}"
        );
        let released = json!({"metadata": {"finalizers": null}});
        api.patch(&path, "merge", &released).await?;
        let gone = Refused::of(api.get(&path).await)?;
        ensure!(gone.reason() == "NotFound", "{gone}");
        api.delete(PODS).await?;
        ensure!(
            items(&api.get(PODS).await?)?.is_empty() || {
                // A pod that is bound to a node is only marked: no kubelet is here to end it.
                let left = api.get(PODS).await?;
                items(&left)?
                    .iter()
                    .all(|pod| pod["metadata"]["deletionTimestamp"].is_string())
            }
        );
        Ok(())
    })
}

/// Defines widgets and waits until they are served.
async fn define_widgets(api: &Client) -> Result<()> {
    api.create(DEFINITIONS, &definition()).await?;
    eventually(Duration::from_secs(60), async || {
        api.get(WIDGETS).await.map(drop)
    })
    .await
}

#[test]
fn custom_resources() -> Result<()> {
    check(&Setup::single(), async |world| {
        let api = &world.api;
        define_widgets(api).await?;
        // A definition that was just accepted may refuse writes for a moment.
        let created = eventually(Duration::from_secs(60), async || {
            api.create(WIDGETS, &widget("w", "small")).await
        })
        .await?;
        let path = format!("{WIDGETS}/w");
        let kv = stored(world, "/registry/lab.metastore.io/widgets/default/w")
            .await?
            .context("the object is in the store")?;
        ensure!(kv.mod_revision as u64 == version(&created)?, "{kv:?}");
        let patched = api
            .patch(&path, "merge", &json!({"spec": {"size": "large"}}))
            .await?;
        ensure!(patched["spec"]["size"] == "large", "{patched}");
        let mut watching = api
            .watch(&format!(
                "{WIDGETS}?watch=true&resourceVersion={}",
                version(&patched)?
            ))
            .await?;
        api.delete(&path).await?;
        let changes = watching.changes(1, Duration::from_secs(30)).await?;
        ensure!(changes[0].kind == "DELETED", "{changes:?}");

        // With its definition go the objects.
        api.create(WIDGETS, &widget("v", "small")).await?;
        let definition = format!("{DEFINITIONS}/widgets.lab.metastore.io");
        api.delete(&definition).await?;
        eventually(Duration::from_secs(90), async || {
            let gone = Refused::of(api.get(&definition).await)?;
            ensure!(gone.reason() == "NotFound", "{gone}");
            Ok(())
        })
        .await?;
        let left = stored(world, "/registry/lab.metastore.io/widgets/default/v").await?;
        ensure!(left.is_none(), "{left:?}");
        Ok(())
    })
}

#[test]
fn many_writers_of_one_object_lose_no_change() -> Result<()> {
    check(&Setup::single(), async |world| {
        let api = &world.api;
        api.create(CONFIG_MAPS, &config_map("shared", "")).await?;
        let path = format!("{CONFIG_MAPS}/shared");
        // The apiserver repeats a patch whose guard failed; a conflict that outlasts its attempts is the client's.
        for_each(0..200, 16, async |number| {
            let patch = json!({"data": {format!("k{number}"): "x"}});
            eventually(Duration::from_secs(60), async || {
                api.patch(&path, "merge", &patch).await.map(drop)
            })
            .await
        })
        .await?;
        let object = api.get(&path).await?;
        let data = object["data"].as_object().context("data")?;
        ensure!(data.len() == 201, "{} of 201 entries", data.len());
        Ok(())
    })
}
