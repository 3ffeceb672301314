//! The long runs: how many rounds, and what they tell for the report.

use std::time::Duration;

/// How long a soak goes on: `METASTORE_SOAK_SECONDS`, ten minutes without it.
pub fn duration() -> Duration {
    let seconds = std::env::var("METASTORE_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(600);
    Duration::from_secs(seconds)
}

/// Tells what a long run has seen; `make soak` puts the line into the report.
#[allow(clippy::print_stdout)]
pub fn report(line: &str) {
    println!("soak: {line}");
}
