//! MetaStore beside etcd in one run: the same machine, the same client, fsync on, alternating runs, medians.
//!
//! Absolute numbers are the machine's; the ratios are the result.

mod beside;
mod client;
mod cluster;
mod goal;
mod loads;
mod process;
mod report;
mod sample;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use cluster::{Cluster, Programs, Target};
use loads::{Bench, LOADS, Load, Scale};
use report::{Report, Samples};

#[derive(Parser)]
#[command(about = "Runs MetaStore and etcd side by side under the same loads")]
struct Arguments {
    /// The etcd server (v3.7.3).
    #[arg(long)]
    etcd: PathBuf,
    /// The MetaStore member, a release build with RocksDB.
    #[arg(long)]
    metastore: PathBuf,
    /// etcd's benchmark client.
    #[arg(long)]
    benchmark: PathBuf,
    /// Members of each cluster.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// Alternating runs of each load.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Share of each load's full size.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only loads whose name contains this; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Only one of the targets: `etcd` or `metastore`.
    #[arg(long)]
    target: Option<String>,
    /// Where data directories are made.
    #[arg(long, default_value = ".")]
    data: PathBuf,
    /// Where the table and the plots are written.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Refused: a measurement without fsync says nothing.
    #[arg(long, hide = true)]
    unsafe_no_fsync: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.unsafe_no_fsync {
        bail!("--unsafe-no-fsync is refused: a measurement without fsync says nothing");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut report = Report::default();
    say(report::HEAD);
    for load in LOADS
        .iter()
        .filter(|load| chosen(load.name, &arguments.only))
        .filter(|load| load.members_min <= arguments.members)
    {
        let samples = measure(load, &arguments, &runtime, &mut report)?;
        say(&report.add(load, &samples));
    }
    say(&report.goals());
    if let Some(directory) = &arguments.output {
        report.write(
            directory,
            arguments.members,
            arguments.runs,
            arguments.scale,
        )?;
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]
fn say(text: &str) {
    println!("{}", text.trim_end());
}

/// Runs one load, the targets taking turns.
fn measure(
    load: &Load,
    arguments: &Arguments,
    runtime: &tokio::runtime::Runtime,
    report: &mut Report,
) -> Result<Samples> {
    let programs = Programs {
        etcd: arguments.etcd.clone(),
        metastore: arguments.metastore.clone(),
        benchmark: arguments.benchmark.clone(),
    };
    let mut samples = Samples::new();
    for _ in 0..arguments.runs {
        for target in arguments.targets()? {
            let mut cluster = Cluster::start(
                target,
                &programs,
                arguments.members,
                &arguments.data,
                load.metastore_flags,
            )?;
            let mut bench = Bench {
                programs: &programs,
                cluster: &mut cluster,
                scale: Scale(arguments.scale),
                runtime,
            };
            let mut sample = (load.run)(&mut bench)
                .with_context(|| format!("{} on {}", load.name, target.name()))?;
            sample.set("fdatasyncs", cluster.fsyncs() as f64);
            let mib = f64::from(1 << 20);
            for (name, bytes) in [
                ("memory_mib", cluster.peak_memory_bytes()?),
                ("disk_mib", cluster.disk_bytes()),
            ] {
                let figure = sample.figures.entry(name);
                figure.or_insert(bytes as f64 / mib);
            }
            report.started(target, cluster.command_line());
            samples.entry(target).or_default().push(sample);
        }
    }
    Ok(samples)
}

fn chosen(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

impl Arguments {
    fn targets(&self) -> Result<Vec<Target>> {
        Ok(match self.target.as_deref() {
            None => vec![Target::Etcd, Target::MetaStore],
            Some("etcd") => vec![Target::Etcd],
            Some("metastore") => vec![Target::MetaStore],
            Some(other) => bail!("unknown target {other}"),
        })
    }
}
