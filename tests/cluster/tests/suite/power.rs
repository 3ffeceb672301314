//! Power cuts: a member's whole data folder on a disk that forgets what was not synced.
//!
//! A run is recorded once; then the disk is looked at as it was after any number of changes, cut, and given to a member.
//! Whatever had been acknowledged by then must be there, and the hash of all data must be one that the uncut run had.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{lazy, put};
use metastore_cluster_tests::load::{Load, Shape};
use metastore_cluster_tests::power::{Disk, Loss, Recorder, Recording};
use metastore_cluster_tests::soak;
use metastore_cluster_tests::verify::caught_up;
use metastore_harness::{Clients, Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, HashKvRequest, RequestOp, TxnRequest,
    request_op,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Restarts are quick: there is nobody to wait for.
const QUICK: [&str; 3] = [
    "--heartbeat-interval=20",
    "--election-timeout=200",
    // So small that the state is flushed and the log purged all the time.
    "--raft-log-retention-bytes=300000",
];

fn member_on(folder: &Path, engine: Engine) -> Result<Cluster> {
    let spec = Spec::new(Target::MetaStore(engine), 1).with_flags(QUICK);
    let mut cluster = Cluster::prepare(&spec)?;
    let data = format!("--data-dir={}", folder.join("data").display());
    cluster.member(0).flags_mut().push(data.into());
    Ok(cluster)
}

/// What the uncut run has shown.
struct Run {
    recording: Recording,
    /// Acknowledged revisions, and when the answer had come.
    told: Vec<(Instant, i64)>,
    /// The hash of all data at a revision and a compaction.
    hashes: HashMap<(i64, i64), u32>,
}

impl Run {
    /// The highest revision that had been acknowledged after so many changes.
    fn told_at(&self, count: usize) -> i64 {
        let told = self
            .told
            .iter()
            .filter(|(at, _)| self.recording.count_at(*at) <= count);
        told.map(|(_, revision)| *revision).max().unwrap_or(1)
    }
}

/// Drives one member: first one thing after the other, with compactions and flushes, then many at once.
async fn record(recorder: &Recorder, engine: Engine, rounds: usize) -> Result<Run> {
    let mut cluster = member_on(recorder.path(), engine)?;
    cluster.member(0).start().await?;
    let url = cluster.members()[0].client_url().to_owned();
    let mut driver = Driver {
        clients: lazy(&url)?,
        told: Vec::new(),
        hashes: HashMap::new(),
    };
    driver.note_hash(0).await?;
    for round in 0..rounds {
        driver.round(round).await?;
    }
    let before = caught_up(&mut driver.clients).await?;
    let shape = Shape {
        value_bytes: 3_000,
        ..Shape::default()
    };
    let name = format!("power{before}");
    let load = Load::start(&name, &[url], &shape)?;
    load.progress(20 * rounds as u64, Duration::from_secs(60))
        .await?;
    let writes = load.finish().await?;
    ensure!(writes.unknown.is_empty(), "{:?}", writes.errors);
    let answers = writes.acknowledged.values();
    driver
        .told
        .extend(answers.map(|write| (write.at + write.took, write.revision)));
    let last = caught_up(&mut driver.clients).await?;
    for revision in before..=last {
        driver.note_hash(revision).await?;
    }
    cluster.member(0).kill()?;
    Ok(Run {
        recording: recorder.recording(),
        told: driver.told,
        hashes: driver.hashes,
    })
}

struct Driver {
    clients: Clients,
    told: Vec<(Instant, i64)>,
    hashes: HashMap<(i64, i64), u32>,
}

impl Driver {
    async fn round(&mut self, round: usize) -> Result<()> {
        for number in 0..5 {
            let request = put(
                format!("key{}", (round + number) % 7),
                vec![round as u8; 9_000],
            );
            let answer = self.clients.kv.put(request).await?.into_inner();
            self.tell(answer.header.unwrap_or_default().revision)
                .await?;
        }
        let request = DeleteRangeRequest {
            key: format!("key{}", round % 7).into(),
            ..Default::default()
        };
        let answer = self.clients.kv.delete_range(request).await?.into_inner();
        self.tell(answer.header.unwrap_or_default().revision)
            .await?;
        let puts = ["a", "b"].map(|key| RequestOp {
            request: Some(request_op::Request::RequestPut(put(
                key,
                format!("{round}"),
            ))),
        });
        let request = TxnRequest {
            success: puts.into(),
            ..Default::default()
        };
        let answer = self.clients.kv.txn(request).await?.into_inner();
        let revision = answer.header.unwrap_or_default().revision;
        self.tell(revision).await?;
        if round % 3 == 1 {
            let request = CompactionRequest {
                revision: revision - 4,
                physical: round.is_multiple_of(2),
            };
            self.clients.kv.compact(request).await?;
            self.note_hash(0).await?;
        }
        if round % 4 == 2 {
            // Makes the engine write all it has.
            self.clients
                .maintenance
                .defragment(DefragmentRequest {})
                .await?;
        }
        Ok(())
    }

    async fn tell(&mut self, revision: i64) -> Result<()> {
        self.told.push((Instant::now(), revision));
        self.note_hash(0).await
    }

    async fn note_hash(&mut self, revision: i64) -> Result<()> {
        let answer = hash(&mut self.clients, revision).await?;
        self.hashes.insert(answer.0, answer.1);
        Ok(())
    }
}

/// The hash at a revision (0: the newest), with the revision and the compaction it is of.
async fn hash(clients: &mut Clients, revision: i64) -> Result<((i64, i64), u32)> {
    let answer = clients
        .maintenance
        .hash_kv(HashKvRequest { revision })
        .await?;
    let answer = answer.into_inner();
    Ok(((answer.hash_revision, answer.compact_revision), answer.hash))
}

/// Gives a disk to a member and looks at what it makes of it.
async fn restart(disk: &Disk, engine: Engine, told: i64, run: &Run) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("metastore-power-")
        .tempdir()?;
    disk.lay_out(folder.path())?;
    let mut cluster = member_on(folder.path(), engine)?;
    cluster.member(0).start().await?;
    let mut clients = lazy(cluster.members()[0].client_url())?;
    let revision = caught_up(&mut clients).await?;
    ensure!(
        revision >= told,
        "revision {told} was acknowledged, {revision} is there"
    );
    let (place, found) = hash(&mut clients, 0).await?;
    let expected = run.hashes.get(&place);
    ensure!(
        expected == Some(&found),
        "hash {found} at (revision, compaction) {place:?}; the uncut run had {expected:?}"
    );
    // And it goes on.
    clients.kv.put(put("after", "the cut")).await?;
    Ok(())
}

/// Cuts the power after each of `counts` changes.
async fn cut(run: &Arc<Run>, engine: Engine, cuts: &[(usize, Loss)], seed: u64) -> Result<()> {
    let permits = Arc::new(tokio::sync::Semaphore::new(2));
    let mut restarts = tokio::task::JoinSet::new();
    let disks = run.recording.disks(cuts.iter().map(|(count, _)| *count));
    for ((count, disk), (_, loss)) in disks.zip(cuts) {
        let permit = permits.clone().acquire_owned().await?;
        let (run, loss) = (run.clone(), *loss);
        restarts.spawn(async move {
            let _permit = permit;
            let mut random = StdRng::seed_from_u64(seed ^ count as u64);
            let told = run.told_at(count);
            let left = disk.cut(loss, &mut random);
            restart(&left, engine, told, &run).await.with_context(|| {
                let happened = run.recording.describe(count.saturating_sub(12), count);
                format!("{engine:?}, seed {seed}: {loss:?} lost after change {count}; the last:\n{happened}")
            })
        });
        while let Some(done) = restarts.try_join_next() {
            done??;
        }
    }
    while let Some(done) = restarts.join_next().await {
        done??;
    }
    Ok(())
}

/// Some places of a run, in order.
fn some_cuts(run: &Run, cuts: usize, random: &mut StdRng) -> Vec<(usize, Loss)> {
    let all = run.recording.len();
    let mut chosen: Vec<_> = (0..cuts)
        .map(|_| {
            let loss = Loss::ALL[random.random_range(0..Loss::ALL.len())];
            (random.random_range(0..=all), loss)
        })
        .collect();
    chosen.sort_by_key(|(count, _)| *count);
    chosen
}

async fn recorded(engine: Engine, disk: Disk, rounds: usize) -> Result<Arc<Run>> {
    let folder = tempfile::Builder::new()
        .prefix("metastore-power-")
        .tempdir()?;
    let recorder = Recorder::mount(&folder.path().join("mounted"), disk)?;
    Ok(Arc::new(record(&recorder, engine, rounds).await?))
}

async fn some_power_cuts(engine: Engine) -> Result<()> {
    let seed = rand::rng().random();
    let run = recorded(engine, Disk::default(), 10).await?;
    let mut random = StdRng::seed_from_u64(seed);
    cut(&run, engine, &some_cuts(&run, 60, &mut random), seed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_on_rocksdb() -> Result<()> {
    some_power_cuts(Engine::RocksDb).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_in_memory() -> Result<()> {
    some_power_cuts(Engine::Memory).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_cuts_the_power_at_every_change() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let seed = rand::rng().random();
        let first = recorded(engine, Disk::default(), 10).await?;
        let mut restarts = 0;
        for loss in Loss::ALL {
            let all: Vec<_> = (0..=first.recording.len())
                .map(|count| (count, loss))
                .collect();
            cut(&first, engine, &all, seed).await?;
            restarts += all.len();
        }
        soak::report(&format!(
            "{engine:?}: {restarts} power cuts, four at each of {} changes",
            first.recording.len()
        ));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_cuts_the_power_again_and_again() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let end = Instant::now() + soak::duration() / 2;
        let (mut disk, mut generations, mut restarts) = (Disk::default(), 0, 0);
        while Instant::now() < end {
            let seed = rand::rng().random();
            let mut random = StdRng::seed_from_u64(seed);
            // Begins with the repair of what the cut before has left.
            let run = recorded(engine, disk, 4).await?;
            let cuts = some_cuts(&run, 20, &mut random);
            cut(&run, engine, &cuts, seed).await?;
            generations += 1;
            restarts += cuts.len();
            let (count, loss) = cuts[random.random_range(0..cuts.len())];
            let (_, before) = run.recording.disks([count]).next().context("a disk")?;
            disk = before.cut(loss, &mut random);
        }
        soak::report(&format!(
            "{engine:?}: {restarts} power cuts in {generations} generations"
        ));
    }
    Ok(())
}

/// After a sync that failed the member must not go on as if nothing had been.
async fn a_failing_disk_ends_the_member(
    engine: Engine,
    fail: impl Fn(&Recorder, bool),
) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("metastore-power-")
        .tempdir()?;
    let recorder = Recorder::mount(&folder.path().join("mounted"), Disk::default())?;
    let mut cluster = member_on(recorder.path(), engine)?;
    cluster.member(0).start().await?;
    let url = cluster.members()[0].client_url().to_owned();
    let shape = Shape::default();
    let load = Load::start("failing", std::slice::from_ref(&url), &shape)?;
    load.progress(100, Duration::from_secs(30)).await?;
    fail(&recorder, true);
    let ending = cluster
        .member(0)
        .process()?
        .wait(Duration::from_secs(30))
        .await?;
    ensure!(
        ending == metastore_harness::Ending::Code(1),
        "it ended with {ending:?}"
    );
    ensure!(recorder.faults().failed() > 0, "nothing has failed");
    let told = load.told().revision();
    fail(&recorder, false);
    let writes = load.finish().await?;
    ensure!(
        told == writes
            .acknowledged
            .values()
            .map(|write| write.revision)
            .max()
            .unwrap_or(0)
    );
    let keys = writes.acknowledged.len();
    // With the power on, from what the system still has in memory; and after a power cut, from what it has not.
    let (_, disk) = recorder
        .recording()
        .disks([recorder.count()])
        .next()
        .context("a disk")?;
    drop((cluster, recorder));
    for loss in Loss::ALL {
        let left = tempfile::Builder::new()
            .prefix("metastore-power-")
            .tempdir()?;
        disk.cut(loss, &mut StdRng::seed_from_u64(7))
            .lay_out(left.path())?;
        let mut cluster = member_on(left.path(), engine)?;
        cluster.member(0).start().await?;
        let url = cluster.members()[0].client_url().to_owned();
        let found =
            metastore_cluster_tests::verify::nothing_is_lost(&[url], &writes, shape.value_bytes)
                .await;
        ensure!(found? >= keys, "{loss:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_ends_the_member_and_loses_nothing() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        a_failing_disk_ends_the_member(engine, |disk, fail| disk.faults().fail_syncs(fail)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_to_the_log_that_fails_ends_the_member_and_loses_nothing() -> Result<()> {
    a_failing_disk_ends_the_member(Engine::RocksDb, |disk, fail| {
        disk.faults().fail_writes(fail)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_sync_fails_ends_the_member_and_loses_nothing() -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("metastore-power-")
        .tempdir()?;
    let recorder = Recorder::mount(&folder.path().join("mounted"), Disk::default())?;
    let mut cluster = member_on(recorder.path(), Engine::RocksDb)?;
    // The log has a healthy disk of its own.
    let log = format!("--wal-dir={}", folder.path().join("log").display());
    cluster.member(0).flags_mut().push(log.into());
    cluster.member(0).start().await?;
    let url = cluster.members()[0].client_url().to_owned();
    let shape = Shape {
        value_bytes: 2_000,
        ..Shape::default()
    };
    let load = Load::start("failing", std::slice::from_ref(&url), &shape)?;
    load.progress(200, Duration::from_secs(30)).await?;
    recorder.faults().fail_syncs(true);
    let ending = cluster
        .member(0)
        .process()?
        .wait(Duration::from_secs(60))
        .await?;
    ensure!(
        ending == metastore_harness::Ending::Code(1),
        "it ended with {ending:?}"
    );
    recorder.faults().fail_syncs(false);
    let writes = load.finish().await?;
    cluster.member(0).start().await?;
    let found =
        metastore_cluster_tests::verify::nothing_is_lost(&[url], &writes, shape.value_bytes)
            .await?;
    ensure!(found >= writes.acknowledged.len());
    cluster.member(0).kill()?;
    Ok(())
}
