//! One measurement, and what etcd's benchmark client prints of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The figures of one run of one load.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sample {
    /// By name: `rate` (per second), `server_cpu` and `client_cpu` (microseconds per operation), `p50`,
    /// `p99`, `p99.9` (milliseconds), and what else a load measures.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Sample {
    pub(crate) fn set(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }
}

/// Reads rate and latencies from the benchmark client's report.
pub(crate) fn parse(report: &str) -> Result<Sample> {
    let mut sample = Sample::default();
    let rate = report
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    sample.set(
        "rate",
        rate.context("the benchmark client printed no rate")?
            .trim()
            .parse()?,
    );
    for (name, label) in [("p50", "50% in"), ("p99", "99% in"), ("p99.9", "99.9% in")] {
        let line = report
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(label));
        let seconds = line.and_then(|line| line.strip_prefix(label)?.trim().strip_suffix("secs."));
        let seconds: f64 = seconds
            .with_context(|| format!("no {label}"))?
            .trim()
            .parse()?;
        sample.set(name, seconds * 1e3);
    }
    Ok(sample)
}

/// The median of some figures; 0 of none.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        n if n % 2 == 1 => figures[n / 2],
        n => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_the_benchmark_client_is_read() {
        let report = "\nSummary:\n  Requests/sec:\t8549.9519\n\nLatency distribution:\n  50% in 0.0105 secs.\n  \
                      99% in 0.0281 secs.\n  99.9% in 0.0344 secs.\n";
        let sample = parse(report).expect("readable");
        assert_eq!(sample.figures["rate"], 8549.9519);
        assert_eq!(sample.figures["p99"], 28.1);
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn the_median_of_an_even_number_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0, 10.0]), 2.5);
        assert_eq!(median(vec![5.0]), 5.0);
    }
}
