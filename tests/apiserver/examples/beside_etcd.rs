//! The same work through the same kube-apiserver on etcd and on MetaStore, by turns: seconds, the store's CPU
//! seconds and its memory.
//!
//! `cargo run --package metastore-apiserver-tests --example beside_etcd [ROUNDS]`, with `METASTORE_BIN` naming a release
//! build; `METASTORE_KUBERNETES` (1.37) chooses the version.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, config_map, items, next_page, version};
use metastore_apiserver_tests::{ApiServer, Client, Options, Version, create_many, for_each};
use metastore_harness::{Cluster, Engine, Spec, Target};
use serde_json::json;

const OBJECTS: usize = 5_000;
const STORES: [Target; 2] = [Target::Etcd, Target::MetaStore(Engine::RocksDb)];

/// One load's cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    seconds: f64,
    store_cpu: f64,
}

/// What one store needed in one round.
#[derive(Clone, Debug, Default)]
struct Round {
    costs: Vec<(&'static str, Cost)>,
    peak_memory: f64,
}

/// Seconds of CPU that a process has used, user and system.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("a process's state")?;
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .context("a process's state")?
        .1
        .split(' ')
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // Linux shows clock ticks of 1/100 s on every platform that Rust has.
    Ok(ticks / 100.0)
}

fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("a process's state")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("peak memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

async fn timed(pid: u32, load: impl Future<Output = Result<()>>) -> Result<Cost> {
    let (cpu, begun) = (cpu_seconds(pid)?, Instant::now());
    load.await?;
    Ok(Cost {
        seconds: begun.elapsed().as_secs_f64(),
        store_cpu: cpu_seconds(pid)? - cpu,
    })
}

async fn patch_all(api: &Client) -> Result<()> {
    for_each(0..OBJECTS, 32, async |number| {
        let path = format!("{CONFIG_MAPS}/c{number:05}");
        let patch = json!({"data": {"datum": "changed"}});
        api.patch(&path, "merge", &patch).await.map(drop)
    })
    .await
    .map(drop)
}

async fn read_all(api: &Client) -> Result<()> {
    for_each(0..OBJECTS, 32, async |number| {
        api.get(&format!("{CONFIG_MAPS}/c{number:05}"))
            .await
            .map(drop)
    })
    .await
    .map(drop)
}

/// Ten lists in pages of 500, of the revision `at`, which the apiserver that has no cache reads from the store.
async fn pages(api: &Client, at: u64) -> Result<()> {
    for _ in 0..10 {
        let exact = format!("&resourceVersion={at}&resourceVersionMatch=Exact");
        let (mut page, mut query, mut seen) = (String::new(), exact.as_str(), 0);
        loop {
            let path = format!("{CONFIG_MAPS}?limit=500{query}&continue={page}");
            let list = api.get(&path).await?;
            seen += items(&list)?.len();
            (page, query) = (next_page(&list).to_owned(), "");
            if page.is_empty() {
                break;
            }
        }
        ensure!(seen == OBJECTS, "{seen} objects");
    }
    Ok(())
}

async fn delete_all(api: &Client) -> Result<()> {
    for_each(0..OBJECTS, 32, async |number| {
        api.delete(&format!("{CONFIG_MAPS}/c{number:05}"))
            .await
            .map(drop)
    })
    .await
    .map(drop)
}

async fn round(target: Target, size: usize, version_of: Version) -> Result<Round> {
    let mut cluster = Cluster::start(&Spec::new(target, size)).await?;
    let leader = cluster.leader().await?;
    let options = Options {
        version: version_of,
        stores: cluster
            .members()
            .iter()
            .map(|member| member.client_url().to_owned())
            .collect(),
        tls: None,
        flags: vec!["--watch-cache=false".to_owned()],
        environment: Vec::new(),
    };
    let apiserver = ApiServer::start(options).await?;
    let api = apiserver.client().await?;
    let pid = cluster.member(leader).process()?.id();
    let objects = (0..OBJECTS).map(|number| config_map(&format!("c{number:05}"), &"x".repeat(500)));
    let mut costs = vec![(
        "5 000 creates",
        timed(pid, async {
            create_many(&api, CONFIG_MAPS, objects).await.map(drop)
        })
        .await?,
    )];
    let at = version(&api.get(&format!("{CONFIG_MAPS}?limit=1")).await?)?;
    costs.push(("5 000 gets", timed(pid, read_all(&api)).await?));
    costs.push(("5 000 patches", timed(pid, patch_all(&api)).await?));
    costs.push((
        "10 lists in pages, pinned",
        timed(pid, pages(&api, at)).await?,
    ));
    costs.push(("5 000 deletes", timed(pid, delete_all(&api)).await?));
    let idle = timed(pid, async {
        // What a store costs while nobody writes: the apiserver's own leases, checks and progress.
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok(())
    });
    costs.push(("20 s of rest", idle.await?));
    Ok(Round {
        costs,
        peak_memory: peak_memory(pid)?,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(size: usize, rounds: &[[Round; 2]]) {
    println!(
        "\n{size} member(s): medians of {} rounds, etcd / MetaStore",
        rounds.len()
    );
    println!("| load | seconds | CPU seconds of the store | ratio of CPU |");
    println!("|---|---|---|---|");
    for (index, (name, _)) in rounds[0][0].costs.iter().enumerate() {
        let of = |store: usize, what: fn(&Cost) -> f64| {
            median(
                rounds
                    .iter()
                    .map(|round| what(&round[store].costs[index].1))
                    .collect(),
            )
        };
        let (seconds, cpu) = (|cost: &Cost| cost.seconds, |cost: &Cost| cost.store_cpu);
        println!(
            "| {name} | {:.1} / {:.1} | {:.2} / {:.2} | {:.2} |",
            of(0, seconds),
            of(1, seconds),
            of(0, cpu),
            of(1, cpu),
            of(1, cpu) / of(0, cpu)
        );
    }
    let memory = |store: usize| {
        median(
            rounds
                .iter()
                .map(|round| round[store].peak_memory)
                .collect(),
        )
    };
    println!(
        "| peak memory, MiB | {:.0} / {:.0} | | |",
        memory(0),
        memory(1)
    );
}

#[tokio::main]
async fn main() -> Result<()> {
    let count = std::env::args()
        .nth(1)
        .map_or(Ok(3), |count| count.parse())?;
    let version = std::env::var("METASTORE_KUBERNETES").unwrap_or_else(|_| "1.37".to_owned());
    let version = Version::named(&version)?;
    println!(
        "kube-apiserver {version} without a watch cache; MetaStore: {}",
        Target::MetaStore(Engine::RocksDb).binary()?.display()
    );
    for size in [1, 3] {
        let mut rounds = Vec::new();
        for _ in 0..count {
            let mut both: [Round; 2] = Default::default();
            for (store, target) in STORES.into_iter().enumerate() {
                both[store] = round(target, size, version).await?;
            }
            rounds.push(both);
        }
        print(size, &rounds);
    }
    Ok(())
}
