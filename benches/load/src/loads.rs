//! The loads, each as etcd's benchmark client or our own puts it on a cluster.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::beside::{during_compaction, during_defragment, during_snapshot};
use crate::client;
use crate::cluster::{Cluster, Programs};
use crate::goal::{Goal, own_at_least, own_at_most, ratio_at_least, ratio_at_most};
use crate::page::{self, Page};
use crate::process;
use crate::sample::{Sample, parse};

/// How much of each load: 1.0 is the full size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(pub(crate) f64);

impl Scale {
    pub(crate) fn of(self, total: u64) -> u64 {
        ((total as f64 * self.0) as u64).max(100)
    }
}

/// What a load needs at hand.
pub(crate) struct Bench<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) scale: Scale,
    pub(crate) runtime: &'a tokio::runtime::Runtime,
}

/// A load by name, with what it is to show.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Bench<'_>) -> Result<Sample>,
    pub(crate) goals: &'static [Goal],
    /// Smaller clusters cannot have it.
    pub(crate) members_min: usize,
    /// What MetaStore is started with for it beside the usual.
    pub(crate) metastore_flags: &'static [&'static str],
}

/// A load for any cluster as it comes.
const ANY: Load = Load {
    name: "",
    run: |_| Ok(Sample::default()),
    goals: &[],
    members_min: 1,
    metastore_flags: &[],
};

/// All loads, in the order in which they are reported.
pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "put, 1 client",
        run: |bench| bench.put(1, 1, 10_000),
        goals: &[ratio_at_most("p50", 1.0)],
        ..ANY
    },
    Load {
        name: "put, 100 clients",
        run: |bench| bench.put(100, 10, 150_000),
        goals: &[
            ratio_at_most("server_cpu", 0.35),
            ratio_at_least("rate", 2.0),
        ],
        ..ANY
    },
    Load {
        name: "put, 1 000 clients",
        run: |bench| bench.put(1000, 100, 200_000),
        goals: &[
            ratio_at_most("server_cpu", 0.35),
            ratio_at_least("rate", 2.0),
        ],
        ..ANY
    },
    Load {
        name: "range of one key, linearizable, 100 clients",
        run: |bench| bench.range("l"),
        goals: &[
            ratio_at_most("server_cpu", 0.55),
            ratio_at_least("rate", 1.4),
        ],
        ..ANY
    },
    Load {
        name: "range of one key, serializable, 100 clients",
        run: |bench| bench.range("s"),
        goals: &[
            ratio_at_most("server_cpu", 0.55),
            ratio_at_least("rate", 1.4),
        ],
        ..ANY
    },
    Load {
        name: "page of 1 000 out of 100 000 keys, 100 clients",
        run: newest_page,
        goals: &[ratio_at_least("rate", 20.0)],
        ..ANY
    },
    Load {
        name: "page 50 of that list, 100 000 writes old, 100 clients",
        run: pinned_page,
        goals: &[ratio_at_least("rate", 5.0)],
        ..ANY
    },
    Load {
        name: "txn of 8 puts, 100 clients",
        run: |bench| bench.txn(),
        goals: &[
            ratio_at_most("server_cpu", 0.4),
            ratio_at_least("rate", 1.5),
        ],
        ..ANY
    },
    Load {
        name: "lease keepalive, 100 clients",
        run: |bench| bench.keepalive(),
        goals: &[ratio_at_most("server_cpu", 0.5)],
        ..ANY
    },
    Load {
        name: "1 000 watchers on 10 connections",
        run: watchers,
        goals: &[ratio_at_most("server_cpu", 0.5), ratio_at_most("p99", 1.0)],
        ..ANY
    },
    Load {
        name: "1 M keys of 256 B",
        run: million,
        goals: &[
            ratio_at_most("memory_mib", 0.5),
            ratio_at_most("restart_ms", 0.3),
        ],
        ..ANY
    },
    Load {
        name: "1 M puts to one key",
        run: one_key,
        goals: &[own_at_least("last_to_first", 1.0)],
        ..ANY
    },
    Load {
        name: "puts during Defragment",
        run: during_defragment,
        goals: &[own_at_most("busy_to_quiet", 3.0)],
        ..ANY
    },
    Load {
        name: "puts during compaction of 1 M revisions",
        run: during_compaction,
        goals: &[own_at_most("busy_to_quiet", 3.0)],
        ..ANY
    },
    Load {
        name: "puts during a snapshot to a member",
        run: during_snapshot,
        goals: &[own_at_most("busy_to_quiet", 3.0)],
        members_min: 3,
        // Less than is written while the member is away; etcd keeps some thousand entries.
        metastore_flags: &["--raft-log-retention-bytes=33554432"],
    },
];

impl Bench<'_> {
    fn put(&mut self, clients: u64, connections: u64, total: u64) -> Result<Sample> {
        let (total, clients, connections) = (
            self.scale.of(total),
            clients.to_string(),
            connections.to_string(),
        );
        let total_text = total.to_string();
        self.benchmark(
            total,
            &[
                "put",
                "--clients",
                &clients,
                "--conns",
                &connections,
                "--total",
                &total_text,
                "--key-size",
                "8",
                "--val-size",
                "256",
                "--key-space-size",
                "100000",
            ],
        )
    }

    fn range(&mut self, consistency: &str) -> Result<Sample> {
        self.runtime
            .block_on(client::fill(&self.cluster.url(), 1000, 256))?;
        let total = self.scale.of(200_000);
        let key = String::from_utf8(client::key(7))?;
        let total_text = total.to_string();
        self.benchmark(
            total,
            &[
                "range",
                &key,
                "--consistency",
                consistency,
                "--clients",
                "100",
                "--conns",
                "10",
                "--total",
                &total_text,
            ],
        )
    }

    fn txn(&mut self) -> Result<Sample> {
        let total = self.scale.of(60_000);
        let total_text = total.to_string();
        self.benchmark(
            total,
            &[
                "txn-put",
                "--txn-ops",
                "8",
                "--clients",
                "100",
                "--conns",
                "10",
                "--total",
                &total_text,
                "--val-size",
                "256",
                "--key-space-size",
                "100000",
            ],
        )
    }

    fn keepalive(&mut self) -> Result<Sample> {
        let total = self.scale.of(200_000);
        let total_text = total.to_string();
        self.benchmark(
            total,
            &[
                "lease-keepalive",
                "--clients",
                "100",
                "--conns",
                "10",
                "--total",
                &total_text,
            ],
        )
    }

    /// Runs etcd's benchmark client and measures what the server and the client spent on it.
    fn benchmark(&mut self, operations: u64, arguments: &[&str]) -> Result<Sample> {
        let (before, begin) = (self.cluster.cpu_seconds()?, Instant::now());
        let client_before = process::ended_children_cpu_seconds()?;
        let output = Command::new(&self.programs.benchmark)
            .arg("--endpoints")
            .arg(self.cluster.endpoints())
            .args(arguments)
            .output()
            .context("run the benchmark client")?;
        let report = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!(
                "the benchmark client failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        if let Some(errors) = report.split("Error distribution:").nth(1) {
            bail!(
                "{} after {:?}: errors:{errors}",
                arguments[0],
                begin.elapsed()
            );
        }
        let mut sample = parse(&report)?;
        sample.set(
            "server_cpu",
            (self.cluster.cpu_seconds()? - before) * 1e6 / operations as f64,
        );
        sample.set(
            "client_cpu",
            (process::ended_children_cpu_seconds()? - client_before) * 1e6 / operations as f64,
        );
        Ok(sample)
    }

    fn pages(&mut self, url: &str, page: Page) -> Result<Sample> {
        let before = self.cluster.cpu_seconds()?;
        let (mut sample, count) = self.runtime.block_on(page::read(url, PAGES_TIME, page))?;
        let spent = self.cluster.cpu_seconds()? - before;
        sample.set("server_cpu", spent * 1e6 / count as f64);
        Ok(sample)
    }

    fn own<F: Future<Output = Result<Sample>>>(
        &mut self,
        operations: u64,
        load: F,
    ) -> Result<Sample> {
        let before = self.cluster.cpu_seconds()?;
        let mut sample = self.runtime.block_on(load)?;
        sample.set(
            "server_cpu",
            (self.cluster.cpu_seconds()? - before) * 1e6 / operations as f64,
        );
        Ok(sample)
    }
}

const LIST_KEYS: u64 = 100_000;
/// At any scale, and for any server as long: the first second still pays for the filling.
const PAGES_TIME: Duration = Duration::from_secs(10);
const NEWEST: Page = Page {
    skip: 0,
    limit: 1_000,
    revision: 0,
};

fn newest_page(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    bench
        .runtime
        .block_on(client::fill_at_once(&url, LIST_KEYS, 256))?;
    bench.pages(&url, NEWEST)
}

fn pinned_page(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    let pinned = bench
        .runtime
        .block_on(client::fill_at_once(&url, LIST_KEYS, 256))?;
    bench.runtime.block_on(client::fill(&url, LIST_KEYS, 256))?;
    let page = Page {
        skip: 50,
        revision: pinned,
        ..NEWEST
    };
    bench.pages(&url, page)
}

fn watchers(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    let puts = bench.scale.of(500);
    bench.own(puts * 1000, client::watch_delay(&url, 10, 1000, puts, 50))
}

fn million(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    let count = bench.scale.of(1_000_000);
    let (before, begin) = (bench.cluster.cpu_seconds()?, Instant::now());
    bench.runtime.block_on(client::fill(&url, count, 256))?;
    let mut sample = Sample::default();
    sample.set("rate", count as f64 / begin.elapsed().as_secs_f64());
    sample.set(
        "server_cpu",
        (bench.cluster.cpu_seconds()? - before) * 1e6 / count as f64,
    );
    sample.set("fdatasyncs", bench.cluster.fsyncs() as f64);
    sample.set(
        "memory_mib",
        bench.cluster.peak_memory_bytes()? as f64 / f64::from(1 << 20),
    );
    sample.set(
        "disk_mib",
        bench.cluster.disk_bytes() as f64 / f64::from(1 << 20),
    );
    sample.set("restart_ms", bench.cluster.restart()?.as_secs_f64() * 1e3);
    sample.set(
        "memory_after_restart_mib",
        bench.cluster.peak_memory_bytes()? as f64 / f64::from(1 << 20),
    );
    Ok(sample)
}

/// The rate of the last tenth beside that of the first.
fn one_key(bench: &mut Bench<'_>) -> Result<Sample> {
    let total = bench.scale.of(1_000_000) / 10;
    let total_text = total.to_string();
    let mut rates = Vec::new();
    for _ in 0..10 {
        let part = bench.benchmark(
            total,
            &[
                "put",
                "--clients",
                "100",
                "--conns",
                "10",
                "--total",
                &total_text,
                "--key-size",
                "8",
                "--val-size",
                "64",
                "--key-space-size",
                "1",
            ],
        )?;
        rates.push(part);
    }
    let (first, last) = (&rates[0], &rates[rates.len() - 1]);
    let mut sample = last.clone();
    sample.set(
        "last_to_first",
        last.figures["rate"] / first.figures["rate"],
    );
    Ok(sample)
}
