//! After the trouble: is everything there, and is it the same everywhere?

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_harness::{Clients, Cluster};
use metastore_proto::etcdserverpb::{HashKvRequest, HashKvResponse, RangeRequest};
use metastore_proto::mvccpb::KeyValue;

use crate::client::{get, lazy, until};
use crate::load::{PREFIX, Writes, value_of};

const PAGE: i64 = 2_000;
/// A member that was away for long has a state of gigabytes to take over first.
const WAIT: Duration = Duration::from_secs(300);
/// Shorter than `until`'s own, so that a member without an answer is named.
const ANSWER: Duration = Duration::from_secs(8);

/// The client URLs of a cluster's members.
pub fn urls(cluster: &Cluster) -> Vec<String> {
    let members = cluster.members().iter();
    members
        .map(|member| member.client_url().to_owned())
        .collect()
}

/// Checks on every member that all acknowledged writes are there, as they were told, and nothing that was never
/// sent; and that all members hold the same. The number of keys.
pub async fn nothing_is_lost(
    urls: &[String],
    writes: &Writes,
    value_bytes: usize,
) -> Result<usize> {
    let mut keys = 0;
    settled(urls).await?;
    for url in urls {
        let mut clients = lazy(url)?;
        let found = everything(&mut clients).await?;
        keys = found.len();
        compare(&found, writes, value_bytes).with_context(|| format!("what {url} holds"))?;
    }
    same_hashes(urls).await?;
    Ok(keys)
}

fn compare(found: &BTreeMap<String, KeyValue>, writes: &Writes, value_bytes: usize) -> Result<()> {
    for (key, write) in &writes.acknowledged {
        let kv = found.get(key).with_context(|| {
            format!(
                "{key}, acknowledged at revision {}, is lost",
                write.revision
            )
        })?;
        ensure!(
            kv.mod_revision == write.revision && kv.version == 1,
            "{key}, acknowledged at revision {}, has revision {} and version {}",
            write.revision,
            kv.mod_revision,
            kv.version
        );
        ensure!(
            kv.value == value_of(key, value_bytes),
            "{key} has another value"
        );
    }
    let unknown: HashSet<&String> = writes.unknown.iter().collect();
    for key in found.keys() {
        ensure!(
            writes.acknowledged.contains_key(key) || unknown.contains(key),
            "{key} was never sent"
        );
    }
    Ok(())
}

/// Waits until the member serves a linearizable read; its revision.
pub async fn caught_up(clients: &mut Clients) -> Result<i64> {
    until("a linearizable read", WAIT, || newest(clients)).await
}

/// The revision of a linearizable read.
fn newest(clients: &Clients) -> impl Future<Output = Result<i64>> + use<> {
    let mut kv = clients.kv.clone();
    async move {
        let answer = kv.range(get("witness")).await?.into_inner();
        Ok(answer.header.unwrap_or_default().revision)
    }
}

/// Waits until all members have the same newest revision and keep it: what was sent without an answer has been
/// decided by then. The revision.
pub async fn settled(urls: &[String]) -> Result<i64> {
    until("all members at one revision", WAIT, async || {
        let mut seen = Vec::new();
        for _ in 0..2 {
            for url in urls {
                let answer = tokio::time::timeout(ANSWER, newest(&lazy(url)?)).await;
                let answer = answer.with_context(|| format!("{url} does not answer"))?;
                seen.push(answer.with_context(|| url.clone())?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        ensure!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
        Ok(seen[0])
    })
    .await
}

/// All that loads have written, page by page at one revision, as the member has it.
async fn everything(clients: &mut Clients) -> Result<BTreeMap<String, KeyValue>> {
    let mut found = BTreeMap::new();
    let mut end = PREFIX.as_bytes().to_vec();
    *end.last_mut().context("a prefix")? += 1;
    let (mut from, mut revision) = (PREFIX.as_bytes().to_vec(), 0);
    loop {
        let request = RangeRequest {
            key: from.clone().into(),
            range_end: end.clone().into(),
            limit: PAGE,
            serializable: true,
            revision,
            ..Default::default()
        };
        let page = clients.kv.range(request).await?.into_inner();
        revision = page.header.unwrap_or_default().revision.max(revision);
        for kv in page.kvs {
            from = [&kv.key[..], &[0]].concat();
            found.insert(String::from_utf8(kv.key.to_vec())?, kv);
        }
        if !page.more {
            return Ok(found);
        }
    }
}

/// Checks that the members' hashes at the newest revision are equal.
pub async fn same_hashes(urls: &[String]) -> Result<HashKvResponse> {
    let revision = settled(urls).await?;
    let mut first: Option<HashKvResponse> = None;
    for url in urls {
        let request = HashKvRequest { revision };
        let answer = lazy(url)?.maintenance.hash_kv(request).await?;
        let mut answer = answer.into_inner();
        answer.header = None;
        let first = first.get_or_insert(answer);
        ensure!(
            *first == answer,
            "{url} has {answer:?} at revision {revision}, {} has {first:?}",
            urls[0]
        );
    }
    first.context("no members")
}
