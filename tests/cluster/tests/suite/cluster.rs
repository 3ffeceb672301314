//! Clusters begin, change their leader, come back; and who does not belong is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{get, get_serializable, lazy, put, until};
use metastore_cluster_tests::load::{Load, Shape};
use metastore_cluster_tests::trouble::leader;
use metastore_cluster_tests::verify::{nothing_is_lost, same_hashes, urls};
use metastore_harness::{Cluster, Ending, Engine, Spec, Target};
use metastore_proto::etcdserverpb::{MemberListRequest, StatusRequest};
use rand::Rng;
use rand::seq::SliceRandom;

const ROCKSDB: Target = Target::MetaStore(Engine::RocksDb);
const WAIT: Duration = Duration::from_secs(60);

async fn write(url: &str, key: String, value: String) -> Result<()> {
    until("a write", WAIT, || {
        let (url, request) = (url.to_owned(), put(key.clone(), value.clone()));
        async move {
            lazy(&url)?.kv.put(request).await?;
            Ok(())
        }
    })
    .await
}

async fn read(url: &str, key: &str) -> Result<String> {
    let answer = lazy(url)?.kv.range(get(key.to_owned())).await?.into_inner();
    let kv = answer.kvs.first().context("no such key")?;
    Ok(String::from_utf8(kv.value.to_vec())?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_begins_in_any_order_and_comes_back_whole() -> Result<()> {
    for (size, engine) in [
        (1, Engine::Memory),
        (3, Engine::RocksDb),
        (5, Engine::Memory),
    ] {
        let mut cluster = Cluster::prepare(&Spec::new(Target::MetaStore(engine), size))?;
        let mut order: Vec<usize> = (0..size).collect();
        order.shuffle(&mut rand::rng());
        for index in &order {
            cluster.member(*index).launch()?;
            let pause = rand::rng().random_range(0..1500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        for index in 0..size {
            cluster.member(index).ready().await?;
        }
        let all = urls(&cluster);
        for (index, url) in all.iter().enumerate() {
            write(url, format!("key{index}"), "first".into()).await?;
        }
        let before = same_hashes(&all).await?;
        for index in 0..size {
            let ending = cluster.member(index).stop().await?;
            ensure!(ending == Ending::Signal(15), "{order:?}: {ending:?}");
        }
        order.shuffle(&mut rand::rng());
        for index in &order {
            cluster.member(*index).launch()?;
        }
        for index in 0..size {
            cluster.member(index).ready().await?;
        }
        let after = same_hashes(&all).await?;
        ensure!(
            before == after,
            "{size} members: {before:?} became {after:?}"
        );
        write(&all[0], "key".into(), "after".into()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_takes_writes_and_answers_reads() -> Result<()> {
    let cluster = Cluster::start(&Spec::new(ROCKSDB, 3)).await?;
    let all = urls(&cluster);
    for round in 0..30 {
        let writer = &all[round % 3];
        let mut clients = lazy(writer)?;
        let told = clients.kv.put(put("key", format!("{round}"))).await?;
        let told = told.into_inner().header.unwrap_or_default().revision;
        // What a member has answered it also knows itself.
        let own = clients
            .kv
            .range(get_serializable("key"))
            .await?
            .into_inner();
        ensure!(
            own.kvs[0].mod_revision == told,
            "{round}: {:?} after {told}",
            own.kvs
        );
        for reader in &all {
            ensure!(
                read(reader, "key").await? == format!("{round}"),
                "{round} at {reader}"
            );
        }
    }
    same_hashes(&all).await?;
    Ok(())
}

/// Waits until every other member knows a leader that is not `old`; how long it took.
async fn new_leader(cluster: &Cluster, old: usize) -> Result<Duration> {
    let begin = Instant::now();
    let gone = cluster.members()[old].id();
    let others = cluster
        .members()
        .iter()
        .filter(|member| member.id() != gone);
    for member in others {
        let mut clients = lazy(member.client_url())?;
        loop {
            let status = clients
                .maintenance
                .status(StatusRequest {})
                .await?
                .into_inner();
            if status.leader != 0 && status.leader != gone {
                break;
            }
            ensure!(begin.elapsed() < WAIT, "no other leader");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_stop_hands_over_first() -> Result<()> {
    let mut cluster = Cluster::start(&Spec::new(ROCKSDB, 3)).await?;
    let all = urls(&cluster);
    let mut took = Vec::new();
    for round in 0..3 {
        write(&all[0], format!("key{round}"), "v".into()).await?;
        let old = leader(&cluster).await?;
        let process = cluster.member(old).process()?;
        process.signal(metastore_harness::Signal::TERM)?;
        took.push(new_leader(&cluster, old).await?);
        let begin = Instant::now();
        let ending = cluster.member(old).process()?.wait(WAIT).await?;
        ensure!(ending == Ending::Signal(15), "{ending:?}");
        ensure!(
            begin.elapsed() < Duration::from_secs(3),
            "it took {:?} to end",
            begin.elapsed()
        );
        cluster.member(old).start().await?;
    }
    // One of three may have met a busy machine.
    took.sort();
    ensure!(
        took[1] < Duration::from_millis(500),
        "a new leader after {took:?}"
    );
    same_hashes(&all).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stands_still_is_replaced_and_comes_back_as_a_follower() -> Result<()> {
    let mut cluster = Cluster::start(&Spec::new(ROCKSDB, 3)).await?;
    let all = urls(&cluster);
    let load = Load::start("still", &all, &Shape::default())?;
    load.progress(100, WAIT).await?;
    let old = leader(&cluster).await?;
    cluster.member(old).pause()?;
    let others: Vec<String> = (0..3)
        .filter(|at| *at != old)
        .map(|at| all[at].clone())
        .collect();
    write(&others[0], "while".into(), "still".into()).await?;
    load.progress(200, WAIT).await?;
    cluster.member(old).resume()?;
    // It must not answer from what it knew before.
    ensure!(read(&all[old], "while").await? == "still");
    load.progress(200, WAIT).await?;
    let writes = load.finish().await?;
    nothing_is_lost(&all, &writes, Shape::default().value_bytes).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_data_is_not_let_in() -> Result<()> {
    let mut cluster = Cluster::start(&Spec::new(ROCKSDB, 3)).await?;
    let all = urls(&cluster);
    write(&all[0], "key".into(), "v".into()).await?;
    for index in [0, 2] {
        cluster.member(index).stop().await?;
        let data = cluster.members()[index].data_dir().to_owned();
        let kept = data.with_extension("kept");
        fs::rename(&data, &kept)?;
        cluster.member(index).launch()?;
        let process = cluster.member(index).process()?;
        let ending = process.wait(WAIT).await?;
        let said = process.tail(20);
        ensure!(ending == Ending::Code(1), "{ending:?}\n{said}");
        ensure!(said.contains("has already been bootstrapped"), "{said}");
        fs::remove_dir_all(&data)?;
        fs::rename(&kept, &data)?;
        cluster.member(index).start().await?;
    }
    same_hashes(&all).await?;
    Ok(())
}

/// What a member says once of each other that does not belong to its cluster.
const STRANGER: &str = "a member does not belong to this cluster";
const READY: &str = "ready to serve client requests";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_another_engine_is_not_let_in() -> Result<()> {
    for (engine, other) in [(Engine::RocksDb, "memory"), (Engine::Memory, "rocksdb")] {
        let mut cluster = Cluster::prepare(&Spec::new(Target::MetaStore(engine), 3))?;
        let all = urls(&cluster);
        for index in 0..2 {
            cluster.member(index).launch()?;
        }
        for index in 0..2 {
            cluster.member(index).ready().await?;
        }
        write(&all[0], "key".into(), "before".into()).await?;
        let flag = format!("--storage-engine={other}");
        cluster.member(2).flags_mut().push(flag.into());
        cluster.member(2).launch()?;
        let process = cluster.member(2).process()?;
        let ending = process.wait(WAIT).await?;
        let said = process.tail(20);
        ensure!(ending == Ending::Code(1), "{ending:?}\n{said}");
        ensure!(
            said.contains("all members of a cluster need the same")
                && said.contains(&format!("this one --storage-engine={other}")),
            "{said}"
        );
        write(&all[1], "key".into(), "after".into()).await?;
        // With the right engine and without what the other one began it is let in.
        cluster.member(2).flags_mut().pop();
        fs::remove_dir_all(cluster.members()[2].data_dir())?;
        cluster.member(2).start().await?;
        same_hashes(&all).await?;
    }
    Ok(())
}

/// A member that stands still while the others ask it is not known to be another kind when they found the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_find_each_other_with_another_engine_say_so_once() -> Result<()> {
    let mut cluster = Cluster::prepare(&Spec::new(ROCKSDB, 3))?;
    let all = urls(&cluster);
    let flag = "--storage-engine=memory";
    cluster.member(2).flags_mut().push(flag.into());
    cluster.member(2).launch()?;
    // Its peer port is served when it has asked the others, of whom none was there.
    let peer = cluster.members()[2].peer_url().to_owned();
    until("the peer port is served", WAIT, async || {
        metastore_harness::get(&peer, "/version").await
    })
    .await?;
    cluster.member(2).pause()?;
    for index in 0..2 {
        cluster.member(index).launch()?;
    }
    for index in 0..2 {
        cluster.member(index).ready().await?;
    }
    cluster.member(2).resume()?;
    let said = |line: &str| line.contains(STRANGER);
    for index in 0..3 {
        let process = cluster.member(index).process()?;
        let line = process.wait_for_line(said, WAIT).await?;
        ensure!(
            line.contains("\"level\":\"error\"") && line.contains(flag),
            "{line}"
        );
    }
    let answers = |page: &str| {
        let name = "etcd_network_peer_round_trip_time_seconds_count";
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    let page = async || metastore_harness::get(&all[0], "/metrics").await;
    let before = answers(&page().await?.body);
    until("they ask each other again", WAIT, async || {
        let now = answers(&page().await?.body);
        ensure!(now >= before + 6.0, "{now} answers after {before}");
        Ok(())
    })
    .await?;
    let lines = cluster.member(0).process()?.lines();
    let told = lines.iter().filter(|line| said(line)).count();
    ensure!(told == 1, "said {told} times");
    write(&all[0], "key".into(), "value".into()).await?;
    Ok(())
}

/// What of an etcd or MetaStore must be as before when a stranger has knocked: its term and leader, and its members.
async fn standing(url: &str) -> Result<(u64, u64, usize)> {
    let mut clients = lazy(url)?;
    let status = clients
        .maintenance
        .status(StatusRequest {})
        .await?
        .into_inner();
    let members = clients
        .cluster
        .member_list(MemberListRequest::default())
        .await?;
    Ok((
        status.raft_term,
        status.leader,
        members.into_inner().members.len(),
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_etcd_and_of_metastore_refuse_each_other() -> Result<()> {
    for (host, guest, says) in [
        (Target::Etcd, ROCKSDB, STRANGER),
        (ROCKSDB, Target::Etcd, "prober detected unhealthy status"),
    ] {
        let mut running = Cluster::start(&Spec::new(host, 1)).await?;
        let url = running.members()[0].client_url().to_owned();
        write(&url, "key".into(), "before".into()).await?;
        let before = standing(&url).await?;
        let mut stranger = Cluster::prepare(&Spec::new(guest, 1))?;
        let both = format!(
            "--initial-cluster=m1={},other={}",
            stranger.members()[0].peer_url(),
            running.members()[0].peer_url()
        );
        stranger.member(0).flags_mut().push(both.into());
        stranger.member(0).launch()?;
        let process = stranger.member(0).process()?;
        process
            .wait_for_line(|line| line.contains(says), WAIT)
            .await?;
        let lines = process.lines();
        ensure!(!lines.iter().any(|line| line.contains(READY)), "{lines:#?}");
        ensure!(standing(&url).await? == before, "{host}: it was {before:?}");
        write(&url, "key".into(), "after".into()).await?;
        ensure!(read(&url, "key").await? == "after");
        let ending = running.member(0).stop().await?;
        ensure!(ending == Ending::Signal(15), "{host}: {ending:?}");
    }
    Ok(())
}

/// Every file below a folder with its bytes and the time of its last change.
pub(crate) fn files(folder: &Path) -> Result<BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            let changed = fs::metadata(&path)?.modified()?;
            found.insert(path.clone(), (fs::read(&path)?, changed));
        }
    }
    Ok(found)
}

/// Starts a member on a folder that is not its own.
async fn is_refused(spec: &Spec, folder: &Path, because: &str) -> Result<()> {
    let before = files(folder)?;
    let mut cluster = Cluster::prepare(spec)?;
    let data = format!("--data-dir={}", folder.display());
    cluster.member(0).flags_mut().push(data.into());
    cluster.member(0).launch()?;
    let process = cluster.member(0).process()?;
    let ending = process.wait(WAIT).await?;
    let said = process.tail(20);
    ensure!(ending == Ending::Code(1), "{ending:?}\n{said}");
    ensure!(said.contains(because), "{said}");
    ensure!(
        files(folder)? == before,
        "something was changed in {}",
        folder.display()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_others_is_refused_and_left_alone() -> Result<()> {
    let targets = [Engine::RocksDb, Engine::Memory].map(Target::MetaStore);
    for (made_by, because) in [
        (Target::Etcd, "holds data of etcd"),
        (targets[0], "--storage-engine=rocksdb"),
        (targets[1], "--storage-engine=memory"),
    ] {
        let mut cluster = Cluster::start(&Spec::new(made_by, 1)).await?;
        write(cluster.members()[0].client_url(), "key".into(), "v".into()).await?;
        cluster.member(0).stop().await?;
        let data = cluster.members()[0].data_dir().to_owned();
        for target in targets.into_iter().filter(|target| *target != made_by) {
            is_refused(&Spec::new(target, 1), &data, because).await?;
        }
    }
    Ok(())
}
