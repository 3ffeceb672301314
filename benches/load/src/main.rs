//! MetaStore beside etcd in one run: the same machine, the same client, fsync on, alternating runs, medians.
//!
//! Absolute numbers are the machine's; the ratios are the result.

mod beside;
mod client;
mod cluster;
mod elements;
mod goal;
mod loads;
mod page;
mod process;
mod record;
mod report;
mod sample;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use cluster::{Cluster, Programs, Target};
use loads::{Bench, LOADS, Load, Scale};
use record::{Measurement, Record};

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
    /// Where the record of all loads, the tables and the plots are; loads not chosen keep what the record says.
    #[arg(long)]
    output: Option<PathBuf>,
    /// The commit that MetaStore was built from, for the report.
    #[arg(long, default_value = "not told")]
    commit: String,
    /// Today, for the report.
    #[arg(long, default_value = "not told")]
    date: String,
    /// Refused: a measurement without fsync says nothing.
    #[arg(long, hide = true)]
    unsafe_no_fsync: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.unsafe_no_fsync {
        bail!("--unsafe-no-fsync is refused: a measurement without fsync says nothing");
    }
    if arguments.target.is_some() && arguments.output.is_some() {
        bail!("--output is for measurements of both targets");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut record = match &arguments.output {
        Some(directory) => Record::open(directory, arguments.members)?,
        None => Record::default(),
    };
    say(report::HEAD);
    for load in LOADS
        .iter()
        .filter(|load| chosen(load.name, &arguments.only))
        .filter(|load| load.members_min <= arguments.members)
    {
        let measurement = measure(load, &arguments, &runtime)?;
        say(&report::rows(load.name, &measurement.samples));
        record.add(load.name, measurement)?;
        if let Some(directory) = &arguments.output {
            report::write(&record, directory, arguments.members)?;
        }
    }
    say(&report::goals(&record));
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
) -> Result<Measurement> {
    let programs = Programs {
        etcd: arguments.etcd.clone(),
        metastore: arguments.metastore.clone(),
        benchmark: arguments.benchmark.clone(),
    };
    let mut measurement = Measurement {
        commit: arguments.commit.clone(),
        date: arguments.date.clone(),
        scale: arguments.scale,
        ..Measurement::default()
    };
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
            // A load that restarts the members has looked before.
            let mib = f64::from(1 << 20);
            for (name, value) in [
                ("fdatasyncs", cluster.fsyncs() as f64),
                ("memory_mib", cluster.peak_memory_bytes()? as f64 / mib),
                ("disk_mib", cluster.disk_bytes() as f64 / mib),
            ] {
                sample.figures.entry(name.to_owned()).or_insert(value);
            }
            let command_line = cluster.command_line();
            measurement.commands.insert(target, command_line);
            let samples = measurement.samples.entry(target).or_default();
            samples.push(sample);
        }
    }
    Ok(measurement)
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
