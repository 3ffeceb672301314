//! MetaStore beside etcd in one run: the same machine, the same client, fsync on, alternating runs, medians.
//!
//! Absolute numbers are the machine's; the ratios are the result.

mod client;
mod cluster;
mod loads;
mod process;
mod report;
mod sample;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use cluster::{Cluster, Programs, Target};
use loads::{Bench, LOADS, Scale};
use report::Samples;

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

#[expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.unsafe_no_fsync {
        bail!("--unsafe-no-fsync is refused: a measurement without fsync says nothing");
    }
    let programs = Programs {
        etcd: arguments.etcd.clone(),
        metastore: arguments.metastore.clone(),
        benchmark: arguments.benchmark.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let targets: Vec<Target> = match arguments.target.as_deref() {
        None => vec![Target::Etcd, Target::MetaStore],
        Some("etcd") => vec![Target::Etcd],
        Some("metastore") => vec![Target::MetaStore],
        Some(other) => bail!("unknown target {other}"),
    };
    let head = "| load | figure | etcd | MetaStore | ratio |\n|---|---|---|---|---|";
    println!("{head}");
    let (mut table, mut ratios) = (
        format!("{head}\n"),
        BTreeMap::<&str, Vec<(String, f64)>>::new(),
    );
    let mut commands = BTreeMap::new();
    for load in LOADS
        .iter()
        .filter(|load| chosen(load.name, &arguments.only))
    {
        let mut samples = Samples::new();
        for _ in 0..arguments.runs {
            for target in &targets {
                let mut cluster =
                    Cluster::start(*target, &programs, arguments.members, &arguments.data)?;
                let scale = Scale(arguments.scale);
                let mut bench = Bench {
                    programs: &programs,
                    cluster: &mut cluster,
                    scale,
                    runtime: &runtime,
                };
                let mut sample = (load.run)(&mut bench)
                    .with_context(|| format!("{} on {}", load.name, target.name()))?;
                sample.set("fdatasyncs", cluster.fsyncs() as f64);
                commands.insert(*target, cluster.command_line());
                samples.entry(*target).or_default().push(sample);
            }
        }
        let rows = report::rows(load.name, &samples);
        print!("{rows}");
        table.push_str(&rows);
        for name in ["rate", "server_cpu", "p99.9"] {
            let both = (
                report::figure(&samples, Target::Etcd, name),
                report::figure(&samples, Target::MetaStore, name),
            );
            if let (Some(etcd), Some(ours)) = both
                && etcd > 0.0
            {
                ratios
                    .entry(name)
                    .or_default()
                    .push((load.name.to_owned(), ours / etcd));
            }
        }
    }
    for command in commands.values() {
        let _ = writeln!(table, "\n`{command}`");
    }
    if let Some(directory) = &arguments.output {
        write_report(directory, arguments.members, &table, &ratios)?;
    }
    Ok(())
}

fn chosen(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

fn write_report(
    directory: &std::path::Path,
    members: usize,
    table: &str,
    ratios: &BTreeMap<&str, Vec<(String, f64)>>,
) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(format!("load-{members}.md")), table)?;
    for (name, ratios) in ratios {
        let title = format!("MetaStore / etcd: {name}, {members} member(s)");
        std::fs::write(
            directory.join(format!("load-{members}-{name}.svg")),
            report::plot(&title, ratios),
        )?;
    }
    Ok(())
}
