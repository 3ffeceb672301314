//! The table and the plots.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::cluster::Target;
use crate::loads::Load;
use crate::sample::{Sample, median};

/// All samples of one load.
pub(crate) type Samples = BTreeMap<Target, Vec<Sample>>;

/// The head of the table of figures.
pub(crate) const HEAD: &str =
    "| load | figure | etcd | MetaStore | ratio |\n|---|---|---|---|---|\n";

/// The figures that are drawn.
const DRAWN: [&str; 3] = ["rate", "server_cpu", "p99.9"];

/// What has been found so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: String,
    goals: String,
    ratios: BTreeMap<&'static str, Vec<(String, f64)>>,
    commands: BTreeMap<Target, String>,
}

impl Report {
    /// Notes how a target was started.
    pub(crate) fn started(&mut self, target: Target, command_line: String) {
        self.commands.insert(target, command_line);
    }

    /// Adds a load; gives its rows.
    pub(crate) fn add(&mut self, load: &Load, samples: &Samples) -> String {
        let rows = rows(load.name, samples);
        self.rows.push_str(&rows);
        let goals = load.goals.iter();
        self.goals
            .extend(goals.filter_map(|goal| goal.row(load.name, samples)));
        for name in DRAWN {
            let etcd = figure(samples, Target::Etcd, name);
            let ours = figure(samples, Target::MetaStore, name);
            if let (Some(etcd), Some(ours)) = (etcd.filter(|etcd| *etcd > 0.0), ours) {
                let ratio = (load.name.to_owned(), ours / etcd);
                self.ratios.entry(name).or_default().push(ratio);
            }
        }
        rows
    }

    /// The goals and what was reached.
    pub(crate) fn goals(&self) -> String {
        format!(
            "\n| load | goal for | bound | measured | reached |\n|---|---|---|---|---|\n{}",
            self.goals
        )
    }

    /// Writes the tables and the plots.
    pub(crate) fn write(
        &self,
        directory: &Path,
        members: usize,
        runs: usize,
        scale: f64,
    ) -> Result<()> {
        let mut text = format!(
            "Medians of {runs} alternating runs at {scale} of each load's full size, {members} member(s).\n{}",
            self.goals()
        );
        fs::create_dir_all(directory)?;
        for (name, ratios) in &self.ratios {
            let title = format!("MetaStore / etcd: {name}, {members} member(s)");
            let file = format!("load-{members}-{name}.svg");
            fs::write(directory.join(&file), plot(&title, ratios))?;
            let _ = write!(text, "\n![{title}](performance/{file})\n");
        }
        let _ = write!(text, "\n{HEAD}{}", self.rows);
        for command in self.commands.values() {
            let _ = write!(text, "\n`{command}`\n");
        }
        fs::write(directory.join(format!("load-{members}.md")), text)?;
        Ok(())
    }
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
fn rows(load: &str, samples: &Samples) -> String {
    let mut names: Vec<&str> = samples
        .values()
        .flatten()
        .flat_map(|sample| sample.figures.keys().copied())
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
fn plot(title: &str, ratios: &[(String, f64)]) -> String {
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
