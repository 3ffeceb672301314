//! Memory stays bounded, whatever clients do: the highest that the system has seen of a member's process.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use metastore_cluster_tests::client::{get, put, until};
use metastore_cluster_tests::soak;
use metastore_cluster_tests::trouble::leader;
use metastore_harness::{Clients, Cluster, Engine, Spec, Target, connect};
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;

const WAIT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// What a member's process takes.
struct Memory {
    process: u32,
}

impl Memory {
    fn of(cluster: &mut Cluster, index: usize) -> Result<Self> {
        let process = cluster.member(index).process()?.id();
        Ok(Self { process })
    }

    /// The most since [`Memory::forget`], in bytes.
    fn peak(&self) -> Result<u64> {
        self.field("VmHWM:")
    }

    fn now(&self) -> Result<u64> {
        self.field("VmRSS:")
    }

    fn field(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB"));
        let kib: u64 = kib.with_context(|| format!("no {name}"))?.trim().parse()?;
        Ok(kib << 10)
    }

    /// Lets the most be what it is now.
    fn forget(&self) -> Result<()> {
        Ok(fs::write(
            format!("/proc/{}/clear_refs", self.process),
            "5",
        )?)
    }
}

fn ensure_below(what: &str, grown: u64, bound: u64) -> Result<()> {
    ensure!(
        grown < bound,
        "{what}: {} MiB more than before, the bound is {} MiB",
        grown / MIB,
        bound / MIB
    );
    Ok(())
}

async fn single() -> Result<Cluster> {
    let flags = ["--max-txn-ops=1000", "--quota-backend-bytes=8589934592"];
    let spec = Spec::new(Target::MetaStore(Engine::RocksDb), 1).with_flags(flags);
    Cluster::start(&spec).await
}

/// Clients that read a little at a time.
async fn narrow(url: &str) -> Result<Clients> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(64 << 10);
    Ok(Clients::new(endpoint.connect().await?))
}

/// Puts `count` values of 100 KiB, by turns to ten keys.
async fn put_large(url: &str, count: usize) -> Result<()> {
    let value = Bytes::from(vec![7; 100 << 10]);
    let clients = Clients::new(connect(url).await?);
    let mut writers = JoinSet::new();
    for writer in 0..10 {
        let (mut kv, value) = (clients.kv.clone(), value.clone());
        writers.spawn(async move {
            for _ in 0..count / 10 {
                kv.put(put(format!("large/{writer}"), value.clone()))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_never_reads_costs_no_memory() -> Result<()> {
    let mut cluster = single().await?;
    let url = cluster.members()[0].client_url().to_owned();
    let memory = Memory::of(&mut cluster, 0)?;
    put_large(&url, 3_000).await?;
    let alone = memory.peak()?;
    let mut watcher = narrow(&url).await?;
    let create = WatchCreateRequest {
        key: "large/".into(),
        range_end: "large0".into(),
        prev_kv: true,
        ..Default::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut answers = watcher.watch.watch(requests).await?.into_inner();
    let created = answers.message().await?.context("an answer")?;
    ensure!(created.created);
    put_large(&url, 3_000).await?;
    let watched = memory.peak()?;
    ensure_below(
        "300 MiB with previous values that nobody reads",
        watched.saturating_sub(alone),
        64 * MIB,
    )?;
    // It has lost nothing by being slow.
    let mut events = 0;
    while events < 3_000 {
        let answer = tokio::time::timeout(WAIT, answers.message()).await??;
        let answer = answer.context("the watch has ended")?;
        ensure!(!answer.canceled, "{}", answer.cancel_reason);
        for event in &answer.events {
            let previous = event.prev_kv.as_ref().context("a previous value")?;
            ensure!(previous.value.len() == 100 << 10);
        }
        events += answer.events.len();
    }
    ensure!(events == 3_000, "{events} events");
    Ok(())
}

const TOO_MANY: &str = "etcdserver: too many requests";

/// How puts have ended.
#[derive(Debug, Default)]
struct Ended {
    done: usize,
    refused: usize,
    unknown: usize,
}

/// Puts values of 1 MiB on many streams of many connections until `end`, whatever becomes of them.
async fn flood(url: &str, end: Instant) -> Result<Ended> {
    let value = Bytes::from(vec![7; 1 << 20]);
    let mut streams = JoinSet::new();
    for connection in 0..20 {
        let clients = Clients::new(connect(url).await?);
        for stream in 0..60 {
            let (mut kv, value) = (clients.kv.clone(), value.clone());
            streams.spawn(async move {
                let mut ended = Ended::default();
                while Instant::now() < end {
                    let key = format!("flood/{connection}/{stream}");
                    match kv.put(put(key, value.clone())).await {
                        Ok(_) => ended.done += 1,
                        Err(status) if status.message() == TOO_MANY => ended.refused += 1,
                        Err(_) => ended.unknown += 1,
                    }
                }
                ended
            });
        }
    }
    let mut all = Ended::default();
    while let Some(ended) = streams.join_next().await {
        let ended = ended?;
        all.done += ended.done;
        all.refused += ended.refused;
        all.unknown += ended.unknown;
    }
    Ok(all)
}

/// What may be held of puts that come without end: 256 MiB that wait for the log, as much that is unfinished, 8 MiB of
/// each of the twenty connections, and what log and engine have in hand anyway. 1.2 GiB are on their way.
const FLOOD: u64 = 960 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_stops_is_refused_in_the_end() -> Result<()> {
    let mut cluster = Cluster::start(&Spec::new(Target::MetaStore(Engine::RocksDb), 3)).await?;
    let leads = leader(&cluster).await?;
    let url = cluster.members()[leads].client_url().to_owned();
    let memory = Memory::of(&mut cluster, leads)?;
    let quiet = memory.now()?;
    // Nothing is committed while the others stand still, so that what waits only grows.
    for other in (0..3).filter(|other| *other != leads) {
        cluster.member(other).pause()?;
    }
    let ended = flood(&url, Instant::now() + Duration::from_secs(4)).await?;
    let peak = memory.peak()?;
    ensure!(ended.refused > 0, "nothing was refused: {ended:?}");
    ensure_below("puts without end", peak.saturating_sub(quiet), FLOOD)?;
    for other in (0..3).filter(|other| *other != leads) {
        cluster.member(other).resume()?;
    }
    until("the cluster serves again", WAIT, async || {
        let mut clients = Clients::new(connect(&url).await?);
        clients.kv.put(put("after", "all")).await?;
        let read = clients.kv.range(get("after")).await?.into_inner();
        ensure!(read.count == 1);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_lives_through_a_client_that_never_stops() -> Result<()> {
    let mut cluster = single().await?;
    let url = cluster.members()[0].client_url().to_owned();
    let memory = Memory::of(&mut cluster, 0)?;
    let quiet = memory.now()?;
    let ended = flood(&url, Instant::now() + Duration::from_secs(4)).await?;
    let peak = memory.peak()?;
    ensure!(ended.done > 0, "nothing was written: {ended:?}");
    ensure_below("puts without end", peak.saturating_sub(quiet), FLOOD)?;
    let mut clients = Clients::new(connect(&url).await?);
    clients.kv.put(put("after", "all")).await?;
    ensure!(clients.kv.range(get("after")).await?.into_inner().count == 1);
    Ok(())
}

/// Fills a member with `count` keys like those of small objects.
async fn fill(clients: &Clients, count: usize) -> Result<()> {
    let value = Bytes::from(vec![7; 200]);
    let mut transactions = JoinSet::new();
    for first in (0..count).step_by(1_000) {
        let puts = (first..count.min(first + 1_000)).map(|number| {
            let put = put(
                format!("/registry/pods/namespace/{number:08}"),
                value.clone(),
            );
            RequestOp {
                request: Some(Request::RequestPut(put)),
            }
        });
        let txn = TxnRequest {
            success: puts.collect(),
            ..Default::default()
        };
        let mut kv = clients.kv.clone();
        transactions.spawn(async move { kv.txn(txn).await });
        if transactions.len() == 8 {
            transactions.join_next().await.context("one of them")???;
        }
    }
    while let Some(ended) = transactions.join_next().await {
        ended??;
    }
    Ok(())
}

fn list() -> RangeRequest {
    RangeRequest {
        key: "/registry/".into(),
        range_end: "/registry0".into(),
        ..Default::default()
    }
}

/// Reads a stream of the list: `pause` after each of the first hundred parts.
async fn read_slowly(url: &str, pause: Duration) -> Result<usize> {
    let mut clients = narrow(url).await?;
    let mut parts = clients.kv.range_stream(list()).await?.into_inner();
    let (mut keys, mut number) = (0, 0);
    while let Some(part) = parts.message().await? {
        keys += part.range_response.map_or(0, |response| response.kvs.len());
        if number < 100 {
            tokio::time::sleep(pause).await;
        }
        number += 1;
    }
    Ok(keys)
}

/// What lists of `count` keys cost a member beyond the keys themselves: as a stream, and as one answer.
async fn lists(count: usize, pause: Duration) -> Result<(u64, u64)> {
    let mut cluster = single().await?;
    let url = cluster.members()[0].client_url().to_owned();
    let memory = Memory::of(&mut cluster, 0)?;
    let mut clients = Clients::new(connect(&url).await?);
    fill(&clients, count).await?;
    memory.forget()?;
    let quiet = memory.now()?;
    let keys = read_slowly(&url, pause).await?;
    ensure!(keys == count, "{keys} keys");
    let streamed = memory.peak()?.saturating_sub(quiet);
    memory.forget()?;
    let quiet = memory.now()?;
    let answer = clients.kv.range(list()).await?.into_inner();
    ensure!(answer.kvs.len() == count, "{} keys", answer.kvs.len());
    let whole = memory.peak()?.saturating_sub(quiet);
    Ok((streamed, whole))
}

/// What a stream of any length may take; what the engine does meanwhile is among it.
const STREAMED: u64 = 32 * MIB;

/// What one answer of so many keys may take: about 260 bytes of each, and half as much again on the way.
const fn one_answer(keys: u64) -> u64 {
    keys * 260 * 3 / 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_keys_is_never_held_twice() -> Result<()> {
    let (streamed, whole) = lists(200_000, Duration::from_millis(20)).await?;
    ensure_below("a list as a stream", streamed, STREAMED)?;
    ensure_below("a list in one answer", whole, one_answer(200_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_lists_a_million_keys() -> Result<()> {
    let (streamed, whole) = lists(1_000_000, Duration::from_millis(100)).await?;
    soak::report(&format!(
        "a list of 1 000 000 keys: {} MiB as a stream read slowly, {} MiB in one answer",
        streamed / MIB,
        whole / MIB
    ));
    ensure_below("a list as a stream", streamed, STREAMED)?;
    ensure_below("a list in one answer", whole, one_answer(1_000_000))
}
