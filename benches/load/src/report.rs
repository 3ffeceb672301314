//! The tables and the plots of what a record holds.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::cluster::Target;
use crate::loads::{LOADS, Load};
use crate::record::{Measurement, Record, Samples};
use crate::sample::median;

/// The head of the table of figures.
pub(crate) const HEAD: &str =
    "| load | figure | etcd | MetaStore | ratio |\n|---|---|---|---|---|\n";

/// The figures that are drawn.
const DRAWN: [&str; 3] = ["rate", "server_cpu", "p99.9"];

/// The goals of all loads that have been measured, and what was reached.
pub(crate) fn goals(record: &Record) -> String {
    let mut text =
        "\n| load | goal for | bound | measured | reached |\n|---|---|---|---|---|\n".to_owned();
    for (load, measured) in measured(record) {
        let goals = load.goals.iter();
        text.extend(goals.filter_map(|goal| goal.row(load.name, &measured.samples)));
    }
    text
}

/// Writes the tables and the plots.
pub(crate) fn write(record: &Record, directory: &Path, members: usize) -> Result<()> {
    let mut text = goals(record);
    fs::create_dir_all(directory)?;
    for name in DRAWN {
        let title = format!("MetaStore / etcd: {name}, {members} member(s)");
        let file = format!("load-{members}-{name}.svg");
        fs::write(directory.join(&file), plot(&title, &ratios(record, name)))?;
        let _ = write!(text, "\n![{title}]({file})\n");
    }
    let _ = write!(text, "\n{HEAD}");
    for (load, measured) in measured(record) {
        text.push_str(&rows(load.name, &measured.samples));
    }
    text.push_str(&conditions(record));
    fs::write(directory.join(format!("load-{members}.md")), text)?;
    Ok(())
}

fn measured(record: &Record) -> impl Iterator<Item = (&'static Load, &Measurement)> {
    let loads = LOADS.iter();
    loads.filter_map(|load| Some((load, record.get(load.name)?)))
}

/// MetaStore's figure over etcd's, of each load that has it.
fn ratios(record: &Record, name: &str) -> Vec<(&'static str, f64)> {
    let of = |(load, measured): (&'static Load, &Measurement)| {
        let etcd = figure(&measured.samples, Target::Etcd, name).filter(|etcd| *etcd > 0.0)?;
        Some((
            load.name,
            figure(&measured.samples, Target::MetaStore, name)? / etcd,
        ))
    };
    measured(record).filter_map(of).collect()
}

/// How often, how large, on which commit, and with which flags.
fn conditions(record: &Record) -> String {
    let mut text =
        "\n| load | alternating runs | share of full size | commit | date |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut commands = BTreeSet::new();
    for (load, measured) in measured(record) {
        let runs = measured.samples.values().map(Vec::len).min().unwrap_or(0);
        let Measurement {
            scale,
            commit,
            date,
            ..
        } = measured;
        let name = load.name;
        let _ = writeln!(text, "| {name} | {runs} | {scale} | {commit} | {date} |");
        commands.extend(measured.commands.values());
    }
    text.push_str("\nFlags beside names, addresses and directories:\n");
    for command in commands {
        let _ = write!(text, "\n`{command}`\n");
    }
    text
}

/// The median of one figure of one target.
pub(crate) fn figure(samples: &Samples, target: Target, name: &str) -> Option<f64> {
    let figures: Vec<f64> = samples
        .get(&target)?
        .iter()
        .filter_map(|sample| sample.figures.get(name).copied())
        .collect();
    (!figures.is_empty()).then(|| median(figures))
}

/// A row for each figure of a load: both medians and their ratio.
pub(crate) fn rows(load: &str, samples: &Samples) -> String {
    let mut names: Vec<&str> = samples
        .values()
        .flatten()
        .flat_map(|sample| sample.figures.keys().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut out = String::new();
    for name in names {
        let etcd = figure(samples, Target::Etcd, name);
        let ours = figure(samples, Target::MetaStore, name);
        let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let ratio = match (etcd, ours) {
            (Some(etcd), Some(ours)) if etcd > 0.0 => format!("{:.2}", ours / etcd),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            out,
            "| {load} | {name} | {} | {} | {ratio} |",
            text(etcd),
            text(ours)
        );
    }
    out
}

/// One bar for each load: MetaStore's figure over etcd's, on a logarithmic scale with 1.0 marked.
fn plot(title: &str, ratios: &[(&str, f64)]) -> String {
    let (width, row, left) = (900.0, 26.0, 330.0);
    let height = 60.0 + row * ratios.len() as f64;
    let x =
        |ratio: f64| left + (ratio.clamp(0.01, 100.0).log10() + 2.0) / 4.0 * (width - left - 60.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" \
         font-weight=\"bold\">{title}</text>\n"
    );
    let one = x(1.0);
    for (i, (name, ratio)) in ratios.iter().enumerate() {
        let y = 40.0 + row * i as f64;
        let (from, to) = if *ratio < 1.0 {
            (x(*ratio), one)
        } else {
            (one, x(*ratio))
        };
        let _ = writeln!(out, "<text x=\"10\" y=\"{}\">{name}</text>", y + 15.0);
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"18\" fill=\"#3b7dd8\"/>",
            (to - from).max(1.0)
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>",
            x(*ratio).max(one) + 6.0,
            y + 14.0
        );
    }
    let _ = writeln!(
        out,
        "<line x1=\"{one:.1}\" y1=\"32\" x2=\"{one:.1}\" y2=\"{height}\" stroke=\"#333\"/>\n</svg>"
    );
    out
}
