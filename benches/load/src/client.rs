//! Our own client, for what etcd's benchmark client cannot ask: prepared data, watch delays, puts at a steady rate while
//! the server does something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use metastore_proto::etcdserverpb::kv_client::KvClient;
use metastore_proto::etcdserverpb::watch_client::WatchClient;
use metastore_proto::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest, request_op::Request,
    watch_request::RequestUnion,
};
use tonic::transport::{Channel, Endpoint};

use crate::sample::Sample;

/// Connects to a member.
pub(crate) async fn connect(url: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect()
        .await?)
}

/// The key of a number, as a Kubernetes object's path.
pub(crate) fn key(number: u64) -> Vec<u8> {
    format!("/registry/pods/default/pod-{number:08}").into_bytes()
}

/// Writes `count` keys of `value_bytes` each, one put a request; returns the last revision.
pub(crate) async fn fill(url: &str, count: u64, value_bytes: usize) -> Result<i64> {
    fill_by(url, count, value_bytes, 1).await
}

/// Writes them a hundred in a transaction, for a state whose writing nobody looks at.
pub(crate) async fn fill_at_once(url: &str, count: u64, value_bytes: usize) -> Result<i64> {
    fill_by(url, count, value_bytes, 100).await
}

async fn fill_by(url: &str, count: u64, value_bytes: usize, together: u64) -> Result<i64> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let kv = KvClient::new(connect(url).await?);
        for _ in 0..64_u64.div_ceil(together) {
            let (mut kv, next) = (kv.clone(), next.clone());
            tasks.spawn(async move {
                let value = bytes(value_bytes);
                let mut revision = 0;
                loop {
                    let first = next.fetch_add(together, Ordering::Relaxed);
                    if first >= count {
                        return Ok::<i64, tonic::Status>(revision);
                    }
                    let numbers = first..(first + together).min(count);
                    let puts = numbers.map(|number| PutRequest {
                        key: key(number).into(),
                        value: value.clone().into(),
                        ..Default::default()
                    });
                    revision = write(&mut kv, puts.collect()).await?;
                }
            });
        }
    }
    let mut last = 0;
    while let Some(done) = tasks.join_next().await {
        last = last.max(done??);
    }
    Ok(last)
}

/// One put as it is, several as a transaction; returns the revision.
async fn write(
    kv: &mut KvClient<Channel>,
    mut puts: Vec<PutRequest>,
) -> Result<i64, tonic::Status> {
    let header = if puts.len() == 1 {
        kv.put(puts.remove(0)).await?.into_inner().header
    } else {
        let success = puts.into_iter().map(|put| RequestOp {
            request: Some(Request::RequestPut(put)),
        });
        let txn = TxnRequest {
            success: success.collect(),
            ..Default::default()
        };
        kv.txn(txn).await?.into_inner().header
    };
    Ok(header.map_or(0, |header| header.revision))
}

fn bytes(count: usize) -> Vec<u8> {
    // Not all alike: an engine that compresses must not profit from the benchmark.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Latencies in milliseconds, gathered by any number of tasks.
fn percentiles(mut latencies: Vec<f64>, elapsed: Duration) -> Sample {
    let mut sample = Sample::default();
    sample.set("rate", latencies.len() as f64 / elapsed.as_secs_f64());
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| {
        latencies
            .get(((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1)))
    };
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        sample.set(name, at(share).copied().unwrap_or(0.0));
    }
    sample
}

/// The latencies of all tasks together.
pub(crate) async fn gather<E>(
    mut tasks: tokio::task::JoinSet<Result<Vec<f64>, E>>,
    begin: Instant,
) -> Result<Sample>
where
    E: Into<anyhow::Error> + Send + 'static,
{
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done?.map_err(Into::into)?);
    }
    Ok(percentiles(all, begin.elapsed()))
}

/// Puts at a steady rate for a time, whatever the answers take: latencies count from when a put was due.
pub(crate) async fn steady_puts(url: &str, per_second: u64, time: Duration) -> Result<Sample> {
    let kv = KvClient::new(connect(url).await?);
    let (begin, value) = (Instant::now(), bytes(256));
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
    let (mut waiting, mut latencies, mut number) = (FuturesUnordered::new(), Vec::new(), 0_u64);
    while begin.elapsed() < time {
        tokio::select! {
            due = tick.tick() => {
                let mut kv = kv.clone();
                number += 1;
                let put = PutRequest { key: format!("steady-{}", number % 10_000).into(), value: value.clone().into(), ..Default::default() };
                waiting.push(async move { kv.put(put).await.map(|_| due.elapsed()) });
            }
            Some(answer) = waiting.next(), if !waiting.is_empty() => latencies.push(answer?.as_secs_f64() * 1e3),
        }
    }
    while let Some(answer) = waiting.next().await {
        latencies.push(answer?.as_secs_f64() * 1e3);
    }
    Ok(percentiles(latencies, begin.elapsed()))
}

/// Many watchers of one prefix; `puts` are made one after the other, and each watcher's delay from the
/// put's sending to the event's arrival is measured. The rate is of events delivered.
pub(crate) async fn watch_delay(
    url: &str,
    connections: usize,
    watchers: usize,
    puts: u64,
    per_second: u64,
) -> Result<Sample> {
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..puts).map(|_| AtomicU64::new(0)).collect());
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let stream = open_watches(url, watchers / connections).await?;
        let expected = puts * (watchers / connections) as u64;
        tasks.spawn(receive(stream, sent.clone(), begin, expected));
    }
    let mut kv = KvClient::new(connect(url).await?);
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
    let first = Instant::now();
    for number in 0..puts {
        tick.tick().await;
        sent[number as usize].store(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        let put = PutRequest {
            key: "watched/key".into(),
            value: number.to_string().into(),
            ..Default::default()
        };
        kv.put(put).await?;
    }
    gather(tasks, first).await
}

type Watching = tonic::Streaming<metastore_proto::etcdserverpb::WatchResponse>;

async fn open_watches(url: &str, count: usize) -> Result<Watching> {
    let mut client = WatchClient::new(connect(url).await?).max_decoding_message_size(usize::MAX);
    let (requests, receiver) = tokio::sync::mpsc::channel(count);
    for _ in 0..count {
        let create = WatchCreateRequest {
            key: "watched/".into(),
            range_end: "watched0".into(),
            ..Default::default()
        };
        requests
            .send(WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            })
            .await?;
    }
    // The request stream must stay open as long as the watches live.
    let open =
        tokio_stream::wrappers::ReceiverStream::new(receiver).chain(futures::stream::pending());
    let mut stream = client.watch(open).await?.into_inner();
    for _ in 0..count {
        stream.message().await?;
    }
    Ok(stream)
}

async fn receive(
    mut stream: Watching,
    sent: Arc<Vec<AtomicU64>>,
    begin: Instant,
    expected: u64,
) -> Result<Vec<f64>, tonic::Status> {
    let mut delays = Vec::new();
    while (delays.len() as u64) < expected {
        let Some(response) = stream.message().await? else {
            break;
        };
        let now = begin.elapsed().as_nanos() as u64;
        for event in response.events {
            let number = event
                .kv
                .and_then(|kv| std::str::from_utf8(&kv.value).ok()?.parse::<usize>().ok());
            if let Some(at) = number.and_then(|number| sent.get(number)) {
                delays.push(now.saturating_sub(at.load(Ordering::Relaxed)) as f64 / 1e6);
            }
        }
    }
    Ok(delays)
}

/// Asks a member to defragment and waits for it.
pub(crate) async fn defragment(url: &str) -> Result<()> {
    use metastore_proto::etcdserverpb::DefragmentRequest;
    use metastore_proto::etcdserverpb::maintenance_client::MaintenanceClient;
    MaintenanceClient::new(connect(url).await?)
        .defragment(DefragmentRequest {})
        .await?;
    Ok(())
}

/// Compacts and waits until the space is given back.
pub(crate) async fn compact(url: &str, revision: i64) -> Result<()> {
    use metastore_proto::etcdserverpb::CompactionRequest;
    KvClient::new(connect(url).await?)
        .compact(CompactionRequest {
            revision,
            physical: true,
        })
        .await?;
    Ok(())
}
