//! The table and the plots.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cluster::Target;
use crate::sample::{Sample, median};

/// All samples of one load.
pub(crate) type Samples = BTreeMap<Target, Vec<Sample>>;

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
pub(crate) fn plot(title: &str, ratios: &[(String, f64)]) -> String {
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
