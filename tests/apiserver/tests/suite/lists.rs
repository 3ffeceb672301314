//! Lists of thousands of objects: whole, in pages, and as they were.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use metastore_apiserver_tests::objects::{
    CONFIG_MAPS, config_map, items, name, next_page, version,
};
use metastore_apiserver_tests::{Client, Setup, World, check, create_many, for_each};
use serde_json::{Value, json};

const OBJECTS: usize = 5_000;

/// Name, version and datum of everything in a list.
type Content = BTreeMap<String, (u64, String)>;

fn content(list: &Value) -> Result<Content> {
    items(list)?
        .iter()
        .map(|item| {
            let datum = item["data"]["datum"].as_str().unwrap_or_default();
            Ok((name(item).to_owned(), (version(item)?, datum.to_owned())))
        })
        .collect()
}

/// The whole of a list in pages, and the one revision that every page was read at.
async fn in_pages(api: &Client, query: &str, limit: usize) -> Result<(Content, u64)> {
    let (mut all, mut revision, mut page) = (Content::new(), None, String::new());
    let mut first = true;
    loop {
        let query = if first { query } else { "" };
        let path = format!("{CONFIG_MAPS}?limit={limit}&{query}&continue={page}");
        let list = api.get(&path).await?;
        first = false;
        let part = content(&list)?;
        let read_at = version(&list)?;
        ensure!(
            *revision.get_or_insert(read_at) == read_at,
            "a page at {read_at} after pages at {revision:?}"
        );
        ensure!(part.len() <= limit, "{} on a page of {limit}", part.len());
        let before = all.len() + part.len();
        all.extend(part);
        ensure!(all.len() == before, "an object came twice");
        page = next_page(&list).to_owned();
        if page.is_empty() {
            return Ok((all, read_at));
        }
        let left = &list["metadata"]["remainingItemCount"];
        ensure!(
            left.as_u64().is_some_and(|left| left > 0),
            "{left} are left"
        );
    }
}

async fn fill(api: &Client) -> Result<Content> {
    let objects = (0..OBJECTS).map(|number| config_map(&format!("c{number:05}"), "first"));
    create_many(api, CONFIG_MAPS, objects).await?;
    content(&api.get(CONFIG_MAPS).await?)
}

/// Changes 600, deletes 300 and creates 300 objects.
async fn change(api: &Client) -> Result<()> {
    for_each(0..600, 32, async |number| {
        let path = format!("{CONFIG_MAPS}/c{number:05}");
        let patch = json!({"data": {"datum": "second"}});
        api.patch(&path, "merge", &patch).await.map(drop)
    })
    .await?;
    for_each(1000..1300, 32, async |number| {
        let path = format!("{CONFIG_MAPS}/c{number:05}");
        api.delete(&path).await.map(drop)
    })
    .await?;
    let more = (0..300).map(|number| config_map(&format!("d{number:05}"), "third"));
    create_many(api, CONFIG_MAPS, more).await.map(drop)
}

async fn lists_agree(world: &World) -> Result<()> {
    let api = &world.api;
    let before = fill(api).await?;
    ensure!(before.len() == OBJECTS, "{} objects", before.len());
    let (paged, at) = in_pages(api, "", 500).await?;
    ensure!(paged == before, "the pages differ from the whole");

    // Half of the pages are read before the changes, half after them.
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2500")).await?;
    change(api).await?;
    let rest = api
        .get(&format!(
            "{CONFIG_MAPS}?limit=2500&continue={}",
            next_page(&first)
        ))
        .await?;
    ensure!(version(&rest)? == version(&first)?, "pages at one revision");
    let mut both = content(&first)?;
    both.extend(content(&rest)?);
    ensure!(both == before, "a list in pages saw changes");

    // The exact revision, whole and in pages.
    let exact = format!("resourceVersion={at}&resourceVersionMatch=Exact");
    let list = api.get(&format!("{CONFIG_MAPS}?{exact}")).await?;
    ensure!(version(&list)? == at, "the list is of another revision");
    ensure!(content(&list)? == before, "the past has changed");
    let (paged, read_at) = in_pages(api, &exact, 700).await?;
    ensure!(
        paged == before && read_at == at,
        "the past has changed in pages"
    );

    // And what is true now.
    let list = api.get(CONFIG_MAPS).await?;
    let now = content(&list)?;
    ensure!(now.len() == OBJECTS, "{} objects", now.len());
    let second = now.values().filter(|(_, datum)| datum == "second").count();
    ensure!(second == 600, "{second} of 600 changed");
    let (paged, _) = in_pages(api, "", 999).await?;
    ensure!(paged == now, "the pages differ from the whole");

    // A selector that few objects meet, by pages: the apiserver doubles its own pages up to 10 000 keys.
    let selector = "fieldSelector=metadata.name%3Dc04999";
    let few = api
        .get(&format!("{CONFIG_MAPS}?limit=5&{selector}"))
        .await?;
    ensure!(items(&few)?.len() == 1, "one object of that name");

    // A revision that is yet to come.
    let ahead = version(&list)? + 1_000_000;
    let path = format!("{CONFIG_MAPS}?resourceVersion={ahead}&resourceVersionMatch=Exact");
    let refused = metastore_apiserver_tests::Refused::of(api.get(&path).await)?;
    ensure!(
        refused.reason() == "Timeout" && refused.text.contains("Too large resource version"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn five_thousand_objects_through_the_cache() -> Result<()> {
    check(&Setup::single(), async |world| lists_agree(world).await)
}

#[test]
fn lists_without_a_cache_come_from_the_store() -> Result<()> {
    let setup = Setup::single().flags(&["--watch-cache=false"]);
    check(&setup, async |world| {
        lists_agree(world).await?;
        let metrics = world.apiserver.metrics().await?;
        let requests = |operation: &str| {
            let labels = [("resource", "configmaps"), ("operation", operation)];
            metrics.sum("etcd_requests_total", &labels)
        };
        let (pages, streams) = (requests("list"), requests("listStream"));
        if world.version.streams_lists() {
            ensure!(streams > 20.0, "{streams} streams, {pages} pages");
        } else {
            ensure!(pages > 20.0, "{streams} streams, {pages} pages");
        }
        let failed = metrics.sum("etcd_request_errors_total", &[("resource", "configmaps")]);
        // The revision to come, alone, is an error.
        ensure!(
            failed <= 1.0,
            "{}",
            metrics.lines("etcd_request_errors_total")
        );
        Ok(())
    })
}
