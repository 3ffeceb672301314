//! Puts at a steady rate while the members do something else.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client;
use crate::cluster::Cluster;
use crate::loads::Bench;
use crate::sample::Sample;

/// More entries than etcd keeps in its log for a member that is away.
const LOG_ENTRIES: u64 = 10_000;

/// Puts in a second.
const STEADY: u64 = 500;

/// First alone, then, after `before`, while the members do `work`.
fn beside<W>(
    bench: &mut Bench<'_>,
    before: impl FnOnce(&mut Cluster) -> Result<()>,
    work: W,
) -> Result<Sample>
where
    W: AsyncFnOnce(&str) -> Result<()>,
{
    let url = bench.cluster.url();
    let time = Duration::from_secs_f64((15.0 * bench.scale.0).max(3.0));
    let quiet = bench
        .runtime
        .block_on(client::steady_puts(&url, STEADY, time))?;
    before(bench.cluster)?;
    let busy = bench.runtime.block_on(async {
        let (busy, worked) = tokio::join!(client::steady_puts(&url, STEADY, time), work(&url));
        worked?;
        busy
    })?;
    let mut sample = busy;
    sample.set("quiet_p99.9", quiet.figures["p99.9"]);
    sample.set(
        "busy_to_quiet",
        sample.figures["p99.9"] / quiet.figures["p99.9"],
    );
    Ok(sample)
}

pub(crate) fn during_defragment(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    let keys = bench.scale.of(300_000);
    bench
        .runtime
        .block_on(client::fill_at_once(&url, keys, 256))?;
    bench
        .runtime
        .block_on(client::fill_at_once(&url, keys, 256))?;
    beside(bench, |_| Ok(()), async |url| client::defragment(url).await)
}

pub(crate) fn during_compaction(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    let mut revision = 0;
    for _ in 0..10 {
        let keys = bench.scale.of(100_000);
        revision = bench.runtime.block_on(client::fill(&url, keys, 256))?;
    }
    beside(
        bench,
        |_| Ok(()),
        async |url| client::compact(url, revision).await,
    )
}

/// A follower that was away while the log was shortened comes back, and is sent the state.
pub(crate) fn during_snapshot(bench: &mut Bench<'_>) -> Result<Sample> {
    let url = bench.cluster.url();
    let keys = bench.scale.of(300_000);
    let away = bench.cluster.stop_a_follower()?;
    bench
        .runtime
        .block_on(client::fill_at_once(&url, keys, 1024))?;
    let entries = client::fill(&url, LOG_ENTRIES, 256);
    bench.runtime.block_on(entries)?;
    let port = away.client_port();
    let sample = beside(
        bench,
        |cluster| cluster.start_again(away),
        async |_| Cluster::is_up(port).await,
    )?;
    ensure!(
        bench.cluster.snapshots_sent() > 0,
        "no state was sent to the member"
    );
    Ok(sample)
}
