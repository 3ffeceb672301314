//! The apiserver's watch cache, as fresh as the store: gates ConsistentListFromCache, ListFromCacheSnapshot and
//! DetectCacheInconsistency.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{
    CONFIG_MAPS, config_map, items, name, next_page, version,
};
use metastore_apiserver_tests::{Client, Metrics, Setup, check, create_many, eventually, for_each};
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// How often the apiserver listed this resource from the store itself.
fn store_lists(metrics: &Metrics, resource: &str) -> f64 {
    ["list", "listStream"]
        .iter()
        .map(|operation| {
            metrics.sum(
                "etcd_requests_total",
                &[("resource", resource), ("operation", operation)],
            )
        })
        .sum()
}

fn consistent_reads(metrics: &Metrics, labels: &[(&str, &str)]) -> f64 {
    metrics.sum("apiserver_watch_cache_consistent_read_total", labels)
}

/// Changes objects of its own until `stop`.
async fn churn(api: &Client, stop: &AtomicBool) -> Result<()> {
    let names: Vec<String> = (0..8).map(|number| format!("churn{number}")).collect();
    create_many(
        api,
        CONFIG_MAPS,
        names.iter().map(|name| config_map(name, "")),
    )
    .await?;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for_each(&names, 8, async |name| {
            let patch = json!({"data": {"datum": round.to_string()}});
            let path = format!("{CONFIG_MAPS}/{name}");
            api.patch(&path, "merge", &patch).await.map(drop)
        })
        .await?;
    }
    Ok(())
}

async fn every_list_has_the_last_write(api: &Client, rounds: usize) -> Result<()> {
    for round in 0..rounds {
        let own = format!("own{round:03}");
        let written = version(&api.create(CONFIG_MAPS, &config_map(&own, "x")).await?)?;
        let list = api.get(CONFIG_MAPS).await?;
        let found = items(&list)?.iter().find(|item| name(item) == own);
        let found = found.with_context(|| format!("{own} is not in a list after its create"))?;
        ensure!(version(found)? == written, "{found}");
        ensure!(version(&list)? >= written, "a list from before {written}");
        // Secrets do not change: only the store's progress tells the cache that it is fresh.
        let list = api.get(SECRETS).await?;
        ensure!(version(&list)? >= written, "a list from before {written}");
    }
    Ok(())
}

#[test]
fn lists_of_the_newest_state_come_from_the_cache() -> Result<()> {
    check(&Setup::single(), async |world| {
        const ROUNDS: usize = 60;
        let api = &world.api;
        let ready = version(&api.get(CONFIG_MAPS).await?)? + version(&api.get(SECRETS).await?)?;
        ensure!(ready > 0, "lists have versions");
        let before = world.apiserver.metrics().await?;
        let stop = AtomicBool::new(false);
        let (churned, listed) = tokio::join!(churn(api, &stop), async {
            let outcome = every_list_has_the_last_write(api, ROUNDS).await;
            stop.store(true, Ordering::Relaxed);
            outcome
        });
        churned.and(listed)?;
        let after = world.apiserver.metrics().await?;
        for resource in ["configmaps", "secrets"] {
            let served = [
                ("resource", resource),
                ("success", "true"),
                ("fallback", "false"),
            ];
            let count = consistent_reads(&after, &served) - consistent_reads(&before, &served);
            ensure!(
                count >= ROUNDS as f64,
                "{resource}: {count} of {ROUNDS} from the cache"
            );
            let lists = store_lists(&after, resource) - store_lists(&before, resource);
            ensure!(lists == 0.0, "{resource}: {lists} lists went to the store");
        }
        for bad in [("fallback", "true"), ("success", "false")] {
            ensure!(
                consistent_reads(&after, &[bad]) == 0.0,
                "{}",
                after.lines("apiserver_watch_cache_consistent_read_total")
            );
        }
        let unsupported = world
            .apiserver
            .log_lines("RequestWatchProgress feature is not supported");
        ensure!(unsupported.is_empty(), "{unsupported:?}");
        Ok(())
    })
}

fn names(list: &Value) -> Result<Vec<String>> {
    Ok(items(list)?
        .iter()
        .map(|item| name(item).to_owned())
        .collect())
}

#[test]
fn pages_and_exact_lists_come_from_snapshots() -> Result<()> {
    check(&Setup::single(), async |world| {
        let api = &world.api;
        let objects = (0..1_500).map(|number| config_map(&format!("c{number:04}"), "first"));
        create_many(api, CONFIG_MAPS, objects).await?;
        let list = api.get(CONFIG_MAPS).await?;
        let (at, all) = (version(&list)?, names(&list)?);
        let first = api.get(&format!("{CONFIG_MAPS}?limit=100")).await?;
        let more = (0..200).map(|number| config_map(&format!("b{number:04}"), "x"));
        create_many(api, CONFIG_MAPS, more).await?;
        let before = world.apiserver.metrics().await?;

        let exact = format!("{CONFIG_MAPS}?resourceVersion={at}&resourceVersionMatch=Exact");
        let then = api.get(&exact).await?;
        ensure!(
            names(&then)? == all && version(&then)? == at,
            "the past has changed"
        );
        let (mut paged, mut page) = (names(&first)?, next_page(&first).to_owned());
        while !page.is_empty() {
            let list = api
                .get(&format!("{CONFIG_MAPS}?limit=100&continue={page}"))
                .await?;
            ensure!(version(&list)? == version(&first)?, "pages at one revision");
            paged.extend(names(&list)?);
            page = next_page(&list).to_owned();
        }
        ensure!(
            paged == all,
            "{} of {} objects in pages",
            paged.len(),
            all.len()
        );

        let after = world.apiserver.metrics().await?;
        let lists = store_lists(&after, "configmaps") - store_lists(&before, "configmaps");
        ensure!(lists == 0.0, "{lists} lists went to the store");
        Ok(())
    })
}

#[test]
fn the_apiserver_finds_no_inconsistency() -> Result<()> {
    // The apiserver compares digests of cache and store every five minutes, and up to half as much later; with
    // this variable a difference ends it.
    let setup = Setup::single()
        .environment("KUBE_WATCHCACHE_CONSISTENCY_CHECKER", "true")
        .flags(&["--etcd-compaction-interval=1m"]);
    check(&setup, async |world| {
        let api = &world.api;
        let objects = (0..500).map(|number| config_map(&format!("c{number:04}"), "first"));
        create_many(api, CONFIG_MAPS, objects).await?;
        let mut round = 0;
        let metrics = eventually(Duration::from_secs(600), async || {
            for _ in 0..20 {
                round += 1;
                let path = format!("{CONFIG_MAPS}/c{:04}", round % 400);
                let patch = json!({"data": {"datum": round.to_string()}});
                api.patch(&path, "merge", &patch).await?;
            }
            tokio::time::sleep(Duration::from_millis(900)).await;
            let metrics = world.apiserver.metrics().await?;
            let checked = metrics.sum(
                "apiserver_storage_consistency_checks_total",
                &[("resource", "configmaps")],
            );
            ensure!(checked >= 1.0, "no check of configmaps yet");
            Ok(metrics)
        })
        .await?;
        let checks = |status: &str| {
            metrics.sum(
                "apiserver_storage_consistency_checks_total",
                &[("status", status)],
            )
        };
        ensure!(
            checks("success") >= 1.0 && checks("failure") == 0.0 && checks("error") == 0.0,
            "{}",
            metrics.lines("apiserver_storage_consistency_checks_total")
        );
        let said = world.apiserver.log_lines("Cache consistency check failed");
        ensure!(said.is_empty(), "{said:?}");
        Ok(())
    })
}
