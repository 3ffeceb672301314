//! The apiserver's compactor: it races by `compact_rev_key`, compacts, and what was read at older revisions is gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, config_map, items, next_page, version};
use metastore_apiserver_tests::{
    ApiServer, Client, Refused, Setup, World, check, create_many, eventually,
};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest};
use serde_json::{Value, json};

/// Writes once, then fails until the store has compacted `revision`.
async fn compacted(world: &World, revision: u64) -> Result<()> {
    touch(&world.api).await?;
    let request = RangeRequest {
        key: "/registry/health".into(),
        revision: revision as i64,
        ..RangeRequest::default()
    };
    match world.cluster.clients(0).await?.kv.range(request).await {
        Ok(_) => anyhow::bail!("revision {revision} can still be read"),
        Err(status) => {
            ensure!(
                status.message() == "etcdserver: mvcc: required revision has been compacted",
                "{status:?}"
            );
            Ok(())
        }
    }
}

async fn touch(api: &Client) -> Result<()> {
    let path = format!("{CONFIG_MAPS}/c00");
    let patch = json!({"metadata": {"annotations": {"touched": null}}, "data": {"datum": fresh()}});
    api.patch(&path, "merge", &patch).await.map(drop)
}

/// A datum that no object has had.
fn fresh() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("touch {}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn fifty(api: &Client) -> Result<()> {
    let objects = (0..50).map(|number| config_map(&format!("c{number:02}"), "first"));
    create_many(api, CONFIG_MAPS, objects).await.map(drop)
}

/// Reads a page that is too old, and the rest with the token that the refusal offers.
async fn is_gone(api: &Client, first: &Value) -> Result<()> {
    let next = format!("{CONFIG_MAPS}?limit=10&continue={}", next_page(first));
    let refused = Refused::of(api.get(&next).await)?;
    ensure!(
        refused.code == 410 && refused.reason() == "Expired",
        "{refused}"
    );
    let offered = next_page(&refused.status);
    ensure!(!offered.is_empty(), "no token in {refused}");
    let rest = api
        .get(&format!("{CONFIG_MAPS}?limit=100&continue={offered}"))
        .await?;
    ensure!(items(&rest)?.len() == 40, "{} of 40", items(&rest)?.len());
    ensure!(version(&rest)? > version(first)?, "the rest is of now");
    Ok(())
}

#[test]
fn an_old_page_is_gone() -> Result<()> {
    let setup = Setup::single().flags(&["--watch-cache=false", "--etcd-compaction-interval=3s"]);
    check(&setup, async |world| {
        let api = &world.api;
        fifty(api).await?;
        let first = api.get(&format!("{CONFIG_MAPS}?limit=10")).await?;
        let at = version(&first)?;
        eventually(Duration::from_secs(90), async || compacted(world, at).await).await?;
        is_gone(api, &first).await?;
        let exact = format!("{CONFIG_MAPS}?resourceVersion={at}&resourceVersionMatch=Exact");
        let refused = Refused::of(api.get(&exact).await)?;
        ensure!(refused.code == 410, "{refused}");
        let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={at}");
        let change = api
            .watch(&path)
            .await?
            .next(Duration::from_secs(30))
            .await?
            .context("the watch ended")?;
        ensure!(
            change.kind == "ERROR" && change.object["code"] == 410,
            "{change:?}"
        );
        Ok(())
    })
}

#[test]
fn an_old_page_is_gone_from_the_cache_too() -> Result<()> {
    let setup = Setup::single().flags(&["--etcd-compaction-interval=3s"]);
    check(&setup, async |world| {
        fifty(&world.api).await?;
        // This one never compacts: that others did, its watch on compact_rev_key alone can tell it.
        let mut options = world.options();
        options.flags = vec!["--etcd-compaction-interval=1h".to_owned()];
        let second = ApiServer::start(options).await?;
        let patient = second.client().await?;
        let first = patient.get(&format!("{CONFIG_MAPS}?limit=10")).await?;
        let at = version(&first)?;
        eventually(Duration::from_secs(90), async || compacted(world, at).await).await?;
        eventually(Duration::from_secs(90), async || {
            is_gone(&patient, &first).await
        })
        .await
    })
}

#[test]
fn two_apiservers_take_turns() -> Result<()> {
    let setup = Setup::single().flags(&["--etcd-compaction-interval=3s"]);
    check(&setup, async |world| {
        fifty(&world.api).await?;
        let second = ApiServer::start(world.options()).await?;
        let mut clients = world.cluster.clients(0).await?;
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: "compact_rev_key".into(),
                ..WatchCreateRequest::default()
            })),
        };
        let requests = only(create);
        let mut answers = clients.watch.watch(requests).await?.into_inner();
        let (mut last, mut turns) = ((0, 0), 0);
        while turns < 6 {
            touch(&second.client().await?).await?;
            let answer = tokio::time::timeout(Duration::from_secs(60), answers.message())
                .await
                .context("nobody compacts")??
                .context("the watch ended")?;
            for event in answer.events {
                let kv = event.kv.unwrap_or_default();
                let revision: i64 = std::str::from_utf8(&kv.value)?.parse()?;
                ensure!(
                    last.0 == 0 || kv.version == last.0 + 1,
                    "{last:?}, then {kv:?}"
                );
                ensure!(
                    revision >= last.1 && revision < kv.mod_revision,
                    "{last:?}, then {kv:?}"
                );
                last = (kv.version, revision);
                turns += 1;
            }
        }
        eventually(Duration::from_secs(30), async || {
            compacted(world, last.1 as u64 - 1).await
        })
        .await?;
        for failed in ["compact failed", "failed to parse compact revision"] {
            let said = world.apiserver.log_lines(failed);
            ensure!(said.is_empty(), "{said:?}");
        }
        Ok(())
    })
}

/// One request, and no end after it.
fn only(request: WatchRequest) -> impl futures::Stream<Item = WatchRequest> {
    use futures::StreamExt;
    futures::stream::iter([request]).chain(futures::stream::pending())
}
