//! Defragment and a large compaction beside clients: nobody waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{get, get_serializable, lazy, put};
use metastore_cluster_tests::load::{Load, Shape, Writes};
use metastore_cluster_tests::verify::urls;
use metastore_harness::{Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::{CompactionRequest, DefragmentRequest};
use tokio::task::JoinSet;

const KEYS: usize = 64;
const REVISIONS: usize = 102_400;
const VALUE_BYTES: usize = 512;
/// No request may take longer meanwhile. The test's clients and the member share a machine of two cores.
const PATIENCE: Duration = Duration::from_millis(500);
/// So many reads and so many writes at least must have met each of the acts.
const OVERLAP: usize = 20;

fn key(number: usize) -> String {
    format!("hot/{number:02}")
}

/// Puts some keys again and again; the newest revision.
async fn history(url: &str) -> Result<i64> {
    let mut writers = JoinSet::new();
    for number in 0..KEYS {
        let mut clients = lazy(url)?;
        writers.spawn(async move {
            let mut revision = 0;
            for round in 0..REVISIONS / KEYS {
                let value = vec![round as u8; VALUE_BYTES];
                let answer = clients.kv.put(put(key(number), value)).await?.into_inner();
                revision = answer.header.unwrap_or_default().revision;
            }
            anyhow::Ok(revision)
        });
    }
    let mut newest = 0;
    while let Some(revision) = writers.join_next().await {
        newest = newest.max(revision??);
    }
    Ok(newest)
}

/// When a request was sent and how long its answer took.
type Sample = (Instant, Duration);

/// Readers that never rest.
struct Readers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Vec<Sample>>>,
}

impl Readers {
    fn start(url: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for serializable in [false, true] {
            let (mut clients, stop) = (lazy(url)?, stop.clone());
            tasks.spawn(async move {
                let mut samples = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let request = match serializable {
                        true => get_serializable(key(number % KEYS)),
                        false => get(key(number % KEYS)),
                    };
                    let since = Instant::now();
                    let answer = clients.kv.range(request).await?.into_inner();
                    samples.push((since, since.elapsed()));
                    ensure!(answer.count == 1, "{answer:?}");
                }
                Ok(samples)
            });
        }
        Ok(Self { stop, tasks })
    }

    async fn finish(mut self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        while let Some(samples) = self.tasks.join_next().await {
            all.extend(samples.context("a reader panicked")??);
        }
        Ok(all)
    }
}

/// What was done beside the clients, and when.
struct Act {
    what: &'static str,
    begun: Instant,
    done: Instant,
}

impl Act {
    /// How many requests were on their way during the act, and the longest of them.
    fn met(&self, samples: &[Sample]) -> (usize, Duration) {
        let met = samples
            .iter()
            .filter(|(sent, took)| *sent < self.done && *sent + *took > self.begun);
        met.fold((0, Duration::ZERO), |(count, worst), (_, took)| {
            (count + 1, worst.max(*took))
        })
    }

    fn judge(&self, reads: &[Sample], writes: &[Sample]) -> Result<()> {
        let lasted = self.done - self.begun;
        for (kind, samples) in [("reads", reads), ("writes", writes)] {
            let (count, worst) = self.met(samples);
            let told = format!(
                "{} took {lasted:?} and met {count} {kind}, of which one took {worst:?}",
                self.what
            );
            ensure!(count >= OVERLAP && worst < PATIENCE, "{told}");
        }
        Ok(())
    }
}

/// How many revisions compactions have removed.
async fn removed(url: &str) -> Result<f64> {
    let page = metastore_harness::get(url, "/metrics").await?.body;
    let name = "etcd_debugging_mvcc_db_compaction_keys_total ";
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.context("no such metric")?.parse()?)
}

fn samples(writes: &Writes) -> Vec<Sample> {
    let acknowledged = writes.acknowledged.values();
    acknowledged.map(|write| (write.at, write.took)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defragment_and_compaction_do_not_stop_the_member() -> Result<()> {
    let spec = Spec::new(Target::MetaStore(Engine::RocksDb), 1);
    let cluster = Cluster::start(&spec).await?;
    let all = urls(&cluster);
    let revision = history(&all[0]).await?;
    let readers = Readers::start(&all[0])?;
    let shape = Shape {
        writers: 4,
        ..Shape::default()
    };
    let load = Load::start("beside", &all, &shape)?;
    load.progress(100, Duration::from_secs(60)).await?;
    let mut clients = lazy(&all[0])?;
    let mut acts = Vec::new();
    for what in ["Defragment", "Compact", "Defragment"] {
        let begun = Instant::now();
        if what == "Compact" {
            let physical = true;
            let request = CompactionRequest { revision, physical };
            clients.kv.compact(request).await?;
        } else {
            clients.maintenance.defragment(DefragmentRequest {}).await?;
        }
        let done = Instant::now();
        acts.push(Act { what, begun, done });
        load.progress(100, Duration::from_secs(60)).await?;
    }
    let removed = removed(&all[0]).await?;
    ensure!(removed >= 100_000.0, "{removed} revisions were compacted");
    let reads = readers.finish().await?;
    let writes = load.finish().await?;
    ensure!(writes.errors.is_empty(), "{:?}", writes.errors);
    let writes = samples(&writes);
    acts.iter().try_for_each(|act| act.judge(&reads, &writes))
}
