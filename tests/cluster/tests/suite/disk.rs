//! A disk that fills up: writes are refused, reads go on, and with room again everything goes on as if nothing had been.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use metastore_cluster_tests::client::{lazy, put, until};
use metastore_cluster_tests::disk::SmallDisk;
use metastore_cluster_tests::load::{Load, Shape};
use metastore_cluster_tests::trouble::leader;
use metastore_cluster_tests::verify::{nothing_is_lost, urls};
use metastore_cluster_tests::witness::Witnesses;
use metastore_harness::{Cluster, Ending, Engine, Spec, Target};
use metastore_proto::etcdserverpb::CompactionRequest;
use tonic::Code;

const REFUSAL: &str = "etcdserver: no space left on device";
const WAIT: Duration = Duration::from_secs(90);
const MEBIBYTES: u64 = 700;

/// What is on the small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    All,
    Log,
    Engine,
}

fn place(cluster: &mut Cluster, member: usize, on: On, disk: &Path) {
    let name = cluster.members()[member].name().to_owned();
    let small = disk.join(&name);
    let flags = cluster.member(member);
    let elsewhere = flags.data_dir().with_extension("wal-dir");
    let flags = flags.flags_mut();
    if on != On::Log {
        flags.push(format!("--data-dir={}", small.display()).into());
    }
    match on {
        On::All => {}
        On::Log => flags.push(format!("--wal-dir={}", small.display()).into()),
        On::Engine => flags.push(format!("--wal-dir={}", elsewhere.display()).into()),
    }
}

fn bulky() -> Shape {
    Shape {
        writers: 8,
        value_bytes: 30_000,
        pause: Duration::ZERO,
    }
}

/// Waits until a put is refused for want of space.
async fn refused(url: &str) -> Result<()> {
    until("a put is refused", WAIT, async || {
        let mut clients = lazy(url)?;
        let answer = clients.kv.put(put("probe", vec![1; 1000])).await;
        let status = answer.err();
        ensure!(
            status.as_ref().is_some_and(|status| {
                status.code() == Code::ResourceExhausted && status.message() == REFUSAL
            }),
            "{status:?}"
        );
        Ok(())
    })
    .await
}

/// Fills a member's disk under load, gives space back, and looks at everything.
async fn fills_up(engine: Engine, on: On, leave_mebibytes: u64) -> Result<()> {
    let disk = SmallDisk::new(MEBIBYTES)?;
    let mut cluster = Cluster::prepare(&Spec::new(Target::MetaStore(engine), 1))?;
    place(&mut cluster, 0, on, &disk.path());
    cluster.member(0).start().await?;
    let urls = urls(&cluster);
    let load = Load::start("disk", &urls, &bulky())?;
    let witnesses = Witnesses::start(&urls, &load.told())?;
    load.progress(500, WAIT).await?;
    disk.fill(leave_mebibytes)?;
    refused(&urls[0]).await?;
    // What makes room is let through.
    let request = CompactionRequest {
        revision: load.told().revision() - 10,
        physical: false,
    };
    until("a compaction", WAIT, async || {
        lazy(&urls[0])?.kv.compact(request).await?;
        Ok(())
    })
    .await?;
    disk.relieve()?;
    // Without a restart.
    load.progress(100, WAIT).await?;
    ensure!(cluster.member(0).process()?.is_running());
    let writes = load.finish().await?;
    ensure!(
        writes.errors.keys().any(|error| error.contains(REFUSAL)),
        "{:?}",
        writes.errors
    );
    ensure!(witnesses.finish().await? > 0);
    nothing_is_lost(&urls, &writes, bulky().value_bytes).await?;
    cluster.member(0).kill()?;
    cluster.member(0).start().await?;
    nothing_is_lost(&urls, &writes, bulky().value_bytes).await?;
    cluster.member(0).kill()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_log_and_engine_loses_nothing() -> Result<()> {
    fills_up(Engine::RocksDb, On::All, 300).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_others_fill_to_the_last_byte_loses_nothing() -> Result<()> {
    fills_up(Engine::RocksDb, On::All, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_log_loses_nothing() -> Result<()> {
    fills_up(Engine::RocksDb, On::Log, 100).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_rocksdb_loses_nothing() -> Result<()> {
    fills_up(Engine::RocksDb, On::Engine, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_memory_engine_loses_nothing() -> Result<()> {
    fills_up(Engine::Memory, On::All, 300).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_starts_on_a_disk_that_was_full_or_says_why_not() -> Result<()> {
    let disk = SmallDisk::new(MEBIBYTES)?;
    let mut cluster = Cluster::prepare(&Spec::new(Target::MetaStore(Engine::RocksDb), 1))?;
    place(&mut cluster, 0, On::All, &disk.path());
    cluster.member(0).start().await?;
    let urls = urls(&cluster);
    let load = Load::start("restart", &urls, &bulky())?;
    load.progress(300, WAIT).await?;
    disk.fill(0)?;
    refused(&urls[0]).await?;
    cluster.member(0).kill()?;
    let writes = load.finish().await?;
    cluster.member(0).launch()?;
    // Either is fine, but silence is not, nor anything that was lost.
    if cluster.member(0).ready().await.is_ok() {
        refused(&urls[0]).await?;
        cluster.member(0).kill()?;
    } else {
        let process = cluster.member(0).process()?;
        ensure!(process.wait(WAIT).await? == Ending::Code(1));
        let said = process.tail(5);
        ensure!(said.contains("No space left on device"), "{said}");
    }
    disk.relieve()?;
    cluster.member(0).start().await?;
    nothing_is_lost(&urls, &writes, bulky().value_bytes).await?;
    cluster.member(0).kill()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_full_disk_of_three_stops_only_its_own_member() -> Result<()> {
    let disk = SmallDisk::new(MEBIBYTES)?;
    let mut cluster = Cluster::prepare(&Spec::new(Target::MetaStore(Engine::RocksDb), 3))?;
    place(&mut cluster, 2, On::All, &disk.path());
    for index in 0..3 {
        cluster.member(index).launch()?;
    }
    for index in 0..3 {
        cluster.member(index).ready().await?;
    }
    let all = urls(&cluster);
    if leader(&cluster).await? == 2 {
        // Its successor is found when it comes back.
        cluster.member(2).stop().await?;
        cluster.member(2).start().await?;
    }
    let load = Load::start("three", &all[..2], &bulky())?;
    let witnesses = Witnesses::start(&all[..2], &load.told())?;
    load.progress(300, WAIT).await?;
    disk.fill(0)?;
    refused(&all[2]).await?;
    load.progress(2_000, WAIT).await?;
    // It would fill the small disk by itself before long.
    let writes = load.finish().await?;
    ensure!(witnesses.finish().await? > 0);
    disk.relieve()?;
    let mut third = lazy(&all[2])?;
    until("the third takes writes again", WAIT, || {
        let mut kv = third.kv.clone();
        async move {
            kv.put(put("probe", "v")).await?;
            Ok(())
        }
    })
    .await?;
    third.kv.put(put("probe", "w")).await?;
    nothing_is_lost(&all, &writes, bulky().value_bytes).await?;
    cluster.member(2).kill()?;
    Ok(())
}

/// Without a restart, and without one write that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_gives_way_to_a_member_that_has_some() -> Result<()> {
    let disks: Vec<SmallDisk> = (0..3)
        .map(|_| SmallDisk::new(MEBIBYTES))
        .collect::<Result<_>>()?;
    let mut cluster = Cluster::prepare(&Spec::new(Target::MetaStore(Engine::RocksDb), 3))?;
    for (index, disk) in disks.iter().enumerate() {
        place(&mut cluster, index, On::All, &disk.path());
        cluster.member(index).launch()?;
    }
    for index in 0..3 {
        cluster.member(index).ready().await?;
    }
    let all = urls(&cluster);
    let full = leader(&cluster).await?;
    let others = [&all[(full + 1) % 3], &all[(full + 2) % 3]].map(Clone::clone);
    let small = Shape {
        value_bytes: 1_000,
        ..bulky()
    };
    let load = Load::start("gives way", &others, &small)?;
    let witnesses = Witnesses::start(&others, &load.told())?;
    load.progress(300, WAIT).await?;
    disks[full].fill(0)?;
    until("another member leads", WAIT, async || {
        let now = leader(&cluster).await?;
        ensure!(now != full, "member {now} leads");
        Ok(())
    })
    .await?;
    load.progress(2_000, WAIT).await?;
    let writes = load.finish().await?;
    ensure!(witnesses.finish().await? > 0);
    disks[full].relieve()?;
    nothing_is_lost(&all, &writes, small.value_bytes).await?;
    for index in 0..3 {
        ensure!(cluster.member(index).process()?.is_running());
        cluster.member(index).kill()?;
    }
    Ok(())
}
