//! How long the log is kept.
//!
//! An entry may go once its effect is durable in the engine and every follower that is in touch has it; a
//! follower that lags is waited for up to a number of bytes, then it will need a snapshot. Nothing is
//! purged while a snapshot is being received (openraft issue 2116).

use std::sync::Arc;
use std::time::{Duration, Instant};

use metastore_mvcc::Store;
use openraft::async_runtime::WatchReceiver;

use crate::group::Group;
use crate::log_store::LogStore;
use crate::snapshot::Receiver;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A flush is due after so many bytes of log, or after the state was dirty for so long.
const FLUSH_BYTES: u64 = 128 << 20;
const FLUSH_AGE: Duration = Duration::from_secs(60);
/// Entries kept for a follower that is a moment behind, within the bound of bytes.
const ENTRIES_KEPT: u64 = 10_000;

/// Bounds of what is kept.
pub(crate) struct Retention {
    /// Bytes of log kept for a follower that lags.
    pub(crate) log_bytes_max: u64,
}

/// Runs until the group is stopped.
pub(crate) async fn run(
    group: Arc<Group>,
    log: LogStore,
    store: Store,
    receiver: Arc<Receiver>,
    retention: Retention,
) {
    let mut tick = tokio::time::interval(LOOK);
    let mut flushed = (log.bytes_appended(), group.shared.applied(), Instant::now());
    while !group.shared.is_stopped() {
        tick.tick().await;
        let (bytes, applied) = (log.bytes_appended(), group.shared.applied());
        let dirty = applied > flushed.1;
        // The memory engine writes everything each time, so it waits for more.
        let due = FLUSH_BYTES
            .max(store.engine().flush_cost_bytes() / 2)
            .min(retention.log_bytes_max / 2);
        let old = flushed.2.elapsed() > FLUSH_AGE && bytes > flushed.0 + (1 << 20);
        if !dirty || receiver.is_busy() || (bytes - flushed.0 < due && !old) {
            continue;
        }
        flushed = (bytes, applied, Instant::now());
        if group.raft.trigger().snapshot().await.is_err() {
            return;
        }
        purge(&group, &log, &receiver, applied, &retention).await;
    }
}

/// Purges what the flush that was just asked for covers and nobody needs.
async fn purge(
    group: &Group,
    log: &LogStore,
    receiver: &Receiver,
    applied: u64,
    retention: &Retention,
) {
    let covered = |metrics: &openraft::RaftMetrics<crate::types::TypeConfig>| {
        metrics.snapshot.is_some_and(|at| at.index + 1 >= applied)
    };
    let wait = group.raft.wait(Some(Duration::from_secs(120)));
    if wait.metrics(covered, "the state is flushed").await.is_err() {
        tracing::warn!("the state could not be flushed in time; the log is kept");
        return;
    }
    let recent = applied.saturating_sub(ENTRIES_KEPT);
    let needless = recent.min(slowest_follower(group).unwrap_or(recent));
    let beyond_bound = log
        .purge_point(retention.log_bytes_max)
        .map_or(0, |index| applied.min(index + 1));
    let upto = needless.max(beyond_bound);
    if upto == 0 || receiver.is_busy() {
        return;
    }
    let _ = group.raft.trigger().purge_log(upto - 1).await;
}

/// One past the last entry that every follower has; none when this member has no followers.
fn slowest_follower(group: &Group) -> Option<u64> {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow_watched();
    let me = group.shared.member_id;
    let replication = metrics.replication.as_ref()?;
    let others = replication.iter().filter(|(id, _)| **id != me);
    others
        .map(|(_, matched)| matched.map_or(0, |id| id.index + 1))
        .min()
}
